#include <torch/csrc/stable/c/shim.h>

#include "device.h"

namespace opserve::torch_binding {
namespace {

void run_on_torch_threads(void*, int64_t count, int64_t grain, ParallelFor::Body body, const void* context) {
    struct Call {
        ParallelFor::Body body;
        const void* context;
    } call{body, context};
    require(torch_parallel_for(
                0, count, grain,
                [](int64_t begin, int64_t end, void* opaque) {
                    const Call& call = *static_cast<const Call*>(opaque);
                    call.body(call.context, begin, end);
                },
                &call),
            "torch_parallel_for failed");
}

}  // namespace

HostWorkspace::HostWorkspace(int64_t bytes, const Tensor& like) : pointer_(inline_) {
    if (bytes <= kInline) return;
    tensor_ = Tensor::empty(&bytes, 1, aoti_torch_dtype_uint8(), like);
    pointer_ = tensor_.mutable_data();
}

ParallelFor Cpu::Execution::get() const {
    uint32_t threads = 1;
    require(torch_get_num_threads(&threads), "cannot read the number of threads");
    return ParallelFor(run_on_torch_threads, nullptr, static_cast<int>(threads));
}

Status Cpu::find_cause(const char* op, const RuntimeFailure& failure) {
    if (!failure.takes_memory()) return {};
    return Status::out_of_memory("opserve::%s: out of memory: %s", op, failure.plainly());
}

}  // namespace opserve::torch_binding
