"""Hostile requests against a real TorchServe, beside innocent ones whose answers must stay right.

`python -m tests.attack` (`make attack`) runs all of them; test_attack.py runs some.
"""
