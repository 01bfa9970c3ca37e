// The kernels alone: no runtime is linked. Every buffer is exactly as large as its contract says, so that a
// build with AddressSanitizer detects each access beyond it.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "opserve/cpu_capability.h"
#include "opserve/gcn_norm.h"
#include "opserve/graph_conv.h"
#include "opserve/graph_conv_csr.h"
#include "opserve/scaled_add.h"
#include "opserve/warp_perspective.h"

namespace {

using opserve::DeviceType;
using opserve::DType;
using opserve::ParallelFor;
using opserve::Status;
using opserve::TensorArg;

int failures = 0;

void expect(bool condition, const std::string& what, int line) {
    if (condition) return;
    ++failures;
    std::printf("kernels_test.cpp:%d: %s\n", line, what.c_str());
}
#define EXPECT(condition, what) expect(condition, what, __LINE__)

void expect_error(const Status& status, const std::string& text, int line) {
    expect(!status.ok() && text == status.message(),
           "expected \"" + text + "\", got \"" + status.message() + "\"", line);
}
#define EXPECT_ERROR(status, text) expect_error(status, text, __LINE__)

template <class T>
constexpr DType dtype_of() {
    if constexpr (std::is_same_v<T, float>) return DType::kFloat32;
    if constexpr (std::is_same_v<T, double>) return DType::kFloat64;
    if constexpr (std::is_same_v<T, int32_t>) return DType::kInt32;
    if constexpr (std::is_same_v<T, int64_t>) return DType::kInt64;
}

// The worst pool that the contract allows: uneven ranges, in real threads.
const ParallelFor kThreads(
    [](void*, int64_t count, int64_t, ParallelFor::Body body, const void* context) {
        std::vector<std::thread> threads;
        int64_t begin = 0;
        for (int64_t length = 1; begin < count; length += 2) {
            const int64_t end = std::min(begin + length, count);
            threads.emplace_back([=] { body(context, begin, end); });
            begin = end;
        }
        for (auto& thread : threads) thread.join();
    },
    nullptr, 4);
const ParallelFor kSerial;

std::mt19937 generator(7);

template <class T>
std::vector<T> random_values(int64_t count) {
    std::uniform_real_distribution<double> uniform(-1.0, 1.0);
    std::vector<T> values(static_cast<size_t>(count));
    for (auto& value : values) value = static_cast<T>(uniform(generator));
    return values;
}

// A buffer that ends exactly at its size, so that a sanitizer detects the first byte beyond it.
struct AlignedBuffer {
    explicit AlignedBuffer(int64_t bytes)
        : pointer(static_cast<char*>(::operator new(static_cast<size_t>(bytes), std::align_val_t{64}))) {}
    AlignedBuffer(const AlignedBuffer&) = delete;
    ~AlignedBuffer() { ::operator delete(pointer, std::align_val_t{64}); }
    char* pointer;
};

template <class T>
bool near(const std::vector<T>& got, const std::vector<double>& expected, double scale) {
    const double tolerance = scale * static_cast<double>(std::numeric_limits<T>::epsilon());
    for (size_t i = 0; i < got.size(); ++i) {
        if (!(std::fabs(static_cast<double>(got[i]) - expected[i]) <= tolerance)) return false;
    }
    return got.size() == expected.size();
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

TensorArg tensor(DType dtype, const std::vector<int64_t>& sizes) {
    return {dtype, DeviceType::kCpu, 0, static_cast<int64_t>(sizes.size()), sizes.data()};
}

template <class T>
void test_scaled_add() {
    // The largest is stored past the caches.
    for (int64_t count : {0, 1, 7, 15, 16, 17, 33, 1000, 100003, 1100003}) {
        const auto x = random_values<T>(count), y = random_values<T>(count);
        std::vector<double> expected(x.size());
        for (size_t i = 0; i < x.size(); ++i) {
            expected[i] = 0.3 * static_cast<double>(x[i]) + static_cast<double>(y[i]);
        }
        std::vector<T> serial(x.size()), threaded(x.size());
        const opserve::ScaledAddParams p{dtype_of<T>(), count, 0.3, x.data(), y.data(), serial.data()};
        EXPECT(opserve::cpu::scaled_add(p, kSerial).ok(), "scaled_add");
        auto q = p;
        q.z = threaded.data();
        EXPECT(opserve::cpu::scaled_add(q, kThreads).ok(), "scaled_add");
        EXPECT(near(serial, expected, 4), "scaled_add of " + std::to_string(count));
        EXPECT(same_bits(serial, threaded), "scaled_add in threads, " + std::to_string(count));
    }
    // The result may replace an input.
    auto x = random_values<T>(100);
    const auto before = x;
    const opserve::ScaledAddParams p{dtype_of<T>(), 100, 1.0, x.data(), x.data(), x.data()};
    EXPECT(opserve::cpu::scaled_add(p, kSerial).ok(), "scaled_add");
    for (size_t i = 0; i < x.size(); ++i) EXPECT(x[i] == before[i] + before[i], "scaled_add in place");
}

// Rows `stride` apart; the last one ends with its last element.
template <class T>
std::vector<T> matrix(int64_t rows, int64_t columns, int64_t stride) {
    return random_values<T>(rows == 0 || columns == 0 ? 0 : (rows - 1) * stride + columns);
}

template <class T>
std::vector<double> product(const std::vector<T>& a, int64_t a_stride, const std::vector<T>& b,
                            int64_t b_stride, int64_t m, int64_t k, int64_t n) {
    std::vector<double> out(static_cast<size_t>(m * n));
    for (int64_t i = 0; i < m; ++i) {
        for (int64_t l = 0; l < k; ++l) {
            for (int64_t j = 0; j < n; ++j) {
                out[i * n + j] +=
                    static_cast<double>(a[i * a_stride + l]) * static_cast<double>(b[l * b_stride + j]);
            }
        }
    }
    return out;
}

struct Shape {
    int64_t n, f, k;
};
const Shape kShapes[] = {{0, 3, 2},    {3, 0, 2},      {3, 2, 0},      {1, 1, 1},
                         {2, 3, 5},    {34, 16, 7},    {49, 7, 33},    {50, 70, 3},
                         {95, 64, 64}, {61, 300, 100}, {300, 40, 129}, {300, 40, 17}};

template <class T>
void test_graph_conv() {
    for (const auto& [n, f, k] : kShapes) {
        for (int64_t gap : {0, 3}) {
            const std::string name = std::to_string(n) + " " + std::to_string(f) + " " + std::to_string(k);
            const auto a = matrix<T>(n, n, n + gap), x = matrix<T>(n, f, f + gap),
                       w = matrix<T>(f, k, k + gap);
            const auto bias = random_values<T>(k);
            const auto ax = product<T>(a, n + gap, x, f + gap, n, n, f);
            auto expected = product<double>(ax, f, std::vector<double>(w.begin(), w.end()), k + gap, n, f, k);
            for (int64_t i = 0; i < n * k; ++i) expected[i] += static_cast<double>(bias[i % k]);
            std::vector<T> serial(expected.size()), threaded(expected.size());
            opserve::GraphConvParams p{};
            p.dtype = dtype_of<T>();
            p.sizes = {n, f, k};
            p.a = a.data();
            p.a_stride = n + gap;
            p.x = x.data();
            p.x_stride = f + gap;
            p.weight = w.data();
            p.weight_stride = k + gap;
            p.bias = bias.data();
            int64_t bytes = -1;
            EXPECT(opserve::cpu::graph_conv_workspace_size(p, &bytes).ok() && bytes >= 0,
                   "workspace " + name);
            AlignedBuffer workspace(bytes);
            p.workspace = workspace.pointer;
            p.out = serial.data();
            EXPECT(opserve::cpu::graph_conv(p, kSerial).ok(), "graph_conv " + name);
            p.out = threaded.data();
            EXPECT(opserve::cpu::graph_conv(p, kThreads).ok(), "graph_conv " + name);
            EXPECT(near(serial, expected, static_cast<double>(8 + n + f) * 4), "graph_conv " + name);
            EXPECT(same_bits(serial, threaded), "graph_conv in threads " + name);
        }
    }
}

template <class Index>
struct Csr {
    std::vector<Index> rowptr, col;
};

template <class Index>
Csr<Index> random_csr(int64_t n, int64_t degree) {
    Csr<Index> csr;
    csr.rowptr.push_back(0);
    for (int64_t i = 0; i < n; ++i) {
        // Every third row is empty; columns repeat.
        const int64_t count = i % 3 == 0 ? 0 : static_cast<int64_t>(generator() % (2 * degree + 1));
        for (int64_t e = 0; e < count; ++e) csr.col.push_back(static_cast<Index>(generator() % n));
        csr.rowptr.push_back(static_cast<Index>(csr.col.size()));
    }
    return csr;
}

template <class T, class Index>
opserve::GraphConvCsrParams csr_params(const Csr<Index>& csr, int64_t n, int64_t f, int64_t k) {
    opserve::GraphConvCsrParams p{};
    p.dtype = dtype_of<T>();
    p.index_dtype = dtype_of<Index>();
    p.sizes = {n, static_cast<int64_t>(csr.col.size()), f, k};
    p.rowptr = csr.rowptr.data();
    p.col = csr.col.data();
    p.x_stride = f;
    p.weight_stride = k;
    return p;
}

template <class T, class Index>
void test_graph_conv_csr() {
    for (const auto& [n, f, k] : kShapes) {
        for (bool weighted : {false, true}) {
            const std::string name = std::to_string(n) + " " + std::to_string(f) + " " + std::to_string(k);
            const auto csr = random_csr<Index>(n, 4);
            const int64_t nnz = static_cast<int64_t>(csr.col.size());
            const auto value = random_values<T>(nnz), bias = random_values<T>(k);
            const int64_t gap = weighted ? 2 : 0;
            const auto x = matrix<T>(n, f, f + gap), w = matrix<T>(f, k, k + gap);
            std::vector<double> ax(static_cast<size_t>(n * f));
            for (int64_t i = 0; i < n; ++i) {
                for (int64_t e = csr.rowptr[i]; e < static_cast<int64_t>(csr.rowptr[i + 1]); ++e) {
                    for (int64_t j = 0; j < f; ++j) {
                        ax[i * f + j] += (weighted ? static_cast<double>(value[e]) : 1.0) *
                                         static_cast<double>(x[csr.col[e] * (f + gap) + j]);
                    }
                }
            }
            auto expected = product<double>(ax, f, std::vector<double>(w.begin(), w.end()), k + gap, n, f, k);
            for (int64_t i = 0; weighted && i < n * k; ++i) expected[i] += static_cast<double>(bias[i % k]);
            std::vector<T> serial(expected.size()), threaded(expected.size());
            auto p = csr_params<T>(csr, n, f, k);
            p.value = weighted ? value.data() : nullptr;
            p.bias = weighted ? bias.data() : nullptr;
            p.x = x.data();
            p.x_stride = f + gap;
            p.weight = w.data();
            p.weight_stride = k + gap;
            int64_t bytes = -1;
            EXPECT(opserve::cpu::graph_conv_csr_workspace_size(p, &bytes).ok() && bytes >= 0,
                   "workspace " + name);
            AlignedBuffer workspace(bytes);
            p.workspace = workspace.pointer;
            p.out = serial.data();
            EXPECT(opserve::cpu::graph_conv_csr(p, kSerial).ok(), "graph_conv_csr " + name);
            p.out = threaded.data();
            EXPECT(opserve::cpu::graph_conv_csr(p, kThreads).ok(), "graph_conv_csr " + name);
            EXPECT(near(serial, expected, static_cast<double>(16 + f) * 8), "graph_conv_csr " + name);
            EXPECT(same_bits(serial, threaded), "graph_conv_csr in threads " + name);
        }
    }
}

template <class T>
std::vector<double> transposed(const std::vector<T>& a, int64_t rows, int64_t columns) {
    std::vector<double> out(static_cast<size_t>(rows * columns));
    for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) out[j * rows + i] = static_cast<double>(a[i * columns + j]);
    }
    return out;
}

// The rows of a matrix without the elements between them.
template <class T>
std::vector<double> dense(const std::vector<T>& a, int64_t rows, int64_t columns, int64_t stride) {
    std::vector<double> out;
    for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) out.push_back(static_cast<double>(a[i * stride + j]));
    }
    return out;
}

// The gradients of a·x·weight with respect to each factor and the bias, from the full matrix a.
struct Gradients {
    Gradients(const std::vector<double>& a, const std::vector<double>& x, const std::vector<double>& weight,
              const std::vector<double>& grad, int64_t n, int64_t f, int64_t k)
        : bias(static_cast<size_t>(k)) {
        const auto back = product(transposed(a, n, n), n, grad, k, n, n, k);
        this->x = product(back, k, transposed(weight, f, k), f, n, k, f);
        this->weight = product(transposed(x, n, f), n, back, k, f, n, k);
        const auto forward = product(x, f, weight, k, n, f, k);
        this->a = product(grad, k, transposed(forward, n, k), n, n, k, n);
        for (int64_t i = 0; i < n * k; ++i) bias[i % k] += grad[i];
    }
    std::vector<double> a, x, weight, bias;
};

template <class T>
void test_graph_conv_backward() {
    for (const auto& [n, f, k] : kShapes) {
        for (int64_t gap : {0, 3}) {
            const std::string name = std::to_string(n) + " " + std::to_string(f) + " " + std::to_string(k);
            const auto a = matrix<T>(n, n, n + gap), x = matrix<T>(n, f, f + gap),
                       w = matrix<T>(f, k, k + gap), grad = matrix<T>(n, k, k + gap);
            const Gradients expected(dense(a, n, n, n + gap), dense(x, n, f, f + gap),
                                     dense(w, f, k, k + gap), dense(grad, n, k, k + gap), n, f, k);
            for (int needs = 0; needs < 16; ++needs) {
                std::vector<T> results[2][4];
                for (int threaded = 0; threaded < 2; ++threaded) {
                    const auto room = [&](int which, int64_t size) -> void* {
                        // A vector without elements may have no address, and null means not needed.
                        auto& result = results[threaded][which];
                        if ((needs >> which & 1) == 0) return nullptr;
                        result.reserve(1);
                        result.resize(static_cast<size_t>(size));
                        return result.data();
                    };
                    opserve::GraphConvBackwardParams p{};
                    p.dtype = dtype_of<T>();
                    p.sizes = {n, f, k};
                    p.grad = grad.data();
                    p.grad_stride = k + gap;
                    p.a = a.data();
                    p.a_stride = n + gap;
                    p.x = x.data();
                    p.x_stride = f + gap;
                    p.weight = w.data();
                    p.weight_stride = k + gap;
                    p.grad_a = room(0, n * n);
                    p.grad_x = room(1, n * f);
                    p.grad_weight = room(2, f * k);
                    p.grad_bias = room(3, k);
                    int64_t bytes = -1;
                    EXPECT(opserve::cpu::graph_conv_backward_workspace_size(p, &bytes).ok() && bytes >= 0,
                           "workspace " + name);
                    AlignedBuffer workspace(bytes);
                    p.workspace = workspace.pointer;
                    EXPECT(opserve::cpu::graph_conv_backward(p, threaded ? kThreads : kSerial).ok(), name);
                }
                const std::vector<double>* exact[] = {&expected.a, &expected.x, &expected.weight,
                                                      &expected.bias};
                for (int which = 0; which < 4; ++which) {
                    if ((needs >> which & 1) == 0) continue;
                    const std::string what = "gradient " + std::to_string(which) + " of graph_conv " + name;
                    EXPECT(near(results[0][which], *exact[which], static_cast<double>(16 + n + f + k) * 8),
                           what);
                    EXPECT(same_bits(results[0][which], results[1][which]), what + " in threads");
                }
            }
        }
    }
}

template <class T, class Index>
void test_graph_conv_csr_backward() {
    for (const auto& [n, f, k] : kShapes) {
        for (bool weighted : {false, true}) {
            const std::string name = std::to_string(n) + " " + std::to_string(f) + " " + std::to_string(k);
            const auto csr = random_csr<Index>(n, 4);
            const int64_t nnz = static_cast<int64_t>(csr.col.size());
            const auto value = random_values<T>(nnz);
            const int64_t gap = weighted ? 2 : 0;
            const auto x = matrix<T>(n, f, f + gap), w = matrix<T>(f, k, k + gap),
                       grad = matrix<T>(n, k, k + gap);
            std::vector<double> a(static_cast<size_t>(n * n));
            for (int64_t i = 0; i < n; ++i) {
                for (int64_t e = csr.rowptr[i]; e < static_cast<int64_t>(csr.rowptr[i + 1]); ++e) {
                    a[i * n + csr.col[e]] += weighted ? static_cast<double>(value[e]) : 1.0;
                }
            }
            const Gradients expected(a, dense(x, n, f, f + gap), dense(w, f, k, k + gap),
                                     dense(grad, n, k, k + gap), n, f, k);
            std::vector<double> of_value;
            for (int64_t i = 0; i < n; ++i) {
                for (int64_t e = csr.rowptr[i]; e < static_cast<int64_t>(csr.rowptr[i + 1]); ++e) {
                    of_value.push_back(expected.a[i * n + csr.col[e]]);
                }
            }
            for (int needs = 0; needs < 16; ++needs) {
                if (!weighted && (needs & 1) != 0) continue;
                std::vector<T> results[2][4];
                for (int threaded = 0; threaded < 2; ++threaded) {
                    const auto room = [&](int which, int64_t size) -> void* {
                        auto& result = results[threaded][which];
                        if ((needs >> which & 1) == 0) return nullptr;
                        result.reserve(1);
                        result.resize(static_cast<size_t>(size));
                        return result.data();
                    };
                    opserve::GraphConvCsrBackwardParams p{};
                    p.dtype = dtype_of<T>();
                    p.index_dtype = dtype_of<Index>();
                    p.sizes = {n, nnz, f, k};
                    p.rowptr = csr.rowptr.data();
                    p.col = csr.col.data();
                    p.value = weighted ? value.data() : nullptr;
                    p.grad = grad.data();
                    p.grad_stride = k + gap;
                    p.x = x.data();
                    p.x_stride = f + gap;
                    p.weight = w.data();
                    p.weight_stride = k + gap;
                    p.grad_value = room(0, nnz);
                    p.grad_x = room(1, n * f);
                    p.grad_weight = room(2, f * k);
                    p.grad_bias = room(3, k);
                    int64_t bytes = -1;
                    EXPECT(opserve::cpu::graph_conv_csr_backward_workspace_size(p, &bytes).ok() && bytes >= 0,
                           "workspace " + name);
                    AlignedBuffer workspace(bytes);
                    p.workspace = workspace.pointer;
                    EXPECT(opserve::cpu::graph_conv_csr_backward(p, threaded ? kThreads : kSerial).ok(),
                           name);
                }
                const std::vector<double>* exact[] = {&of_value, &expected.x, &expected.weight,
                                                      &expected.bias};
                for (int which = 0; which < 4; ++which) {
                    if ((needs >> which & 1) == 0) continue;
                    const std::string what =
                        "gradient " + std::to_string(which) + " of graph_conv_csr " + name;
                    EXPECT(near(results[0][which], *exact[which], static_cast<double>(16 + n + f + k) * 8),
                           what);
                    EXPECT(same_bits(results[0][which], results[1][which]), what + " in threads");
                }
            }
        }
    }
}

template <class Index>
void test_graph_conv_csr_indices() {
    const std::vector<float> x(3), w(1);
    std::vector<float> out(3);
    const auto run = [&](const Csr<Index>& csr) {
        auto p = csr_params<float>(csr, 3, 1, 1);
        p.x = x.data();
        p.weight = w.data();
        p.out = out.data();
        int64_t bytes = 0;
        EXPECT(opserve::cpu::graph_conv_csr_workspace_size(p, &bytes).ok(), "workspace");
        AlignedBuffer workspace(bytes);
        p.workspace = workspace.pointer;
        return opserve::cpu::graph_conv_csr(p, kSerial);
    };
    EXPECT(run({{0, 1, 1, 2}, {2, 0}}).ok(), "good indices");
    EXPECT_ERROR(run({{1, 1, 1, 2}, {2, 0}}), "opserve::graph_conv_csr: rowptr must start at 0, got 1");
    EXPECT_ERROR(run({{0, 2, 1, 2}, {2, 0}}),
                 "opserve::graph_conv_csr: rowptr must not decrease, got rowptr[2] = 1 after 2");
    EXPECT_ERROR(run({{0, 1, 1, 3}, {2, 0}}), "opserve::graph_conv_csr: rowptr must end at nnz = 2, got 3");
    EXPECT_ERROR(run({{0, 1, 1, 1}, {2, 0}}), "opserve::graph_conv_csr: rowptr must end at nnz = 2, got 1");
    EXPECT_ERROR(run({{0, 1, 1, 2}, {2, 3}}),
                 "opserve::graph_conv_csr: col must be in [0, n = 3), got col[1] = 3");
    EXPECT_ERROR(run({{0, 1, 1, 2}, {-1, 0}}),
                 "opserve::graph_conv_csr: col must be in [0, n = 3), got col[0] = -1");
    const Index far = std::numeric_limits<Index>::min();
    EXPECT_ERROR(run({{0, 1, 1, 2}, {0, far}}),
                 "opserve::graph_conv_csr: col must be in [0, n = 3), got col[1] = " + std::to_string(far));
}

template <class T, class Index>
void test_gcn_norm() {
    for (int64_t n : {0, 1, 2, 5, 300}) {
        const auto csr = random_csr<Index>(n, 4);
        const int64_t nnz = static_cast<int64_t>(csr.col.size()), out_nnz = nnz + n;
        const std::string name = "gcn_norm " + std::to_string(n);
        std::vector<T> value = random_values<T>(nnz);
        // Above 0, so that each degree has a root.
        for (T& weight : value) weight = (weight + 2) / 2;
        const auto grad = random_values<T>(out_nnz);
        std::vector<double> scale(static_cast<size_t>(n)), slope(static_cast<size_t>(n)), loop(scale);
        for (int64_t i = 0; i < n; ++i) {
            loop[i] = 1.5;
            for (int64_t e = csr.rowptr[i]; e < static_cast<int64_t>(csr.rowptr[i + 1]); ++e) {
                scale[i] += static_cast<double>(value[e]);
                if (static_cast<int64_t>(csr.col[e]) == i) loop[i] = 0;
            }
            scale[i] = 1 / std::sqrt(scale[i] + loop[i]);
        }
        Csr<Index> looped{{0}, {}};
        std::vector<double> normalized, of_value;
        for (int64_t i = 0; i < n; ++i) {
            looped.col.push_back(static_cast<Index>(i));
            slope[i] += 2 * static_cast<double>(grad[normalized.size()]) * loop[i] * scale[i];
            normalized.push_back(scale[i] * loop[i] * scale[i]);
            for (int64_t e = csr.rowptr[i]; e < static_cast<int64_t>(csr.rowptr[i + 1]); ++e) {
                const int64_t j = csr.col[e];
                const double g = static_cast<double>(grad[normalized.size()]),
                             w = static_cast<double>(value[e]);
                slope[i] += g * w * scale[j];
                slope[j] += g * w * scale[i];
                of_value.push_back(g * scale[i] * scale[j]);
                looped.col.push_back(csr.col[e]);
                normalized.push_back(scale[i] * w * scale[j]);
            }
            looped.rowptr.push_back(static_cast<Index>(looped.col.size()));
        }
        for (int64_t i = 0; i < n; ++i) {
            for (int64_t e = csr.rowptr[i]; e < static_cast<int64_t>(csr.rowptr[i + 1]); ++e) {
                of_value[e] -= slope[i] * std::pow(scale[i], 3) / 2;
            }
        }
        std::vector<T> first_value, first_gradient;
        for (const ParallelFor& parallel_for : {kSerial, kThreads}) {
            Csr<Index> out{std::vector<Index>(csr.rowptr.size()), std::vector<Index>(normalized.size())};
            std::vector<T> out_value(normalized.size()), grad_value(value.size());
            opserve::GcnNormParams p{};
            p.dtype = dtype_of<T>();
            p.index_dtype = dtype_of<Index>();
            p.sizes = {n, nnz, out_nnz};
            p.fill_value = 1.5;
            p.rowptr = csr.rowptr.data();
            p.col = csr.col.data();
            p.value = value.data();
            p.out_rowptr = out.rowptr.data();
            p.out_col = out.col.data();
            p.out_value = out_value.data();
            int64_t bytes = -1;
            EXPECT(opserve::cpu::gcn_norm_workspace_size(p, &bytes).ok() && bytes >= 0, "workspace " + name);
            AlignedBuffer workspace(bytes);
            p.workspace = workspace.pointer;
            EXPECT(opserve::cpu::gcn_norm(p, parallel_for).ok(), name);
            EXPECT(out.rowptr == looped.rowptr && out.col == looped.col, "indices of " + name);
            EXPECT(near(out_value, normalized, 16), name);

            opserve::GcnNormBackwardParams b{};
            b.dtype = p.dtype;
            b.index_dtype = p.index_dtype;
            b.sizes = p.sizes;
            b.fill_value = p.fill_value;
            b.grad = grad.data();
            b.rowptr = p.rowptr;
            b.col = p.col;
            b.value = p.value;
            b.grad_value = grad_value.data();
            EXPECT(opserve::cpu::gcn_norm_backward_workspace_size(b, &bytes).ok() && bytes >= 0,
                   "workspace " + name);
            AlignedBuffer backward_workspace(bytes);
            b.workspace = backward_workspace.pointer;
            EXPECT(opserve::cpu::gcn_norm_backward(b, parallel_for).ok(), name);
            EXPECT(near(grad_value, of_value, 64), "gradient of " + name);
            if (parallel_for.num_threads() == 1) {
                first_value = out_value;
                first_gradient = grad_value;
            }
            EXPECT(same_bits(out_value, first_value), name + " in threads");
            EXPECT(same_bits(grad_value, first_gradient), "gradient of " + name + " in threads");
        }
    }
}

template <class T>
double pixel(const std::vector<T>& image, int64_t h, int64_t w, int64_t plane, int64_t row, int64_t column) {
    if (row < 0 || row >= h || column < 0 || column >= w) return 0.0;
    return static_cast<double>(image[(plane * h + row) * w + column]);
}

// `back` is a map from the result to the source; its inverse is what the operator takes.
template <class T, class M>
void test_warp_perspective(const double (&back)[9]) {
    struct Case {
        int64_t n, c, h, w, out_h, out_w;
    };
    const Case cases[] = {{1, 1, 1, 1, 3, 3},     {1, 1, 5, 7, 4, 150},  {2, 3, 40, 30, 33, 129},
                          {1, 2, 0, 5, 3, 3},     {1, 1, 5, 0, 3, 3},    {0, 1, 5, 5, 3, 3},
                          {1, 0, 5, 5, 3, 3},     {1, 1, 5, 5, 0, 3},    {1, 1, 300, 300, 200, 300},
                          {3, 1, 60, 60, 60, 60}, {1, 2, 40, 70, 39, 64}};
    for (const Case& s : cases) {
        const auto image = random_values<T>(s.n * s.c * s.h * s.w);
        double forward[9];
        for (int i = 0; i < 3; ++i) {
            for (int j = 0; j < 3; ++j) {
                const int r1 = (j + 1) % 3, r2 = (j + 2) % 3, c1 = (i + 1) % 3, c2 = (i + 2) % 3;
                forward[i * 3 + j] =
                    -4.0 * (back[r1 * 3 + c1] * back[r2 * 3 + c2] - back[r1 * 3 + c2] * back[r2 * 3 + c1]);
            }
        }
        std::vector<M> m(9);
        for (int i = 0; i < 9; ++i) m[i] = static_cast<M>(forward[i]);
        std::vector<double> expected;
        for (int64_t plane = 0; plane < s.n * s.c; ++plane) {
            for (int64_t y = 0; y < s.out_h; ++y) {
                for (int64_t x = 0; x < s.out_w; ++x) {
                    const double fx = static_cast<double>(x), fy = static_cast<double>(y);
                    const double scale = back[6] * fx + back[7] * fy + back[8];
                    const double sx = (back[0] * fx + back[1] * fy + back[2]) / scale;
                    const double sy = (back[3] * fx + back[4] * fy + back[5]) / scale;
                    const int64_t column = static_cast<int64_t>(std::floor(sx)),
                                  row = static_cast<int64_t>(std::floor(sy));
                    const double right = sx - static_cast<double>(column),
                                 below = sy - static_cast<double>(row);
                    expected.push_back((1 - below) *
                                           ((1 - right) * pixel(image, s.h, s.w, plane, row, column) +
                                            right * pixel(image, s.h, s.w, plane, row, column + 1)) +
                                       below * ((1 - right) * pixel(image, s.h, s.w, plane, row + 1, column) +
                                                right * pixel(image, s.h, s.w, plane, row + 1, column + 1)));
                }
            }
        }
        std::vector<T> serial(expected.size()), threaded(expected.size());
        opserve::WarpPerspectiveParams p{};
        p.dtype = dtype_of<T>();
        p.matrix_dtype = dtype_of<M>();
        p.sizes = {s.n, s.c, s.h, s.w, s.out_h, s.out_w, false};
        p.image = image.data();
        p.image_stride_n = s.c * s.h * s.w;
        p.image_stride_c = s.h * s.w;
        p.image_stride_h = s.w;
        p.matrix = m.data();
        p.out = serial.data();
        EXPECT(opserve::cpu::warp_perspective(p, kSerial).ok(), "warp_perspective");
        p.out = threaded.data();
        EXPECT(opserve::cpu::warp_perspective(p, kThreads).ok(), "warp_perspective");
        const bool coarse = std::is_same_v<M, float>;
        const double slack = coarse ? 1e-3 / static_cast<double>(std::numeric_limits<T>::epsilon()) : 1e4;
        EXPECT(near(serial, expected, slack), "warp_perspective of " + std::to_string(s.h));
        EXPECT(same_bits(serial, threaded), "warp_perspective in threads");
    }
}

void test_warp_perspective_matrices() {
    const std::vector<float> image(4);
    std::vector<float> out(4);
    const auto run = [&](const auto& m) {
        opserve::WarpPerspectiveParams p{};
        p.dtype = DType::kFloat32;
        p.matrix_dtype = dtype_of<typename std::decay_t<decltype(m)>::value_type>();
        p.sizes = {1, 1, 2, 2, 2, 2, false};
        p.image = image.data();
        p.image_stride_h = 2;
        p.matrix = m.data();
        p.out = out.data();
        return opserve::cpu::warp_perspective(p, kSerial);
    };
    const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
    const std::string singular =
        "opserve::warp_perspective: matrix must be invertible, got a singular matrix 0";
    EXPECT(run(std::vector<double>{1e-200, 0, 0, 0, 1e-200, 0, 0, 0, 1e-200}).ok(), "a small factor");
    EXPECT(run(std::vector<double>{1e308, 0, 0, 0, 1e308, 0, 0, 0, 1e308}).ok(), "the largest factor");
    EXPECT(run(std::vector<double>{1e-310, 0, 0, 0, 1e-310, 0, 0, 0, 1e-310}).ok(), "a subnormal factor");
    EXPECT(run(std::vector<double>{1e200, 0, 0, 0, 1e200, 0, 0, 0, 1e200}).ok(), "a large factor");
    EXPECT(run(std::vector<float>{1, 0, 1e4F, 0, 1, 1e4F, 1e-5F, 1e-5F, 1}).ok(), "a far translation");
    EXPECT_ERROR(run(std::vector<double>(9)), singular);
    EXPECT_ERROR(run(std::vector<double>{1, 2, 3, 2, 4, 6, 0, 0, 1}), singular);
    EXPECT_ERROR(run(std::vector<float>{0.1F, 0.2F, 0.3F, 0.3F, 0.6F, 0.9F, 0.7F, 0.1F, 1}), singular);
    EXPECT_ERROR(run(std::vector<double>{1, 0, 0, 0, 1, nan, 0, 0, 1}),
                 "opserve::warp_perspective: matrix must be finite, got nan at [1, 2] of matrix 0");
    EXPECT_ERROR(run(std::vector<double>{1, 0, 0, 0, -inf, 0, 0, 0, 1}),
                 "opserve::warp_perspective: matrix must be finite, got -inf at [1, 1] of matrix 0");
}

void test_sizes() {
    const int64_t huge = std::numeric_limits<int64_t>::max() / 2;
    const std::vector<int64_t> tall{huge, 0}, wide{0, huge}, square{huge, huge};
    opserve::GraphConvSizes sizes;
    EXPECT_ERROR(opserve::check_graph_conv(tensor(DType::kFloat32, square), tensor(DType::kFloat32, tall),
                                           tensor(DType::kFloat32, wide), nullptr, &sizes),
                 "opserve::graph_conv: the result must fit in 2^63 bytes, got sizes whose product does not");
    opserve::GraphConvParams p{};
    p.dtype = DType::kFloat32;
    p.sizes = {huge, 3, 1};
    int64_t bytes = 0;
    EXPECT_ERROR(opserve::cpu::graph_conv_workspace_size(p, &bytes),
                 "opserve::graph_conv: the workspace must fit in 2^63 bytes, got sizes that do not");
    opserve::GraphConvCsrParams q{};
    q.dtype = DType::kFloat64;
    q.sizes = {huge, 0, 3, 2};
    EXPECT_ERROR(opserve::cpu::graph_conv_csr_workspace_size(q, &bytes),
                 "opserve::graph_conv_csr: the workspace must fit in 2^63 bytes, got sizes that do not");
    const std::vector<int64_t> image{huge, 4, 2, 2}, matrix{3, 3};
    const int64_t size[] = {1 << 20, 1 << 20};
    opserve::WarpPerspectiveSizes warp;
    EXPECT_ERROR(
        opserve::check_warp_perspective(tensor(DType::kFloat32, image), tensor(DType::kFloat32, matrix), size,
                                        2, &warp),
        "opserve::warp_perspective: the result must fit in 2^63 bytes, got sizes whose product does not");
}

void test_devices() {
    const std::vector<int64_t> sizes{2};
    TensorArg x = tensor(DType::kFloat32, sizes), y = x;
    y.device_type = DeviceType::kCuda;
    y.device_index = 1;
    int64_t numel = 0;
    EXPECT_ERROR(opserve::check_scaled_add(x, y, &numel),
                 "opserve::scaled_add: y must be on the device of x, cpu (index 0), got cuda (index 1)");
    opserve::ScaledAddParams p{};
    p.dtype = DType::kFloat16;
    EXPECT_ERROR(opserve::cpu::scaled_add(p, kSerial),
                 "opserve::scaled_add: x must be float32 or float64 on the CPU, got float16");
}

}  // namespace

int main() {
    test_scaled_add<float>();
    test_scaled_add<double>();
    test_graph_conv<float>();
    test_graph_conv<double>();
    test_graph_conv_csr<float, int32_t>();
    test_graph_conv_csr<float, int64_t>();
    test_graph_conv_csr<double, int32_t>();
    test_graph_conv_csr<double, int64_t>();
    test_graph_conv_backward<float>();
    test_graph_conv_backward<double>();
    test_graph_conv_csr_backward<float, int32_t>();
    test_graph_conv_csr_backward<double, int64_t>();
    test_graph_conv_csr_indices<int32_t>();
    test_graph_conv_csr_indices<int64_t>();
    test_gcn_norm<float, int32_t>();
    test_gcn_norm<double, int64_t>();
    const double maps[][9] = {{0.9, 0.1, -3.0, -0.05, 1.1, -2.0, 0.0005, 0.001, 1.0},
                              // Along the rows of the image, as far as its last pixel.
                              {1.0, 0.0, 0.5, 0.001, 1.0, 0.25, 0.0, 0.0, 1.0},
                              {0.3, 0.9, -3.0, 1.0, -0.2, 1.5, 0.0, 0.0005, 1.0}};
    for (const auto& back : maps) {
        test_warp_perspective<float, float>(back);
        test_warp_perspective<float, double>(back);
        test_warp_perspective<double, double>(back);
    }
    test_warp_perspective_matrices();
    test_sizes();
    test_devices();
    std::printf("%s: %d failures\n", opserve::cpu_capability(), failures);
    return failures == 0 ? 0 : 1;
}
