"""What runs inside a worker: packed into every archive as the package `handlers`.

Nothing here but the handler classes (`*_handler.py`) knows a server; the rest is usable from any Python process.
"""
