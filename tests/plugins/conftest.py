"""One Ray for all tests of plugins that use it: each would start one of its own, for seconds."""

import importlib.util

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_ray_for_all(request):
    uses_ray = any("ray" in item.name.partition("[")[2] for item in request.session.items)
    if uses_ray and importlib.util.find_spec("ray") is not None:
        request.getfixturevalue("ray_executor")
