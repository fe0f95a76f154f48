"""Benchmarks: MiniFlow beside its peers, measured in one process, interleaved."""
