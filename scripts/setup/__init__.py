"""Prepares this checkout: its environment, the checks of its prerequisites, and the removal of what was built."""
