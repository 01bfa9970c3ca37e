"""A TorchServe from outside: its configuration, processes, logs, models and workers."""
