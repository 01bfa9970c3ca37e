"""Benchmark of the request formats on a server."""
