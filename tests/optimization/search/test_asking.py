"""Calling an optimizer in a thread of its own."""

import threading

import pytest
import support
import trials

from amltk.optimization import Trial, asking
from amltk.optimization.search.asking import Asker, ThreadedAsker


class Hearer:
    """Writes down what it is told."""

    def __init__(self):
        self.heard = []

    def asked(self, trial):
        self.heard.append(("asked", trial.name))

    def exhausted(self, error):
        self.heard.append(("exhausted", str(error)))

    def told(self, report):
        self.heard.append(("told", report.name))

    def forgotten(self, trial):
        self.heard.append(("forgotten", trial.name))

    def failed(self, error):
        self.heard.append(("failed", repr(error), *error.__notes__))


class Optimizer(trials.Counter):
    """Notes the order of its calls, takes the time that it is told to, and may be held up."""

    def __init__(self, clock=None, *, ask_s=0.0, tell_s=0.0):
        super().__init__()
        self.clock = clock
        self.cost = {"ask": ask_s, "tell": tell_s}
        self.calls = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.entered = threading.Event()

    def _call(self, what):
        self.entered.set()
        assert self.go_on.wait(20)
        if self.clock is not None:
            self.clock.now += self.cost[what]
        self.calls.append(what)

    def ask(self):
        self._call("ask")
        return super().ask()

    def tell(self, report):
        self._call("tell")
        super().tell(report)


class Clock:
    now = 0.0

    def perf_counter(self):
        return self.now

    monotonic = perf_counter


def report_of(name):
    trial = Trial(name, {"x": 1})
    with trial.begin():
        pass
    return trial.success(loss=1)


@pytest.fixture
def hearer():
    return Hearer()


@pytest.fixture
def threaded(hearer):
    """Make askers with threads, all of which are closed after the test."""
    made = []

    def make(optimizer, *, in_order=True, deliver=lambda say, what: say(what)):
        asker = ThreadedAsker(optimizer, hearer, deliver=deliver, in_order=in_order)
        made.append(asker)
        return asker

    yield make
    for asker in made:
        asker.close(patience_s=0, last_call_s=20)


def queue_up(asker, optimizer, n_tells, n_wanted):
    """Have an asker meet tells and asks at once."""
    optimizer.go_on.clear()
    optimizer.entered.clear()
    asker.tell(report_of("first"))
    assert optimizer.entered.wait(20)
    asker.want(n_wanted)
    for number in range(n_tells):
        asker.tell(report_of(f"t{number}"))
    optimizer.go_on.set()
    support.wait_until(lambda: len(optimizer.calls) == 1 + n_tells + n_wanted)
    return "".join(call[0] for call in optimizer.calls)


def test_it_asks_and_tells_in_its_own_thread_and_has_the_hearer_told(threaded, hearer):
    threads = []
    optimizer = trials.Counter()
    asker = threaded(
        optimizer, deliver=lambda say, what: (threads.append(threading.current_thread()), say(what))
    )
    asker.want(2)
    asker.tell(report_of("a"))
    asker.forget(Trial("b", {}))
    support.wait_until(lambda: len(hearer.heard) == 4)
    assert sorted(hearer.heard) == [
        ("asked", "count-0"), ("asked", "count-1"), ("forgotten", "b"), ("told", "a")
    ]  # fmt: skip
    assert {t.name for t in threads} == {"amltk-optimizer"}


def test_without_a_thread_it_does_so_at_once(hearer):
    asker = Asker(trials.Counter(limit=1), hearer)
    asker.want(2)
    asker.tell(report_of("a"))
    asker.forget(Trial("b", {}))
    assert hearer.heard == [
        ("asked", "count-0"), ("exhausted", "only 1 trials"), ("told", "a"), ("forgotten", "b")
    ]  # fmt: skip


def test_a_trial_knows_how_many_reports_had_been_told_when_it_was_asked_for(hearer):
    trials_seen = []
    hearer.asked = trials_seen.append
    asker = Asker(trials.Counter(), hearer)
    asker.want(1)
    asker.tell(report_of("a"))
    asker.tell(report_of("b"))
    asker.want(1)
    assert [trial.n_told for trial in trials_seen] == [0, 2]


def test_reports_are_told_in_their_order(threaded):
    optimizer = Optimizer()
    asker = threaded(optimizer)
    queue_up(asker, optimizer, 20, 0)
    assert [report.name for report in optimizer.told] == ["first", *(f"t{n}" for n in range(20))]


def test_in_order_all_tells_come_before_the_next_ask(threaded):
    optimizer = Optimizer()
    assert queue_up(threaded(optimizer), optimizer, 4, 3) == "t" + "tttt" + "aaa"


def test_slow_tells_do_not_hold_up_quick_asks(threaded, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(asking, "time", clock)
    optimizer = Optimizer(clock, ask_s=0.01, tell_s=0.5)
    assert (
        queue_up(threaded(optimizer, in_order=False), optimizer, 4, 8) == "t" + "aaaaaaaa" + "tttt"
    )


def test_slow_asks_do_not_put_off_quick_tells(threaded, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(asking, "time", clock)
    optimizer = Optimizer(clock, ask_s=0.5, tell_s=0.01)
    assert (
        queue_up(threaded(optimizer, in_order=False), optimizer, 6, 2) == "t" + "a" + "tttttt" + "a"
    )


def test_where_both_are_slow_they_take_turns(threaded, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(asking, "time", clock)
    optimizer = Optimizer(clock, ask_s=0.5, tell_s=0.5)
    assert queue_up(threaded(optimizer, in_order=False), optimizer, 4, 4) == "t" + "atatatat"


@pytest.mark.parametrize("what", ["ask", "tell", "forget"])
@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_what_the_optimizer_raises_is_handed_on_and_says_where(threaded, hearer, what, kind):
    optimizer, error = trials.Counter(), kind("no")

    def fail(*_args):
        raise error

    setattr(optimizer, what, fail)
    asker = threaded(optimizer)
    {"ask": lambda: asker.want(1), "tell": lambda: asker.tell(report_of("a")),
     "forget": lambda: asker.forget(Trial("a", {}))}[what]()  # fmt: skip
    support.wait_until(lambda: hearer.heard)
    said, text, note = hearer.heard[0]
    assert (said, text) == ("failed", repr(error))
    assert note.startswith(f"raised by {what}")


def test_it_goes_on_after_the_optimizer_has_raised(threaded, hearer):
    optimizer = trials.Counter()
    optimizer.tell = lambda _report: 1 / 0
    asker = threaded(optimizer)
    asker.tell(report_of("a"))
    asker.want(1)
    support.wait_until(lambda: len(hearer.heard) == 2)
    assert hearer.heard[1] == ("asked", "count-0")


def test_closing_tells_what_is_left(threaded):
    optimizer = Optimizer()
    asker = threaded(optimizer)
    for number in range(50):
        asker.tell(report_of(f"t{number}"))
    assert asker.close(patience_s=20, last_call_s=20) == 0
    assert len(optimizer.told) == 50


def test_closing_without_patience_says_how_many_were_not_told(threaded):
    optimizer = Optimizer()
    optimizer.go_on.clear()
    asker = threaded(optimizer)
    for number in range(5):
        asker.tell(report_of(f"t{number}"))
    assert optimizer.entered.wait(20)
    threading.Timer(0.05, optimizer.go_on.set).start()
    assert asker.close(patience_s=0, last_call_s=20) == 4


def test_closing_does_not_wait_for_ever_for_an_optimizer_that_hangs_and_says_so(threaded, caplog):
    optimizer = Optimizer()
    optimizer.go_on.clear()
    asker = threaded(optimizer)
    asker.tell(report_of("a"))
    assert optimizer.entered.wait(20)
    assert asker.close(patience_s=0, last_call_s=0.05) == 1
    optimizer.go_on.set()
    assert "has not come back from a call" in caplog.text


def test_a_trial_that_nobody_can_take_any_more_is_forgotten(threaded):
    def refuse(_say, _what):
        raise RuntimeError("over")

    optimizer = trials.Counter()
    asker = threaded(optimizer, deliver=refuse)
    asker.want(2)
    support.wait_until(lambda: optimizer.n_asked == 2)
    asker.close(patience_s=5, last_call_s=20)
    assert [trial.name for trial in optimizer.forgotten] == ["count-0", "count-1"]


def test_what_goes_wrong_when_nobody_listens_any_more_is_logged(threaded, caplog):
    def refuse(_say, _what):
        raise RuntimeError("over")

    optimizer = trials.Counter()
    optimizer.tell = lambda _report: 1 / 0
    asker = threaded(optimizer, deliver=refuse)
    asker.tell(report_of("a"))
    asker.close(patience_s=5, last_call_s=20)
    assert "failed when the run was over" in caplog.text
    assert "ZeroDivisionError" in caplog.text
