"""Random search: configurations that are drawn, none of them twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from amltk.exceptions import ExhaustedError
from amltk.optimization.optimizers._draws import SEEDS, draws_of, rng_of
from amltk.optimization.optimizers.base import BaseOptimizer, Proposal
from amltk.optimization.space import is_configspace
from amltk.optimization.trials.metric import Metric

if TYPE_CHECKING:
    from amltk.optimization.space import SpaceLike

#: After so many draws in a row that are nothing new, what is left is listed, where it can be.
_DRAWS = 20
#: After so many, there is nothing to be found any more.
_MOST_DRAWS = 10_000
#: A space of up to so many configurations can be listed; a larger one when half of it is known.
_SMALL = 100_000


class RandomSearch(BaseOptimizer):
    """Proposes random configurations, and learns nothing from reports.

    The same seed gives the same trials, their seeds included. A trial that is forgotten counts as
    proposed.

    Args:
        space: A mapping, such as ``{"lr": (1e-5, 1e-1, "log"), "kernel": ["rbf", "linear"]}``, or
            a ``ConfigSpace.ConfigurationSpace``, of which a copy is drawn from.
        metrics: What trials are measured by.
        seed: Makes the search repeatable.
        allow_duplicates: Whether a configuration may be proposed again. If not, ``ask`` raises
            ``ExhaustedError`` when it was called for all configurations of a finite space.
        name: What the names of its trials begin with.

    Raises:
        InvalidSpaceError: When the space is empty, or a part makes no sense; names its key.
        InvalidOptionError: When there is no metric, or there are two of one name.
    """

    def __init__(
        self,
        space: SpaceLike,
        *,
        metrics: Metric | Iterable[Metric],
        seed: int | None = None,
        allow_duplicates: bool = False,
        name: str = "random",
    ) -> None:
        super().__init__(metrics, name=name)
        self.allow_duplicates: bool = allow_duplicates
        #: Whether it never takes longer than a moment; clauses of ConfigSpace may be hard to meet.
        self.is_quick: bool = not is_configspace(space)
        self._rng = rng_of(seed)
        self._draws = draws_of(space, self._rng)
        self._n_new = 0
        self._seen: set[Any] = set()
        #: What is left of a finite space, in random order, once that is listed.
        self._left: list[Any] | None = None

    def propose(self) -> Proposal:
        """Return a configuration that was not proposed before, unless that is allowed.

        Raises:
            ExhaustedError: When there is none.
        """
        drawn = self._draws.draw()[1] if self.allow_duplicates else self._new()
        return Proposal(config=self._draws.config(drawn), seed=self._rng.randrange(SEEDS))

    def _new(self) -> Any:
        for n_vain in range(_MOST_DRAWS):
            if self._left is not None or (n_vain == _DRAWS and self._list_what_is_left()):
                return self._pop()
            key, drawn = self._draws.draw()
            if key not in self._seen:
                self._seen.add(key)
                self._n_new += 1
                return drawn
        message = (
            f"{self.name!r} found nothing new in {_MOST_DRAWS} draws, after it was asked for "
            f"{self._n_new} configurations; make the space larger, or use allow_duplicates=True"
        )
        raise ExhaustedError(message, n_asked=self._n_new)

    def _list_what_is_left(self) -> bool:
        if self._draws.size > max(_SMALL, 2 * len(self._seen)):
            return False
        self._left = [drawn for key, drawn in self._draws.all() if key not in self._seen]
        self._rng.shuffle(self._left)
        self._seen.clear()
        return True

    def _pop(self) -> Any:
        if not self._left:
            message = (
                f"{self.name!r} has nothing left to try: it was asked for all {self._n_new} "
                f"configurations of its space; stop after max_trials={self._n_new}, make the "
                f"space larger, or use allow_duplicates=True"
            )
            raise ExhaustedError(message, n_asked=self._n_new)
        self._n_new += 1
        return self._left.pop()
