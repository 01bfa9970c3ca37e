"""Everything that depends on TorchServe's worker: with the handler class, the only code that knows this server."""
