#include <cstdlib>
#include <cstring>

#include "kernels.h"
#include "opserve/cpu_capability.h"

namespace opserve {
namespace cpu {
namespace {

const Kernels& select() {
#if defined(__x86_64__)
    const char* limit = std::getenv("OPSERVE_CPU_CAPABILITY");
    const bool at_most_default = limit != nullptr && std::strcmp(limit, "default") == 0;
    const bool at_most_avx2 = at_most_default || (limit != nullptr && std::strcmp(limit, "avx2") == 0);
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (avx512 && !at_most_avx2) return kAvx512Kernels;
    if (avx2 && !at_most_default) return kAvx2Kernels;
#endif
    return kDefaultKernels;
}

}  // namespace

const Kernels& kernels() {
    static const Kernels& selected = select();
    return selected;
}

}  // namespace cpu

const char* cpu_capability() { return cpu::kernels().name; }

}  // namespace opserve
