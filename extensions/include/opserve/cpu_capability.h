#pragma once

namespace opserve {

// The instruction set the CPU kernels run with: "default", "avx2" or "avx512". Chosen once, from the
// processor; the environment variable OPSERVE_CPU_CAPABILITY can only lower it.
const char* cpu_capability();

}  // namespace opserve
