#include "script.h"

#include <ATen/core/function_schema.h>
#include <torch/csrc/jit/serialization/import.h>

#include <utility>

namespace opserve::native {

torch::jit::Module load_module(const std::string& path, c10::Device device) {
    torch::jit::Module module = torch::jit::load(path, device);
    module.eval();
    return module;
}

ScriptMethod::ScriptMethod(const torch::jit::Module& module, const std::string& name)
    : module_(module._ivalue()), function_(&module.get_method(name).function()) {}

std::vector<c10::IValue>& ScriptMethod::begin() {
    stack_.clear();
    stack_.push_back(module_);
    return stack_;
}

c10::IValue ScriptMethod::call() {
    // Taken first: what a call that fails leaves behind is released with it. Its memory is kept for the next
    // call otherwise.
    std::vector<c10::IValue> stack = std::move(stack_);
    // Also gives arguments that were left out their defaults.
    function_->getSchema().checkAndNormalizeInputs(stack);
    function_->run(stack);
    c10::IValue result = std::move(stack.back());
    stack.clear();
    stack_ = std::move(stack);
    return result;
}

}  // namespace opserve::native
