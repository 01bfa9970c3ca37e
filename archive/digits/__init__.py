"""`digits`: reads a handwritten digit in a photograph, given the four corners of the paper it stands on."""
