"""Benchmark of the operators on a GPU."""
