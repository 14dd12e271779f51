"""Paired comparisons with other registries, on one machine, in one run: `python -m benchmarks --help`."""
