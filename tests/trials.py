"""Functions of trials and an optimizer, for tests of what is around them."""

import os
import signal

from amltk.exceptions import ExhaustedError
from amltk.optimization import Metric, Trial

LOSS = Metric("loss")


def square(trial):
    """Measure the configuration's x, or end in the way that its "how" says."""
    with trial.begin():
        how = trial.config.get("how")
        if how == "raise inside":
            raise LookupError(f"no {trial.config['x']}")
        loss = float(trial.config["x"]) ** 2
    if how == "raise":
        raise ValueError(f"bad {trial.config['x']}")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "nothing":
        return None
    if how == "fail":
        return trial.fail()
    return trial.success(loss=loss)


class Counter:
    """An optimizer that counts, with what goes wrong at some of its trials."""

    metrics = (LOSS,)

    def __init__(self, limit=None, *, name="count", how=None):
        self.limit = limit
        self.name = name
        self.how = how or {}
        self.n_asked = 0
        self.told = []
        self.forgotten = []

    def ask(self):
        if self.n_asked == self.limit:
            raise ExhaustedError(f"only {self.limit} trials")
        number = self.n_asked
        self.n_asked += 1
        config = {"x": number}
        for every, how in self.how.items():
            if number % every == every - 1:
                config["how"] = how
        return Trial(f"{self.name}-{number}", config)

    def tell(self, report):
        self.told.append(report)

    def forget(self, trial):
        self.forgotten.append(trial)

    @property
    def n_open(self):
        return self.n_asked - len(self.told) - len(self.forgotten)


def use_up(optimizer):
    """Return all configurations, and the error at the end."""
    found = []
    try:
        found.extend(dict(trial.config) for trial in iter(optimizer.ask, None))
    except ExhaustedError as error:
        return found, error
    return found, None
