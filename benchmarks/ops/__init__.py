"""Benchmark of the operators on a CPU: each module compares one of them with what else computes the same."""
