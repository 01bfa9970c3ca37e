"""One folder a servable model, and the packer that makes its `.mar`."""
