#include "crash.h"

#include <execinfo.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <string_view>

#include "../common/errors.h"

namespace opserve::native {
namespace {

struct Fatal {
    int number;
    std::string_view name, meaning;
    bool has_address;
};
// The meaning is here because strsignal may allocate.
constexpr Fatal kFatal[] = {
    {SIGSEGV, "SIGSEGV", "segmentation fault", true},   {SIGBUS, "SIGBUS", "bus error", true},
    {SIGFPE, "SIGFPE", "arithmetic exception", true},   {SIGILL, "SIGILL", "illegal instruction", true},
    {SIGSYS, "SIGSYS", "forbidden system call", false}, {SIGABRT, "SIGABRT", "aborted", false},
};
constexpr int kMaxFrames = 64;
// Of these the handler itself needs a few thousand; the unwinder's tables take more.
constexpr size_t kStack = size_t{256} << 10;
// A backtrace that needs a lock that the crash has left behind ends the process after this time.
constexpr unsigned kMaxSeconds = 5;

// Only what may be called in a signal handler: text is written as it is.
void write_text(std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
        if (written <= 0) return;
        text.remove_prefix(static_cast<size_t>(written));
    }
}

// A line that is put together without any allocation; what does not fit is left out.
class Line {
  public:
    Line& add(std::string_view text) {
        const size_t count = text.size() < text_.size() - size_ ? text.size() : text_.size() - size_;
        std::memcpy(text_.data() + size_, text.data(), count);
        size_ += count;
        return *this;
    }
    Line& add_address(const void* address) {
        std::array<char, 2 + 2 * sizeof(uintptr_t)> digits{};
        size_t begin = digits.size();
        auto left = reinterpret_cast<uintptr_t>(address);
        do {
            digits[--begin] = "0123456789abcdef"[left & 15];
            left >>= 4;
        } while (left != 0);
        return add("0x").add({digits.data() + begin, digits.size() - begin});
    }
    void write() { write_text({text_.data(), size_}); }

  private:
    std::array<char, 256> text_{};
    size_t size_ = 0;
};

void write_reason(const Fatal& fatal, const siginfo_t* info) {
    Line line;
    line.add(fatal.name).add(": ").add(fatal.meaning);
    if (fatal.has_address && info->si_code > 0) line.add(" at address ").add_address(info->si_addr);
    line.add("\n").write();
}

void handle(int number, siginfo_t* info, void*) {
    const Fatal* fatal = kFatal;
    while (fatal->number != number) ++fatal;
    alarm(kMaxSeconds);
    Line().add("The worker crashed: ").add(fatal->name).add("\n").write();
    write_text("Traceback (most recent call first):\n");
    std::array<void*, kMaxFrames> frames{};
    const int count = backtrace(frames.data(), static_cast<int>(frames.size()));
    for (int i = 0; i < count; ++i) {
        write_text("  ");
        backtrace_symbols_fd(frames.data() + i, 1, STDERR_FILENO);
    }
    write_reason(*fatal, info);
    // The default action is back in place: a fault happens again and ends the process with its own signal.
    raise(number);
}

[[noreturn]] void handle_uncaught() {
    if (const std::exception_ptr error = std::current_exception()) {
        try {
            std::rethrow_exception(error);
        } catch (const std::exception& known) {
            write_text("uncaught exception: " + printable(known.what(), kMaxLogged) + '\n');
        } catch (...) {
            write_text("uncaught exception of an unknown type\n");
        }
    }
    std::abort();
}

}  // namespace

void report_crashes() {
    // The first call opens a library, which a signal handler must not.
    std::array<void*, 1> frame{};
    backtrace(frame.data(), 1);
    // A stack that has overflowed cannot be used.
    static const std::unique_ptr<std::byte[]> memory = std::make_unique_for_overwrite<std::byte[]>(kStack);
    stack_t stack{};
    stack.ss_sp = memory.get();
    stack.ss_size = kStack;
    sigaltstack(&stack, nullptr);
    for (const Fatal& fatal : kFatal) {
        struct sigaction action{};
        action.sa_sigaction = handle;
        action.sa_flags = static_cast<int>(SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESETHAND);
        sigemptyset(&action.sa_mask);
        sigaction(fatal.number, &action, nullptr);
    }
    std::set_terminate(handle_uncaught);
}

}  // namespace opserve::native
