"""Starts, watches, changes and stops a TorchServe: shared by the commands, the benchmarks and the tests.

Whatever cannot be done raises an OpserveError, whose message says to a person what is wrong and how to fix it.
"""
