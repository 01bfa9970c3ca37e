// The base of the engines that run on PyTorch, as in handlers/engines/pytorch.py: the device, the operator
// libraries, the errors, the names of outputs.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <c10/core/Device.h>

#include <span>

#include "../engine.h"

namespace opserve::native {

class TorchEngine : public Engine {
  public:
    Arrays run(const Arrays& inputs) final;
    const std::string& device() const final { return device_name_; }
    // On the processor a tensor is returned as it is, even if the model keeps it.
    bool lends_outputs() const final { return device_.is_cpu(); }
    const std::string& format() const final { return format_; }
    const std::string& runtime() const final { return runtime_; }

  protected:
    // Chooses the device, sets the number of threads and opens the operator libraries. Throws ModelError.
    TorchEngine(const std::filesystem::path& folder, const ModelConfig& config,
                std::optional<int> device_index, std::string format);

    // Calls the model; an absent optional input is none of the arrays.
    virtual Arrays call(const Arrays& inputs) = 0;

    // A tensor on the device.
    at::Tensor input(const Array& array) const;
    // Outputs from the tensors that a model returned, one for each of the signature, in its order. Throws
    // ModelError for a complex one.
    Arrays make_outputs(std::span<const at::Tensor> values) const;
    // The error for a model that returned something else, such as "Tensor" or "2 value(s): Tensor, int".
    ModelError wrong_outputs(const std::string& returned) const;

    const ModelConfig& config_;
    c10::Device device_;

  private:
    ModelError complex_output(const at::Tensor& tensor, const TensorSpec& spec) const;
    [[noreturn]] void rethrow(const std::exception& error) const;

    std::string device_name_, format_, runtime_;
};

// Returns the device for `auto`, `cpu` or `cuda`. Throws ModelError: `cuda` is required, and there is none
// for this worker.
c10::Device select_device(const std::string& wanted, std::optional<int> device_index);

std::unique_ptr<Engine> load_torchscript(const std::filesystem::path& folder, const ModelConfig& config,
                                         std::optional<int> device_index);
std::unique_ptr<Engine> load_compiled(const std::filesystem::path& folder, const ModelConfig& config,
                                      std::optional<int> device_index);
std::unique_ptr<Hooks> load_script_hooks(const std::filesystem::path& folder, const ModelConfig& config);

}  // namespace opserve::native
