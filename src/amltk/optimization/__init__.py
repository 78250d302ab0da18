"""Trials, ask and tell, and the loop that nearly everybody writes.

Names are resolved on first use, so that nothing is loaded that is not needed: no optimizer's
library, and no pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk._lazy import resolve

if TYPE_CHECKING:
    from amltk.optimization.history import History as History
    from amltk.optimization.loop import optimize as optimize
    from amltk.optimization.metric import Metric as Metric
    from amltk.optimization.optimizer import Optimizer as Optimizer
    from amltk.optimization.optimizers.grid import GridSearch as GridSearch
    from amltk.optimization.optimizers.optuna import OptunaOptimizer as OptunaOptimizer
    from amltk.optimization.optimizers.random import RandomSearch as RandomSearch
    from amltk.optimization.optimizers.smac import SMACOptimizer as SMACOptimizer
    from amltk.optimization.trial import Trial as Trial

_WHERE = {
    "GridSearch": "amltk.optimization.optimizers.grid",
    "History": "amltk.optimization.history",
    "Metric": "amltk.optimization.metric",
    "Optimizer": "amltk.optimization.optimizer",
    "OptunaOptimizer": "amltk.optimization.optimizers.optuna",
    "RandomSearch": "amltk.optimization.optimizers.random",
    "SMACOptimizer": "amltk.optimization.optimizers.smac",
    "Trial": "amltk.optimization.trial",
    "optimize": "amltk.optimization.loop",
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


def __getattr__(name: str) -> Any:
    return resolve(globals(), name)


def __dir__() -> list[str]:
    return __all__
