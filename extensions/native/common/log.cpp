#include "log.h"

#include <cstdio>
#include <string>

#include "errors.h"

namespace opserve::native {
namespace {

void write_to_stderr(std::string_view text) {
    const std::string line = printable(text, kMaxLogged) + '\n';
    std::fwrite(line.data(), 1, line.size(), stderr);
}

void (*writer)(std::string_view) = write_to_stderr;

}  // namespace

void log(std::string_view text) { writer(text); }

void log_with(void (*write)(std::string_view text)) { writer = write; }

}  // namespace opserve::native
