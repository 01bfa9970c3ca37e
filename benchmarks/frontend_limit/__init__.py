"""Benchmark of TorchServe's frontend."""
