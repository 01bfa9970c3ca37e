"""What the benchmarks share: the command line, measuring, tables, models, requests and their expected responses."""
