"""Trials, ask and tell, and the loop that nearly everybody writes.

::

    search                  optimize(): scheduler, optimizer and history brought together
    optimizers   history    one file each  |  what is kept of a search, and pictures
    trials                  one try of a configuration, and its report
    records   space         reports as rows and files  |  what may be tried

Names are resolved on first use, so that nothing is loaded that is not needed: no optimizer's
library, and no pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk._lazy import keep_older_roads, resolve

if TYPE_CHECKING:
    from amltk.optimization.history.history import History as History
    from amltk.optimization.optimizer import Optimizer as Optimizer
    from amltk.optimization.optimizers.grid import GridSearch as GridSearch
    from amltk.optimization.optimizers.optuna import OptunaOptimizer as OptunaOptimizer
    from amltk.optimization.optimizers.random import RandomSearch as RandomSearch
    from amltk.optimization.optimizers.smac import SMACOptimizer as SMACOptimizer
    from amltk.optimization.search.loop import optimize as optimize
    from amltk.optimization.trials.metric import Metric as Metric
    from amltk.optimization.trials.trial import Trial as Trial

_WHERE = {
    "GridSearch": "amltk.optimization.optimizers.grid",
    "History": "amltk.optimization.history.history",
    "Metric": "amltk.optimization.trials.metric",
    "Optimizer": "amltk.optimization.optimizer",
    "OptunaOptimizer": "amltk.optimization.optimizers.optuna",
    "RandomSearch": "amltk.optimization.optimizers.random",
    "SMACOptimizer": "amltk.optimization.optimizers.smac",
    "Trial": "amltk.optimization.trials.trial",
    "optimize": "amltk.optimization.search.loop",
}

__all__ = [
    "GridSearch",
    "History",
    "Metric",
    "Optimizer",
    "OptunaOptimizer",
    "RandomSearch",
    "SMACOptimizer",
    "Trial",
    "optimize",
]

keep_older_roads(
    __name__,
    {
        "asking": "search.asking",
        "loop": "search.loop",
        "measure": "trials.measure",
        "metric": "trials.metric",
        "plots": "history.plots",
        "record": "records.record",
        "report": "trials.report",
        "task": "trials.task",
        "trial": "trials.trial",
    },
)


def __getattr__(name: str) -> Any:
    return resolve(globals(), name)


def __dir__() -> list[str]:
    return __all__
