"""What an archive says of itself, and whether it is true; standard library only."""
