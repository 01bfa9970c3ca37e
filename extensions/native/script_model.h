// A TorchScript model as opserve_run runs it: any arguments by name or order, any result. It shares the
// worker's way of opening libraries and modules, and knows neither servers nor file formats of inputs nor
// command lines.
#pragma once

#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/api/module.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace opserve::native {

// An error, as one line.
class Error : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// Returns the part of an exception's text that a person needs: no C++ or TorchScript traceback.
std::string one_line(const std::exception& error);

// Opens a library, which registers its operators. It stays open until the process ends.
// Throws Error with the path and the reason.
void load_library(const std::string& path);

// Parses "cpu", "cuda" or "cuda:1". Throws Error for another name, or if there is no such device: there is no
// fallback.
c10::Device parse_device(const std::string& name);

using NamedTensor = std::pair<std::string, at::Tensor>;

class Model {
  public:
    // Loads a model in evaluation mode on `device`. Throws Error with the path and the reason; its operators
    // must already be registered.
    Model(const std::string& path, c10::Device device);

    // The arguments of `forward`, such as "image: Tensor, corners: Tensor".
    const std::string& signature() const { return signature_; }

    // Returns the arguments for `run`. Tensors are matched by name if each name is that of an argument,
    // otherwise by order. They are moved to the model's device; one of a single element serves as an int,
    // float or bool. An argument that is not given must have a default. Throws Error.
    std::vector<c10::IValue> bind(const std::vector<NamedTensor>& tensors) const;

    // Runs in inference mode; may be called from several threads. On CUDA it does not wait: `synchronize`
    // does. Throws Error with the model's own message.
    c10::IValue run(std::vector<c10::IValue> inputs);

    void synchronize() const;
    c10::Device device() const { return device_; }

  private:
    c10::Device device_;
    torch::jit::Module module_;
    std::string signature_;
};

// Returns the tensors in a result, in order. A single one is named "output", those of a tuple or list
// "output0", "output1", …, those of a named tuple or dictionary as there; nested names are joined by a dot.
// Numbers become tensors without dimensions, None is left out. Throws Error for anything else, and for a
// duplicate name.
std::vector<NamedTensor> flatten(const c10::IValue& result);

}  // namespace opserve::native
