"""One Airflow for the whole session, in a folder of its own, with two tasks at a time.

``scripts/engines/airflow-up`` installs it once, into a virtual environment in the user's cache, or
in ``AIRFLOW_VENV``; tests use that environment with a database, ports and a DAG folder of their own.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import psutil
import pytest
import support

from started import missing

SCRIPTS = support.ROOT / "scripts" / "engines"
MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"


@dataclass(frozen=True)
class StartedAirflow:
    """A running Airflow, how to reach it, and how to kill parts of it."""

    url: str
    auth: tuple[str, str]
    home: Path
    store: Path
    environment: dict

    @property
    def options(self):
        """What ``Scheduler.with_airflow`` needs, and polls often, since tests are in a hurry."""
        return {
            "url": self.url,
            "auth": self.auth,
            "payload_store": str(self.store),
            "max_workers": 4,
            "poll_interval_s": 0.25,
        }

    def up(self):
        """Start what is not running."""
        run_script("airflow-up", self.environment)

    def pid_of(self, component):
        return int((self.home / "run" / f"{component}.pid").read_text().split()[0])

    def kill(self, *components, how=signal.SIGKILL):
        """End components and wait until they are gone."""
        found = [psutil.Process(self.pid_of(component)) for component in components]
        for process in found:
            process.send_signal(how)
        _, alive = psutil.wait_procs(found, timeout=20)
        assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]

    def states(self):
        """Return the state of each run of the DAG."""
        import httpx

        user, password = self.auth
        with httpx.Client(base_url=self.url, trust_env=False, timeout=30) as http:
            login = {"username": user, "password": password}
            token = http.post("/auth/token", json=login).json()["access_token"]
            query = {"limit": 100, "order_by": "-id"}
            headers = {"Authorization": f"Bearer {token}"}
            runs = http.get("/api/v2/dags/amltk_call/dagRuns", params=query, headers=headers)
            return {run["dag_run_id"]: run["state"] for run in runs.json()["dag_runs"]}


def run_script(name, environment):
    done = subprocess.run(
        [SCRIPTS / name, *(["--purge"] if name == "airflow-down" else [])],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def where_installed():
    """Return the virtual environment of Airflow, or skip where there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    default = cache / "amltk-airflow" / f"venv-{MINOR}"
    venv = Path(os.environ.get("AIRFLOW_VENV") or default)
    is_required = os.environ.get("AMLTK_REQUIRE_ENGINES") == "1"  # then it is installed now
    if not (venv / ".amltk-airflow").exists() and not is_required:
        missing(
            f"Airflow is not installed in {venv}; install it with: "
            f"AIRFLOW_PYTHON=python{MINOR} scripts/engines/airflow-up && scripts/engines/airflow-down"
        )
    if venv.exists() and not (venv / "lib" / f"python{MINOR}").exists():
        missing(f"the Airflow in {venv} has another Python than {MINOR}, which runs the tests")
    return venv


def free_ports():
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


@pytest.fixture(scope="session")
def airflow(tmp_path_factory):
    """Return a running Airflow that has amltk's DAG."""
    venv = where_installed()
    from amltk.cli import install_dag

    base = tmp_path_factory.mktemp("airflow")
    home, dags, store = base / "home", base / "dags", base / "store"
    for folder in (dags, store):
        folder.mkdir()
    install_dag(dags)
    port, execution_port = free_ports()
    environment = {
        **os.environ,
        "AIRFLOW_VENV": str(venv),
        "AIRFLOW_PYTHON": sys.executable,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_DAGS": str(dags),
        "AIRFLOW_PORT": str(port),
        "AIRFLOW_EXECUTION_PORT": str(execution_port),
        "AMLTK_AIRFLOW_STORE": str(store),
        "AIRFLOW_EXTRA_PIP": "scikit-learn",  # what the calls of an example need
    }
    try:
        run_script("airflow-up", environment)
        passwords = json.loads((home / "passwords.json").read_text())
        auth = next(iter(passwords.items()))
        yield StartedAirflow(f"http://127.0.0.1:{port}", auth, home, store, environment)
    finally:
        with suppress(subprocess.TimeoutExpired):
            run_script("airflow-down", environment)


@pytest.fixture(scope="session")
def airflow_executor(airflow):
    """Return an executor that tests do not shut down."""
    from amltk.executors.airflow.executor import airflow_factory

    with airflow_factory(**airflow.options)() as executor:
        executor.submit(pow, 2, 3).result(120)  # its thread is there before any test
        yield executor


@pytest.fixture
def sent_by_value():
    """Return a function that has modules sent along, which Airflow's workers do not have."""
    sent = []

    def send(*modules):
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
            sent.append(module)

    yield send
    for module in sent:
        cloudpickle.unregister_pickle_by_value(module)
