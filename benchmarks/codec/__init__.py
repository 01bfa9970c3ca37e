"""Benchmark of the codecs."""
