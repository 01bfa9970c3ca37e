// What kernels for NVIDIA GPUs take besides their parameters. They run on the stream they are given, on the
// device that is current, never wait for it and never allocate; a launch that fails is a status. Pointers are
// to that device's memory. Nothing here needs the headers of CUDA.
#pragma once

#include <cstdint>

#include "opserve/status.h"
#include "opserve/tensor.h"

struct CUstream_st;

namespace opserve::cuda {

// The same type as cudaStream_t.
using Stream = CUstream_st*;

// Makes a device current for the calling thread. The kernels are linked with a copy of the CUDA runtime of
// their own, so that they do not depend on which one the host program brings; that copy has to be told, too.
Status set_device(int32_t index);

// What the current device reports of itself. An error in a kernel that ran before stays with the device:
// every later call fails, whichever it is, so that a failed one says little of what it was asked for.
Status device_state(const char* op);

// For an allocation of the caller's that failed: what the device reports, or else that memory ran out, which
// `what` says more of.
Status out_of_memory(const char* op, const char* what);

// Elements are `row_stride` and `column_stride` apart, in elements; either may be 0.
struct Matrix {
    const void* data;
    int64_t rows, columns;
    int64_t row_stride, column_stride;

    Matrix transposed() const { return {data, columns, rows, column_stride, row_stride}; }
};

// C = A·B + bias. An empty sum is 0.
struct ProductParams {
    DType dtype;
    Matrix a, b;
    const void* bias;  // [b.columns], contiguous, or null
    void* c;           // [a.rows, b.columns], contiguous, overwritten
};

// Dense products are the caller's where it has better ones: a non-owning handle on whatever computes them.
class Product {
  public:
    // `op` is the operator it is a part of, for what an error says.
    using Run = Status (*)(void* context, const char* op, const ProductParams& params, Stream stream);

    // Without one, the kernel of this project: tiles in shared memory, sums in float32 or float64, no tensor
    // cores. It is made for many rows; a short and wide reduction (a weight's gradient) keeps few of its
    // blocks busy.
    constexpr Product() = default;
    constexpr Product(Run run, void* context) : run_(run), context_(context) {}

    Status operator()(const char* op, const ProductParams& params, Stream stream) const;

  private:
    Run run_ = nullptr;
    void* context_ = nullptr;
};

// Where a call runs, and who multiplies its matrices. A kernel without products takes the stream alone.
struct Execution {
    Stream stream = nullptr;
    Product product = {};

    operator Stream() const { return stream; }
};

}  // namespace opserve::cuda
