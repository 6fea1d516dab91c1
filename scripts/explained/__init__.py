"""Which reading of the paper comes nearest to its numbers: see `scripts/explain.py`."""
