// Runs an unpacked archive on its own sample, for the packer: handlers/selfcheck.py.
#pragma once

#include <filesystem>

namespace opserve::native {

// Loads the model, has it answer the sample request and, if `print`, writes the body of the response to
// stdout, for the caller to compare. Returns the exit status of the program: 0, or 1 after one line on stderr
// that says what is wrong.
int selfcheck(const std::filesystem::path& folder, bool print);

}  // namespace opserve::native
