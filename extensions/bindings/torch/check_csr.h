#pragma once

#include "opserve/check_csr.h"

#include "opserve/kernel.h"
#include "tensor.h"

namespace opserve::torch_binding {

struct CheckCsr {
    static constexpr const char* kSchema = "check_csr(Tensor rowptr, Tensor col, int n) -> ()";

    template <class Device>
    static void forward(StableIValue* stack) {
        Tensor rowptr = take_tensor(stack[0]);
        Tensor col = take_tensor(stack[1]);
        CheckCsrParams params{};
        params.n = torch::stable::detail::to<int64_t>(stack[2]);

        const TensorArg rowptr_arg = rowptr.arg();
        throw_if_error(check_csr_arguments(rowptr_arg, col.arg(), params.n, &params.nnz));
        params.index_dtype = rowptr_arg.dtype;
        const typename Device::Execution execution(rowptr);
        params.rowptr = rowptr.contiguous_data();
        params.col = col.contiguous_data();
        const typename Device::Workspace workspace(kCheckCsrWorkspace, rowptr);
        params.workspace = workspace.get();
        throw_if_error(OPSERVE_KERNEL(Device, check_csr)(params, execution.get()));
    }
};

}  // namespace opserve::torch_binding
