"""Reports made up by Hypothesis and by hand, and what makes two of them the same.

Equal is not enough: 1 equals True, -0.0 equals 0.0, and NaN and exceptions equal nothing.
"""

import enum
import math
from dataclasses import fields
from datetime import UTC, timedelta, timezone
from pathlib import Path, PurePosixPath, PureWindowsPath
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from amltk.exceptions import InvalidOptionError, RemoteTraceback, WorkerDiedError
from amltk.optimization import Metric, Trial
from amltk.optimization.trials.measure import Timing


class Color(enum.Enum):
    RED = 1
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class NeedsTwoError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")
        self.one, self.two = one, two

    def __reduce__(self):
        return NeedsTwoError, (self.one, self.two)


class Opaque:
    """What no plain form is known for."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, Opaque) and self.value == other.value

    def __hash__(self):
        return hash(self.value)


def form(value):
    """Return what is the same only for values that are the same in all that they are."""
    return type(value).__name__, next((take(value) for kind, take in FORMS if kind(value)), None)


def is_a(*kinds):
    return lambda value: isinstance(value, kinds)


def form_of_exception(value):
    facts = {key: each for key, each in vars(value).items() if key != "__notes__"}
    notes = list(getattr(value, "__notes__", []))
    return form(value.args), notes, form(facts), form(value.__cause__)


def form_of_fields(value):
    return [form(getattr(value, each.name)) for each in fields(value) if each.compare]


FORMS = (
    (is_a(set, frozenset), lambda value: sorted(map(repr, map(form, value)))),
    (is_a(list, tuple), lambda value: [form(each) for each in value]),
    (is_a(dict), lambda value: sorted(repr((form(k), form(v))) for k, v in value.items())),
    (is_a(BaseException), form_of_exception),
    (is_a(Trial.Report, Trial), form_of_fields),
    (is_a(Opaque), lambda value: form(value.value)),
    (
        lambda value: type(value).__name__ == "ndarray",
        lambda value: (value.dtype.str, value.shape, value.tobytes()),
    ),
    (is_a(object), repr),
)


# --------------------------------------------------------------------------------- strategies

#: Halves of characters too, and what has a meaning in the files themselves.
texts = st.text(st.characters(exclude_categories=()), max_size=8) | st.sampled_from(
    ["$", "json:", "json:null", "nan", "", "\ud83d\ude00", "a\0b", "config:lr", "x (minimize)"]
)
zones = st.sampled_from([None, UTC, timezone(timedelta(hours=2), "two"), ZoneInfo("UTC")])
numbers = st.integers() | st.integers(-(10**700), 10**700) | st.floats()
hashables = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        numbers,
        texts,
        st.binary(max_size=8),
        st.complex_numbers(),
        st.datetimes(timezones=zones),
        st.times(timezones=zones),
        st.dates(),
        st.timedeltas(),
        st.sampled_from(
            [*Color, *Level, Path("a/b"), PurePosixPath("/x"), PureWindowsPath("c:/y")]
        ),
    ),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
values = st.recursive(
    hashables | st.builds(bytearray, st.binary(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.sets(hashables, max_size=3),
        st.dictionaries(texts, inner, max_size=3),
        st.dictionaries(hashables, inner, max_size=3),
    ),
    max_leaves=6,
)
mappings = st.dictionaries(texts, values, max_size=3)
floats = st.none() | st.floats()
metric_names = texts.filter(bool) | st.sampled_from(
    ["a (minimize)", "a (maximize) [0.0, 1.0]", "a (minimize) [b, c", "a\nb"]
)
metrics = st.builds(
    Metric,
    metric_names,
    minimize=st.booleans(),
    bounds=st.sampled_from([None, (0, 1), (-math.inf, math.inf), (0.1, 1e300)]),
)


@st.composite
def exceptions(draw):
    """Return exceptions that are made again of plain parts."""
    text = draw(texts)
    error = draw(
        st.sampled_from(
            [
                ValueError(text),
                KeyError(text, 3, (1, 2)),
                FileNotFoundError(2, text, "name", None, "other"),
                UnicodeDecodeError("utf-8", b"\xff", 0, 1, text),
                ImportError(text, name="n", path="p"),
                ExceptionGroup("several", [ValueError(text), OSError(1, "x")]),
                WorkerDiedError(text, pid=3, exit_code=None, signal_name="SIGKILL"),
                InvalidOptionError(text, option="x", value={"y": (1, None)}),
            ]
        )
    )
    for note in draw(st.lists(texts, max_size=2)):
        error.add_note(note)
    error.__cause__ = draw(
        st.sampled_from([None, RemoteTraceback("its text"), RuntimeError("first")])
    )
    return error


@st.composite
def reports(draw, name=None):
    """Return reports of all kinds, whatever may be in them."""
    declared = draw(st.lists(metrics, max_size=3, unique_by=lambda metric: metric.name))
    names = [metric.name for metric in declared]
    measured = draw(
        st.dictionaries(st.sampled_from(names) if names else metric_names, st.floats(), max_size=3)
    )
    trial = Trial(
        draw(texts) if name is None else name,
        draw(mappings),
        metrics=tuple(declared),
        seed=draw(st.none() | st.integers(0, 2**70)),
        fidelities=draw(st.dictionaries(texts, numbers, max_size=2)),
        info=draw(mappings),
        summary=draw(mappings),
        storage=draw(st.none() | st.sampled_from([Path("json:x"), Path("a/b"), Path("\ud800")])),
        n_told=draw(st.none() | st.integers(0, 100)),
        plugins=draw(mappings),
    )
    kind = draw(st.sampled_from([Trial.SuccessReport, Trial.FailReport, Trial.CrashReport]))
    timing = st.builds(Timing, st.floats(), st.floats(), st.floats(), st.floats())
    return kind(
        trial=trial,
        metrics=measured,
        time=draw(st.none() | timing),
        peak_memory_mb=draw(floats),
        worker=draw(st.none() | texts),
        exception=draw(st.none() | exceptions()),
        traceback=draw(st.none() | texts),
        submitted_at=draw(floats),
        reported_at=draw(floats),
    )


@st.composite
def many_reports(draw):
    """Return a few reports of different trials."""
    names = draw(st.lists(texts, max_size=3, unique=True))
    return [draw(reports(name=name)) for name in names]


# ------------------------------------------------------------------------------------- by hand

ACCURACY = Metric("accuracy", minimize=False, bounds=(0, 1))
LOSS = Metric("loss")


def report(name, *, kind=Trial.SuccessReport, metrics=(LOSS,), config=None, **others):
    """Return a report; what is no attribute of one is a value of a metric."""
    facts = {each.name for each in fields(Trial.Report)}
    return kind(
        trial=Trial(name, config or {}, metrics=metrics),
        metrics={key: value for key, value in others.items() if key not in facts},
        **{key: value for key, value in others.items() if key in facts},
    )


def crash(name, **others):
    return report(name, kind=Trial.CrashReport, **others)


def fail(name, **others):
    return report(name, kind=Trial.FailReport, **others)
