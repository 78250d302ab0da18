"""Drivers that mix all that can happen, a few seeds of each engine; for many of them:

``PYTHONPATH=tests python -m stress.chaos.harness ENGINE FIRST LAST``
"""

import pytest
from stress.chaos.driver import ENGINES
from stress.chaos.harness import run_seed

NEEDS = {"loky": "loky", "dask": "distributed", "ray": "ray"}
SEEDS = range(3)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("engine", ENGINES)
def test_whatever_happens_each_call_ends_once_and_nothing_is_left(engine, seed):
    if engine in NEEDS:
        pytest.importorskip(NEEDS[engine], reason=f"the extra {engine} is not installed")
    verdict = run_seed(engine, seed)

    assert verdict.wrong == []
    assert verdict.n_calls > 20
