"""The commands, run from the repository as `python -m scripts.NAME`."""
