"""Trials that Optuna proposes: any of its samplers, one objective or several.

::

    ask()     study.ask() ──▶ an Optuna trial ──▶ suggest_…(…) ──▶ Trial
    tell()    success ──▶ COMPLETE with its values        fail, crash ──▶ FAIL
    forget()  ──▶ FAIL
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from amltk._contexts import context
from amltk._optional import require
from amltk.exceptions import ExhaustedError, InvalidOptionError
from amltk.optimization.optimizers._draws import SEEDS, rng_of
from amltk.optimization.optimizers._optuna_space import Refused, suggester
from amltk.optimization.optimizers.base import BaseOptimizer, Proposal
from amltk.optimization.trials.metric import Metric
from amltk.optimization.trials.report import Report, SuccessReport

if TYPE_CHECKING:
    import optuna

    from amltk.optimization.space import SpaceLike

#: So many forbidden configurations in a row, and there are hardly others.
_MOST_REFUSED = 1000


class OptunaOptimizer(BaseOptimizer):
    """Proposes what Optuna proposes, and tells it what became of it.

    ::

        OptunaOptimizer({"lr": (1e-5, 1e-1, "log")}, metrics=Metric("loss"), seed=1)

    Trials that failed, crashed or were cancelled are ``FAIL`` in the study: samplers do not learn
    from them.

    Args:
        space: What is tried out: a mapping, a ``ConfigurationSpace``, or a function that is given
            an ``optuna.Trial``, asks it for values and returns the configuration.
        metrics: What trials are measured by: one objective of the study each.
        sampler: A sampler of Optuna; its default, which is TPE, without one.
        seed: Makes the search with the default sampler repeatable.
        study: A study to go on with, which has a sampler and a storage of its own.
        name: What the names of its trials begin with.

    Raises:
        MissingExtraError: When Optuna is not installed.
        InvalidSpaceError: When the space makes no sense, or has a part that Optuna has not.
        InvalidOptionError: When the study does not fit, or has what is given beside it.
    """

    def __init__(
        self,
        space: SpaceLike | Callable[[optuna.Trial], Mapping[str, Any]],
        *,
        metrics: Metric | Iterable[Metric],
        sampler: optuna.samplers.BaseSampler | None = None,
        seed: int | None = None,
        study: optuna.Study | None = None,
        name: str = "optuna",
    ) -> None:
        super().__init__(metrics, name=name)
        library = require("optuna", extra="optuna", purpose="OptunaOptimizer")
        self._states: Any = library.trial.TrialState
        self._suggest = suggester(space)
        self._rng = rng_of(seed)
        self._is_exhausted = False
        if seed is not None and sampler is not None:
            raise _too_much("seed", seed, "the sampler", "sampler")
        if study is None:
            if sampler is None and seed is not None:
                sampler = library.samplers.TPESampler(seed=seed)
            study = self._new_study(library, sampler)
        elif sampler is not None:
            raise _too_much("sampler", sampler, "the study", "study")
        elif seed is not None:
            raise _too_much("seed", seed, "the study's sampler", "sampler")
        else:
            self._check(study)
        #: The study, for all else that Optuna can do with it.
        self.study: optuna.Study = study

    def propose(self) -> Proposal:
        """Return what is to be tried out next.

        Raises:
            ExhaustedError: When the sampler has nothing left, as that of a grid, or when nearly
                all is forbidden.
        """
        for _ in range(_MOST_REFUSED):
            if self._is_exhausted:
                message = f"the sampler of {self.name!r} has proposed all that there is"
                raise ExhaustedError(message)
            trial = self.study.ask()
            try:
                config = self._suggest(trial)
            except Refused:
                self._refuse(trial)
                continue
            except BaseException:
                self._tell(trial, state=self._states.FAIL)
                raise
            return Proposal(
                config=config,
                seed=self._rng.randrange(SEEDS),
                info={"number": trial.number},
                handle=trial,
            )
        message = (
            f"{self.name!r} found nothing to try, since {_MOST_REFUSED} configurations in a row "
            f"were forbidden; write the space such that less of it is"
        )
        raise ExhaustedError(message)

    def learn(self, handle: Any, report: Report) -> None:
        """Learn from a report.

        Args:
            handle: The trial of Optuna.
            report: What became of it.
        """
        if isinstance(report, SuccessReport):
            self._tell(handle, values=[report.metrics[metric.name] for metric in self.metrics])
            return
        handle.set_user_attr("status", report.status.value)
        if report.metrics:
            handle.set_user_attr("metrics", dict(report.metrics))
        if report.exception is not None:
            handle.set_user_attr("exception", f"{report.exception!r:.1000}")
        self._tell(handle, state=self._states.FAIL)

    def drop(self, handle: Any) -> None:
        """Hear of a trial that will have no report.

        Args:
            handle: The trial of Optuna.
        """
        handle.set_user_attr("status", "forgotten")
        self._tell(handle, state=self._states.FAIL)

    def _refuse(self, trial: optuna.Trial) -> None:
        """Tell of a configuration that is forbidden, as of a bad one where Optuna can learn that.

        A sampler that did not learn would propose the forbidden over and over where it expects
        the best values.
        """
        trial.set_user_attr("status", "forbidden")
        is_single = len(self.metrics) == 1
        self._tell(trial, state=self._states.PRUNED if is_single else self._states.FAIL)

    def _tell(self, trial: optuna.Trial, **outcome: Any) -> None:
        try:
            self.study.tell(trial, **outcome)
        except RuntimeError as error:
            # A sampler that has proposed all there is stops the loop of Optuna, which is not on.
            # What was told is stored by then.
            if "Study.stop" not in str(error):
                raise
            self._is_exhausted = True

    def _new_study(self, library: Any, sampler: optuna.samplers.BaseSampler | None) -> optuna.Study:
        directions = ["minimize" if metric.minimize else "maximize" for metric in self.metrics]
        with _quiet("optuna.storages._in_memory"):
            study: optuna.Study = library.create_study(directions=directions, sampler=sampler)
        return study

    def _check(self, study: optuna.Study) -> None:
        found = [direction.name.lower() for direction in study.directions]
        wanted = ["minimize" if metric.minimize else "maximize" for metric in self.metrics]
        if found == wanted:
            return
        message = (
            f"the study {study.study_name!r} has the directions {found}, and the metrics "
            f"{', '.join(map(str, self.metrics))} need {wanted}; give the study's metrics in their "
            f"order, or make it with optuna.create_study(directions={wanted})"
        )
        raise InvalidOptionError(message, option="study", value=study)


@context
def _quiet(logger: str) -> Iterator[None]:
    """Keep what this thread logs there from being shown, unless it is a warning.

    Optuna shows on the terminal that a study was made. The user's settings remain as they are.
    """
    thread = threading.get_ident()

    def is_shown(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or record.thread != thread

    found = logging.getLogger(logger)
    found.addFilter(is_shown)
    try:
        yield
    finally:
        found.removeFilter(is_shown)


def _too_much(option: str, value: object, holder: str, where: str) -> InvalidOptionError:
    message = f"{option}={value!r} is of no use, since {holder} is given; give it to the {where}"
    return InvalidOptionError(message, option=option, value=value)
