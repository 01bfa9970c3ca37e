// A model in a session of ONNX Runtime: its options, its inputs and outputs.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "../../config.h"
#include "runtime.h"

namespace opserve::native::ort {

struct OpenSession {
    Session session;
    bool on_gpu = false;
    // The execution providers, the preferred one first.
    std::vector<std::string> providers;
};

// Opens the operator libraries and the artifact. Throws ModelError: one of them does not load, or there is no
// such device.
OpenSession open_session(const std::filesystem::path& folder, const ModelConfig& config,
                         std::optional<int> device_index);

// Throws ModelError if the model's inputs and outputs differ from the signature.
void check_signature(OrtSession* session, const ModelConfig& config);

// The runtime's type for the elements of an array, and back; none for a type that no array has.
ONNXTensorElementDataType to_element_type(DType dtype);
std::optional<DType> to_dtype(ONNXTensorElementDataType type);
// As ONNX names it: "tensor(float)".
std::string type_name(ONNXTensorElementDataType type);

}  // namespace opserve::native::ort
