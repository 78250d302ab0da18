"""What is decided of the calls of a broken pool, and the traces it is decided from."""

import os
import pickle
import signal
from concurrent.futures import BrokenExecutor, Executor, Future
from concurrent.futures.process import _ResultItem
from types import SimpleNamespace

import pytest
import support

from amltk.exceptions import WorkerDiedError
from amltk.executors.recovery.breakable import Workers, maker_of, spare_cancelled
from amltk.executors.recovery.generation import Call, Generation
from amltk.executors.recovery.marks import (
    KEPT_BYTES,
    N_SLOTS,
    PIPE_BYTES,
    Marks,
    outcome_path,
    read_marks,
    read_outcome,
    run_marked,
)
from amltk.executors.recovery.salvage import keep_pipe, salvage
from amltk.executors.recovery.verdict import MAX_SUSPICIONS, judge
from amltk.executors.travel.envelope import unpack_outcome
from amltk.executors.travel.parcel import pack_parcel


def packed(function, *args):
    return pack_parcel(function, args, {}).payload


@pytest.fixture
def broken(monkeypatch):
    """Return a broken pool whose calls 1 to 3 are lost, with marks for a test to set."""
    generation = Generation(Executor(), is_ours=False, has_marks=True, packs=True)
    generation.lost = {n: Call(n, support.double, (), bool) for n in (3, 1, 2)}
    for call in generation.lost.values():
        call._breakage = BrokenExecutor("snapped")
    generation.found = Marks()
    monkeypatch.setattr(generation, "marks", lambda: generation.found)
    yield generation
    generation.close(wait=True)


def verdicts(broken):
    return {call._number: verdict for call, verdict in judge(broken)}


def test_what_left_no_mark_runs_again_in_order(broken):
    assert list(verdicts(broken).items()) == [(1, None), (2, None), (3, None)]


def test_a_call_in_a_dead_worker_is_the_culprit_and_its_neighbour_is_not(broken):
    broken.found = Marks(running={1: 77, 2: 78})
    broken.workers.dead = {77: -signal.SIGSEGV}
    found = verdicts(broken)
    assert found[1].signal_name == "SIGSEGV"
    assert str(found[1].__cause__) == "snapped"
    assert found[2] is None


def test_a_call_that_ended_has_its_outcome_or_an_error(broken):
    broken.found = Marks(ended={1: 77, 2: 78}, outcomes={1: b"outcome"})
    broken.workers.dead = {78: -signal.SIGKILL}
    found = verdicts(broken)
    assert found[1] == b"outcome"
    assert "its result was lost" in str(found[2])
    assert (found[2].pid, found[2].exit_code, found[2].signal_name) == (78, -9, "SIGKILL")


def test_a_suspect_runs_again_only_so_often(broken):
    broken.found = Marks(running={1: 77})
    found = [verdicts(broken)[1] for _ in range(MAX_SUSPICIONS)]
    assert found[:-1] == [None] * (MAX_SUSPICIONS - 1)
    assert isinstance(found[-1], WorkerDiedError)
    assert f"in each of {MAX_SUSPICIONS} pools" in str(found[-1])


def test_nobody_is_suspected_where_the_culprit_is_known(broken):
    broken.found = Marks(running={1: 77, 2: 78})
    broken.workers.dead = {77: 1}
    assert [verdicts(broken)[2] for _ in range(MAX_SUSPICIONS)] == [None] * MAX_SUSPICIONS


def test_marks_tell_what_ended_and_what_runs(tmp_path):
    _, outcome = run_marked(str(tmp_path), 1, packed(support.double, 4))
    assert unpack_outcome(outcome) == (True, 8)
    marks = read_marks(tmp_path)
    assert marks.ended == {1: os.getpid()}
    assert marks.running == {}
    assert unpack_outcome(marks.outcomes[1]) == (True, 8)


def read_marks_of(folder):
    return read_marks(folder).running


def test_a_running_call_is_marked_as_such(tmp_path):
    _, outcome = run_marked(str(tmp_path), 9, packed(read_marks_of, tmp_path))
    assert unpack_outcome(outcome) == (True, {9: os.getpid()})


def test_only_the_last_calls_are_remembered(tmp_path):
    for number in range(1, N_SLOTS + 11):
        run_marked(str(tmp_path), number, packed(support.double, 1))
    ended = read_marks(tmp_path).ended
    assert len(ended) == N_SLOTS
    assert min(ended) == 11


def test_a_large_outcome_is_a_file_until_it_is_read(tmp_path):
    assert run_marked(str(tmp_path), 1, packed(bytes, KEPT_BYTES)) == (1, None)
    marks = read_marks(tmp_path)
    assert (list(marks.ended), list(marks.outcomes)) == ([1], [1])
    assert unpack_outcome(marks.outcomes[1]) == (True, bytes(KEPT_BYTES))
    assert unpack_outcome(read_outcome(tmp_path, 1)) == (True, bytes(KEPT_BYTES))
    assert list(read_marks(tmp_path).outcomes) == []


def test_an_outcome_that_a_pipe_takes_at_once_is_no_file(tmp_path):
    _, outcome = run_marked(str(tmp_path), 1, packed(bytes, PIPE_BYTES - 200))
    assert unpack_outcome(outcome) == (True, bytes(PIPE_BYTES - 200))
    assert not outcome_path(tmp_path, 1).exists()


def test_where_no_file_can_be_written_a_large_outcome_goes_by_the_pools_pipe(tmp_path):
    outcome_path(tmp_path, 1).with_suffix(".part").mkdir()
    _, outcome = run_marked(str(tmp_path), 1, packed(bytes, KEPT_BYTES))
    assert unpack_outcome(outcome) == (True, bytes(KEPT_BYTES))


def test_a_file_that_is_cut_short_is_passed_over(tmp_path):
    (tmp_path / "123").write_bytes(b"short")
    assert read_marks(tmp_path) == Marks()


def test_a_folder_that_is_gone_has_no_marks(tmp_path):
    _, outcome = run_marked(str(tmp_path / "gone"), 1, packed(support.double, 4))
    assert unpack_outcome(outcome) == (True, 8)
    assert read_marks(tmp_path / "gone") == Marks()


def message(item):
    data = pickle.dumps(item)
    return len(data).to_bytes(4, "big") + data


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_whole_results_are_read_from_a_pipe_and_the_rest_is_left_out(pipe):
    reader, writer = pipe
    results = message(_ResultItem(5, result=(1, b"one"))) + message(4711)
    results += message(_ResultItem(6, result=(2, b"two")))
    os.write(writer, results + message(_ResultItem(7, result=(3, b"three")))[:-5])
    assert salvage(os.dup(reader)) == {1: b"one", 2: b"two"}


def test_a_message_of_more_than_two_gibibytes_has_a_longer_length(pipe):
    reader, writer = pipe
    data = pickle.dumps(_ResultItem(5, result=(1, b"one")))
    os.write(writer, b"\xff\xff\xff\xff" + len(data).to_bytes(8, "big") + data)
    os.write(writer, b"\xff\xff\xff\xff\x00")
    assert salvage(os.dup(reader)) == {1: b"one"}


def test_a_pool_that_is_shut_down_has_no_pipe():
    assert keep_pipe(SimpleNamespace(_result_queue=None)) is None
    assert salvage(None) == {}


def test_only_known_pools_can_be_made_again():
    assert maker_of(Executor()) is None


def test_a_breaking_pool_is_spared_cancelled_futures():
    futures = [Future(), Future()]
    futures[0].cancel()
    items = {n: SimpleNamespace(future=future) for n, future in enumerate(futures)}
    spare_cancelled(SimpleNamespace(_pending_work_items=items))
    assert not items[0].future.cancelled()
    assert items[1].future is futures[1]


def test_seen_too_late_the_dead_are_told_by_how_they_ended():
    codes = {1: -signal.SIGTERM, 2: -signal.SIGKILL, 3: 5, 4: -signal.SIGSEGV}
    processes = {pid: SimpleNamespace(exitcode=code) for pid, code in codes.items()}
    workers = Workers(SimpleNamespace(_processes={}))
    workers._known = processes
    workers.let_end(lambda: True)
    assert workers.dead == {3: 5, 4: -signal.SIGSEGV}
