"""Load tests: sends requests to a running server at a fixed rate or as fast as it answers, and reports the results."""
