"""opserve's server beside others: the same models, the same bytes, one server at a time.

`python -m benchmarks.serving` measures. The modules are: `network` (the graph model), `workloads` (what is sent, and
what must come back), `answers` (is it right), `servers` and `torchserves` (how each server is started), `peers/` (their
programs), `environments` (what runs those), `processes` (what a server's processes used), `limit` (the same work
without a server), `rounds` (who is measured when), `goals` (what is aimed at) and `report`.
"""
