import copy
import pickle

import pytest
import runs

from amltk import Scheduler, Task
from amltk.exceptions import CallPicklingError


class Experiment:
    """The commonest mistake: a method of what holds its scheduler."""

    def __init__(self):
        self.scheduler = Scheduler.with_processes(1)
        self.task = Task(self.train, self.scheduler)

    def train(self, x):
        return x


def test_a_method_of_what_holds_its_scheduler_is_told_so():
    experiment = Experiment()
    (future,) = runs.run_calls(experiment.task, (1,), end_on_exception=False)

    with pytest.raises(
        CallPicklingError, match=r"Experiment\.train.*Scheduler stays in the driver"
    ):
        future.result(0)


@pytest.mark.parametrize("make", [lambda s: s, lambda s: Task(abs, s)], ids=["scheduler", "task"])
def test_it_cannot_be_pickled(make):
    with pytest.raises(TypeError, match=r"stays in the driver.*plain values"):
        pickle.dumps(make(Scheduler.with_threads(1)))


def test_a_shallow_copy_shares_what_it_has():
    task = Task(abs, Scheduler.with_threads(1))

    assert copy.copy(task).event_manager is task.event_manager
