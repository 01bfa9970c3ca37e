"""Measures a running server under load: requests at a fixed rate or as fast as it answers, and a report."""
