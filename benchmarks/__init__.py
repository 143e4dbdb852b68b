"""What pauth costs, beside the raw drivers and a peer, in one run: ``python -m benchmarks storage``. See docs/benchmarks.md."""
