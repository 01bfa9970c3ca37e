// Runs an unpacked archive on its own sample: `model_worker_socket --selfcheck FOLDER --print`, as
// handlers/selfcheck.py does. The packer compares the answer with the expected one.
#pragma once

#include <filesystem>

namespace opserve::native {

// Prints the answer on stdout, or one line with the reason on stderr; returns the status to exit with.
int print_sample_answer(const std::filesystem::path& folder);

}  // namespace opserve::native
