#include "cpu.h"

#include <algorithm>
#include <thread>

namespace opserve::ort_binding {
namespace {

int processors() {
    static const int count = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    return count;
}

void run_on_ort_threads(void* pool, int64_t count, int64_t grain, ParallelFor::Body body,
                        const void* context) {
    const KernelCall& call = *static_cast<const KernelCall*>(pool);
    // The runtime does not report its number of threads, and hands out parts one by one: a few more parts
    // than there can be threads keep all of them busy to the end.
    const int64_t wanted = count / std::max<int64_t>(grain, 1);
    struct Parts {
        int64_t count;
        int64_t parts;
        ParallelFor::Body body;
        const void* context;
    } parts{count, std::clamp<int64_t>(wanted, 1, 4 * processors()), body, context};
    const auto run = [](void* opaque, size_t part) {
        const Parts& p = *static_cast<const Parts*>(opaque);
        const int64_t index = static_cast<int64_t>(part);
        const int64_t length = p.count / p.parts, longer = p.count % p.parts;
        const int64_t begin = index * length + std::min(index, longer);
        p.body(p.context, begin, begin + length + (index < longer ? 1 : 0));
    };
    OrtStatus* status = call.api().KernelContext_ParallelFor(call.context(), run,
                                                             static_cast<size_t>(parts.parts), 0, &parts);
    // A part depends on nothing but its range, so computing all of them again is correct.
    if (!succeeded(call.api(), status)) body(context, 0, count);
}

}  // namespace

ParallelFor Cpu::Execution::get() const { return ParallelFor(run_on_ort_threads, &call_, processors()); }

}  // namespace opserve::ort_binding
