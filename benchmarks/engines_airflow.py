"""A row about Airflow: calls through the scheduler against bare runs of a DAG that does nothing.

Both sides post one run at a time, keep as many with Airflow, and ask as often. The bare DAG is the
one by which ``scripts/engines/airflow-up`` checks that tasks run. To measure by hand, with the
environment of ``airflow-up`` and ``amltk airflow install-dag`` done::

    python benchmarks/engines_airflow.py URL PASSWORDS_FILE STORE [N]
"""

from __future__ import annotations

import json
import secrets
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import httpx

from amltk import Scheduler, Task

IN_FLIGHT = 4
POLL_S = 0.25
BARE_DAG = "airflow_up_check"


def no_op() -> None:
    """Do nothing, so that all that is measured is the way there and back."""


@dataclass(frozen=True)
class Airflow:
    """Where an Airflow is, with its credentials and payload store."""

    url: str
    auth: tuple[str, str]
    store: str

    def scheduled(self, n: int) -> float:
        """Return the seconds of a run with ``n`` calls, all submitted at its start."""
        scheduler = Scheduler.with_airflow(
            self.url,
            auth=self.auth,
            payload_store=self.store,
            max_workers=IN_FLIGHT,
            poll_interval_s=POLL_S,
        )
        task = Task(no_op, scheduler)
        scheduler.on_start(lambda: [task() for _ in range(n)])
        begin = perf_counter()
        scheduler.run()
        seconds = perf_counter() - begin
        assert task.n_called == n
        return seconds

    def bare(self, n: int) -> float:
        """Return the seconds until ``n`` runs of a DAG with one empty task have ended."""
        begin = perf_counter()
        with httpx.Client(base_url=self.url, trust_env=False, timeout=30) as http:
            login = dict(zip(("username", "password"), self.auth, strict=True))
            token = http.post("/auth/token", json=login).raise_for_status().json()["access_token"]
            http.headers["Authorization"] = f"Bearer {token}"
            _trigger_and_wait(http, n)
        return perf_counter() - begin


def _trigger_and_wait(http: httpx.Client, n: int) -> None:
    prefix = f"bare__{secrets.token_hex(4)}__"
    dag = f"/api/v2/dags/{BARE_DAG}"
    query = {"run_id_prefix": prefix, "state": ["queued", "running"], "limit": 100}
    n_posted = n_live = 0
    while n_posted < n or n_live:
        for _ in range(min(IN_FLIGHT - n_live, n - n_posted)):
            due = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 2))
            run = {"dag_run_id": f"{prefix}{n_posted}", "logical_date": None, "run_after": due}
            http.post(f"{dag}/dagRuns", json=run).raise_for_status()
            n_posted += 1
        time.sleep(POLL_S)
        runs = http.get(f"{dag}/dagRuns", params=query).raise_for_status().json()["dag_runs"]
        n_live = sum(run["dag_run_id"].startswith(prefix) for run in runs)


def main() -> None:
    """Measure in pairs and print the ratio."""
    url, passwords, store, *rest = sys.argv[1:]
    auth = next(iter(json.loads(Path(passwords).read_text()).items()))
    airflow, n = Airflow(url, auth, store), int(rest[0]) if rest else 30
    airflow.bare(2), airflow.scheduled(2)
    ratios = []
    for _ in range(3):
        ours, bare = airflow.scheduled(n), airflow.bare(n)
        ratios.append(ours / bare)
        print(f"{n} calls: scheduled {ours:.1f} s, bare {bare:.1f} s, ratio {ours / bare:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f} (goal: at most 1.2)")


if __name__ == "__main__":
    main()
