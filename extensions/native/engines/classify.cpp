#include "classify.h"

#include <algorithm>
#include <exception>
#include <initializer_list>
#include <optional>
#include <string>

#include "../common/errors.h"

namespace opserve::native {
namespace {

bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           static_cast<unsigned char>(c) >= 0x80;
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

bool contains_any(std::string_view text, std::initializer_list<std::string_view> parts) {
    for (const std::string_view part : parts) {
        if (contains(text, part)) return true;
    }
    return false;
}

// Calls visit(begin, message) for each operator's own error in a text: "opserve::NAME: message", where
// `begin` is that of the name and the message is all that follows. Stops once it returns true; returns
// whether it did.
template <typename Visit>
bool any_operator_error(std::string_view text, Visit&& visit) {
    constexpr std::string_view kDomain = "opserve::";
    for (size_t begin = text.find(kDomain); begin != text.npos; begin = text.find(kDomain, begin + 1)) {
        size_t end = begin + kDomain.size();
        while (end < text.size() && is_word(text[end])) ++end;
        if (end > begin + kDomain.size() && text.substr(end).starts_with(": ") &&
            visit(begin, text.substr(end + 2))) {
            return true;
        }
    }
    return false;
}

constexpr std::string_view kGpuReports = "the GPU reports";

bool is_gpu_report(std::string_view text) {
    return any_operator_error(
        text, [](size_t, std::string_view message) { return message.starts_with(kGpuReports); });
}

// "CUDA out of memory", "CUDA error: out of memory", "CUDA failure 2: out of memory".
bool is_cuda_out_of_memory(std::string_view text) {
    constexpr std::string_view kCuda = "CUDA ", kOut = "out of memory", kFailure = "failure ",
                               kError = "error: ";
    for (size_t begin = text.find(kCuda); begin != text.npos; begin = text.find(kCuda, begin + 1)) {
        std::string_view rest = text.substr(begin + kCuda.size());
        if (rest.starts_with(kError)) {
            rest.remove_prefix(kError.size());
        } else if (rest.starts_with(kFailure)) {
            rest.remove_prefix(kFailure.size());
            const size_t digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
            if (digits == 0 || !rest.substr(digits).starts_with(": ")) continue;
            rest.remove_prefix(digits + 2);
        }
        if (rest.starts_with(kOut)) return true;
    }
    return false;
}

// "CUBLAS_STATUS_ALLOC_FAILED", of any library.
bool is_failed_allocation(std::string_view text) {
    constexpr std::string_view kStatus = "_STATUS_ALLOC_FAILED";
    for (size_t begin = text.find(kStatus); begin != text.npos; begin = text.find(kStatus, begin + 1)) {
        if (begin > 0 && is_word(text[begin - 1])) return true;
    }
    return false;
}

bool is_out_of_memory(std::string_view text) {
    const bool by_operator = any_operator_error(text, [](size_t, std::string_view message) {
        if (message.starts_with(kGpuReports)) {
            message.remove_prefix(kGpuReports.size());
            if (message.starts_with(":")) message.remove_prefix(1);
            if (!message.starts_with(" ")) return false;
            message.remove_prefix(1);
        }
        return message.starts_with("out of memory");
    });
    return by_operator || is_cuda_out_of_memory(text) || is_failed_allocation(text) ||
           // PyTorch, about the processor's; ONNX Runtime.
           contains_any(text, {"can't allocate memory", "Storage size calculation overflowed",
                               "Failed to allocate memory", "bad_alloc", "bad allocation"});
}

std::string_view stripped(std::string_view text) {
    constexpr std::string_view kSpaces = " \t\r\n\v\f";
    const size_t begin = text.find_first_not_of(kSpaces);
    if (begin == text.npos) return {};
    return text.substr(begin, text.find_last_not_of(kSpaces) + 1 - begin);
}

}  // namespace

void throw_classified(std::string_view text, const std::function<void()>& probe) {
    if (is_out_of_memory(text)) throw OutOfMemoryError(last_line(text));
    if (probe) {
        if (contains_any(text, {"CUDA error", "CUDA failure", "cudaError"}) || is_gpu_report(text)) {
            throw DeviceError(last_line(text));
        }
        std::string failure;
        try {
            probe();
        } catch (const std::exception& error) {
            failure = error.what();
        }
        if (!failure.empty()) throw DeviceError(last_line(failure));
    }
    std::optional<std::string_view> refusal;
    any_operator_error(text, [&](size_t begin, std::string_view) {
        const std::string_view rest = text.substr(begin);
        refusal = stripped(rest.substr(0, rest.find('\n')));
        return true;
    });
    if (refusal && !is_gpu_report(text)) throw RequestError(*refusal);
}

}  // namespace opserve::native
