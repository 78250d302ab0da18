"""Globals of a script are one set in each worker, on every engine that runs calls in processes."""

import json
import subprocess
import sys
import textwrap

import pytest
import support

#: Each part is a kind of thing that a script has; its tasks return what `EXPECTED` says.
SCRIPT = textwrap.dedent(
    """
    import dataclasses, enum, functools, json, multiprocessing, sys, threading, typing
    from concurrent.futures import ProcessPoolExecutor
    from amltk import Scheduler, Task

    DATA = None
    CALLS = []
    SHARED = {"calls": CALLS}
    UserId = typing.NewType("UserId", int)
    P = typing.ParamSpec("P")

    def load():
        global DATA
        DATA = [0, 1, 2]

    def use_what_the_initializer_has_set():
        return DATA and DATA[2]

    @functools.lru_cache
    def cached(n):
        CALLS.append(n)
        return list(range(n))

    def use_a_cache():
        return len(cached(3)), cached(3) is cached(3), CALLS.count(3)

    @functools.singledispatch
    def kind(x):
        return "thing"

    @kind.register
    def _(x: int):
        return "int"

    @kind.register(str)
    def kind_of_text(x):
        return "text"

    def use_dispatch():
        return kind(1), kind("a"), kind(1.0)

    class Colour(enum.Enum):
        RED = 1

    @dataclasses.dataclass
    class Point:
        x: int
        friend: "typing.Any" = None
        seen: typing.ClassVar[list] = []

        @functools.cached_property
        def doubled(self):
            Point.seen.append(self.x)
            return 2 * self.x

        @functools.cache
        def tripled(self):
            return 3 * self.x

        def __hash__(self):
            return hash(self.x)

        @staticmethod
        def make(x):
            return Point(x)

    class Child(Point):
        def up(self):
            return super().__repr__()

    Point.child = Child

    def use_classes(point):
        return (
            isinstance(point, Point),
            type(point.friend) is Colour,
            point.doubled + point.tripled(),
            isinstance(Child(1), Point),
            Point.child is Child,
            Point.make(3).x,
        )

    def give_back():
        return Point(7, Colour.RED)

    def note():
        CALLS.append("noted")

    def hear():
        return CALLS.count("noted"), SHARED["calls"] is CALLS

    def decorate(function):
        @functools.wraps(function)
        def around(*args):
            return "around", function(*args)
        return around

    @decorate
    def decorated(x: UserId):
        return x + len(DATA or ())

    def annotated(x: "P.args", y: UserId = 1) -> UserId:
        return y

    def with_a_class_inside():
        class Inner(Point):
            colour = Colour.RED
        return Inner.colour.name

    def see_main():
        import __main__
        return __main__.DATA and len(__main__.DATA)

    def recursive(n):
        return 1 if n == 0 else n * mutual(n - 1)

    def mutual(n):
        return recursive(n)

    fork = multiprocessing.get_context("fork")
    spawn = multiprocessing.get_context("spawn")
    forkserver = multiprocessing.get_context("forkserver")

    ENGINES = {
        "processes": lambda: Scheduler.with_processes(1, initializer=load),
        "processes by fork": lambda: Scheduler.with_processes(1, fork, initializer=load),
        "processes by spawn": lambda: Scheduler.with_processes(1, spawn, initializer=load),
        "processes by forkserver": lambda: Scheduler.with_processes(1, forkserver, initializer=load),
        "standard by fork": lambda: Scheduler(ProcessPoolExecutor(1, fork, initializer=load)),
        "standard by spawn": lambda: Scheduler(ProcessPoolExecutor(1, spawn, initializer=load)),
        "standard, not recovered": lambda: Scheduler(
            ProcessPoolExecutor(1, fork, initializer=load), recover=False
        ),
        "loky": lambda: Scheduler.with_loky(1, initializer=load),
        "dask": lambda: Scheduler.with_dask(n_workers=1),
        "ray": lambda: Scheduler.with_ray(num_cpus=1),
    }

    def main(engine):
        scheduler = ENGINES[engine]()
        told = {}
        calls = [
            (use_what_the_initializer_has_set,), (use_a_cache,), (use_a_cache,), (use_dispatch,),
            (use_classes, Point(5, Colour.RED)), (give_back,), (note,), (note,), (hear,),
            (decorated, 1), (annotated, 1), (with_a_class_inside,), (see_main,), (recursive, 5),
            (lambda: len(CALLS) > 0,), (functools.partial(recursive, 3),),
        ]
        if engine in ("dask", "ray"):
            calls.insert(0, (load,))

        def submit():
            if calls:
                function, *args = calls.pop(0)
                name = getattr(function, "__name__", "partial")
                task = Task(function, scheduler)
                task.on_returned(lambda result: (told.update({name: result}), submit()))
                task.on_exception(lambda error: (told.update({name: f"{type(error).__name__}: {error}"}), submit()))
                task(*args)

        scheduler.on_start(submit)
        scheduler.run(timeout=60, end_on_exception=False)
        point = told.pop("give_back")
        told["give_back"] = type(point) is Point and point == Point(7, Colour.RED)
        print(json.dumps(told))

    if __name__ == "__main__":
        main(sys.argv[1])
    """
)

EXPECTED = {
    "use_what_the_initializer_has_set": 2,
    "use_a_cache": [3, True, 1],
    "use_dispatch": ["int", "text", "thing"],
    "use_classes": [True, True, 25, True, True, 3],
    "give_back": True,
    "note": None,
    "hear": [2, True],
    "around": ["around", 4],
    "decorated": ["around", 4],
    "annotated": 1,
    "with_a_class_inside": "RED",
    "see_main": 3,
    "recursive": 120,
    "<lambda>": True,
    "partial": 6,
}

ENGINES = ["processes", "processes by fork", "processes by spawn", "processes by forkserver"]
ENGINES += [
    "standard by fork",
    "standard by spawn",
    "standard, not recovered",
    "loky",
    "dask",
    "ray",
]


def run_script(folder, engine):
    if engine in ("loky", "ray"):
        pytest.importorskip(engine)
    if engine == "dask":
        pytest.importorskip("distributed")
    path = folder / "script.py"
    path.write_text(SCRIPT)
    ended = subprocess.run(
        [sys.executable, path, engine],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        cwd=folder,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize("engine", ENGINES)
def test_globals_of_the_script_are_one_set(tmp_path, engine):
    told = run_script(tmp_path, engine)
    expected = {name: value for name, value in EXPECTED.items() if name in told}
    if "spawn" in engine or "forkserver" in engine:
        # As with a bare pool: what multiprocessing calls `__main__` there is a copy, made once.
        expected["see_main"] = None
    told.pop("load", None)
    assert told == expected
    assert len(told) > 13


STUDIES = """
import multiprocessing
from amltk import Scheduler, Task

def train(x):
    return 2 * x

def study():
    scheduler = Scheduler.with_processes(1)
    task = Task(train, scheduler)
    task.on_returned(lambda result: print(result, flush=True))
    scheduler.on_start(lambda: task(2))
    scheduler.run(timeout=30)

if __name__ == "__main__":
    process = multiprocessing.get_context("{method}").Process(target=study)
    process.start()
    process.join()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_driver_may_be_a_process_that_multiprocessing_has_started(tmp_path, method):
    (tmp_path / "script.py").write_text(STUDIES.format(method=method))
    script = support.start_script(tmp_path / "script.py")

    assert script.communicate(timeout=60)[0] == "4\n"


WRAPPED = """
import functools
from amltk import Scheduler, Task
from support import wrapped

def train(x: int) -> int:
    return 2 * x

scheduler = Scheduler.with_processes(1)
task = Task(wrapped(train), scheduler)
task.on_returned(print)
scheduler.on_start(lambda: task(2))
scheduler.run(timeout=30)
"""


def test_what_a_module_wraps_around_a_function_of_the_script_may_have_its_annotations(tmp_path):
    # Since Python 3.14 these are a function of the function, which the wrapper has as well.
    (tmp_path / "script.py").write_text(WRAPPED)
    script = support.start_script(tmp_path / "script.py")

    assert script.communicate(timeout=60)[0] == "4\n"
