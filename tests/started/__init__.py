"""Engines that tests start once and share: one module of fixtures for each.

Whoever runs the tests without an engine's software has its tests skipped by name. Where the
environment says ``AMLTK_REQUIRE_ENGINES=1``, as the full check does, they fail instead.
"""

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip the test that asked for an engine that is not there, or fail it where all must be."""
    if os.environ.get("AMLTK_REQUIRE_ENGINES") == "1":
        pytest.fail(f"AMLTK_REQUIRE_ENGINES=1, and yet: {reason}")
    pytest.skip(reason)
