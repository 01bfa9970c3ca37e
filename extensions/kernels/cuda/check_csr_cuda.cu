#include "opserve/check_csr.h"

#include "device.h"
#include "opserve/csr_fault.h"

namespace opserve::cuda {
inline namespace check_csr_cuda {

constexpr const char* kOp = "check_csr";
constexpr int kThreads = 256;
constexpr unsigned long long kNone = ~0ULL;

// first[0] = the first i with rowptr[i + 1] < rowptr[i], first[1] = the first e with col[e] outside [0, n).
template <class Index>
__global__ void __launch_bounds__(kThreads) find_fault_kernel(int64_t n, int64_t nnz, const Index* rowptr,
                                                              const Index* col, unsigned long long* first) {
    const int64_t step = int64_t{gridDim.x} * kThreads;
    const int64_t start = int64_t{blockIdx.x} * kThreads + threadIdx.x;
    for (int64_t i = start; i < n; i += step) {
        if (rowptr[i + 1] < rowptr[i]) atomicMin(first, static_cast<unsigned long long>(i));
    }
    for (int64_t e = start; e < nnz; e += step) {
        const uint64_t column = static_cast<uint64_t>(static_cast<int64_t>(col[e]));
        if (column >= static_cast<uint64_t>(n)) atomicMin(first + 1, static_cast<unsigned long long>(e));
    }
}

template <class T>
Status fetch(const T* from, int64_t count, T* to, Stream stream) {
    return check_runtime(kOp, cudaMemcpyAsync(to, from, static_cast<size_t>(count) * sizeof(T),
                                              cudaMemcpyDeviceToHost, stream));
}

Status wait(Stream stream) { return check_runtime(kOp, cudaStreamSynchronize(stream)); }

template <class Index>
Status run(const CheckCsrParams& p, Stream stream) {
    using check::CsrFault;
    OPSERVE_RETURN_IF_ERROR(check_aligned<Index>(kOp, p.rowptr, p.col));
    const Index* rowptr = static_cast<const Index*>(p.rowptr);
    const Index* col = static_cast<const Index*>(p.col);
    auto* found = static_cast<unsigned long long*>(p.workspace);
    static_assert(sizeof(*found) * 2 == kCheckCsrWorkspace);
    OPSERVE_RETURN_IF_ERROR(check_runtime(kOp, cudaMemsetAsync(found, 0xff, kCheckCsrWorkspace, stream)));
    const int64_t longer = p.n > p.nnz ? p.n : p.nnz;
    if (longer > 0) {
        OPSERVE_RETURN_IF_ERROR(launch(kOp, &find_fault_kernel<Index>, divide_up(longer, kThreads), kThreads,
                                       stream, p.n, p.nnz, rowptr, col, found));
    }
    unsigned long long first[2] = {};
    Index begin = 0, end = 0, pair[2] = {}, column = 0;
    OPSERVE_RETURN_IF_ERROR(fetch(found, 2, first, stream));
    OPSERVE_RETURN_IF_ERROR(fetch(rowptr, 1, &begin, stream));
    OPSERVE_RETURN_IF_ERROR(fetch(rowptr + p.n, 1, &end, stream));
    OPSERVE_RETURN_IF_ERROR(wait(stream));
    CsrFault fault;
    if (begin != 0) {
        fault = {CsrFault::Kind::kStart, 0, static_cast<int64_t>(begin)};
    } else if (first[0] != kNone) {
        OPSERVE_RETURN_IF_ERROR(fetch(rowptr + first[0], 2, pair, stream));
        OPSERVE_RETURN_IF_ERROR(wait(stream));
        fault = {CsrFault::Kind::kDecrease, static_cast<int64_t>(first[0]) + 1, static_cast<int64_t>(pair[1]),
                 static_cast<int64_t>(pair[0])};
    } else if (static_cast<int64_t>(end) != p.nnz) {
        fault = {CsrFault::Kind::kEnd, p.n, static_cast<int64_t>(end)};
    } else if (first[1] != kNone) {
        OPSERVE_RETURN_IF_ERROR(fetch(col + first[1], 1, &column, stream));
        OPSERVE_RETURN_IF_ERROR(wait(stream));
        fault = {CsrFault::Kind::kColumn, static_cast<int64_t>(first[1]), static_cast<int64_t>(column)};
    }
    return check::csr_fault(kOp, fault, p.n, p.nnz);
}

}  // namespace check_csr_cuda

Status check_csr(const CheckCsrParams& params, Stream stream) {
    return params.index_dtype == DType::kInt32 ? run<int32_t>(params, stream) : run<int64_t>(params, stream);
}

}  // namespace opserve::cuda
