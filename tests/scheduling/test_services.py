"""Services: one of each key in a run, closed when it ends."""

import threading

import pytest
import support

from amltk import Scheduler, Task
from amltk.exceptions import SchedulerNotRunningError


class Noted:
    def __init__(self, access, notes, fails=False):
        self.access, self.notes, self.fails = access, notes, fails
        notes.append("made")

    def close(self):
        self.notes.append(("closed", threading.get_ident() == self.access.thread_id))
        if self.fails:
            raise OSError("stuck")


def test_one_is_made_for_each_key_and_closed_before_the_run_is_over(sequential):
    notes = []
    found = []

    @sequential.on_start
    def use():
        found.extend(sequential.service(key, lambda a: Noted(a, notes)) for key in "aab")

    sequential.on_finished(lambda: notes.append("finished"))
    sequential.run()
    assert found[0] is found[1] is not found[2]
    assert notes == ["made", "made", ("closed", True), ("closed", True), "finished"]


def test_the_one_that_was_made_last_is_closed_first(sequential):
    closed = []

    class Named:
        def __init__(self, name):
            self.close = lambda: closed.append(name)

    for name in "abc":
        sequential.on_start(lambda name=name: sequential.service(name, lambda _: Named(name)))
    sequential.on_start(lambda: sequential.service("a", None))  # asking again changes nothing
    sequential.run()
    assert closed == ["c", "b", "a"]


def test_another_run_has_others(sequential):
    found = []
    sequential.on_start(lambda: found.append(sequential.service("a", lambda a: Noted(a, []))))
    sequential.run()
    sequential.run()
    assert found[0] is not found[1]


def test_without_a_run_there_are_none(sequential):
    with pytest.raises(SchedulerNotRunningError):
        sequential.service("a", lambda a: Noted(a, []))


def test_one_that_cannot_be_closed_is_an_error_of_the_run_and_the_others_are_closed(sequential):
    notes = []
    for fails in (False, True, False):
        key = object()
        sequential.on_start(
            lambda key=key, fails=fails: sequential.service(key, lambda a: Noted(a, notes, fails)),
            name=str(id(key)),
        )
    with pytest.raises(ExceptionGroup, match="could not be closed"):
        sequential.run()
    assert notes.count(("closed", True)) == 3


@pytest.mark.parametrize("post", ["post", "post_here"])
def test_what_it_posts_is_done_in_the_thread_of_the_loop(post):
    scheduler = Scheduler.with_threads(1)
    task = Task(support.double, scheduler)
    seen = []

    @scheduler.on_start
    def begin():
        access = scheduler.service("a", lambda a: Noted(a, [])).access
        done = lambda x, y: seen.append((x, y, access.in_loop()))  # noqa: E731
        put = getattr(access, post)
        if post == "post":
            threading.Thread(target=put, args=(done, 1, 2)).start()
        else:
            access.loop.call_soon(put, done, 1, 2)
        task(1)

    task.on_returned(lambda: seen.append("returned"))
    scheduler.on_finishing(lambda: seen.append("finishing"))
    scheduler.run()
    assert (1, 2, True) in seen
