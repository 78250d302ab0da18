"""Each Python block of the user's guide runs, as a script of its own.

The environment variable ``AMLTK_SEED_GUIDE`` names the guide. The table below says, by the line
at which a block begins, what is filled in for its ``...``, which of its slips are mended, what
stands before and after it, and what it prints.
"""

import contextlib
import os
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
import support
from started.clusters import ready

pytestmark = pytest.mark.slow

GUIDE = os.environ.get("AMLTK_SEED_GUIDE", "")


@dataclass(frozen=True)
class Block:
    """How one block is run, and what it prints."""

    prints: str = ""
    "All that it prints, as a pattern."
    mends: tuple[tuple[str, str], ...] = ()
    "What is replaced by what; each has to be found."
    before: tuple[int | str, ...] = ()
    "Code, or the lines of other blocks, that it builds upon."
    after: str = ""
    "Code that uses what it defines."
    fails: bool = False
    "Whether it ends with an uncaught exception."
    system: str | None = None
    "The batch system that it needs."
    package: str | None = None
    "The package that it needs beside amltk."


PROCESSES = ("Scheduler(...)", "Scheduler.with_processes(2)")
SHORT_SLEEP = ("sleep_time = random.randrange(5)", "sleep_time = random.random() / 100")
NO_ZERO = ("random.randrange(10)", "random.randrange(1, 10)")
MAIN_QUEUE = ("queue=...", 'queue="main"')
QUICK = (PROCESSES, SHORT_SLEEP)

RUN = "scheduler.run()"
RUN_TWICE = "scheduler.run()\nscheduler.run()"
RUN_THRICE = "scheduler.run()\nscheduler.run()\nscheduler.run()"
SUBMIT = """
futures = []

@scheduler.on_start
def submit_one():
    futures.append(scheduler.submit(pow, 2, 5))

scheduler.run()
print(futures[0].result())
"""
LOOPBACK = """
LOOPBACK = {
    "processes": False,
    "n_workers": 1,
    "threads_per_worker": 1,
    "protocol": "tcp",
    "host": "127.0.0.1",
    "dashboard_address": "127.0.0.1:0",
}
"""
MISMATCH = r"(?s)Traceback .*CallbackArgumentsError: .*hello.*\bh\b.*\n"

TASK = """
from typing import Any
from amltk.scheduling import Future, Scheduler, Task

def divide(x):
    return 12 // x

scheduler = Scheduler.with_processes(1)
task = Task(divide, scheduler)
"""
CALL = """
scheduler.on_start(lambda: task(4))
scheduler.run()
"""
CALL_AND_FAIL = """
scheduler.on_start(lambda: task(0))
scheduler.run(end_on_exception=False)
"""
CALL_AND_CANCEL = """
scheduler.on_start(lambda: task(4).cancel())
scheduler.run()
"""
MAKE_SEED_TASK = """
from amltk.scheduling import Scheduler
task = SeedTask(len, Scheduler.with_sequential())
print(task.name, task.best_count_seed, task.LONGEST_RUN.name)
"""
RUN_SEED_TASK = """
from amltk.scheduling import Scheduler
scheduler = Scheduler.with_processes(2)
task = SeedTask(random_task, scheduler)

@scheduler.on_start
def sow():
    for seed in range(5):
        task(seed)

scheduler.run()
count, seed = task.best_count_seed
assert count == max(random_task(seed)[0] for seed in range(5))
assert random_task(seed) == (count, seed)
assert task.event_counts[SeedTask.LONGEST_RUN] >= 1
"""

BLOCKS = {
    13: Block(
        prints="42 was found!\n",
        mends=(
            ("the_answer = ...", "the_answer = 7 * a * b * c"),
            ("Scheduler(executor=...)", "Scheduler.with_processes(2)"),
            ("Task(compute_42, scheduler, ...)", "Task(the_anwser, scheduler)"),
        ),
    ),
    63: Block(prints="(10 world 3.14\n){3}", mends=(("    ...", "    print(a, b, c)"),)),
    98: Block(prints=MISMATCH, fails=True),
    121: Block(prints=MISMATCH, fails=True),
    182: Block(prints="32\n", after=SUBMIT),
    190: Block(prints="32\n", after=SUBMIT + "executor.shutdown()"),
    200: Block(prints="32\n", after=SUBMIT),
    208: Block(prints="32\n", after=SUBMIT + "executor.shutdown()"),
    230: Block(
        prints="32\n",
        mends=(
            (
                "Client(...)",
                "Client(**LOOPBACK)",
            ),
        ),
        before=(LOOPBACK,),
        after=SUBMIT + "client.close()",
        package="distributed",
    ),
    262: Block(prints="32\n", mends=(MAIN_QUEUE,), after=SUBMIT, system="slurm"),
    281: Block(
        prints=r"(?s).*32\n",  # Dask warns when another one has its port
        mends=(MAIN_QUEUE, ("adapt(max_workers=10)", "adapt(maximum=10)")),
        after=SUBMIT + "executor.shutdown()\ncluster.close()",
        system="slurm",
    ),
    311: Block(
        prints="32\n",
        mends=(
            ("n_workers=...,", "n_workers=2, cores=1, memory='500 MB',"),
            ('"sbatch --extra"', '"sbatch --comment=extra")'),
        ),
        after=SUBMIT,
        system="slurm",
    ),
    366: Block(prints="32\n", after=SUBMIT),
    374: Block(prints="32\n", mends=(("SequetialExecutor", "SequentialExecutor"),), after=SUBMIT),
    467: Block(prints="hello\n", mends=(PROCESSES,), after=RUN),
    482: Block(prints="hello\n", mends=(PROCESSES,), after=RUN),
    504: Block(
        prints="hello\n",
        mends=(PROCESSES,),
        after=f'{RUN}\nscheduler.on_start.remove("my_callback")\n{RUN}',
    ),
    519: Block(prints="(hello\n){0,3}", mends=(PROCESSES,), after=RUN_THRICE),
    538: Block(prints="hello\n", mends=(PROCESSES,), after=RUN_TWICE),
    553: Block(prints="(hello\n){3}", mends=(PROCESSES,), after=RUN),
    569: Block(prints="hello\n", mends=(PROCESSES,), after=RUN_THRICE),
    597: Block(prints="hello john, welcome!\n"),
    632: Block(prints="exhausted\n", mends=(PROCESSES,), after="print(exit_code.name.lower())"),
    646: Block(
        prints="1\n", mends=(PROCESSES,), after="print(scheduler.event_counts[Scheduler.STOP])"
    ),
    667: Block(
        prints="timeout\n",
        mends=(PROCESSES, ("timeout=10", "timeout=0.1")),
        after="print(exit_code.name.lower())",
    ),
    683: Block(
        prints="1\n", mends=(PROCESSES,), after="print(scheduler.event_counts[Scheduler.FINISHED])"
    ),
    703: Block(
        prints=r"An exception occurred: invalid literal .*\nValueError\n",
        mends=(
            (
                "scheduler = Scheduler(...)",
                """scheduler = Scheduler.with_processes(2)
scheduler.on_start(lambda: scheduler.submit(int, "x"))
""",
            ),
        ),
        after="print(type(exception).__name__)",
    ),
    722: Block(
        prints="1\n",
        mends=(PROCESSES, ("end_on_empty=False", "end_on_empty=False, timeout=0.1")),
        after="print(scheduler.event_counts[Scheduler.TIMEOUT])",
    ),
    739: Block(
        prints="exhausted\n",
        mends=(
            PROCESSES,
            (
                "await scheduler.async_run()",
                "import asyncio\nexit_code = asyncio.run(scheduler.async_run())",
            ),
        ),
        after="print(exit_code.name.lower())",
    ),
    757: Block(
        prints="3 True\n",
        mends=(
            PROCESSES,
            NO_ZERO,
            ("from asnycio import Future", "from amltk.scheduling import Future"),
            ("time.sleep(42)", "time.sleep(0.01)"),
        ),
        after="print(len(results), all(1 <= result < 10 for result in results))",
    ),
    825: Block(
        prints="4\n", mends=QUICK, after="task.on_returned(lambda result: print(result))" + CALL
    ),
    859: Block(prints="[1-9]\n", mends=(*QUICK, NO_ZERO)),
    897: Block(prints=r"([1-9])\n\[\1\]\n", mends=(*QUICK, NO_ZERO), after="print(results)"),
    941: Block(
        prints=r"([1-9])\n([1-9])\n([1-9])\n\[\1, \2, \3\]\n",
        mends=(*QUICK, NO_ZERO),
        after="print(results)",
    ),
    987: Block(
        prints="([1-9]\n|x cannot be 0\n){10,}",
        mends=(*QUICK, ("run(timeout=60)", "run(timeout=1, end_on_exception=False)")),
    ),
    1032: Block(
        prints="([1-9]\n){50,60}1\n",
        mends=(*QUICK, NO_ZERO, ("timeout=60", "timeout=20")),
        after="print(scheduler.event_counts[Scheduler.STOP])",
    ),
    1118: Block(
        prints="False\n",
        mends=(("    ...", "    print(future.cancelled())"),),
        before=(TASK,),
        after=CALL,
    ),
    1131: Block(
        prints="3\n", mends=(("    ...", "    print(future.result())"),), before=(TASK,), after=CALL
    ),
    1145: Block(
        prints="3\n", mends=(("    ...", "    print(result)"),), before=(TASK,), after=CALL
    ),
    1158: Block(
        prints="integer division or modulo by zero\n",
        mends=(("    ...", "    print(exception)"),),
        before=(TASK,),
        after=CALL_AND_FAIL,
    ),
    1171: Block(
        prints="True\n",
        mends=(("    ...", "    print(future.cancelled())"),),
        before=(TASK,),
        after=CALL_AND_CANCEL,
    ),
    1186: Block(
        prints="True 3\n",
        mends=(("    ...", "    print(future.done(), result)"),),
        before=(TASK,),
        after=CALL,
    ),
    1202: Block(
        prints="True integer division or modulo by zero\n",
        mends=(
            ("@task.on_submitted", "@task.on_f_exception"),
            ("    ...", "    print(future.done(), exception)"),
        ),
        before=(TASK,),
        after=CALL_AND_FAIL,
    ),
    1224: Block(
        prints=("Task already running at max concurrency\n(Task was already called 10 times\n){2}"),
        mends=(("Task(..., plugins", "Task(divide, scheduler, plugins"),),
        before=(TASK,),
        after="""
@scheduler.on_start(repeat=3)
@task.on_done
def call_again():
    task(4)

scheduler.run()
""",
    ),
    1251: Block(prints=r"\[2, 4, 6\]\n"),
    1290: Block(prints=r"\(\d+, 7\)\n", after="print(random_task(7))"),
    1314: Block(prints="len None longest-run\n", after=MAKE_SEED_TASK),
    1331: Block(prints="len None longest-run\n", after=MAKE_SEED_TASK),
    1358: Block(before=(1290,), after=RUN_SEED_TASK),
    1386: Block(before=(1290,), after=RUN_SEED_TASK),
    1416: Block(prints=r"(\d+) 0\n\(\1, 0\)\n", before=(1386,)),
    1458: Block(before=(1290,), after=RUN_SEED_TASK),
    1486: Block(before=(1290,), after=RUN_SEED_TASK),
    1515: Block(prints=r"Longest run so far: (\d+) 0\n\1 0\n", before=(1486,)),
}


def read_blocks():
    """Return the code of each block of the guide by the line at which it begins."""
    if not GUIDE:
        pytest.skip("AMLTK_SEED_GUIDE does not name the user's guide")
    if not Path(GUIDE).is_file():
        pytest.skip(f"the user's guide {GUIDE} is not there")
    found = {}
    begin = None
    for number, line in enumerate(Path(GUIDE).read_text().splitlines(), start=1):
        if begin is None and line.lstrip().startswith("```python"):
            begin, found[number] = number, []
        elif begin is not None and line.strip() == "```":
            begin = None
        elif begin is not None:
            found[begin].append(line)
    return {number: textwrap.dedent("\n".join(lines)) for number, lines in found.items()}


def mended(code, mends):
    for old, new in mends:
        assert old in code, f"{old!r} is to be mended and is not there any more"
        code = code.replace(old, new)
    return code


def script_of(blocks, line):
    """Return a block with all that it builds upon, as one program."""
    block = BLOCKS[line]
    parts = [
        part if isinstance(part, str) else mended(blocks[part], BLOCKS[part].mends)
        for part in block.before
    ]
    return "\n\n".join([*parts, mended(blocks[line], block.mends), block.after]) + "\n"


def run_script(path):
    process = support.start_script(path)
    try:
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, output


def test_the_table_knows_each_block_of_the_guide():
    assert list(BLOCKS) == list(read_blocks())


@pytest.mark.parametrize("line", BLOCKS)
@pytest.mark.timeout(240)
def test_a_block_of_the_guide_runs(line, tmp_path, monkeypatch):
    # What the guide prints is compared; Dask may log of connections that end while it closes.
    monkeypatch.setenv("DASK_LOGGING__DISTRIBUTED", "error")
    block = BLOCKS[line]
    blocks = read_blocks()
    if block.package is not None:
        pytest.importorskip(block.package)
    with contextlib.ExitStack() as stack:
        if block.system is not None:
            stack.enter_context(ready(block.system, tmp_path))
            monkeypatch.setenv(f"DASK_JOBQUEUE__{block.system.upper()}__INTERFACE", "lo")
            monkeypatch.setenv(f"DASK_JOBQUEUE__{block.system.upper()}__LOG_DIRECTORY", ".")
        run_block(block, blocks, line, tmp_path)


def run_block(block, blocks, line, tmp_path):
    script = tmp_path / f"line_{line}.py"
    script.write_text(script_of(blocks, line))

    code, output = run_script(script)

    assert code == (1 if block.fails else 0), output
    assert re.fullmatch(block.prints, output), output
