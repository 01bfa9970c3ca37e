// The outcome of a check or a kernel. Its message is stored inline: reporting an error allocates nothing and
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

// A runtime may keep nothing but the message, so its beginning tells the codes apart:
//   opserve::<operator>: out of memory: ...       kOutOfMemory
//   opserve::<operator>: the GPU reports ...      kDeviceFailure
//   opserve::<operator>: ...                      kInvalidArgument, which never begins like the others
class [[nodiscard]] Status {
  public:
    enum class Code { kOk, kInvalidArgument, kOutOfMemory, kDeviceFailure };

    // The message is left unset on success, so that the hot path does not clear 300 bytes per call.
    Status() : code_(Code::kOk) { message_[0] = '\0'; }

    // The caller's fault.
    OPSERVE_PRINTF static Status invalid_argument(const char* format, ...) {
        va_list arguments;
        va_start(arguments, format);
        const Status status(Code::kInvalidArgument, format, arguments);
        va_end(arguments);
        return status;
    }

    // The arguments are right, but there is not enough memory now. Nothing is broken.
    OPSERVE_PRINTF static Status out_of_memory(const char* format, ...) {
        va_list arguments;
        va_start(arguments, format);
        const Status status(Code::kOutOfMemory, format, arguments);
        va_end(arguments);
        return status;
    }

    // The arguments are right, but the device failed: a launch or a copy.
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
