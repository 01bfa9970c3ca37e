"""Hostile requests against a real TorchServe, next to innocent ones whose answers must stay correct.

`python -m tests.attack` (`make attack`) runs all of them; test_attack.py runs some.
"""
