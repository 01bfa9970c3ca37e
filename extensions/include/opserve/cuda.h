// What kernels for NVIDIA GPUs take in addition to their parameters. They run on the given stream of the
// current device, never wait for it and never allocate; a failed launch is a status. Pointers are to that
// device's memory. Nothing here needs the CUDA headers.
#pragma once

#include <cstdint>

#include "opserve/status.h"
#include "opserve/tensor.h"

struct CUstream_st;

namespace opserve::cuda {

// The same type as cudaStream_t.
using Stream = CUstream_st*;

// Makes a device current for the calling thread. The kernels are linked with their own copy of the CUDA
// runtime, so that they do not depend on the host program's; that copy has to be set, too.
Status set_device(int32_t index);

// Returns the state that the current device reports. An error in an earlier kernel stays with the device:
// every later call fails, so a failed call says little about its own arguments.
Status device_state(const char* op);

// Explains a failed allocation of the caller's: returns what the device reports, or else that it is out of
// memory, with `what` as detail.
Status out_of_memory(const char* op, const char* what);

// Strides are in elements; either may be 0.
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

// A non-owning handle on the caller's dense product, for callers that have a better one.
class Product {
  public:
    // `op` is the operator it is part of, for error messages.
    using Run = Status (*)(void* context, const char* op, const ProductParams& params, Stream stream);

    // By default, this project's kernel: tiles in shared memory, sums in float32 or float64, no tensor cores.
    // It is made for many rows; a short and wide reduction (a weight's gradient) keeps few of its blocks
    // busy.
    constexpr Product() = default;
    constexpr Product(Run run, void* context) : run_(run), context_(context) {}

    Status operator()(const char* op, const ProductParams& params, Stream stream) const;

  private:
    Run run_ = nullptr;
    void* context_ = nullptr;
};

// Where a call runs, and what multiplies its matrices. A kernel without products takes the stream alone.
struct Execution {
    Stream stream = nullptr;
    Product product = {};

    operator Stream() const { return stream; }
};

}  // namespace opserve::cuda
