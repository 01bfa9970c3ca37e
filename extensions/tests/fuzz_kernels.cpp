// Random and malformed inputs to the checks and the kernels, built with AddressSanitizer and
// UndefinedBehaviorSanitizer. Every buffer is on the heap and exactly as large as its contract says, so that
// an access beyond it is detected. In addition, each case knows what must be refused and what must be
// accepted, and that every element of a result is written.
//
// A case depends on the seed and its number only: --first N --cases 1 repeats one.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <iterator>
#include <stdexcept>

#include "fuzz.h"
#include "fuzz_warp_perspective.h"
#include "npy.h"
#include "opserve/cpu_capability.h"
#include "opserve/graph_conv.h"
#include "opserve/graph_conv_csr.h"
#include "opserve/scaled_add.h"
#include "opserve/warp_perspective.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace fuzz {
namespace {

// ---- scaled_add ----

template <class T>
Outcome scaled_add(Random& random) {
    Argument x{dtype_of<T>(), {}};
    for (int64_t dims = random.below(4); dims > 0; --dims) x.sizes.push_back(random.side());
    if (random.one_in(20)) x.sizes = {random.far(), 0};
    Argument y = x;
    if (random.one_in(3)) corrupt(random, {&x, &y});
    const bool valid = is_floating(x.dtype) && x.dtype == y.dtype && same_device(x, y) &&
                       x.sizes == y.sizes && fits(x.sizes, x.dtype);
    int64_t numel = -1;
    if (!agree(opserve::check_scaled_add(x.arg(), y.arg(), &numel), valid)) return Outcome::kRefused;
    if (!holds_little({&x, &y}) || x.device != DeviceType::kCpu) return Outcome::kChecked;

    opserve::ScaledAddParams p{};
    p.dtype = x.dtype;
    p.numel = numel;
    p.alpha = random.one_in(4) ? random.number() * 1e300 : random.uniform();
    Pool pool(random);
    if (x.dtype != dtype_of<T>()) {
        if (!runs_on_the_cpu(x.dtype)) agree(opserve::cpu::scaled_add(p, pool.parallel_for()), false);
        return Outcome::kRefused;
    }
    if (numel != x.numel()) fail("numel is " + std::to_string(numel));
    auto dx = numbers<T>(random, x.numel()), dy = numbers<T>(random, y.numel());
    p.x = dx.data();
    p.y = dy.data();
    if (random.one_in(4)) {
        // In place.
        p.z = dx.data();
        agree(opserve::cpu::scaled_add(p, pool.parallel_for()), true);
        return Outcome::kComputed;
    }
    Result<T> z(numel);
    p.z = z.data();
    if (agree(opserve::cpu::scaled_add(p, pool.parallel_for()), true)) z.expect_written();
    return Outcome::kComputed;
}

// ---- graph_conv ----

// A graph without nodes with many features or many outputs.
void empty_and_far(Random& random, Argument& x, Argument& weight, Argument& bias, bool& has_bias) {
    const int64_t f = random.one_in(2) ? random.far() : 0, k = f == 0 ? random.far() : 0;
    x.sizes = {0, f};
    weight.sizes = {f, k};
    bias.sizes = {0};
    has_bias = has_bias && k == 0;
}

template <class T>
Outcome graph_conv(Random& random) {
    const int64_t n = random.side(), f = random.side(), k = random.side();
    const DType dtype = dtype_of<T>();
    Argument a{dtype, {n, n}}, x{dtype, {n, f}}, weight{dtype, {f, k}}, bias{dtype, {k}};
    bool has_bias = random.one_in(2);
    if (random.one_in(3)) {
        std::vector<Argument*> arguments{&a, &x, &weight};
        if (has_bias) arguments.push_back(&bias);
        corrupt(random, arguments);
    } else if (random.one_in(20)) {
        // Consistent, and far too large.
        const int64_t rows = random.huge(), columns = random.one_in(2) ? random.huge() : random.below(3);
        a.sizes = {rows, rows};
        x.sizes = {rows, 0};
        weight.sizes = {0, columns};
        bias.sizes = {columns};
    } else if (random.one_in(20)) {
        a.sizes = {0, 0};
        empty_and_far(random, x, weight, bias, has_bias);
    }
    const bool ranks = x.dim() == 2 && weight.dim() == 2;
    const bool valid =
        ranks && is_floating(x.dtype) && a.dtype == x.dtype && weight.dtype == x.dtype && same_device(a, x) &&
        same_device(weight, x) && a.is({x.sizes[0], x.sizes[0]}) && weight.sizes[0] == x.sizes[1] &&
        (!has_bias || (bias.dtype == x.dtype && same_device(bias, x) && bias.is({weight.sizes[1]}))) &&
        fits({x.sizes[0], weight.sizes[1]}, x.dtype);
    const TensorArg bias_arg = bias.arg();
    opserve::GraphConvParams p{};
    p.dtype = x.dtype;
    if (!agree(opserve::check_graph_conv(a.arg(), x.arg(), weight.arg(), has_bias ? &bias_arg : nullptr,
                                         &p.sizes),
               valid)) {
        return Outcome::kRefused;
    }
    if (!runs_on_the_cpu(x.dtype)) return refused_workspace(p, opserve::cpu::graph_conv_workspace_size);
    const Argument result{x.dtype, {p.sizes.n, p.sizes.k}};
    if (!holds_little({&a, &x, &weight, &result}) || !is_small({&bias}) || x.device != DeviceType::kCpu ||
        x.dtype != dtype) {
        return only_workspace(p, opserve::cpu::graph_conv_workspace_size);
    }
    Matrix<T> da(random, a), dx(random, x), dw(random, weight);
    auto db = numbers<T>(random, bias.numel());
    Result<T> out(p.sizes.n * p.sizes.k);
    p.a = da.elements.data();
    p.a_stride = da.stride;
    p.x = dx.elements.data();
    p.x_stride = dx.stride;
    p.weight = dw.elements.data();
    p.weight_stride = dw.stride;
    p.bias = has_bias ? db.data() : nullptr;
    p.out = out.data();
    Pool pool(random);
    const Status status = workspace_and_run(p, opserve::cpu::graph_conv_workspace_size,
                                            opserve::cpu::graph_conv, pool.parallel_for());
    if (agree(status, true)) out.expect_written();
    return Outcome::kComputed;
}

// ---- graph_conv_csr ----

template <class T, class Index>
Outcome graph_conv_csr(Random& random) {
    const int64_t n = random.side(), f = random.side(), k = random.side();
    const DType dtype = dtype_of<T>(), index = dtype_of<Index>();
    const Graph<Index> graph(random, n);
    const int64_t nnz = graph.nnz;
    Argument rowptr_argument{index, {n + 1}}, col_argument{index, {nnz}}, value{dtype, {nnz}},
        x{dtype, {n, f}}, weight{dtype, {f, k}}, bias{dtype, {k}};
    const bool has_value = random.one_in(2);
    bool has_bias = random.one_in(2);
    if (random.one_in(3)) {
        std::vector<Argument*> arguments{&rowptr_argument, &col_argument, &x, &weight};
        if (has_value) arguments.push_back(&value);
        if (has_bias) arguments.push_back(&bias);
        corrupt(random, arguments);
    } else if (random.one_in(20)) {
        const int64_t rows = random.huge(), columns = random.one_in(2) ? random.huge() : random.below(3);
        rowptr_argument.sizes = {rows == std::numeric_limits<int64_t>::max() ? rows : rows + 1};
        x.sizes = {rows, 0};
        weight.sizes = {0, columns};
        bias.sizes = {columns};
    } else if (n == 0 && random.one_in(2)) {
        empty_and_far(random, x, weight, bias, has_bias);
    }
    const bool ranks =
        rowptr_argument.dim() == 1 && col_argument.dim() == 1 && x.dim() == 2 && weight.dim() == 2;
    const auto optional = [&](bool given, const Argument& argument, int64_t size) {
        return !given || (argument.dtype == x.dtype && same_device(argument, x) && argument.is({size}));
    };
    const bool valid =
        ranks && (rowptr_argument.dtype == DType::kInt32 || rowptr_argument.dtype == DType::kInt64) &&
        col_argument.dtype == rowptr_argument.dtype && is_floating(x.dtype) && weight.dtype == x.dtype &&
        same_device(rowptr_argument, x) && same_device(col_argument, x) && same_device(weight, x) &&
        rowptr_argument.sizes[0] - 1 == x.sizes[0] && weight.sizes[0] == x.sizes[1] &&
        optional(has_value, value, col_argument.sizes[0]) && optional(has_bias, bias, weight.sizes[1]) &&
        fits({x.sizes[0], weight.sizes[1]}, x.dtype);
    const TensorArg value_arg = value.arg(), bias_arg = bias.arg();
    opserve::GraphConvCsrParams p{};
    p.dtype = x.dtype;
    p.index_dtype = rowptr_argument.dtype;
    if (!agree(opserve::check_graph_conv_csr(rowptr_argument.arg(), col_argument.arg(),
                                             has_value ? &value_arg : nullptr, x.arg(), weight.arg(),
                                             has_bias ? &bias_arg : nullptr, &p.sizes),
               valid)) {
        return Outcome::kRefused;
    }
    if (!runs_on_the_cpu(x.dtype)) return refused_workspace(p, opserve::cpu::graph_conv_csr_workspace_size);
    // The graph was made for these sizes and dtypes.
    const bool as_made = rowptr_argument.is({n + 1}) && col_argument.is({nnz}) && x.dtype == dtype &&
                         rowptr_argument.dtype == index && x.device == DeviceType::kCpu;
    const Argument result{x.dtype, {p.sizes.n, p.sizes.k}};
    if (!as_made || !holds_little({&x, &weight, &result}) || !is_small({&value, &bias})) {
        return only_workspace(p, opserve::cpu::graph_conv_csr_workspace_size);
    }
    auto drowptr = copy(random, graph.rowptr), dcol = copy(random, graph.col);
    auto dvalue = numbers<T>(random, value.numel()), db = numbers<T>(random, bias.numel());
    Matrix<T> dx(random, x), dw(random, weight);
    Result<T> out(p.sizes.n * p.sizes.k);
    p.rowptr = drowptr.data();
    p.col = dcol.data();
    p.value = has_value ? dvalue.data() : nullptr;
    p.x = dx.elements.data();
    p.x_stride = dx.stride;
    p.weight = dw.elements.data();
    p.weight_stride = dw.stride;
    p.bias = has_bias ? db.data() : nullptr;
    p.out = out.data();
    Pool pool(random);
    const Status status = workspace_and_run(p, opserve::cpu::graph_conv_csr_workspace_size,
                                            opserve::cpu::graph_conv_csr, pool.parallel_for());
    if (!agree(status, graph.good)) return Outcome::kRefused;
    out.expect_written();
    return Outcome::kComputed;
}

// ---- warp_perspective ----

template <class T, class M>
Outcome warp_perspective(Random& random) {
    const DType dtype = dtype_of<T>(), matrix_dtype = dtype_of<M>();
    WarpArguments arguments(random, dtype, matrix_dtype);
    auto& [image, matrix, size] = arguments;
    if (random.one_in(4)) corrupt(random, {&image, &matrix});
    arguments.spoil_size(random);
    if (random.one_in(20)) arguments.empty(random);
    const bool valid = arguments.valid();
    opserve::WarpPerspectiveParams p{};
    if (!agree(opserve::check_warp_perspective(image.arg(), matrix.arg(), size.data(),
                                               static_cast<int64_t>(size.size()), &p.sizes),
               valid)) {
        return Outcome::kRefused;
    }
    const auto& s = p.sizes;
    const Argument out{image.dtype, {s.n, s.c, s.out_h, s.out_w}};
    if (!holds_little({&image, &out}) || image.device != DeviceType::kCpu) return Outcome::kChecked;
    p.dtype = image.dtype;
    p.matrix_dtype = matrix.dtype;
    Pool pool(random);
    if (image.dtype != dtype || matrix.dtype != matrix_dtype) {
        const bool runs = runs_on_the_cpu(image.dtype);
        if (!runs) agree(opserve::cpu::warp_perspective(p, pool.parallel_for()), false);
        return runs ? Outcome::kChecked : Outcome::kRefused;
    }
    Image<T> pixels(random, s);
    const int64_t matrices = s.matrix_per_image ? s.n : 1;
    Elements<M> dm(random, matrices * 9);
    const Known known = random_matrices(random, dm.data(), matrices);
    Result<T> result(s.n * s.c * s.out_h * s.out_w);
    pixels.give_to(p);
    p.matrix = dm.data();
    p.out = result.data();
    const Status status = opserve::cpu::warp_perspective(p, pool.parallel_for());
    if (known != Known::kNeither) agree(status, known == Known::kGood);
    if (!status.ok()) return Outcome::kRefused;
    result.expect_written();
    return Outcome::kComputed;
}

// ---- .npy files, as the C++ programs read them ----

Outcome npy(Random& random) {
    static constexpr const char* dtypes[] = {"<f4", "|b1", "<i8", ">c16", ">u2", "=f8", "|i1"};
    static constexpr int64_t widths[] = {4, 1, 8, 16, 2, 8, 1};
    const int64_t dtype = random.below(static_cast<int64_t>(std::size(dtypes)));
    std::string shape;
    int64_t count = 1;
    for (int64_t dims = random.below(4); dims > 0; --dims) {
        const int64_t size = random.below(5);
        shape += std::to_string(size) + (random.one_in(2) ? "," : ", ");
        count *= size;
    }
    const std::string header = std::string("{'descr': '") + dtypes[dtype] +
                               "', 'fortran_order': " + (random.one_in(2) ? "True" : "False") +
                               ", 'shape': (" + shape + "), }\n";
    const int version = 1 + static_cast<int>(random.below(3));
    std::string file = "\x93NUMPY";
    file += static_cast<char>(version);
    file += '\0';
    for (int byte = 0; byte < (version == 1 ? 2 : 4); ++byte) {
        file += static_cast<char>(header.size() >> 8 * byte & 0xff);
    }
    file += header;
    file.append(static_cast<size_t>(count * widths[dtype]), '\7');
    const bool spoiled = !random.one_in(4);
    for (int64_t changes = spoiled ? 1 + random.below(3) : 0; changes > 0; --changes) {
        const auto at = static_cast<size_t>(random.below(static_cast<int64_t>(file.size()) + 1));
        switch (random.below(4)) {
            case 0:
                file.resize(at);
                break;
            case 1:
                if (at < file.size()) file[at] = static_cast<char>(random.bits());
                break;
            case 2:
                file.insert(at,
                            random.pick({"9", "99999999999", "(", ")", "'", ",", "{", "}", " ", "-", "L"}));
                break;
            default:
                file.erase(at, static_cast<size_t>(random.below(4)));
                break;
        }
    }
    try {
        // The vector is exactly as large as the file, so that an access beyond it is detected.
        const auto array = opserve::native::parse_npy({file.begin(), file.end()}, "fuzz");
        int64_t size = array.item_size;
        for (const int64_t side : array.shape) size *= side;
        if (static_cast<size_t>(size) != array.size()) fail("an array of another size than its shape says");
        for (size_t i = 0; array.kind == 'b' && i < array.size(); ++i) {
            if (array.data()[i] != 0 && array.data()[i] != 1) fail("a boolean that is neither");
        }
        return Outcome::kComputed;
    } catch (const std::runtime_error& error) {
        if (!spoiled) fail(std::string("refused: ") + error.what());
        return Outcome::kRefused;
    }
}

// ---- the cases ----

std::vector<Op> every_op() {
    std::vector<Op> ops{
        {"scaled_add float32", scaled_add<float>},
        {"scaled_add float64", scaled_add<double>},
        {"graph_conv float32", graph_conv<float>},
        {"graph_conv float64", graph_conv<double>},
        {"graph_conv_csr float32 int32", graph_conv_csr<float, int32_t>},
        {"graph_conv_csr float32 int64", graph_conv_csr<float, int64_t>},
        {"graph_conv_csr float64 int32", graph_conv_csr<double, int32_t>},
        {"graph_conv_csr float64 int64", graph_conv_csr<double, int64_t>},
        {"warp_perspective float32 float32", warp_perspective<float, float>},
        {"warp_perspective float32 float64", warp_perspective<float, double>},
        {"warp_perspective float64 float32", warp_perspective<double, float>},
        {"warp_perspective float64 float64", warp_perspective<double, double>},
        {"npy", npy},
    };
    for (const auto* more : {&backward_ops, &gcn_norm_ops}) ops.insert(ops.end(), more->begin(), more->end());
    return ops;
}

int run_cases(int64_t first, int64_t cases) {
    const std::vector<Op> ops = every_op();
    const std::string detail = std::string(", ") + opserve::cpu_capability();
    current_case.detail = detail.c_str();
    int64_t outcomes[3] = {};
    for (int64_t i = first; i < first + cases; ++i) {
        const Op& op = ops[i % static_cast<int64_t>(ops.size())];
        current_case.number = i;
        current_case.op = op.name;
        Random random(current_case.seed, static_cast<uint64_t>(i));
        ++outcomes[static_cast<int>(op.run(random))];
    }
    std::printf("%s: %lld cases, %lld computed, %lld refused, %lld only checked, %lld failures\n",
                opserve::cpu_capability(), static_cast<long long>(cases), static_cast<long long>(outcomes[0]),
                static_cast<long long>(outcomes[1]), static_cast<long long>(outcomes[2]),
                static_cast<long long>(failures));
    current_case.detail = "";
    return failures == 0 ? 0 : 1;
}

// The instruction set is chosen once per process, so each gets its own.
int run_every_capability(char** argv, int64_t first, int64_t cases) {
    const char* const capabilities[] = {"default", "avx2", "avx512"};
    constexpr int64_t parts = std::size(capabilities);
    int result = 0;
    for (int64_t part = 0; part < parts; ++part) {
        setenv("OPSERVE_CPU_CAPABILITY", capabilities[part], 1);
        const int64_t share = cases / parts + (part < cases % parts ? 1 : 0);
        std::string arguments[] = {argv[0],
                                   "--seed",
                                   std::to_string(current_case.seed),
                                   "--first",
                                   std::to_string(first),
                                   "--cases",
                                   std::to_string(share),
                                   "--here"};
        std::vector<char*> pointers;
        for (std::string& argument : arguments) pointers.push_back(argument.data());
        pointers.push_back(nullptr);
        pid_t child = 0;
        int status = 0;
        if (posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, pointers.data(), environ) != 0 ||
            waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            result = 1;
        }
        first += share;
    }
    std::printf("%lld cases: %s\n", static_cast<long long>(cases), result == 0 ? "no report" : "FAILED");
    return result;
}

}  // namespace
}  // namespace fuzz

// UndefinedBehaviorSanitizer calls this for a report; the death callback is AddressSanitizer's.
extern "C" __attribute__((visibility("default"))) void __ubsan_on_report() { fuzz::print_case(); }

int main(int argc, char** argv) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_set_death_callback(fuzz::print_case);
#endif
    int64_t first = 0, cases = 120000;
    bool here = false;
    for (int i = 1; i < argc; ++i) {
        const std::string option = argv[i];
        if (option == "--here") {
            here = true;
        } else if (i + 1 < argc && (option == "--seed" || option == "--first" || option == "--cases")) {
            const long long value = std::strtoll(argv[++i], nullptr, 10);
            if (option == "--first") {
                first = value;
            } else if (option == "--cases") {
                cases = value;
            } else {
                fuzz::current_case.seed = static_cast<uint64_t>(value);
            }
        } else {
            std::fprintf(
                stderr,
                "usage: fuzz_kernels [--cases N] [--seed S] [--first I] [--here]\n"
                "Runs N cases, split over the instruction sets; with --here all of them with the one that\n"
                "OPSERVE_CPU_CAPABILITY names.\n");
            return 2;
        }
    }
    return here ? fuzz::run_cases(first, cases) : fuzz::run_every_capability(argv, first, cases);
}
