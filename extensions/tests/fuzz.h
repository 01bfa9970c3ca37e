// What the cases of the fuzzer consist of: random sizes and numbers, buffers exactly as large as their
// contracts say, arguments as a runtime would describe them, and their faults.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "fuzz_case.h"
#include "opserve/parallel.h"
#include "opserve/status.h"
#include "opserve/tensor.h"

namespace fuzz {

using opserve::DeviceType;
using opserve::DType;
using opserve::ParallelFor;
using opserve::Status;
using opserve::TensorArg;

// Elements of a tensor, sometimes starting at an odd place, as views of larger tensors do.
template <class T>
class Elements {
  public:
    Elements(Random& random, int64_t count)
        : offset_(random.one_in(4) ? 1 : 0), heap_((count + offset_) * static_cast<int64_t>(sizeof(T))) {
        heap_.fill(0x5a);
    }
    T* data() { return static_cast<T*>(heap_.get()) + offset_; }

    void randomize(Random& random, int64_t count) {
        for (int64_t i = 0; i < count; ++i) data()[i] = static_cast<T>(random.number());
    }

  private:
    int64_t offset_;
    Heap heap_;
};

template <class T>
Elements<T> numbers(Random& random, int64_t count) {
    Elements<T> elements(random, count);
    elements.randomize(random, count);
    return elements;
}

// A result that shows where it was not written: this pattern is a NaN that no arithmetic produces.
template <class T>
class Result {
  public:
    explicit Result(int64_t count) : count_(count), heap_(count * static_cast<int64_t>(sizeof(T))) {
        heap_.fill(0xfd);
    }
    T* data() { return static_cast<T*>(heap_.get()); }

    void expect_written() {
        T unwritten;
        std::memset(&unwritten, 0xfd, sizeof(T));
        for (int64_t i = 0; i < count_; ++i) {
            if (std::memcmp(data() + i, &unwritten, sizeof(T)) == 0) {
                fail("element " + std::to_string(i) + " of the result is not written");
                return;
            }
        }
    }

  private:
    int64_t count_;
    Heap heap_;
};

template <class T>
constexpr DType dtype_of() {
    if constexpr (std::is_same_v<T, float>) return DType::kFloat32;
    if constexpr (std::is_same_v<T, double>) return DType::kFloat64;
    if constexpr (std::is_same_v<T, int32_t>) return DType::kInt32;
    if constexpr (std::is_same_v<T, int64_t>) return DType::kInt64;
}

// Splits ranges anywhere, and runs them in any order.
struct Pool {
    explicit Pool(Random& source) : random(source.bits(), 0), serial(source.one_in(2)) {}

    ParallelFor parallel_for() {
        if (serial) return {};
        return ParallelFor(
            [](void* pool, int64_t count, int64_t, ParallelFor::Body body, const void* context) {
                Random& random = static_cast<Pool*>(pool)->random;
                const int64_t cut = random.below(count + 1), other = cut + random.below(count - cut + 1);
                if (other < count) body(context, other, count);
                if (cut > 0) body(context, 0, cut);
                if (cut < other) body(context, cut, other);
            },
            this, 3);
    }

    Random random;
    bool serial;
};

// One argument as a runtime would describe it.
struct Argument {
    DType dtype;
    std::vector<int64_t> sizes;
    DeviceType device = DeviceType::kCpu;
    int32_t index = 0;

    int64_t dim() const { return static_cast<int64_t>(sizes.size()); }
    TensorArg arg() const { return {dtype, device, index, dim(), sizes.data()}; }
    int64_t numel() const {
        int64_t count = 1;
        for (const int64_t size : sizes) count *= size;
        return count;
    }
    bool is(std::initializer_list<int64_t> expected) const { return sizes == std::vector<int64_t>(expected); }
};

inline bool same_device(const Argument& a, const Argument& b) {
    return a.device == b.device && a.index == b.index;
}

inline bool is_floating(DType dtype) {
    return dtype == DType::kFloat16 || dtype == DType::kBFloat16 || dtype == DType::kFloat32 ||
           dtype == DType::kFloat64;
}

inline bool runs_on_the_cpu(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kFloat64; }

// Whether it fits in 2^63 bytes, and so does each stride; computed differently from the checks.
inline bool fits(const std::vector<int64_t>& sizes, DType dtype) {
    long double bytes = static_cast<long double>(opserve::element_size(dtype));
    for (const int64_t size : sizes) bytes *= static_cast<long double>(std::max<int64_t>(size, 1));
    return bytes < 0x1p63L;
}

// Whether it is small enough to allocate its buffers.
inline bool is_small(const std::vector<const Argument*>& arguments) {
    for (const Argument* argument : arguments) {
        long double count = 1;
        for (const int64_t size : argument->sizes)
            count *= static_cast<long double>(std::max<int64_t>(size, 1));
        if (count > 200000) return false;
    }
    return true;
}

// The same for contents: an empty tensor may have any other sizes, which no kernel may iterate over.
inline bool holds_little(const std::vector<const Argument*>& arguments) {
    for (const Argument* argument : arguments) {
        const auto& sizes = argument->sizes;
        if (std::find(sizes.begin(), sizes.end(), 0) == sizes.end() && !is_small({argument})) return false;
    }
    return true;
}

// Spoils one of the arguments.
inline void corrupt(Random& random, const std::vector<Argument*>& arguments) {
    Argument& argument = *arguments[random.below(static_cast<int64_t>(arguments.size()))];
    switch (random.below(6)) {
        case 0:
            argument.dtype = random.pick({DType::kFloat16, DType::kBFloat16, DType::kFloat32, DType::kFloat64,
                                          DType::kInt32, DType::kInt64, DType::kOther});
            break;
        case 1:
            argument.sizes.insert(argument.sizes.begin() + random.below(argument.dim() + 1), random.below(4));
            break;
        case 2:
            if (argument.dim() > 0)
                argument.sizes.erase(argument.sizes.begin() + random.below(argument.dim()));
            break;
        case 3:
            if (argument.dim() > 0) argument.sizes[random.below(argument.dim())] = random.huge();
            break;
        case 4:
            argument.device = random.pick({DeviceType::kCpu, DeviceType::kCuda, DeviceType::kOther});
            argument.index = static_cast<int32_t>(random.below(2));
            break;
        default:
            if (argument.dim() > 0) {
                int64_t& size = argument.sizes[random.below(argument.dim())];
                size = std::max<int64_t>(0, size + random.pick<int64_t>({-1, 1, 2, 7}));
            }
            break;
    }
}

// Whether it was accepted, rightly or not: what a missing check accepts must reach the sanitizers.
inline bool agree(const Status& status, bool valid) {
    if (status.ok() != valid) {
        fail(valid ? std::string("refused: ") + status.message()
                   : std::string("accepted what must be refused"));
    }
    return status.ok();
}

enum class Outcome { kComputed, kRefused, kChecked };

// The distance from one part of a tensor to the next: they may be apart, or be the same one.
inline int64_t random_stride(Random& random, int64_t dense) {
    return random.one_in(8) ? 0 : dense + (random.one_in(3) ? random.below(5) : 0);
}

// A matrix whose rows may be apart, or all be one.
template <class T>
struct Matrix {
    Matrix(Random& random, const Argument& argument) : Matrix(random, argument.sizes[0], argument.sizes[1]) {}
    Matrix(Random& random, int64_t rows, int64_t columns)
        : stride(random_stride(random, columns)),
          elements(numbers<T>(random, rows == 0 || columns == 0 ? 0 : (rows - 1) * stride + columns)) {}
    int64_t stride;
    Elements<T> elements;
};

// Of a dtype without kernels.
template <class Params>
Outcome refused_workspace(const Params& p, Status (*workspace_size)(const Params&, int64_t*)) {
    int64_t bytes = 0;
    agree(workspace_size(p, &bytes), false);
    return Outcome::kRefused;
}

// With sizes that are not run.
template <class Params>
Outcome only_workspace(const Params& p, Status (*workspace_size)(const Params&, int64_t*)) {
    int64_t bytes = 0;
    if (workspace_size(p, &bytes).ok() && bytes < 0) fail("a negative workspace");
    return Outcome::kChecked;
}

template <class Params>
Status workspace_and_run(Params& p, Status (*workspace_size)(const Params&, int64_t*),
                         Status (*run)(const Params&, const ParallelFor&), const ParallelFor& parallel_for) {
    int64_t bytes = -1;
    if (!agree(workspace_size(p, &bytes), true)) return Status::invalid_argument("no workspace");
    if (bytes < 0) fail("a negative workspace");
    Heap workspace(bytes, 64);
    workspace.fill(0xff);
    p.workspace = workspace.get();
    return run(p, parallel_for);
}

// A graph in CSR form: rows of any length, columns in any order; sometimes wrong indices: by one, by far, and
// such that products of them overflow.
template <class Index>
struct Graph {
    Graph(Random& random, int64_t n) : rowptr{0} {
        for (int64_t row = 0; row < n; ++row) {
            for (int64_t degree = random.one_in(3) ? 0 : random.below(8); degree > 0; --degree) {
                col.push_back(static_cast<Index>(random.below(n)));
            }
            rowptr.push_back(static_cast<Index>(col.size()));
        }
        nnz = static_cast<int64_t>(col.size());
        for (int64_t spoiled = random.one_in(3) ? 1 + random.below(2) : 0; spoiled > 0; --spoiled) {
            std::vector<Index>& into = random.one_in(2) || col.empty() ? rowptr : col;
            Index& value = into[random.below(static_cast<int64_t>(into.size()))];
            constexpr Index most = std::numeric_limits<Index>::max(),
                            least = std::numeric_limits<Index>::min();
            value = random.pick<Index>(
                {static_cast<Index>(value ^ Index{1} << random.below(sizeof(Index) * 8 - 1)),
                 static_cast<Index>(value == most ? 0 : value + 1),
                 static_cast<Index>(value == least ? 0 : value - 1), static_cast<Index>(n),
                 static_cast<Index>(nnz), Index{-1}, most, least, Index{0}});
        }
        good = rowptr[0] == 0 && static_cast<int64_t>(rowptr[n]) == nnz;
        good = good && std::is_sorted(rowptr.begin(), rowptr.end());
        for (const Index column : col) good = good && column >= 0 && static_cast<int64_t>(column) < n;
    }

    std::vector<Index> rowptr, col;
    int64_t nnz;
    bool good;
};

// The indices in buffers of exactly their size.
template <class Index>
Elements<Index> copy(Random& random, const std::vector<Index>& from) {
    Elements<Index> elements(random, static_cast<int64_t>(from.size()));
    std::copy(from.begin(), from.end(), elements.data());
    return elements;
}

// What main runs.
struct Op {
    const char* name;
    Outcome (*run)(Random&);
};
extern const std::vector<Op> backward_ops;
extern const std::vector<Op> gcn_norm_ops;

}  // namespace fuzz
