"""What tokens cost: handing one out, refreshing it, and keeping it from being refreshed twice. ``python -m benchmarks tokens``."""
