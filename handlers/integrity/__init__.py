"""What an archive says about itself, and whether it is true. Imports the standard library only."""
