"""Benchmark of opserve's server against others: the same models and the same bytes, one server at a time.

`servers`, `torchserves` and `peer_servers` start the servers (the programs of the latter are in `peers/`, and what runs
those in `environments`), `archives` packs the models, `processes` accounts for a server's processes, `in_process`
measures the same work without a server, `rounds` measures all servers in turns, `goals` judges the outcome, and
`report` and `plots` present it.
"""
