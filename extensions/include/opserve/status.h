// The outcome of a check or a kernel. Carries its text inline: reporting an error allocates nothing and
// throws nothing, so it can cross any runtime's boundary.
#pragma once

#include <cstdarg>
#include <cstdio>

namespace opserve {

#if defined(__GNUC__)
#define OPSERVE_PRINTF __attribute__((format(printf, 1, 2)))
#else
#define OPSERVE_PRINTF
#endif

// Who reads a text of these knows by its beginning whose fault it is, since a runtime may keep nothing else:
//   opserve::<operator>: out of memory: ...       kOutOfMemory
//   opserve::<operator>: the GPU reports ...      kDeviceFailure
//   opserve::<operator>: ...                      kInvalidArgument, of which none begins like those
class [[nodiscard]] Status {
  public:
    enum class Code { kOk, kInvalidArgument, kOutOfMemory, kDeviceFailure };

    // The text is left unset on success: the hot path does not clear 300 bytes per call.
    Status() : code_(Code::kOk) { message_[0] = '\0'; }

    // The caller's fault.
    OPSERVE_PRINTF static Status invalid_argument(const char* format, ...) {
        va_list arguments;
        va_start(arguments, format);
        const Status status(Code::kInvalidArgument, format, arguments);
        va_end(arguments);
        return status;
    }

    // What was asked for is right, but there is no memory for it now. Nothing is broken.
    OPSERVE_PRINTF static Status out_of_memory(const char* format, ...) {
        va_list arguments;
        va_start(arguments, format);
        const Status status(Code::kOutOfMemory, format, arguments);
        va_end(arguments);
        return status;
    }

    // What was asked for is right, but the device refused: a launch failed, a copy did not arrive.
    OPSERVE_PRINTF static Status device_failure(const char* format, ...) {
        va_list arguments;
        va_start(arguments, format);
        const Status status(Code::kDeviceFailure, format, arguments);
        va_end(arguments);
        return status;
    }

    bool ok() const { return code_ == Code::kOk; }
    Code code() const { return code_; }
    const char* message() const { return message_; }

  private:
    Status(Code code, const char* format, va_list arguments) : code_(code) {
        std::vsnprintf(message_, sizeof(message_), format, arguments);
    }

    Code code_;
    char message_[316];
};

#undef OPSERVE_PRINTF

}  // namespace opserve

#define OPSERVE_RETURN_IF_ERROR(expression)              \
    do {                                                 \
        ::opserve::Status opserve_status = (expression); \
        if (!opserve_status.ok()) return opserve_status; \
    } while (false)
