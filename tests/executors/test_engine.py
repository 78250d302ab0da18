import threading
import time
from concurrent.futures import Executor, Future

import pytest
import support

from amltk.exceptions import CallPicklingError, InvalidOptionError
from amltk.executors.engine import Ending, Engine
from amltk.executors.traits import Traits
from amltk.executors.travel.envelope import PortableFunction, run_packed
from amltk.testing import ManualExecutor


def submit(engine, function=support.double, *args):
    return engine.submit(PortableFunction(function), args, {})


class Optional(ManualExecutor):
    """Takes options for single calls."""

    def with_options(self, **options):
        view = ManualExecutor()
        view.options = options
        return view


class TestOptions:
    def test_an_executor_that_takes_options_gives_a_view(self):
        engine = Engine(Optional(), Traits(pickles=False))
        view = engine.with_options({"num_cpus": 2})
        engine.submit(PortableFunction(support.double), (2,), {}, view)
        assert view.options == {"num_cpus": 2}
        assert len(view.calls) == 1
        assert not engine.executor.calls

    def test_any_other_refuses_them_by_name(self, manual):
        with pytest.raises(
            InvalidOptionError, match=r"ManualExecutor takes no options.*num_cpus"
        ) as it:
            Engine(manual, Traits()).with_options({"num_cpus": 2})
        assert it.value.option == "num_cpus"


class TestSubmit:
    def test_where_memory_is_shared_the_function_itself_is_called(self, manual):
        submit(Engine(manual, Traits(pickles=False)), support.double, 2)
        call = manual.calls[0]
        assert (call.function, call.args) == (support.double, (2,))

    def test_an_executor_that_packs_gets_the_portable_function(self, manual):
        function = PortableFunction(support.double)
        Engine(manual, Traits(packs_itself=True)).submit(function, (2,), {"y": 1})
        call = manual.calls[0]
        assert (call.function, call.args, call.kwargs) == (function, (2,), {"y": 1})

    def test_any_other_gets_bytes(self, manual):
        engine = Engine(manual, Traits())
        inner = submit(engine, support.double, 2)
        assert manual.calls[0].function is run_packed
        assert [type(argument) for argument in manual.calls[0].args] == [bytes]
        manual.finish_all()
        assert type(inner.result(0)) is bytes
        assert engine.outcome_of(inner) == (Ending.RETURNED, 4)

    def test_what_cannot_be_pickled_has_failed_and_never_reaches_the_executor(self, manual):
        engine = Engine(manual, Traits())
        ending, error = engine.outcome_of(submit(engine, support.double, threading.Lock()))
        assert ending is Ending.RAISED
        assert isinstance(error, CallPicklingError)
        assert manual.calls == []

    def test_what_the_executor_raises_is_raised(self, manual):
        engine = Engine(manual, Traits())
        engine.close(wait=True)
        with pytest.raises(RuntimeError, match="shut down"):
            submit(engine, support.double, 1)


@pytest.mark.parametrize("traits", [Traits(), Traits(pickles=False), Traits(packs_itself=True)])
class TestOutcome:
    def test_a_result(self, manual, traits):
        engine = Engine(manual, traits)
        inner = submit(engine, support.double, 4)
        manual.finish_all()
        assert engine.outcome_of(inner) == (Ending.RETURNED, 8)

    def test_an_exception(self, manual, traits):
        engine = Engine(manual, traits)
        inner = submit(engine, support.fail, "broken")
        manual.finish_all()
        ending, error = engine.outcome_of(inner)
        assert (ending, type(error), str(error)) == (Ending.RAISED, ValueError, "broken")

    def test_an_exception_of_the_executor(self, manual, traits):
        engine, lost = Engine(manual, traits), OSError("lost")
        inner = submit(engine)
        manual.calls[0].fail(lost)
        assert engine.outcome_of(inner) == (Ending.RAISED, lost)

    def test_a_cancelled_call(self, manual, traits):
        engine = Engine(manual, traits)
        inner = submit(engine)
        inner.cancel()
        assert engine.outcome_of(inner) == (Ending.CANCELLED, None)


class TestCancel:
    def test_a_call_that_waits_is_cancelled(self, manual):
        engine = Engine(manual, Traits())
        inners = [submit(engine), submit(engine)]
        assert engine.cancel(inners[0])
        assert engine.cancel_pending(inners[1])
        assert all(inner.cancelled() for inner in inners)

    def test_a_running_call_is_not(self, manual):
        engine = Engine(manual, Traits())
        inner = submit(engine)
        manual.calls[0].start()
        assert not engine.cancel(inner)
        assert not engine.cancel_pending(inner)
        assert inner.running()

    def test_an_executor_that_does_not_tell_what_started_is_not_asked(self, manual):
        engine = Engine(manual, Traits(tells_started=False))
        inner = submit(engine)
        assert not engine.cancel(inner)
        assert not engine.cancel_pending(inner)
        assert not inner.done()

    def test_where_cancel_ends_running_calls_only_waiting_ones_are_cancelled_as_pending(self):
        class Ends(Executor):
            def submit(self, *_args, **_kwargs):
                future = Future()
                future.cancel_pending = lambda: False
                return future

        engine = Engine(Ends(), Traits(ends_running_calls=True))
        inner = submit(engine)
        assert not engine.cancel_pending(inner)
        assert not inner.cancelled()
        assert engine.cancel(inner)


class TestEndCalls:
    @pytest.mark.parametrize(
        ("traits", "terminator", "can"),
        [
            (Traits(), None, False),
            (Traits(ends_running_calls=True), None, True),
            (Traits(), lambda *_: None, True),
        ],
    )
    def test_it_says_whether_it_can(self, manual, traits, terminator, can):
        assert Engine(manual, traits, terminator).can_end_calls is can

    def test_a_terminator_ends_all_of_them(self, manual):
        asked = []

        def end(executor, grace_s):
            asked.append((executor, grace_s))
            for call in executor.waiting:
                call.fail(OSError("ended"))

        engine = Engine(manual, Traits(), end)
        inners = [submit(engine), submit(engine)]
        engine.end_calls(inners, 1.5)
        assert asked == [(manual, 1.5)]
        assert all(inner.done() for inner in inners)

    def test_they_are_cancelled_one_by_one_where_that_ends_them(self, manual):
        engine = Engine(manual, Traits(ends_running_calls=True), lambda *_: pytest.fail("asked"))
        inners = [submit(engine, support.double, x) for x in range(3)]
        manual.calls[1].finish()
        begun = time.monotonic()
        engine.end_calls(inners, 0.0)
        assert time.monotonic() - begun < 2
        assert [inner.cancelled() for inner in inners] == [True, False, True]

    def test_close_shuts_the_executor_down(self, manual):
        Engine(manual, Traits()).close(wait=False)
        assert manual.is_shut_down
