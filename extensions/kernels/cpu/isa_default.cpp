#include <cstddef>
#include <cstdint>

#include "kernels.h"

#define OPSERVE_ISA_KERNELS kDefaultKernels
#define OPSERVE_ISA_NAME "default"
#define OPSERVE_VECTOR_BYTES 16

#include "isa.h"
