"""`digits_onnx`: the weights of `digits`, served by ONNX Runtime."""
