"""Gathers, packs, checks and describes archives."""
