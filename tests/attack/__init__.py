"""Hostile requests to a real TorchServe among innocent ones, whose responses must stay right.

`python -m tests.attack` (`make attack`) runs all of them; test_attack.py runs some.
"""
