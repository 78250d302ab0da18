"""Ready-made behaviours for a task, one file each; each is loaded when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk._lazy import resolve

if TYPE_CHECKING:
    from amltk.plugins.comm import Comm as Comm
    from amltk.plugins.emissions import CallEmissions as CallEmissions
    from amltk.plugins.emissions import EmissionsTracker as EmissionsTracker
    from amltk.plugins.limiter import CallLimiter as CallLimiter
    from amltk.plugins.pynisher import PynisherPlugin as PynisherPlugin
    from amltk.plugins.retry import Retry as Retry
    from amltk.plugins.threadpoolctl import ThreadPoolCTLPlugin as ThreadPoolCTLPlugin
    from amltk.plugins.wandb import WandbPlugin as WandbPlugin
    from amltk.plugins.warning_filter import CaughtWarning as CaughtWarning
    from amltk.plugins.warning_filter import WarningFilter as WarningFilter
    from amltk.plugins.worker_logs import WorkerLogs as WorkerLogs

_WHERE = {
    "CallEmissions": "amltk.plugins.emissions",
    "CallLimiter": "amltk.plugins.limiter",
    "CaughtWarning": "amltk.plugins.warning_filter",
    "Comm": "amltk.plugins.comm",
    "EmissionsTracker": "amltk.plugins.emissions",
    "PynisherPlugin": "amltk.plugins.pynisher",
    "Retry": "amltk.plugins.retry",
    "ThreadPoolCTLPlugin": "amltk.plugins.threadpoolctl",
    "WandbPlugin": "amltk.plugins.wandb",
    "WarningFilter": "amltk.plugins.warning_filter",
    "WorkerLogs": "amltk.plugins.worker_logs",
}

__all__ = [
    "CallEmissions",
    "CallLimiter",
    "CaughtWarning",
    "Comm",
    "EmissionsTracker",
    "PynisherPlugin",
    "Retry",
    "ThreadPoolCTLPlugin",
    "WandbPlugin",
    "WarningFilter",
    "WorkerLogs",
]


def __getattr__(name: str) -> Any:
    return resolve(globals(), name)


def __dir__() -> list[str]:
    return __all__
