"""Chaos: drivers of a seed that mix all that can happen, and a ledger that its calls write."""
