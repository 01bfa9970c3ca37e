"""`karate_onnx`: the weights of `karate`, served by ONNX Runtime."""
