// Threads belong to the caller: a kernel asks for a range to be covered, whatever the thread pool.
#pragma once

#include <cstdint>

namespace opserve {

// A non-owning handle on a thread pool. It costs two pointers and allocates nothing.
class ParallelFor {
  public:
    using Body = void (*)(const void* context, int64_t begin, int64_t end);
    // Calls `body` on disjoint ranges that together cover [0, count), each at least `grain` long where
    // possible, and returns when all are done.
    using Run = void (*)(void* pool, int64_t count, int64_t grain, Body body, const void* context);

    // Without a pool everything runs in the calling thread.
    constexpr ParallelFor() = default;
    constexpr ParallelFor(Run run, void* pool, int num_threads)
        : run_(run), pool_(pool), num_threads_(num_threads) {}

    int num_threads() const { return num_threads_; }

    // `function(begin, end)` must not throw. Its results must not depend on where the range is split, so that
    // they are the same with any number of threads.
    template <class Function>
    void operator()(int64_t count, int64_t grain, const Function& function) const {
        if (count <= 0) return;
        if (run_ == nullptr || count <= grain) {
            function(int64_t{0}, count);
            return;
        }
        run_(
            pool_, count, grain,
            [](const void* context, int64_t begin, int64_t end) {
                (*static_cast<const Function*>(context))(begin, end);
            },
            &function);
    }

  private:
    Run run_ = nullptr;
    void* pool_ = nullptr;
    int num_threads_ = 1;
};

}  // namespace opserve
