"""Whether Airflow, its DAG and the payload store can be used, and what is done while they cannot.

::

    not ready ── the DAG is there, and of this amltk; the store can be written ──▶ ready
        ▲                                                                           │
        └── refused, or in trouble for too long ◀── trouble: again, after pauses ◀──┘
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from amltk.exceptions import ExecutorError
from amltk.executors.airflow.api import AirflowApi, RefusedError
from amltk.executors.airflow.dag import VERSION
from amltk.executors.airflow.store import PayloadStore

logger: logging.Logger = logging.getLogger(__name__)

#: The longest pause between two tries while Airflow does not answer.
_LONGEST_PAUSE_S = 10.0

_FIRST_PAUSE_S = 0.2

_NOT_FOUND = 404


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How an executor on Airflow behaves; the engine's factory explains each."""

    dag_id: str
    max_workers: int
    poll_interval_s: float
    start_timeout_s: float
    api_down_limit_s: float
    settle_s: float
    keep_runs: bool


class Reach:
    """Whether one executor's Airflow and store can be used; for the thread that uses them.

    Args:
        settings: How to behave.
        api: Airflow's REST API.
        store: The executor's folder in the payload store.
    """

    def __init__(self, settings: Settings, api: AirflowApi, store: PayloadStore) -> None:
        self._settings = settings
        self._api = api
        self._store = store
        #: Whether all was checked, and nothing speaks against it since.
        self.is_ready: bool = False
        #: Before this moment nothing is to be tried.
        self.next_try: float = 0.0
        self._was_ready = False
        self._dag_missing_since: float | None = None
        self._trouble_since: float | None = None
        self._n_troubles = 0

    @property
    def is_in_trouble(self) -> bool:
        """Whether what was tried last did not work."""
        return self._trouble_since is not None

    def get_ready(self) -> bool:
        """Check Airflow, the DAG and the store, unless that was done.

        Returns:
            ``False`` while the DAG is not there yet.

        Raises:
            ExecutorError: When they cannot be used as they are.
            RefusedError: When Airflow refuses.
            UnreachableError: When it does not answer.
        """
        if not self.is_ready and self._check():
            self.is_ready = self._was_ready = True
        return self.is_ready

    def note_success(self) -> None:
        """Take note that everything has worked."""
        self._trouble_since, self._n_troubles = None, 0

    def note_trouble(self, error: Exception) -> str | None:
        """Have Airflow tried again after a pause; if this has lasted too long, return why."""
        now = time.monotonic()
        if self._trouble_since is None:
            self._trouble_since = now
            logger.warning("Airflow or its payload store is in trouble, trying again: %s", error)
        lasted_s = now - self._trouble_since
        # What has never answered may have another address: that is found out sooner.
        option = "api_down_limit_s" if self._was_ready else "start_timeout_s"
        limit_s: float = getattr(self._settings, option)
        if lasted_s > limit_s:
            self.is_ready, self._trouble_since, self._n_troubles = False, None, 0
            return (
                f"Airflow or its payload store could not be used for {lasted_s:.0f} s, longer than "
                f"{option}={limit_s:g}: {error}; is url= right? Runs that were triggered may go on"
            )
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**self._n_troubles)
        self._n_troubles = min(self._n_troubles + 1, 10)
        self.next_try = now + pause_s
        return None

    def _check(self) -> bool:
        try:
            dag = self._api.dag()
        except RefusedError as error:
            if error.status != _NOT_FOUND:
                raise
            self._wait_for_dag()
            return False
        self._dag_missing_since = None
        self._require_version(dag)
        if dag.get("is_paused"):
            self._api.unpause()
        try:
            self._store.open()
        except Exception as error:
            message = (
                f"the payload store {self._store.folder} cannot be written and read: {error!r}; "
                f"give a folder or URL that this program and Airflow's workers can use"
            )
            raise ExecutorError(message) from error
        return True

    def _wait_for_dag(self) -> None:
        now = time.monotonic()
        if self._dag_missing_since is None:
            self._dag_missing_since = now
        if now - self._dag_missing_since > self._settings.start_timeout_s:
            self._dag_missing_since = None
            message = (
                f'Airflow has no DAG "{self._settings.dag_id}", after '
                f"{self._settings.start_timeout_s:g} s; install it in its DAG folder with: "
                f"amltk airflow install-dag DIR, and see there that it has no import error"
            )
            raise ExecutorError(message)
        self.next_try = now + 0.5

    def _require_version(self, dag: Any) -> None:
        tags = [tag.get("name") for tag in dag.get("tags") or ()]
        if f"amltk-format-{VERSION}" not in tags:
            message = (
                f'the DAG "{self._settings.dag_id}" is not the one of this amltk, its tags are '
                f"{tags}; install it again with: amltk airflow install-dag DIR"
            )
            raise ExecutorError(message)
