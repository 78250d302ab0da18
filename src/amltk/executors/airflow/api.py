"""The eight requests to Airflow's REST API, version 2, that an executor needs.

Each is tried once: whoever asks decides when to ask again. An answer is one of three::

    it is as asked        what the method returns
    UnreachableError      no answer, or one that says "not now": ask again later
    RefusedError          an answer that will be the same next time
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

from amltk._optional import require
from amltk.executors.airflow.dag import TASK_ID

Auth = tuple[str, str] | str | Callable[[], str]

#: States of a task that has not ended; ``none`` is one that nobody has scheduled yet.
_UNFINISHED = (
    "none",
    "scheduled",
    "queued",
    "running",
    "restarting",
    "up_for_retry",
    "up_for_reschedule",
    "deferred",
)

#: States of a task that has ended.
ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})

#: How many tasks there are in one page of a list.
_PAGE = 100

#: How long a request may take: an Airflow on SQLite can stand still for 5 seconds.
_TIMEOUT_S = 15.0

#: How long a connection may take to come about.
_CONNECT_S = 5.0

#: So much earlier than now a run is due: SQLite compares whole seconds, and a run that is due in
#: this very second would wait for the next one.
_DUE_S = 2.0

_CONFLICT = 409
_TOO_MANY = 429
_SERVER_ERROR = 500


class UnreachableError(Exception):
    """Airflow gave no answer, or none that counts: worth another try."""


class RefusedError(Exception):
    """Airflow refused a request for good.

    Args:
        status: The HTTP status.
        detail: What it said.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"HTTP {status}: {detail}")
        self.status = status


class AirflowApi:
    """Airflow's REST API, as far as one DAG is concerned; for one thread.

    Args:
        url: Where the API server is.
        auth: User and password, a token, or what returns a token.
        dag_id: The DAG.
    """

    def __init__(self, url: str, auth: Auth, dag_id: str) -> None:
        self._httpx: Any = require("httpx", extra="airflow", purpose='the "airflow" executor')
        self._url = url.rstrip("/")
        self._auth = auth
        self._dag = f"/api/v2/dags/{quote(dag_id, safe='')}"
        self._token: str | None = None
        #: By how many seconds the server's clock is ahead of ours.
        self._ahead_s = 0.0
        # Proxies of the environment are for elsewhere, not for this machine.
        self._http: Any = self._httpx.Client(
            timeout=self._httpx.Timeout(_TIMEOUT_S, connect=_CONNECT_S),
            trust_env=not is_loopback(self._url),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def dag(self) -> Mapping[str, Any]:
        """Return what Airflow knows of the DAG; 404 while it does not know it."""
        return self._ask("GET", self._dag)

    def unpause(self) -> None:
        """Have the DAG's runs started."""
        self._ask("PATCH", self._dag, json={"is_paused": False})

    def trigger(self, run_id: str, conf: Mapping[str, Any]) -> None:
        """Make a run; harmless if an earlier try has made it already."""
        due = datetime.fromtimestamp(time.time() + self._ahead_s - _DUE_S, UTC)
        run = {
            "dag_run_id": run_id,
            "logical_date": None,
            "run_after": due.isoformat(),
            "conf": dict(conf),
        }
        self._ask("POST", f"{self._dag}/dagRuns", json=run, fine=(409,))

    def unfinished(self, prefix: str) -> dict[str, str]:
        """Return the states of tasks that have not ended, by their runs' ids.

        Args:
            prefix: What the ids of the runs begin with.
        """
        query = {"run_id_prefix_pattern": prefix, "state": list(_UNFINISHED), "limit": _PAGE}
        states: dict[str, str] = {}
        offset = 0
        while True:
            where = f"{self._dag}/dagRuns/~/taskInstances"
            page = self._ask("GET", where, params={**query, "offset": offset})
            tasks = page["task_instances"]
            states.update((task["dag_run_id"], task["state"] or "none") for task in tasks)
            offset += len(tasks)
            if not tasks or offset >= page["total_entries"]:
                return states

    def task(self, run_id: str) -> Mapping[str, Any] | None:
        """Return what Airflow knows of a run's task; ``None`` if there is no such run any more."""
        answer = self._ask("GET", self._task_path(run_id), fine=(404,))
        return answer if "state" in answer else None

    def log_lines(self, run_id: str, try_number: int) -> list[str]:
        """Return the lines of a task's log that tell of trouble."""
        answer = self._ask("GET", f"{self._task_path(run_id)}/logs/{max(1, try_number)}")
        entries = answer.get("content", [])
        told = [entry for entry in entries if isinstance(entry, dict)]
        return [_line(e) for e in told if e.get("level") in ("error", "critical")]

    def fail_run(self, run_id: str) -> None:
        """End a run, and its task with it; nothing happens to one that has ended."""
        self._ask("PATCH", self._run_path(run_id), json={"state": "failed"}, fine=(404, 409))

    def delete_run(self, run_id: str) -> bool:
        """Have Airflow forget a run; ``False`` if it has not ended in Airflow's eyes."""
        try:
            self._ask("DELETE", self._run_path(run_id), fine=(404,))
        except RefusedError as error:
            if error.status != _CONFLICT:
                raise
            return False
        return True

    def _run_path(self, run_id: str) -> str:
        return f"{self._dag}/dagRuns/{quote(run_id, safe='')}"

    def _task_path(self, run_id: str) -> str:
        return f"{self._run_path(run_id)}/taskInstances/{TASK_ID}"

    def _ask(
        self, method: str, path: str, *, fine: tuple[int, ...] = (), **options: Any
    ) -> Mapping[str, Any]:
        is_fresh = self._token is None
        answer = self._send(method, path, self._login(), **options)
        if _is_stale_token(answer) and not is_fresh and not isinstance(self._auth, str):
            self._token = None
            answer = self._send(method, path, self._login(), **options)
        return _content(answer, fine)

    def _login(self) -> str:
        if self._token is None:
            self._token = self._new_token()
        return self._token

    def _new_token(self) -> str:
        if isinstance(self._auth, str):
            return self._auth
        if callable(self._auth):
            try:
                return str(self._auth())
            except Exception as error:  # a token service that is down is like an Airflow that is
                message = f"the function that returns the token raised {error!r}"
                raise UnreachableError(message) from error
        user, password = self._auth
        login = {"username": user, "password": password}
        answer = self._send("POST", "/auth/token", None, json=login)
        return str(_content(answer, ())["access_token"])

    def _send(self, method: str, path: str, token: str | None, **options: Any) -> Any:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            answer = self._http.request(method, self._url + path, headers=headers, **options)
        except self._httpx.TransportError as error:
            message = f"{self._url} does not answer: {type(error).__name__}: {error}"
            raise UnreachableError(message) from error
        date = answer.headers.get("Date")
        if date:
            self._ahead_s = _seconds_of(date) - time.time()
        return answer


def is_loopback(url: str) -> bool:
    """Tell whether an URL leads to this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _content(answer: Any, fine: tuple[int, ...]) -> Mapping[str, Any]:
    status = answer.status_code
    if status >= _SERVER_ERROR or status == _TOO_MANY:
        message = f"{answer.request.url} answers HTTP {status}"
        raise UnreachableError(message)
    if not answer.is_success and status not in fine:
        raise RefusedError(status, _detail(answer))
    try:
        content = answer.json() if answer.content else {}
    except ValueError as error:  # a proxy's page in place of an answer
        message = f"{answer.request.url} answers with something that is not JSON"
        raise UnreachableError(message) from error
    return content if isinstance(content, dict) else {}


def _is_stale_token(answer: Any) -> bool:
    if answer.status_code == 401:  # noqa: PLR2004 - as HTTP numbers it
        return True
    return answer.status_code == 403 and "token" in answer.text.lower()  # noqa: PLR2004


def _detail(answer: Any) -> str:
    return f"{answer.request.method} {answer.request.url.path}: {answer.text[:300]}"


def _line(entry: Mapping[str, Any]) -> str:
    facts = {k: v for k, v in entry.items() if k in ("exit_code", "signal_sent", "msg", "reason")}
    trouble = [
        f"{detail.get('exc_type')}: {detail.get('exc_value')}"
        for detail in entry.get("error_detail") or ()
    ]
    return " ".join(
        [str(entry.get("event", "")), *(f"{k}={v}" for k, v in facts.items()), *trouble]
    )


def _seconds_of(date: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return time.time()
