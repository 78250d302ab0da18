"""All reports of an optimization, in the order in which they arrived."""

from __future__ import annotations

import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from amltk.exceptions import HistoryError
from amltk.optimization.history.compared import ComparedReports
from amltk.optimization.records import files, rows
from amltk.optimization.trials.metric import Metric
from amltk.optimization.trials.report import Report, Status
from amltk.optimization.trials.trial import Trial, trial_of

if TYPE_CHECKING:
    import pandas as pd


class History(ComparedReports):
    """All reports of an optimization, in the order in which they arrived.

    ``history[0]``, ``history[-1]`` and ``history[:10]`` go by this order, ``history["trial-3"]``
    goes by the name of the trial, and ``"trial-3" in history`` tells whether there is its report.

    Args:
        reports: What is in it from the beginning.

    Raises:
        HistoryError: When two reports are of trials with the same name.
    """

    def __init__(self, reports: Iterable[Report] = ()) -> None:
        self._reports: list[Report] = []
        self._by_name: dict[str, Report] = {}
        self._cancelled: dict[str, Trial] = {}
        self._metrics: dict[Metric, None] = {}
        self._log: files.Log | None = None
        self.extend(reports)

    # ------------------------------------------------------------------------------- adding

    def append(self, report: Report) -> None:
        """Add a report.

        The frames of its exception's traceback are cleared: they hold the local variables of the
        function that raised, data sets among them, which would stay in memory as long as the
        history. The traceback's text is kept.

        Args:
            report: The report of a trial that has none here. If the trial was cancelled before
                and then sent off again, it is cancelled no more.

        Raises:
            HistoryError: When there is one already of a trial with this name.
        """
        given: object = report
        if not isinstance(given, Report):
            message = f"{given!r:.200} cannot be added to a history, which takes only reports"
            raise HistoryError(message, value=given)
        if report.name in self._by_name:
            message = (
                f"a second report of {report.name!r} cannot be added, since names tell trials "
                f"apart; give each trial a name of its own"
            )
            raise HistoryError(message, trial=report.name)
        _clear_frames(report.exception)
        self._reports.append(report)
        self._by_name[report.name] = report
        self._cancelled.pop(report.name, None)
        self._metrics.update(dict.fromkeys(report.trial.metrics))
        if self._log is not None:
            self._write(self._log, files.report_line(report))

    def extend(self, reports: Iterable[Report]) -> None:
        """Add several reports.

        Args:
            reports: See ``append``.

        Raises:
            HistoryError: When there is one already of a trial with the same name.
        """
        for report in reports:
            self.append(report)

    def add_cancelled(self, trial: Trial) -> None:
        """Note that a trial was cancelled, so that there will be no report of it.

        Args:
            trial: The trial.

        Raises:
            HistoryError: When there is a report of a trial with this name.
        """
        if trial.name in self._by_name:
            message = (
                f"{trial.name!r} cannot have been cancelled, since there is a report of it: "
                f"{self._by_name[trial.name].status.value}"
            )
            raise HistoryError(message, trial=trial.name)
        self._cancelled[trial.name] = trial
        if self._log is not None:
            self._write(self._log, files.cancelled_line(trial))

    # ------------------------------------------------------------------------------ looking

    def __len__(self) -> int:
        """Return the number of reports."""
        return len(self._reports)

    def __iter__(self) -> Iterator[Report]:
        """Go through the reports in the order in which they arrived."""
        return iter(self._reports)

    def __contains__(self, item: object) -> bool:
        """Tell whether there is a report, given itself or the name of its trial."""
        if isinstance(item, Report):
            return self._by_name.get(item.name) is item
        return isinstance(item, str) and item in self._by_name

    @overload
    def __getitem__(self, key: int | str) -> Report: ...
    @overload
    def __getitem__(self, key: slice) -> History: ...
    def __getitem__(self, key: int | str | slice) -> Report | History:
        """Return a report by its place or the name of its trial, or several as a history."""
        if isinstance(key, slice):
            return self._of(self._reports[key])
        if not isinstance(key, str):
            return self._reports[key]
        if key not in self._by_name:
            what = "it was cancelled" if key in self._cancelled else "no such trial was reported"
            message = f"there is no report of {key!r}: {what}"
            raise HistoryError(message, trial=key)
        return self._by_name[key]

    def __repr__(self) -> str:
        """Tell how many reports there are of each kind."""
        counts = Counter(report.status for report in self._reports)
        kinds = [f"{counts[status]} {status.value}" for status in Status if counts[status]]
        kinds += [f"{len(self._cancelled)} cancelled"] if self._cancelled else []
        n_reports = f"{len(self)} report{'' if len(self) == 1 else 's'}"
        return f"<History: {n_reports}{': ' if kinds else ''}{', '.join(kinds)}>"

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the file of ``log_to``."""
        return {**self.__dict__, "_log": None}

    @property
    def cancelled(self) -> tuple[Trial, ...]:
        """The trials that were cancelled, of which there are no reports."""
        return tuple(self._cancelled.values())

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All that any of the trials declares to be measured by, in order."""
        return tuple(self._metrics)

    # ---------------------------------------------------------------------------- filtering

    def where(self, predicate: Callable[[Report], bool]) -> History:
        """Return the reports that a predicate holds for.

        Args:
            predicate: It is given a report, and tells whether to take it.
        """
        return self._of(report for report in self._reports if predicate(report))

    def successes(self) -> History:
        """Return the reports of trials that have their metrics."""
        return self.where(lambda report: report.status is Status.SUCCESS)

    def failures(self) -> History:
        """Return the reports of trials that came to an end without a result of use."""
        return self.where(lambda report: report.status is Status.FAIL)

    def crashes(self) -> History:
        """Return the reports of trials that raised, or whose worker died."""
        return self.where(lambda report: report.status is Status.CRASHED)

    def _of(self, reports: Iterable[Report]) -> History:
        part = History()
        part._metrics.update(self._metrics)  # so that "the only metric" is the same in a part
        part.extend(reports)
        return part

    # ------------------------------------------------------------------------------ keeping

    def df(self) -> pd.DataFrame:
        """Return a dataframe with a row for each report, in order.

        Its columns can be empty without becoming something else: whole numbers stay whole. Each
        row has all of its report: ``Trial.Report.from_row(history.df().iloc[0])``.

        Raises:
            MissingExtraError: When pandas is not installed.
        """
        return rows.frame([report.to_row() for report in self._reports])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save all of it in a file, which takes the place of one that is there.

        A process that is killed meanwhile leaves that one as it was.

        Args:
            path: A file with the suffix ``.jsonl`` or ``.parquet``.

        Raises:
            HistoryError: When it has another suffix.
            OSError: When it cannot be written.
            MissingExtraError: When it is a ``.parquet`` and pandas or pyarrow are not installed.
        """
        if self._log is not None and self._log.path == Path(path).resolve():
            self._log.sync()  # it has all already, and goes on
            return
        files.save(Path(path), self._reports, self.cancelled)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, unpickle: bool = False, partial: bool = False
    ) -> History:
        """Read what ``save`` or ``log_to`` has written.

        Args:
            path: The file.
            unpickle: Whether values that were saved as pickle are unpickled, which runs whatever
                code the file names: only for what you trust. Otherwise a ``Pickled`` stands for
                each, and a ``RemoteError`` for an exception.
            partial: Whether to leave out what cannot be read, such as a last line that is cut off,
                and to log a warning for each.

        Raises:
            HistoryError: When something cannot be read; the message tells which line.
            OSError: When the file cannot be opened.
        """
        history = cls()
        files.load(
            Path(path),
            report=lambda values: history.append(Report.from_dict(values, unpickle=unpickle)),
            cancelled=lambda values: history.add_cancelled(trial_of(values, unpickle=unpickle)),
            partial=partial,
        )
        return history

    def log_to(self, path: str | os.PathLike[str]) -> None:
        """Keep a file up to date: each report is appended to it at once.

        So a driver that is killed loses nothing that has arrived; ``load`` the file with
        ``partial=True`` then, as its last line may be cut off. To go on with such a file, load it
        and log to it again.

        Args:
            path: A file with the suffix ``.jsonl``. What is in the history already is written
                into it.

        Raises:
            HistoryError: When it has another suffix, or there is a file of this name with trials
                that are not in this history.
            OSError: When it cannot be written; later on ``append`` raises it, and logging ends.
        """
        path = Path(path).resolve()
        if path.suffix.lower() != ".jsonl":
            message = f"reports cannot be appended to {str(path)!r}; give a file named … .jsonl"
            raise HistoryError(message, path=path, suffix=path.suffix)
        if path.exists():
            self._check_has_all_of(path)
        self.close()
        files.save(path, self._reports, self.cancelled)
        self._log = files.Log(path)

    def close(self) -> None:
        """Stop logging to a file. That is also done when nobody has the history any more."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def _check_has_all_of(self, path: Path) -> None:
        there = History.load(path, partial=True)
        names = {**there._by_name, **there._cancelled}
        lost = [name for name in names if name not in {**self._by_name, **self._cancelled}]
        if lost:
            message = (
                f"reports cannot be logged to {str(path)!r}, which has {lost[0]!r} and {len(lost)} "
                f"trials in all that are not in this history; go on with History.load({path.name!r}"
                f", partial=True), or give another file"
            )
            raise HistoryError(message, path=path, trial=lost[0])

    def _write(self, log: files.Log, line: bytes) -> None:
        try:
            log.write(line)
        except OSError:
            self.close()  # what comes next would be appended to half a line
            raise


def _clear_frames(error: BaseException | None) -> None:
    """Let go of the local variables that an exception and its causes hold."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            traceback.clear_frames(each.__traceback__)
            waiting += [each.__cause__, each.__context__]
            if isinstance(each, BaseExceptionGroup):
                waiting += each.exceptions
