"""The operators, one module each: its Python function, what tracing knows about it, and its name in ONNX."""
