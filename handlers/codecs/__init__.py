"""The formats of requests and responses, and how one is chosen. Knows the signature, but neither model nor server."""
