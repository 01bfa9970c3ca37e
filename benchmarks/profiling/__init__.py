"""Benchmark of the server's processor time: where it goes."""
