"""New operators."""
