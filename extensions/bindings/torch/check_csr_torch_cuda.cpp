#include "device.h"
#include "operators_cuda.h"
#include "opserve/check_csr.h"

namespace opserve::torch_binding {

void check_csr_cuda(StableIValue* stack, uint64_t, uint64_t) {
    Tensor rowptr = take_tensor(stack[0]);
    Tensor col = take_tensor(stack[1]);
    CheckCsrParams params{};
    params.n = torch::stable::detail::to<int64_t>(stack[2]);

    const TensorArg rowptr_arg = rowptr.arg();
    throw_if_error(check_csr_arguments(rowptr_arg, col.arg(), params.n, &params.nnz));
    params.index_dtype = rowptr_arg.dtype;
    const Device device(rowptr_arg);
    rowptr.make_contiguous();
    col.make_contiguous();
    const DeviceWorkspace workspace(cuda::kCheckCsrWorkspace, rowptr);
    params.rowptr = rowptr.data();
    params.col = col.data();
    throw_if_error(cuda::check_csr(params, workspace.get(), device.stream()));
}

}  // namespace opserve::torch_binding
