"""How a command's process runs, is bounded, and cleans up when it ends."""
