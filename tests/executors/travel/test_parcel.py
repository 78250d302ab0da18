import pickle

import pytest
import support

from amltk.exceptions import CallPicklingError, CallUnpicklingError
from amltk.executors.travel.envelope import PortableFunction, unpack_outcome
from amltk.executors.travel.parcel import Held, pack_parcel, run_parcel

BIG = b"x" * 5000
LARGE = 1000


def run(parcel):
    return unpack_outcome(run_parcel(parcel.payload, *parcel.blobs.values()))


def test_a_small_call_has_no_blobs():
    parcel = pack_parcel(support.add, (1,), {"y": 2})

    assert not parcel.blobs
    assert run(parcel) == (True, 3)


def test_large_arguments_travel_apart_and_arrive_at_their_places():
    parcel = pack_parcel(
        lambda a, b, *, c, d: (a, b, c, d),
        (1, BIG),
        {"c": [BIG], "d": 4},
        large=LARGE,
    )

    assert len(parcel.blobs) == 2
    assert len(parcel.payload) < LARGE
    assert run(parcel) == (True, (1, BIG, [BIG], 4))


def test_the_same_argument_twice_is_one_blob_and_two_copies():
    parcel = pack_parcel(lambda a, b: (a == b, a is b), ([BIG], [BIG]), {}, large=LARGE)

    assert len(parcel.blobs) == 1
    assert run(parcel) == (True, (True, False))


def test_an_argument_changed_between_two_calls_is_another_blob():
    data = [BIG]
    first = pack_parcel(len, (data,), {}, large=LARGE)
    data.append(1)
    second = pack_parcel(len, (data,), {}, large=LARGE)

    assert set(first.blobs) != set(second.blobs)
    assert run(second) == (True, 2)


def test_a_function_that_holds_on_to_something_large_travels_apart_too():
    data = [BIG]
    first = pack_parcel(PortableFunction(lambda x: (x, len(data))), (1,), {}, large=LARGE)

    assert len(first.payload) < LARGE
    assert run(first) == (True, (1, 1))


def test_many_small_arguments_stay_together():
    assert not pack_parcel(max, tuple(range(2000)), {}, large=LARGE).blobs


def test_a_portable_function_travels_as_its_bytes():
    parcel = pack_parcel(PortableFunction(len), (BIG,), {}, large=LARGE)

    assert run(parcel) == (True, len(BIG))


def test_what_cannot_be_pickled_is_named():
    with pytest.raises(CallPicklingError, match="argument 2"):
        pack_parcel(support.add, (BIG, (i for i in range(3))), {}, large=LARGE)


def test_a_blob_that_cannot_be_read_fails_the_call():
    parcel = pack_parcel(len, (BIG,), {}, large=LARGE)

    returned, error = unpack_outcome(run_parcel(parcel.payload, b"no pickle"))

    assert not returned
    assert isinstance(error, CallUnpicklingError)


def test_a_missing_blob_fails_the_call():
    parcel = pack_parcel(len, (BIG,), {}, large=LARGE)

    assert isinstance(unpack_outcome(run_parcel(parcel.payload))[1], CallUnpicklingError)


class Store:
    """Notes what is put and dropped."""

    def __init__(self):
        self.put, self.dropped = [], []
        self.held = Held(self._put, self.dropped.append, kept=1)

    def _put(self, digest, blob):
        self.put.append(pickle.loads(blob))
        return digest


def parcel_of(text):
    return pack_parcel(len, (text * LARGE,), {}, large=LARGE)


def test_a_blob_is_put_once_for_calls_that_share_it():
    store, parcel = Store(), parcel_of("a")

    handles = [store.held.take(parcel) for _ in range(20)]

    assert len(store.put) == 1
    assert handles == [list(parcel.blobs)] * 20


def test_a_blob_in_use_is_never_dropped():
    store, used = Store(), parcel_of("a")
    store.held.take(used)
    for text in "bcd":
        store.held.take(parcel_of(text))
        store.held.release(parcel_of(text))

    assert set(store.dropped).isdisjoint(used.blobs)
    assert len(store.dropped) == 2


def test_the_blobs_used_last_are_kept_for_the_next_call():
    store, parcel = Store(), parcel_of("a")
    for _ in range(3):
        store.held.take(parcel)
        store.held.release(parcel)

    assert len(store.put) == 1
    assert not store.dropped


def test_clear_drops_everything_and_a_late_release_is_harmless():
    store, parcel = Store(), parcel_of("a")
    store.held.take(parcel)

    store.held.clear()
    store.held.release(parcel)

    assert store.dropped == list(parcel.blobs)


def test_a_put_that_fails_leaves_nothing_counted():
    def fail(_digest, _blob):
        raise OSError("full")

    held = Held(fail)

    with pytest.raises(OSError, match="full"):
        held.take(parcel_of("a"))
    held.release(parcel_of("a"))
