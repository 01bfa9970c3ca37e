// TorchScript modules: loading them and calling their methods. opserve_run and the worker's engine share it.
#pragma once

#include <ATen/core/ivalue.h>
#include <c10/core/Device.h>
#include <torch/csrc/jit/api/module.h>

#include <string>
#include <vector>

namespace opserve::native {

// Reads a module, for evaluation. Throws what PyTorch throws.
torch::jit::Module load_module(const std::string& path, c10::Device device);

// A method of a module, found once; not for several threads at a time.
class ScriptMethod {
  public:
    ScriptMethod(const torch::jit::Module& module, const std::string& name);

    // The arguments of the next call, which the caller appends; the module itself comes first.
    std::vector<c10::IValue>& begin();
    // Calls the method. Throws what PyTorch or the script throws.
    c10::IValue call();

    const c10::FunctionSchema& schema() const { return function_->getSchema(); }

  private:
    c10::IValue module_;
    torch::jit::Function* function_;
    std::vector<c10::IValue> stack_;
};

}  // namespace opserve::native
