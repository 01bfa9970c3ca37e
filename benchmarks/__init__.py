"""Benchmarks; `python -m benchmarks.NAME --help` says what each one measures and in which units.

| package | measures |
| --- | --- |
| `ops` | the operators on a CPU against what else computes the same |
| `ops_cuda` | the operators on a GPU against what else computes the same |
| `codec` | decoding a request and encoding a response against a handler of a few lines |
| `handler` | the steps of a request inside a worker |
| `wire` | what each request format costs the server |
| `serving` | opserve's server against other servers |
| `frontend_limit` | the rate that TorchServe's frontend allows any handler |
| `profiling` | where the server spends processor time on a request |

`common` is what they share; `results` holds published figures.
"""
