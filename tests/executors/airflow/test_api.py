"""The Airflow engine against a server on loopback that misbehaves, and runs calls by the real DAG's code."""

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import support

from amltk.exceptions import ExecutorError, WorkerDiedError
from amltk.executors.airflow import dag as airflow_dag
from amltk.executors.airflow.api import AirflowApi, is_loopback
from amltk.executors.airflow.executor import airflow_factory

LONG_S = 30


class LittleAirflow(ThreadingHTTPServer):
    """As much of Airflow as the engine uses; it does what a test tells it to do wrong.

    ``wrong`` has pairs of a request's beginning, such as ``"POST /api/v2"``, and what happens to
    it: a status in place of the answer, ``"drop"`` for a connection that is closed after the
    request took effect, or a status and a text.
    """

    daemon_threads = True

    def __init__(self, store):
        super().__init__(("127.0.0.1", 0), Handler)
        self.store = str(store)
        self.wrong = []
        self.tokens = 0
        self.token = None
        self.is_paused = True
        self.tags = [f"amltk-format-{airflow_dag.VERSION}"]
        self.runs = {}
        self.asked = []
        self.does_run = lambda _run_id: True
        self.longest_page = 100  # the most that it gives, whatever it is asked for

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def start_run(self, run_id, conf):
        if not self.does_run(run_id):
            self.runs[run_id] = {"state": "failed", "start_date": None}
            return
        self.runs[run_id] = {"state": "running", "start_date": "2030-01-01T00:00:00Z"}
        threading.Thread(target=self._run, args=(run_id, conf), daemon=True).start()

    def page_of(self, runs, query):
        limit, offset = (int(query[name][0]) for name in ("limit", "offset"))
        return runs[offset:][: min(limit, self.longest_page)]

    def _run(self, run_id, conf):
        with suppress(BaseException):
            airflow_dag.run_call(conf["folder"], conf["number"], self.store)
        self.runs[run_id]["state"] = "success"


class Handler(BaseHTTPRequestHandler):
    def do(self):
        server = self.server
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or "{}")
        line = f"{self.command} {unquote(urlsplit(self.path).path)}"
        server.asked.append(line)
        wrong = next((w for w in server.wrong if line.startswith(w[0])), None)
        if wrong is not None:
            server.wrong.remove(wrong)
            what = wrong[1]
            if isinstance(what, int):
                return self.answer(what, {"detail": "no"})
            if isinstance(what, tuple):
                return self.answer(what[0], {"detail": what[1]})
        status, content = self.handle_request(line, body)
        if wrong is not None:  # it took effect, and nobody hears of it
            self.close_connection = True
            return None
        return self.answer(status, content)

    do_GET = do_POST = do_PATCH = do_DELETE = do  # noqa: N815 - the standard library's names

    def handle_request(self, line, body):  # noqa: PLR0911 - one for each request
        server = self.server
        if line == "POST /auth/token":
            server.tokens += 1
            server.token = f"token {server.tokens}"
            return 201, {"access_token": server.token}
        given = self.headers.get("Authorization")
        if given != f"Bearer {server.token}":
            return 401, {"detail": "Token Expired"}
        path = line.split(" ", 1)[1].removeprefix("/api/v2/dags/amltk_call")
        if not path:
            server.is_paused = body.get("is_paused", server.is_paused)
            return 200, {"is_paused": server.is_paused, "tags": [{"name": t} for t in server.tags]}
        if line.startswith("POST"):
            if body["dag_run_id"] in server.runs:
                return 409, {"detail": "it exists"}
            server.start_run(body["dag_run_id"], body["conf"])
            return 200, {}
        if path == "/dagRuns/~/taskInstances":
            runs = [
                {"dag_run_id": run_id, "state": run["state"]}
                for run_id, run in list(server.runs.items())
                if run["state"] == "running"
            ]
            page = server.page_of(runs, parse_qs(urlsplit(self.path).query))
            return 200, {"task_instances": page, "total_entries": len(runs)}
        run_id = path.split("/")[2]
        if run_id not in server.runs:
            return 404, {"detail": "no such run"}
        if path.endswith("/logs/1"):
            return 200, {"content": [{"level": "error", "event": "it ended by SIGKILL"}]}
        return 200, {**server.runs[run_id], "try_number": 1}

    def answer(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args):
        """Say nothing."""


@pytest.fixture
def server(tmp_path):
    """Return a server that is up."""
    with LittleAirflow(tmp_path) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def options(server, tmp_path):
    return {
        "url": server.url,
        "auth": ("user", "password"),
        "payload_store": tmp_path,
        "poll_interval_s": 0.05,
    }


@pytest.fixture
def executor(options):
    with airflow_factory(**options)() as executor:
        yield executor


RUNS = "POST /api/v2/dags/amltk_call/dagRuns"
POLL = "GET /api/v2/dags/amltk_call/dagRuns/~"


class TestPages:
    @pytest.mark.parametrize(("n_runs", "n_pages"), [(0, 1), (3, 1), (4, 2), (8, 3), (9, 3)])
    def test_tasks_of_all_pages_are_told(self, server, n_runs, n_pages):
        server.longest_page = 3
        server.runs = {f"run {number}": {"state": "running"} for number in range(n_runs)}
        api = AirflowApi(server.url, ("user", "password"), "amltk_call")
        assert api.unfinished("run") == {f"run {number}": "running" for number in range(n_runs)}
        assert sum(line.startswith(POLL) for line in server.asked) == n_pages
        api.close()

    def test_a_call_of_a_later_page_is_seen_to_run(self, server, executor, tmp_path):
        server.longest_page = 1
        futures = [executor.submit(support.wait_for_file, tmp_path / "go") for _ in range(3)]
        support.wait_until(lambda: all(future.running() for future in futures))
        (tmp_path / "go").touch()
        assert [future.result(LONG_S) for future in futures] == [""] * 3


class TestTrouble:
    @pytest.mark.parametrize("what", [500, 503, 429, "drop"])
    @pytest.mark.parametrize("line", [RUNS, POLL, "GET /api/v2/dags/amltk_call", "POST /auth"])
    def test_it_tries_again_and_no_call_runs_twice(self, server, executor, tmp_path, line, what):
        notes = tmp_path / "notes"
        notes.mkdir()
        server.wrong += [(line, what)] * 3
        futures = [executor.submit(support.note_and_return, notes, x) for x in range(3)]
        assert [future.result(LONG_S) for future in futures] == [0, 1, 2]
        runs = sorted(path.name.split("-")[0] for path in notes.iterdir())
        assert runs == ["0", "1", "2"]

    @pytest.mark.parametrize("what", [(401, "Token Expired"), (403, "Invalid JWT token")])
    def test_an_expired_token_is_replaced(self, server, executor, what):
        assert executor.submit(pow, 2, 3).result(LONG_S) == 8
        server.wrong.append((RUNS, what))
        assert executor.submit(pow, 2, 4).result(LONG_S) == 16
        assert server.tokens == 2

    def test_a_function_gives_a_new_token(self, server, options):
        server.token = "second"
        tokens = iter(["first", "second"])
        server.wrong.append(("GET", (401, "Token Expired")))
        with airflow_factory(**{**options, "auth": lambda: next(tokens)})() as executor:
            error = executor.submit(pow, 2, 3).exception(LONG_S)
            assert isinstance(error, ExecutorError)  # the first one was refused as it came
            server.token = "first"

    def test_a_token_that_does_not_count_is_said(self, options):
        with airflow_factory(**{**options, "auth": "mine"})() as executor:
            error = executor.submit(pow, 2, 3).exception(LONG_S)
        assert isinstance(error, ExecutorError)
        assert "check auth=" in str(error)

    def test_a_run_that_is_refused_fails_its_call_only(self, server, executor):
        server.wrong.append((RUNS, 422))
        futures = [executor.submit(pow, 2, x) for x in range(3)]
        assert "HTTP 422" in str(futures[0].exception(LONG_S))
        assert [future.result(LONG_S) for future in futures[1:]] == [2, 4]

    def test_what_stays_away_too_long_fails_all(self, server, options):
        with airflow_factory(**options, api_down_limit_s=0.5)() as executor:
            assert executor.submit(pow, 2, 3).result(LONG_S) == 8
            server.wrong += [("", 500)] * 1000
            futures = [executor.submit(pow, 2, x) for x in range(10)]
            errors = [future.exception(LONG_S) for future in futures]
            assert all("api_down_limit_s=0.5" in str(error) for error in errors)
            server.wrong.clear()
            assert executor.submit(pow, 2, 3).result(LONG_S) == 8

    def test_an_outcome_is_taken_while_the_api_is_away(self, server, executor, tmp_path):
        go = tmp_path / "go"
        future = executor.submit(support.wait_for_file, go)
        support.wait_until(lambda: any("~" in line for line in server.asked))
        server.wrong += [("", 500)] * 1000
        support.write_atomically(go, "went")
        assert future.result(LONG_S) == "went"
        server.wrong.clear()


class TestLostRuns:
    def test_what_never_began_is_triggered_again(self, server, executor):
        server.does_run = lambda run_id: run_id.endswith("__again1")
        assert executor.submit(pow, 2, 3).result(LONG_S) == 8
        assert len(server.runs) == 2

    def test_what_failed_on_its_way_to_begin_is_triggered_again(self, server, executor):
        start = server.start_run

        def fail_first(run_id, conf):
            server.start_run = start
            server.runs[run_id] = {"state": "failed", "start_date": "2030-01-01T00:00:00Z"}

        server.start_run = fail_first
        assert executor.submit(pow, 2, 3).result(LONG_S) == 8
        assert len(server.runs) == 2

    def test_but_not_for_ever(self, server, executor):
        server.does_run = lambda _run_id: False
        error = executor.submit(pow, 2, 3).exception(LONG_S)
        assert isinstance(error, ExecutorError)
        assert "3 times before it started" in str(error)

    def test_a_run_that_somebody_deletes_is_lost(self, server, executor):
        server.start_run = lambda _run_id, _conf: None
        error = executor.submit(pow, 2, 3).exception(LONG_S)
        assert isinstance(error, WorkerDiedError)
        assert error.state == "deleted"

    def test_a_task_without_an_outcome_tells_its_log(self, server, executor):
        def end(run_id, conf):
            airflow_dag.Files(conf["folder"], conf["number"]).write("started", b"{}\n")
            server.runs[run_id] = {"state": "failed", "start_date": "2030-01-01T00:00:00Z"}

        server.start_run = end
        error = executor.submit(pow, 2, 3).exception(LONG_S)
        assert isinstance(error, WorkerDiedError)
        assert (error.signal_name, error.log_lines) == ("SIGKILL", ["it ended by SIGKILL"])


class TestTheDag:
    def test_it_is_unpaused(self, server, executor):
        assert executor.submit(pow, 2, 3).result(LONG_S) == 8
        assert not server.is_paused

    def test_one_of_another_version_is_refused(self, server, executor):
        server.tags = ["amltk-format-0"]
        error = executor.submit(pow, 2, 3).exception(LONG_S)
        assert "install it again" in str(error)

    def test_one_that_comes_late_is_waited_for(self, server, executor):
        server.wrong += [("GET /api/v2/dags/amltk_call", 404)]
        assert executor.submit(pow, 2, 3).result(LONG_S) == 8


class TestSignatures:
    def test_the_same_secret_works(self, options, monkeypatch):
        monkeypatch.setenv("AMLTK_AIRFLOW_SECRET", "s")
        with airflow_factory(**options)() as executor:
            assert executor.submit(pow, 2, 3).result(LONG_S) == 8

    def test_a_call_without_it_is_not_unpickled(self, options, monkeypatch, tmp_path):
        monkeypatch.setenv("AMLTK_AIRFLOW_SECRET", "s")
        with airflow_factory(**options, secret="")() as executor:
            error = executor.submit(support.note_and_return, tmp_path, "x").exception(LONG_S)
        assert "signature" in str(error)
        assert not list(tmp_path.glob("x-*"))

    def test_an_outcome_without_it_is_not_unpickled(self, options):
        with airflow_factory(**options, secret="s")() as executor:
            error = executor.submit(pow, 2, 3).exception(LONG_S)
        assert "signature" in str(error)


class TestEnding:
    def test_what_waits_is_cancelled_while_the_api_is_away(self, server, options):
        server.wrong += [("", 500)] * 1000
        with airflow_factory(**options, max_workers=1)() as executor:
            futures = [executor.submit(pow, 2, x) for x in range(5)]
            assert all(future.cancel() for future in futures)
            support.wait_until(lambda: all(future.cancelled() for future in futures))

    def test_what_was_triggered_is_cancelled_while_the_api_is_away(self, server, options):
        server.start_run = lambda run_id, _conf: server.runs.update({run_id: {"state": "running"}})
        with airflow_factory(**options)() as executor:
            futures = [executor.submit(pow, 2, x) for x in range(3)]
            support.wait_until(lambda: len(server.runs) == 3)
            server.wrong += [("", 500)] * 1000
            assert all(future.cancel() for future in futures)
            support.wait_until(lambda: all(future.cancelled() for future in futures))

    def test_calls_may_end_before_a_shutdown_that_waits_for_nothing(self, options):
        executor = airflow_factory(**options)()
        future = executor.submit(pow, 2, 3)
        executor.shutdown(wait=False)
        assert future.result(LONG_S) == 8

    def test_runs_are_deleted_if_asked(self, server, options):
        with airflow_factory(**options, keep_runs=False)() as executor:
            executor.submit(pow, 2, 3).result(LONG_S)
        assert [line for line in server.asked if line.startswith("DELETE")]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:80", True),
        ("http://localhost", True),
        ("http://[::1]:8080", True),
        ("https://airflow.example.org", False),
        ("http://10.0.0.1", False),
    ],
)
def test_proxies_are_not_for_this_machine(url, expected):
    assert is_loopback(url) is expected
    assert time.monotonic() > 0
