#include <cuda_runtime.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace {

constexpr int kWarp = 32;
constexpr size_t kStack = 128 * 1024;
// Kernels walk their work in strides of the grid. A small one makes them do so on small inputs.
constexpr unsigned kBlocks = 3;

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "emulation: %s (block %u, thread %u)\n", what, blockIdx.x, threadIdx.x);
    std::abort();
}

struct Thread {
    enum { kReady, kAtBlockBarrier, kAtWarpBarrier, kDone } state = kReady;
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    // How many reductions and exchanges it has taken part in; consecutive ones use different slots, since a
    // thread may be one ahead of another.
    unsigned reductions = 0, exchanges = 0;
};

struct Block {
    std::vector<Thread> threads;
    int any[3] = {};
    std::vector<uint64_t> exchanged[2];
};

ucontext_t scheduler;
Block block;
unsigned current;
const std::function<void()>* body;
std::mt19937 order(1);

void run_thread() {
    (*body)();
    block.threads[current].state = Thread::kDone;
    swapcontext(&block.threads[current].context, &scheduler);
}

void wait(decltype(Thread::state) where) {
    block.threads[current].state = where;
    swapcontext(&block.threads[current].context, &scheduler);
}

// Resumes threads that all others have joined: a warp whose threads are all at an exchange, or the block if
// all unfinished threads are at its barrier.
bool release() {
    auto& threads = block.threads;
    bool released = false;
    for (size_t first = 0; first < threads.size(); first += kWarp) {
        bool all = true;
        for (size_t i = first; i < first + kWarp; ++i)
            all = all && threads[i].state == Thread::kAtWarpBarrier;
        for (size_t i = first; all && i < first + kWarp; ++i) threads[i].state = Thread::kReady;
        released = released || all;
    }
    if (released) return true;
    for (const Thread& thread : threads) {
        if (thread.state == Thread::kAtWarpBarrier) return false;
    }
    for (Thread& thread : threads) {
        if (thread.state == Thread::kAtBlockBarrier) {
            thread.state = Thread::kReady;
            released = true;
        }
    }
    return released;
}

void run_block() {
    auto& threads = block.threads;
    std::vector<unsigned> turn(threads.size());
    for (unsigned i = 0; i < threads.size(); ++i) {
        Thread& thread = threads[i];
        thread.state = Thread::kReady;
        thread.reductions = thread.exchanges = 0;
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.get();
        thread.context.uc_stack.ss_size = kStack;
        thread.context.uc_link = nullptr;
        makecontext(&thread.context, run_thread, 0);
        turn[i] = i;
    }
    for (int& any : block.any) any = 0;
    for (;;) {
        for (size_t i = turn.size(); i > 1; --i) std::swap(turn[i - 1], turn[order() % i]);
        bool done = true;
        for (unsigned i : turn) {
            if (threads[i].state == Thread::kReady) {
                current = i;
                threadIdx = {i, 0, 0};
                swapcontext(&scheduler, &threads[i].context);
            }
        }
        for (const Thread& thread : threads) done = done && thread.state == Thread::kDone;
        if (done) return;
        if (!release()) fail("threads wait for each other at different barriers");
    }
}

}  // namespace

void __syncthreads() { wait(Thread::kAtBlockBarrier); }

int __syncthreads_or(int predicate) {
    const unsigned slot = block.threads[current].reductions++ % 3;
    block.any[slot] |= predicate != 0 ? 1 : 0;
    wait(Thread::kAtBlockBarrier);
    const int any = block.any[slot];
    // No thread reads this slot any more, and none writes it before all have come this far.
    block.any[(slot + 2) % 3] = 0;
    return any;
}

uint64_t emulated_shuffle_xor(unsigned mask, uint64_t bits, int distance) {
    if (mask != 0xffffffffU) fail("an exchange of a part of a warp");
    const unsigned thread = current;
    auto& slot = block.exchanged[block.threads[thread].exchanges++ % 2];
    slot[thread] = bits;
    wait(Thread::kAtWarpBarrier);
    return slot[thread ^ static_cast<unsigned>(distance)];
}

void emulated_check_aligned(const void* pointer, size_t bytes) {
    if (reinterpret_cast<uintptr_t>(pointer) % bytes != 0) fail("a misaligned access");
}

namespace {

// Which function fails, and how; an empty name means all, as after a fault in a kernel.
char failing_function[64] = "";
cudaError_t failure = cudaSuccess;

}  // namespace

extern "C" __attribute__((visibility("default"))) void opserve_emulated_fail(const char* function,
                                                                             int error) {
    std::snprintf(failing_function, sizeof(failing_function), "%s", function);
    failure = static_cast<cudaError_t>(error);
}

cudaError_t emulated_result(const char* function) {
    const bool fails = failing_function[0] == '\0' || std::strcmp(function, failing_function) == 0;
    return fails ? failure : cudaSuccess;
}

const char* cudaGetErrorName(cudaError_t error) {
    switch (error) {
        case cudaSuccess:
            return "cudaSuccess";
        case cudaErrorMemoryAllocation:
            return "cudaErrorMemoryAllocation";
        case cudaErrorInvalidConfiguration:
            return "cudaErrorInvalidConfiguration";
        case cudaErrorIllegalAddress:
            return "cudaErrorIllegalAddress";
    }
    return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaSuccess:
            return "no error";
        case cudaErrorMemoryAllocation:
            return "out of memory";
        case cudaErrorInvalidConfiguration:
            return "invalid configuration argument";
        case cudaErrorIllegalAddress:
            return "an illegal memory access was encountered";
    }
    return "unrecognized error code";
}

cudaError_t emulated_launch(const cudaLaunchConfig_t& config, const std::function<void()>& thread) {
    static std::mutex mutex;
    const std::lock_guard<std::mutex> lock(mutex);
    if (const cudaError_t result = emulated_result("cudaLaunchKernelEx"); result != cudaSuccess)
        return result;
    if (config.gridDim.x == 0 || config.gridDim.x > 0x7fffffffU || config.blockDim.x == 0 ||
        config.blockDim.x > 1024 || config.blockDim.x % kWarp != 0) {
        return cudaErrorInvalidConfiguration;
    }
    if (block.threads.size() != config.blockDim.x) {
        block.threads = std::vector<Thread>(config.blockDim.x);
        for (Thread& one : block.threads) one.stack = std::make_unique<char[]>(kStack);
        for (auto& slot : block.exchanged) slot.assign(config.blockDim.x, 0);
    }
    body = &thread;
    blockDim = config.blockDim;
    gridDim = dim3(config.gridDim.x < kBlocks ? config.gridDim.x : kBlocks);
    for (unsigned i = 0; i < gridDim.x; ++i) {
        blockIdx = {i, 0, 0};
        run_block();
    }
    return cudaSuccess;
}
