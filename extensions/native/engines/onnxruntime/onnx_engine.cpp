// ONNX (`.onnx`) on ONNX Runtime: handlers/engines/onnxruntime.py.
#include <algorithm>
#include <functional>
#include <new>
#include <stdexcept>

#include "../classify.h"
#include "../engine.h"
#include "runtime.h"
#include "session.h"

namespace opserve::native {
namespace {

class OnnxEngine final : public Engine {
  public:
    OnnxEngine(const std::filesystem::path& folder, const ModelConfig& config,
               std::optional<int> device_index)
        : config_(config),
          open_(ort::open_session(folder, config, device_index)),
          device_(open_.on_gpu ? "cuda:" + std::to_string(*device_index) : "cpu"),
          runtime_("ONNX Runtime " + ort::runtime().version) {
        ort::check_signature(open_.session.get(), config);
        for (const TensorSpec& spec : config.inputs) input_names_.push_back(spec.name.c_str());
        for (const TensorSpec& spec : config.outputs) output_names_.push_back(spec.name.c_str());
    }

    Arrays run(const Arrays& inputs) override {
        try {
            return call(inputs);
        } catch (const ModelError&) {
            throw;
        } catch (const std::bad_alloc& error) {
            throw OutOfMemoryError(error.what());
        } catch (const std::exception& error) {
            if (open_.on_gpu) {
                throw_classified(error.what(), [this] { probe(); });
            } else {
                throw_classified(error.what(), nullptr);
            }
            throw;
        }
    }

    const std::string& device() const override { return device_; }
    // A session allocates new memory for every output.
    bool lends_outputs() const override { return false; }
    const std::string& format() const override { return format_; }
    const std::string& runtime() const override { return runtime_; }

    std::string describe_more() const override {
        std::string text;
        for (const std::string& provider : open_.providers)
            text += (text.empty() ? "\"" : ", \"") + provider + "\"";
        return ", \"providers\": [" + text + "]";
    }

  private:
    Arrays call(const Arrays& inputs) {
        const ort::OrtApi& api = *ort::runtime().api;
        take_inputs(inputs);
        const size_t count = output_names_.size();
        std::vector<ort::OrtValue*> outputs(count, nullptr);
        ort::OrtStatus* status = api.Run(open_.session.get(), nullptr, input_names_.data(), values_.data(),
                                         values_.size(), output_names_.data(), count, outputs.data());
        std::vector<ort::Value> returned;
        returned.reserve(count);
        for (ort::OrtValue* value : outputs) returned.emplace_back(value);
        owned_.clear();
        ort::check(status);
        Arrays arrays;
        arrays.reserve(count);
        for (size_t i = 0; i < count; ++i) {
            arrays.push_back({config_.outputs[i].name, to_array(std::move(returned[i]), inputs)});
        }
        return arrays;
    }

    // Makes values of the arrays, which share their memory, in the order of the signature.
    void take_inputs(const Arrays& inputs) {
        values_.clear();
        owned_.clear();
        for (size_t i = 0; i < config_.inputs.size(); ++i) {
            const Array* array = find(inputs, config_.inputs[i].name);
            if (array == nullptr) {
                throw std::runtime_error("Required inputs (['" + config_.inputs[i].name +
                                         "']) are missing from input feed.");
            }
            owned_.push_back(to_value(*array));
            values_.push_back(owned_.back().get());
        }
        if (inputs.size() == values_.size()) return;
        for (const auto& [name, array] : inputs) {
            const auto known = [&name = name](const TensorSpec& spec) { return spec.name == name; };
            if (!std::any_of(config_.inputs.begin(), config_.inputs.end(), known)) {
                throw std::runtime_error("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Invalid input name: " +
                                         std::string(name));
            }
        }
    }

    static ort::Value to_value(const Array& array) {
        // Not null, also for an array without elements.
        static std::byte nothing[64];
        ort::OrtValue* value = nullptr;
        void* data = array.data == nullptr ? nothing : array.data;
        ort::check(ort::runtime().api->CreateTensorWithDataAsOrtValue(
            ort::runtime().cpu_memory, data, array.bytes(), array.shape.data(), array.shape.size(),
            ort::to_element_type(array.dtype), &value));
        return ort::Value(value);
    }

    // What keeps the memory of an output alive: its value, and the input that it is, if a model returns one
    // unchanged.
    struct Owner {
        ort::Value value;
        std::shared_ptr<void> input;
    };

    static Array to_array(ort::Value value, const Arrays& inputs) {
        const ort::OrtApi& api = *ort::runtime().api;
        ort::OrtTensorTypeAndShapeInfo* made = nullptr;
        ort::check(api.GetTensorTypeAndShape(value.get(), &made));
        const ort::TensorInfo info(made);
        ort::ONNXTensorElementDataType type = ort::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
        ort::check(api.GetTensorElementType(info.get(), &type));
        const std::optional<DType> dtype = ort::to_dtype(type);
        if (!dtype)
            throw std::runtime_error("an output is a " + ort::type_name(type) + ", which no array can be");
        Array array;
        array.dtype = *dtype;
        size_t dimensions = 0;
        ort::check(api.GetDimensionsCount(info.get(), &dimensions));
        array.shape.resize(dimensions);
        ort::check(api.GetDimensions(info.get(), array.shape.data(), dimensions));
        void* data = nullptr;
        ort::check(api.GetTensorMutableData(value.get(), &data));
        array.data = static_cast<std::byte*>(data);
        auto owner = std::make_shared<Owner>();
        owner->value = std::move(value);
        for (const auto& [name, input] : inputs) {
            const std::less_equal<const std::byte*> before;
            if (before(input.data, array.data) && before(array.data + 1, input.data + input.bytes())) {
                owner->input = input.owner;
            }
        }
        array.owner = std::move(owner);
        return array;
    }

    // Copies a number to the GPU.
    void probe() const {
        const ort::OrtApi& api = *ort::runtime().api;
        ort::OrtIoBinding* made = nullptr;
        ort::check(api.CreateIoBinding(open_.session.get(), &made));
        const ort::IoBinding binding(made);
        const Array one = Array::empty(config_.inputs[0].dtype, {1});
        std::fill_n(one.data, one.bytes(), std::byte{0});
        const ort::Value value = to_value(one);
        ort::check(api.BindInput(binding.get(), input_names_[0], value.get()));
        ort::check(api.SynchronizeBoundInputs(binding.get()));
    }

    const ModelConfig& config_;
    ort::OpenSession open_;
    std::string device_, format_ = "ONNX", runtime_;
    std::vector<const char*> input_names_, output_names_;
    // The inputs of a call; kept for their memory.
    std::vector<ort::Value> owned_;
    std::vector<const ort::OrtValue*> values_;
};

}  // namespace

OPSERVE_ENGINE_EXPORT Engine* opserve_open_engine(const std::filesystem::path& folder,
                                                  const ModelConfig& config,
                                                  std::optional<int> device_index) {
    return std::make_unique<OnnxEngine>(folder, config, device_index).release();
}

}  // namespace opserve::native
