"""Benchmark of the steps of a request inside a worker."""
