import functools

import pytest
import support

from amltk.executors.travel.envelope import pack_call, run_packed, unpack_outcome
from amltk.executors.travel.portable import Kept, PortableFunction, Received


def travel(function, *args, **kwargs):
    return unpack_outcome(run_packed(pack_call(function, args, kwargs)))


class Model:
    def __init__(self):
        self.steps = 0

    def fit(self):
        self.steps += 1
        return self.steps

    def __call__(self):
        return self.fit()


def counting():
    count = [0]

    def fit():
        count[0] += 1
        return count[0]

    return fit


def around(function):
    return lambda: function()


def with_default():
    return lambda model=Model(): model.fit()  # noqa: B008 - what is tested


def with_keyword_default():
    def fit(*, model=Model()):  # noqa: B008 - what is tested
        return model.fit()

    return fit


#: What makes a function that counts in its own state.
STATES = {
    "a bound method": lambda: Model().fit,
    "an instance": Model,
    "a partial": lambda: functools.partial(Model.fit, Model()),
    "a partial of a bound method": lambda: functools.partial(Model().fit),
    "a partial with a keyword": lambda: functools.partial(
        lambda *, model: model.fit(), model=Model()
    ),
    "a closure": counting,
    "a function with a default": with_default,
    "a function with a keyword's default": with_keyword_default,
    "a closure around a bound method": lambda: around(Model().fit),
    "a closure around a closure": lambda: around(around(counting())),
    "a method of a builtin": lambda: [1].pop,
}


#: What has no state that a call could change.
STATELESS = {
    "a function": support.add,
    "a builtin": len,
    "a class": Model,
    "a lambda": lambda: 1,
    "a closure around a function": around(support.add),
    "a partial": functools.partial(support.add, 1),
    "a partial with a keyword": functools.partial(support.add, y=(1, "a")),
    "a cached function": functools.cache(support.add),
}


class TestFunctionsWithAState:
    @pytest.mark.parametrize("make", STATES.values(), ids=STATES)
    def test_each_call_has_a_copy(self, make):
        function = PortableFunction(make())

        assert [travel(function) for _ in range(3)] == [(True, 1)] * 3

    def test_distinct_objects_are_distinct_in_a_worker(self):
        assert [travel(Model().fit) for _ in range(3)] == [(True, 1)] * 3

    def test_a_call_has_the_state_of_its_submission(self):
        model = Model()
        function = PortableFunction(model.fit)
        first = pack_call(function, (), {})
        model.steps = 10
        second = pack_call(function, (), {})

        assert [unpack_outcome(run_packed(call)) for call in (first, second)] == [
            (True, 1), (True, 11),
        ]  # fmt: skip

    def test_a_state_that_has_not_changed_is_held_once(self):
        function = PortableFunction(functools.partial(len, bytearray(1000)))

        assert function.wire() is function.wire()


class TestFunctionsWithout:
    @pytest.mark.parametrize("function", STATELESS.values(), ids=STATELESS)
    def test_they_are_packed_once_and_read_once(self, function):
        portable = PortableFunction(function)
        received = Received(portable.wire().data)

        assert portable.wire() is portable.wire()
        assert received.function() is received.function()

    def test_functions_that_differ_have_other_digests(self):
        digests = {PortableFunction(lambda x=x: x).wire().digest for x in range(10)}

        assert len(digests) == 10
        assert {len(digest) for digest in digests} == {16}

    def test_the_same_function_has_the_same_digest(self):
        assert PortableFunction(support.add).wire() == PortableFunction(support.add).wire()

    def test_it_can_be_called_where_it_is(self):
        assert PortableFunction(support.add)(1, y=2) == 3


class TestKept:
    def test_the_one_not_used_for_longest_goes_first(self):
        kept = Kept(2)
        kept.put(b"1", "one", 1)
        kept.put(b"2", "two", 1)
        kept.get(b"1")
        kept.put(b"3", "three", 1)

        assert [kept.get(digest) for digest in (b"1", b"2", b"3")] == ["one", None, "three"]

    def test_putting_one_again_drops_nothing(self):
        kept = Kept(2)
        for digest in (b"1", b"2", b"2", b"1"):
            kept.put(digest, "it", 1)

        assert kept.get(b"1") is kept.get(b"2") == "it"

    def test_what_is_large_leaves_less_room(self):
        kept = Kept(10, most_bytes=100)
        for digest in (b"1", b"2", b"3"):
            kept.put(digest, "it", 40)

        assert [kept.get(digest) for digest in (b"1", b"2", b"3")] == [None, "it", "it"]

    def test_what_is_larger_than_all_room_is_kept_until_the_next_one_comes(self):
        kept = Kept(10, most_bytes=100)
        kept.put(b"1", "it", 1000)
        assert kept.get(b"1") == "it"
        kept.put(b"2", "it", 10)

        assert [kept.get(digest) for digest in (b"1", b"2")] == [None, "it"]
