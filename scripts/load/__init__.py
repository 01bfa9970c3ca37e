"""Requests sent to a running server at a rate or as fast as it answers."""
