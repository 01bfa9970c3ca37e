"""What depends on TorchServe's worker and its private parts."""
