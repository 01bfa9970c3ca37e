// The outcome of a check or a kernel. Carries its text inline: reporting an error allocates nothing and
// throws nothing, so it can cross any runtime's boundary.
#pragma once

#include <cstdarg>
#include <cstdio>

namespace opserve {

class [[nodiscard]] Status {
  public:
    enum class Code { kOk, kInvalidArgument, kDeviceFailure };

    // The text is left unset on success: the hot path does not clear 300 bytes per call.
    Status() : code_(Code::kOk) { message_[0] = '\0'; }

#if defined(__GNUC__)
    __attribute__((format(printf, 1, 2)))
#endif
    static Status invalid_argument(const char* format, ...) {
        Status status;
        status.code_ = Code::kInvalidArgument;
        va_list arguments;
        va_start(arguments, format);
        std::vsnprintf(status.message_, sizeof(status.message_), format, arguments);
        va_end(arguments);
        return status;
    }

    // What was asked for is right, but the device refused: a launch failed, a copy did not arrive.
#if defined(__GNUC__)
    __attribute__((format(printf, 1, 2)))
#endif
    static Status device_failure(const char* format, ...) {
        Status status;
        status.code_ = Code::kDeviceFailure;
        va_list arguments;
        va_start(arguments, format);
        std::vsnprintf(status.message_, sizeof(status.message_), format, arguments);
        va_end(arguments);
        return status;
    }

    bool ok() const { return code_ == Code::kOk; }
    Code code() const { return code_; }
    const char* message() const { return message_; }

  private:
    Code code_;
    char message_[316];
};

}  // namespace opserve

#define OPSERVE_RETURN_IF_ERROR(expression)              \
    do {                                                 \
        ::opserve::Status opserve_status = (expression); \
        if (!opserve_status.ok()) return opserve_status; \
    } while (false)
