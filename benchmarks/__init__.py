"""Benchmarks: `make bench`, or `python -m benchmarks.NAME [--quick] --json OUT.json`.

Each module without a leading underscore is one benchmark: a function
`measure(quick) -> Outcome`, handed to `run_benchmark`. What a figure must reach stands
in `bars.toml`; the results that the documentation shows are committed in `results/`.
"""
