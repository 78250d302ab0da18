import sys
import threading
from pathlib import Path

import pytest
import support

from amltk.exceptions import CallPicklingError
from amltk.executors.travel.envelope import PortableFunction, unpack_outcome
from amltk.executors.travel.shelf import LARGE_BYTES, Shelf, run_shelved


@pytest.fixture
def shelf():
    shelf = Shelf(has_script=False)
    yield shelf
    shelf.close()


def run(shelved):
    return unpack_outcome(run_shelved(*shelved.arguments))


def files(shelf):
    return [path for path in shelf.folder.iterdir() if not path.name.startswith(".")]


def test_a_function_is_one_file_for_all_its_calls(shelf):
    function = PortableFunction(support.double)
    calls = [shelf.pack(function, (number,), {}) for number in range(3)]

    assert [run(call) for call in calls] == [(True, 0), (True, 2), (True, 4)]
    assert len(files(shelf)) == 1


def test_a_large_argument_is_a_file_and_its_calls_are_small(shelf):
    call = shelf.pack(len, (bytes(LARGE_BYTES),), {})

    assert run(call) == (True, LARGE_BYTES)
    assert len(call.arguments[0]) < 1000
    assert len(files(shelf)) == 2


def test_of_what_no_call_needs_only_a_few_files_stay(shelf):
    for number in range(20):
        shelf.pack(len, (bytes(LARGE_BYTES + number),), {}).release()

    assert len(files(shelf)) == 4


def test_a_file_that_is_put_again_while_it_is_let_go_is_there(shelf):
    blobs = [bytes(LARGE_BYTES + number) for number in range(12)]
    missing = []

    def pack_and_release():
        for number in range(200):
            call = shelf.pack(len, (blobs[number % 12],), {})
            missing.extend(path for path in call.arguments[1:] if not Path(path).exists())
            call.release()

    threads = [threading.Thread(target=pack_and_release) for _ in range(3)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)

    assert missing == []


def test_a_closed_one_leaves_no_folder(shelf):
    shelf.pack(len, ("a",), {})
    shelf.close()

    assert not shelf.folder.exists()


def test_a_file_that_is_gone_is_that_calls_failure(shelf):
    call = shelf.pack(lambda: 1, (), {})
    shelf.close()
    returned, error = run(call)

    assert not returned
    assert "No such file" in str(error)


def test_what_cannot_be_sent_is_named(shelf, tmp_path):
    with (
        (tmp_path / "open").open("w") as file,
        pytest.raises(CallPicklingError, match="argument 1"),
    ):
        shelf.pack(len, (file,), {})
