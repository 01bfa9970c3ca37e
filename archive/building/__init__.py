"""What the `build.py` of a model uses: a frame that leaves a whole folder or none, exports, and a sample."""
