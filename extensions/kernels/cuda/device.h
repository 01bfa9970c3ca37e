// What all kernels here are written in terms of: dtypes and their accumulators, packs of neighbouring
// elements, the launch. Indices and sizes are int64_t throughout; every kernel walks its work in strides of
// the grid, so that no result depends on the size of the grid.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "opserve/cuda.h"
#include "opserve/status.h"
#include "opserve/tensor.h"

namespace opserve::cuda {

constexpr int kWarp = 32;
constexpr unsigned kWholeWarp = 0xffffffffU;
constexpr int64_t kPackBytes = 16;  // the widest access of one thread

// The type in which values of a dtype are computed and summed.
template <class T>
struct AccumulatorOf {
    using Type = float;
};
template <>
struct AccumulatorOf<double> {
    using Type = double;
};
template <class T>
using Accumulator = typename AccumulatorOf<T>::Type;

__host__ __device__ __forceinline__ float widen(float value) { return value; }
__host__ __device__ __forceinline__ double widen(double value) { return value; }
__host__ __device__ __forceinline__ float widen(__half value) { return __half2float(value); }
__host__ __device__ __forceinline__ float widen(__nv_bfloat16 value) { return __bfloat162float(value); }

template <class T>
__host__ __device__ __forceinline__ T narrow(Accumulator<T> value) {
    if constexpr (std::is_same_v<T, __half>) {
        return __float2half_rn(value);
    } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
        return __float2bfloat16_rn(value);
    } else {
        return value;
    }
}

// A number from the caller, rounded to T once.
template <class T>
Accumulator<T> rounded(double value) {
    if constexpr (std::is_same_v<T, __half>) {
        return widen(__double2half(value));
    } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
        return widen(__double2bfloat16(value));
    } else {
        return static_cast<T>(value);
    }
}

// A NaN without a function call.
template <class A>
__device__ __forceinline__ A not_a_number() {
    return static_cast<A>(__int_as_float(0x7fc00000));
}

// `Width` elements that one thread reads or writes at once, at an address aligned to all of them together.
template <class T, int Width>
struct alignas(sizeof(T) * Width) Pack {
    T at[Width];
};

// A whole pack is one instruction: an assignment of the vector type is not always stored as one.
template <int Width, class T>
__device__ __forceinline__ Pack<T, Width> load(const T* from) {
    Pack<T, Width> pack;
    if constexpr (sizeof(pack) == sizeof(uint4)) {
        const uint4 bits = *reinterpret_cast<const uint4*>(from);
        memcpy(&pack, &bits, sizeof(pack));
    } else {
        pack = *reinterpret_cast<const Pack<T, Width>*>(from);
    }
    return pack;
}

template <int Width, class T>
__device__ __forceinline__ void store(T* to, const Pack<T, Width>& pack) {
    if constexpr (sizeof(pack) == sizeof(uint4)) {
        uint4 bits;
        memcpy(&bits, &pack, sizeof(pack));
        __stwb(reinterpret_cast<uint4*>(to), bits);
    } else {
        *reinterpret_cast<Pack<T, Width>*>(to) = pack;
    }
}

// Elements of T in the widest pack.
template <class T>
constexpr int kPackWidth = static_cast<int>(kPackBytes / static_cast<int64_t>(sizeof(T)));

inline bool aligned(const void* pointer, int64_t bytes) {
    return reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(bytes) == 0;
}

// Reading an element across its own alignment faults, and a fault ends every later use of the device.
template <class T, class... Pointers>
Status check_aligned(const char* op, const Pointers*... pointers) {
    if ((aligned(pointers, sizeof(T)) && ...)) return {};
    return Status::invalid_argument("opserve::%s: tensors must be aligned to their elements, %d bytes", op,
                                    static_cast<int>(sizeof(T)));
}

inline Status check_runtime(const char* op, cudaError_t error) {
    if (error == cudaSuccess) return {};
    // The error is reported here; the next call must not see it again.
    (void)cudaGetLastError();
    if (error == cudaErrorMemoryAllocation) {
        return Status::out_of_memory("opserve::%s: out of memory: the GPU has none left", op);
    }
    return Status::device_failure("opserve::%s: the GPU reports %s: %s", op, cudaGetErrorName(error),
                                  cudaGetErrorString(error));
}

__host__ __device__ constexpr int64_t divide_up(int64_t a, int64_t b) { return a / b + (a % b != 0 ? 1 : 0); }
__host__ __device__ constexpr int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }

// Blocks are one-dimensional and so is the grid, since only its first dimension may exceed 65535.
constexpr int64_t kMaxBlocks = (int64_t{1} << 31) - 1;

template <class... Parameters>
Status launch(const char* op, void (*kernel)(Parameters...), int64_t blocks, int threads, Stream stream,
              const std::type_identity_t<Parameters>&... arguments) {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(min_of(blocks, kMaxBlocks)));
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.stream = stream;
    const cudaError_t launched = cudaLaunchKernelEx(&config, kernel, arguments...);
    return check_runtime(op, launched != cudaSuccess ? launched : cudaGetLastError());
}

// Calls `function` with a null pointer of the type of a dtype.
template <class Function>
Status with_floating(const char* op, DType dtype, const Function& function) {
    switch (dtype) {
        case DType::kFloat16:
            return function(static_cast<__half*>(nullptr));
        case DType::kBFloat16:
            return function(static_cast<__nv_bfloat16*>(nullptr));
        case DType::kFloat32:
            return function(static_cast<float*>(nullptr));
        case DType::kFloat64:
            return function(static_cast<double*>(nullptr));
        default:
            return Status::invalid_argument("opserve::%s: a floating-point dtype is needed", op);
    }
}

template <class Function>
Status with_index(DType dtype, const Function& function) {
    return dtype == DType::kInt32 ? function(static_cast<int32_t*>(nullptr))
                                  : function(static_cast<int64_t*>(nullptr));
}

}  // namespace opserve::cuda
