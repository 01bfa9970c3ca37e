// Replaces the CUDA header so that a C++ compiler takes the kernels unchanged, and runs them: one block after
// the other, its threads as coroutines that switch at barriers, in random order. Memory is the host's, so
// that AddressSanitizer sees each access. It cannot show what only hardware has: speed, the memory model
// between blocks, alignment faults (checked here where packs are accessed).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
// One block runs at a time.
#define __shared__ static

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    dim3() = default;
    explicit dim3(unsigned x) : x(x) {}
};
struct uint3 {
    unsigned x, y, z;
};
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

using std::fabs;
using std::floor;
using std::fmax;
using std::sqrt;

// Rounded one by one, whatever the compiler would fuse.
inline double __dmul_rn(double a, double b) {
    volatile double product = a * b;
    return product;
}
inline double __dadd_rn(double a, double b) {
    volatile double sum = a + b;
    return sum;
}

template <class To, class From>
To emulated_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof(to));
    return to;
}
inline long long __double_as_longlong(double value) { return emulated_bits<long long>(value); }
inline double __longlong_as_double(long long bits) { return emulated_bits<double>(bits); }
inline float __int_as_float(int bits) { return emulated_bits<float>(bits); }

void __syncthreads();
int __syncthreads_or(int predicate);
uint64_t emulated_shuffle_xor(unsigned mask, uint64_t bits, int distance);
inline float __shfl_xor_sync(unsigned mask, float value, int distance) {
    const auto bits = emulated_shuffle_xor(mask, emulated_bits<uint32_t>(value), distance);
    return emulated_bits<float>(static_cast<uint32_t>(bits));
}
inline double __shfl_xor_sync(unsigned mask, double value, int distance) {
    return emulated_bits<double>(emulated_shuffle_xor(mask, emulated_bits<uint64_t>(value), distance));
}

template <class T>
T atomicAdd(T* to, T value) {
    const T before = *to;
    *to += value;
    return before;
}
inline unsigned long long atomicMin(unsigned long long* to, unsigned long long value) {
    const unsigned long long before = *to;
    *to = value < before ? value : before;
    return before;
}

void emulated_check_aligned(const void* pointer, size_t bytes);
inline void __stwb(uint4* to, uint4 value) {
    emulated_check_aligned(to, sizeof(value));
    std::memcpy(to, &value, sizeof(value));
}

// --- the runtime

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorIllegalAddress = 700,
};
enum cudaMemcpyKind { cudaMemcpyDeviceToHost };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount };
struct CUstream_st;
using cudaStream_t = CUstream_st*;

// Returns what a function of the runtime reports: success, or what a test has requested with
// opserve_emulated_fail.
cudaError_t emulated_result(const char* function);

const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);

inline cudaError_t cudaGetLastError() { return emulated_result("cudaGetLastError"); }
inline cudaError_t cudaSetDevice(int) { return emulated_result("cudaSetDevice"); }
inline cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return emulated_result("cudaGetDevice");
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
    *value = 1;
    return emulated_result("cudaDeviceGetAttribute");
}
inline cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
    *free = size_t{1} << 20;
    *total = size_t{1} << 30;
    return emulated_result("cudaMemGetInfo");
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return emulated_result("cudaStreamSynchronize"); }
inline cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t) {
    std::memset(to, byte, bytes);
    return emulated_result("cudaMemsetAsync");
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
    std::memcpy(to, from, bytes);
    return emulated_result("cudaMemcpyAsync");
}

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes = 0;
    cudaStream_t stream = nullptr;
};

cudaError_t emulated_launch(const cudaLaunchConfig_t& config, const std::function<void()>& thread);

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
    const std::tuple<Parameters...> values(std::forward<Arguments>(arguments)...);
    return emulated_launch(*config, [&] { std::apply(kernel, values); });
}
