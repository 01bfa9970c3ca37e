// The check that a worker makes of its unpacked archive before it opens anything else in it: its signature if
// a key demands one, its files, and what its libraries require. See handlers/integrity/check.py.
#pragma once

#include <filesystem>

#include "manifest.h"

namespace opserve::native {

// The GPU is left to Manifest::check_gpu. Throws ModelError, in one line that names the file and the reason.
Manifest check_archive(const std::filesystem::path& folder);

}  // namespace opserve::native
