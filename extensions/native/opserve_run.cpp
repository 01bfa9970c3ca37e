// Runs a saved TorchScript model with its operator libraries on arrays from .npy files.
#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "npy.h"
#include "script_model.h"

namespace {

using opserve::native::Error;
using opserve::native::NamedTensor;
using opserve::native::NpyArray;

constexpr const char* kUsage =
    R"(usage: opserve_run MODEL.pt [--ops LIBRARY ...] --input NAME.npy ... [--output PATH ...]
                   [--repeat N] [--threads N] [--device cpu|cuda|cuda:N]

Runs a saved TorchScript model once and prints the name, dtype and shape of each output.

  --ops LIBRARY ...    operator libraries to open before the model is loaded
  --input NAME.npy ... the arguments of forward; where each NAME is an argument's name they are matched by
                       name, otherwise by order
  --output PATH ...    a folder, which receives OUTPUT.npy for each output; or one .npz file; or a .npy file for
                       each output, in order. bfloat16 is written as float32
  --repeat N           also measures N calls after a warm-up and prints a line
                       latency_ms min=... median=... mean=... calls=N threads=... device=...
  --threads N          threads of the operators; without it PyTorch's own choice, as in Python
  --device DEVICE      where to run, cpu by default; an error if it is not available

Exit status: 0, 1 if something failed, 2 if the command line is wrong; one line on stderr says why.
)";

// The library that is being opened, for an error that has no caller to catch it.
std::string opening;

class UsageError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

struct Options {
    std::string model;
    std::vector<std::string> ops, inputs, outputs;
    int64_t repeat = 0;
    int64_t threads = 0;  // PyTorch's own choice
    std::string device = "cpu";
    bool help = false;
};

int64_t positive(const std::string& option, const std::string& text) {
    char* end = nullptr;
    errno = 0;
    const long long value = std::strtoll(text.c_str(), &end, 10);
    if (text.empty() || *end != '\0' || errno != 0 || value < 1 || value > 1'000'000'000) {
        throw UsageError(option + " takes a number from 1 to 1000000000, got '" + text + "'");
    }
    return value;
}

Options parse(const std::vector<std::string>& arguments) {
    Options options;
    size_t i = 0;
    const auto is_option = [&](size_t at) { return arguments[at].size() > 1 && arguments[at][0] == '-'; };
    const auto values = [&](std::vector<std::string>& into) {
        const std::string& option = arguments[i];
        const size_t before = into.size();
        while (i + 1 < arguments.size() && !is_option(i + 1)) into.push_back(arguments[++i]);
        if (into.size() == before) throw UsageError(option + " needs a value");
    };
    const auto value = [&] {
        const std::string& option = arguments[i];
        if (i + 1 == arguments.size()) throw UsageError(option + " needs a value");
        return arguments[++i];
    };
    for (; i < arguments.size(); ++i) {
        const std::string& argument = arguments[i];
        if (argument == "--help" || argument == "-h") {
            options.help = true;
        } else if (argument == "--ops") {
            values(options.ops);
        } else if (argument == "--input") {
            values(options.inputs);
        } else if (argument == "--output") {
            values(options.outputs);
        } else if (argument == "--repeat") {
            options.repeat = positive(argument, value());
        } else if (argument == "--threads") {
            options.threads = positive(argument, value());
        } else if (argument == "--device") {
            options.device = value();
        } else if (is_option(i)) {
            throw UsageError("unknown option " + argument);
        } else if (options.model.empty()) {
            options.model = argument;
        } else {
            throw UsageError("one model is run, got " + options.model + " and " + argument);
        }
    }
    if (options.model.empty() && !options.help) throw UsageError("no model given");
    return options;
}

struct Dtype {
    char kind;
    int64_t item_size;
    c10::ScalarType type;
    const char* name;
};
constexpr Dtype kDtypes[] = {
    {'b', 1, at::kBool, "bool"},
    {'i', 1, at::kChar, "int8"},
    {'i', 2, at::kShort, "int16"},
    {'i', 4, at::kInt, "int32"},
    {'i', 8, at::kLong, "int64"},
    {'u', 1, at::kByte, "uint8"},
    {'u', 2, at::kUInt16, "uint16"},
    {'u', 4, at::kUInt32, "uint32"},
    {'u', 8, at::kUInt64, "uint64"},
    {'f', 2, at::kHalf, "float16"},
    {'f', 4, at::kFloat, "float32"},
    {'f', 8, at::kDouble, "float64"},
    {'c', 8, at::kComplexFloat, "complex64"},
    {'c', 16, at::kComplexDouble, "complex128"},
};

at::Tensor read_tensor(const std::string& path) {
    NpyArray array = opserve::native::read_npy(path);
    const auto* dtype = std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const Dtype& known) {
        return known.kind == array.kind && known.item_size == array.item_size;
    });
    if (dtype == std::end(kDtypes)) throw Error(path + ": a dtype that PyTorch does not have");
    std::vector<int64_t> shape = array.shape;
    if (array.fortran_order) std::reverse(shape.begin(), shape.end());
    at::Tensor tensor = at::from_blob(array.data(), shape, at::TensorOptions(dtype->type));
    if (array.fortran_order) {
        std::vector<int64_t> order(shape.size());
        for (size_t axis = 0; axis < order.size(); ++axis) {
            order[axis] = static_cast<int64_t>(order.size() - 1 - axis);
        }
        tensor = tensor.permute(order);
    }
    // PyTorch's own memory, with its usual alignment; the file's is released.
    return tensor.clone(at::MemoryFormat::Contiguous);
}

const Dtype& find_dtype(const NamedTensor& output) {
    for (const Dtype& dtype : kDtypes) {
        if (dtype.type == output.second.scalar_type()) return dtype;
    }
    throw Error("output '" + output.first + "' is of dtype " + c10::toString(output.second.scalar_type()) +
                ", which .npy does not have");
}

NpyArray to_array(const at::Tensor& tensor, const Dtype& dtype) {
    NpyArray array;
    array.kind = dtype.kind;
    array.item_size = dtype.item_size;
    array.shape = tensor.sizes().vec();
    array.storage.resize(tensor.nbytes());
    if (tensor.nbytes() > 0) std::memcpy(array.storage.data(), tensor.const_data_ptr(), tensor.nbytes());
    return array;
}

// Makes tensors dense, on the CPU and of a dtype that .npy has.
std::vector<NamedTensor> portable(std::vector<NamedTensor> outputs) {
    for (auto& [name, tensor] : outputs) {
        if (tensor.layout() != c10::kStrided || tensor.is_quantized()) {
            throw Error("output '" + name + "' is sparse or quantized, which .npy cannot hold");
        }
        tensor = tensor.to(at::kCPU).resolve_conj().resolve_neg().contiguous();
        if (tensor.scalar_type() == at::kBFloat16) tensor = tensor.to(at::kFloat);
    }
    return outputs;
}

bool ends_with(const std::string& text, const std::string& end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

void write_outputs(const std::vector<NamedTensor>& outputs, const std::vector<std::string>& paths) {
    std::vector<std::pair<std::string, NpyArray>> arrays;
    for (const NamedTensor& output : outputs) {
        const std::string& name = output.first;
        // The names become file names: none may leave the folder.
        if (name.empty() || name[0] == '.' ||
            name.find_first_of(std::string("/\\\0", 3)) != std::string::npos) {
            throw Error("output '" + name + "' has a name that no file can have");
        }
        arrays.emplace_back(name, to_array(output.second, find_dtype(output)));
    }
    if (paths.size() == 1 && ends_with(paths[0], ".npz")) {
        opserve::native::write_npz(paths[0], arrays);
    } else if (paths.size() == 1 && !ends_with(paths[0], ".npy")) {
        std::error_code error;
        std::filesystem::create_directories(paths[0], error);
        if (error) throw Error(paths[0] + ": cannot create the folder: " + error.message());
        for (const auto& [name, array] : arrays) {
            opserve::native::write_npy((std::filesystem::path(paths[0]) / (name + ".npy")).string(), array);
        }
    } else {
        if (paths.size() != arrays.size()) {
            throw Error("the model returns " + std::to_string(arrays.size()) + " outputs, --output names " +
                        std::to_string(paths.size()) + " files");
        }
        for (size_t i = 0; i < arrays.size(); ++i) {
            if (!ends_with(paths[i], ".npy"))
                throw Error(paths[i] + ": several outputs are written as .npy files");
            opserve::native::write_npy(paths[i], arrays[i].second);
        }
    }
}

void print_outputs(const std::vector<NamedTensor>& outputs) {
    for (const NamedTensor& output : outputs) {
        std::printf("%s %s [", output.first.c_str(), find_dtype(output).name);
        const char* separator = "";
        for (const int64_t size : output.second.sizes()) {
            std::printf("%s%lld", separator, static_cast<long long>(size));
            separator = ", ";
        }
        std::printf("]\n");
    }
}

void measure(opserve::native::Model& model, const std::vector<c10::IValue>& inputs, int64_t repeat) {
    // The profiling executor compiles in the first calls; caches and the processor's clock settle after that.
    constexpr int kWarmUp = 10;
    for (int i = 0; i < kWarmUp; ++i) model.run(inputs);
    model.synchronize();
    std::vector<double> milliseconds;
    milliseconds.reserve(static_cast<size_t>(repeat));
    double sum = 0.0;
    for (int64_t i = 0; i < repeat; ++i) {
        const auto start = std::chrono::steady_clock::now();
        const c10::IValue result = model.run(inputs);
        model.synchronize();
        const std::chrono::duration<double, std::milli> taken = std::chrono::steady_clock::now() - start;
        milliseconds.push_back(taken.count());
        sum += taken.count();
    }
    std::sort(milliseconds.begin(), milliseconds.end());
    const size_t middle = milliseconds.size() / 2;
    const double median = milliseconds.size() % 2 == 1
                              ? milliseconds[middle]
                              : (milliseconds[middle - 1] + milliseconds[middle]) / 2;
    std::printf("latency_ms min=%.4f median=%.4f mean=%.4f calls=%lld threads=%d device=%s\n",
                milliseconds[0], median, sum / static_cast<double>(repeat), static_cast<long long>(repeat),
                at::get_num_threads(), model.device().str().c_str());
}

void run(const Options& options) {
    if (options.threads > 0) at::set_num_threads(static_cast<int>(options.threads));
    for (const std::string& library : options.ops) {
        opening = library + ": ";
        opserve::native::load_library(library);
        opening.clear();
    }
    const c10::Device device = opserve::native::parse_device(options.device);
    opserve::native::Model model(options.model, device);
    std::vector<NamedTensor> tensors;
    for (const std::string& path : options.inputs) {
        tensors.emplace_back(std::filesystem::path(path).stem().string(), read_tensor(path));
    }
    const std::vector<c10::IValue> inputs = model.bind(tensors);
    const auto outputs = portable(opserve::native::flatten(model.run(inputs)));
    if (!options.outputs.empty()) write_outputs(outputs, options.outputs);
    print_outputs(outputs);
    if (options.repeat > 0) measure(model, inputs, options.repeat);
}

}  // namespace

int main(int argc, char** argv) {
    // While it is being opened, a library may throw where nothing can catch it.
    std::set_terminate([] {
        std::string reason = "terminated";
        try {
            if (const std::exception_ptr current = std::current_exception()) std::rethrow_exception(current);
        } catch (const std::exception& error) {
            reason = opserve::native::one_line(error);
        } catch (...) {
            reason = "an exception of unknown type";
        }
        std::fprintf(stderr, "opserve_run: error: %s%s\n", opening.c_str(), reason.c_str());
        std::_Exit(1);
    });
    try {
        const Options options = parse({argv + 1, argv + argc});
        if (options.help) {
            std::fputs(kUsage, stdout);
        } else {
            run(options);
        }
        if (std::fflush(stdout) != 0) throw Error("cannot write to standard output");
        return 0;
    } catch (const UsageError& error) {
        std::fprintf(stderr, "opserve_run: error: %s (see opserve_run --help)\n", error.what());
        return 2;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "opserve_run: error: %s\n", opserve::native::one_line(error).c_str());
        return 1;
    }
}
