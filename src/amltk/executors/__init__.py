"""Turning any engine into a ``concurrent.futures.Executor``, and saying what it can do."""
