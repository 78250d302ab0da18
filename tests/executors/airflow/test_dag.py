"""What Airflow's workers do with a call, without Airflow."""

import json
import pickle
import subprocess
import sys

import pytest
import support

from amltk.executors.airflow import dag as airflow_dag
from amltk.executors.airflow.store import Packer, PayloadStore


@pytest.fixture
def store(tmp_path):
    store = PayloadStore(str(tmp_path), "one", {}, "")
    store.open()
    yield store
    store.close()


def put(store, function, *args):
    packed = Packer().pack(function, args, {})
    store.put_call(7, packed)
    return packed


def run(store, tmp_path):
    airflow_dag.run_call(store.folder, 7, str(tmp_path))


class TestRunCall:
    def test_the_outcome_is_there_and_the_start_was_noted(self, store, tmp_path):
        put(store, support.double, 4)
        assert not store.has_started(7)
        run(store, tmp_path)
        assert store.has_started(7)
        assert store.finished() == {7}
        assert store.outcome(7) == (True, 8)

    def test_an_exception_is_written_and_raised(self, store, tmp_path):
        put(store, support.fail, "broken")
        with pytest.raises(ValueError, match="broken"):
            run(store, tmp_path)
        returned, error = store.outcome(7)
        assert not returned
        assert "in fail" in str(error.__cause__)

    def test_large_arguments_travel_apart(self, store, tmp_path):
        data = bytes(2 << 20)
        packed = put(store, lambda data, x: (len(data), x), data, 1)
        assert len(packed.digests) == 1
        run(store, tmp_path)
        assert store.outcome(7) == (True, (2 << 20, 1))

    def test_a_large_argument_that_was_changed_is_refused(self, store, tmp_path):
        packed = put(store, len, bytes(2 << 20))
        (tmp_path / "one" / "blobs" / packed.digests[0]).write_bytes(b"other")
        with pytest.raises(airflow_dag.RefusedError, match="was changed"):
            run(store, tmp_path)

    def test_a_cancelled_call_does_not_begin(self, store, tmp_path):
        put(store, support.note_and_return, tmp_path, "ran")
        store.put_cancel_mark(7)
        with pytest.raises(airflow_dag.RefusedError, match="cancelled before it began"):
            run(store, tmp_path)
        assert not list(tmp_path.glob("ran-*"))

    def test_a_running_call_that_is_cancelled_ends(self, store, tmp_path):
        put(store, support.sleep_for_ever)
        code = f"from amltk.executors import airflow_dag as d; d.run_call({store.folder!r}, 7, {str(tmp_path)!r})"
        script = tmp_path / "task.py"
        script.write_text(code)
        process = support.start_script(script)
        support.wait_until(lambda: store.has_started(7))
        store.put_cancel_mark(7)
        process.communicate(timeout=30)
        assert process.returncode == 1
        assert "cancelled" in str(store.outcome(7)[1])

    @pytest.mark.parametrize(
        ("fact", "value", "match"),
        [
            ("python", "2.7", "pickled by Python 2.7"),
            ("format", 99, "has format 99"),
            ("number", 8, "another one"),
            ("folder", "/elsewhere", "another one"),
        ],
    )
    def test_the_header_is_checked_before_anything_is_unpickled(
        self, store, tmp_path, fact, value, match
    ):
        put(store, support.double, 4)
        path = tmp_path / "one" / "calls" / "7"
        header = json.loads(path.read_bytes().partition(b"\n")[0])
        path.write_bytes(json.dumps({**header, fact: value}).encode() + b"\nno pickle")
        with pytest.raises(airflow_dag.RefusedError, match=match):
            run(store, tmp_path)

    def test_what_is_no_call_is_an_outcome(self, store, tmp_path):
        put(store, support.double, 4)
        path = tmp_path / "one" / "calls" / "7"
        path.write_bytes(path.read_bytes().partition(b"\n")[0] + b"\nno pickle")
        with pytest.raises(pickle.UnpicklingError):
            run(store, tmp_path)
        assert "could not unpickle" in str(store.outcome(7)[1])


class TestRoots:
    @pytest.mark.parametrize(
        ("folder", "roots"),
        [
            ("/store/one", "/store"),
            ("/store/one", "/store/"),
            ("/store/one", "file:///store"),
            ("file:///store/one", "/store"),
            ("s3://bucket/amltk/one", "s3://other, s3://bucket/amltk"),
        ],
    )
    def test_inside(self, folder, roots):
        airflow_dag.require_inside(folder, roots)

    @pytest.mark.parametrize(
        ("folder", "roots"),
        [
            ("/store", "/store"),
            ("/storehouse/one", "/store"),
            ("/store/../etc/one", "/store"),
            ("s3://bucket2/one", "s3://bucket"),
            ("/store/one", "s3://bucket"),
            ("/store/one", " , "),
            ("/store/one", ""),
        ],
    )
    def test_outside(self, folder, roots):
        with pytest.raises(airflow_dag.RefusedError, match="amltk: "):
            airflow_dag.require_inside(folder, roots)

    def test_a_link_does_not_lead_out(self, tmp_path):
        (tmp_path / "store").mkdir()
        (tmp_path / "store" / "out").symlink_to("/etc")
        with pytest.raises(airflow_dag.RefusedError):
            airflow_dag.require_inside(str(tmp_path / "store" / "out"), str(tmp_path / "store"))


def test_it_imports_nothing_of_amltk(tmp_path):
    code = tmp_path / "alone.py"
    with open(airflow_dag.__file__) as file:  # noqa: PTH123
        code.write_text(
            f"import sys\nsys.modules['amltk'] = None\n__name__ = 'amltk.x'\n{after_future(file)}"
        )
    subprocess.run([sys.executable, code], check=True, capture_output=True)


def after_future(file):
    """Return a module's text without the import that has to come first."""
    return file.read().replace("from __future__ import annotations\n", "")
