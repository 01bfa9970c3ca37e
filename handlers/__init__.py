"""The code that runs inside a worker: packed into every archive as the package `handlers`.

Only the handler class and `handlers.torchserve` depend on a server; the rest is usable from any Python process.
"""
