"""What a request says and what an answer is written as: the formats, and how one is chosen."""
