"""Running drivers of chaos, one process for each seed, and looking for what they have left."""

import os
import pickle
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

TESTS = Path(__file__).resolve().parent.parent.parent

#: How long a driver may take, and what it has left may take to be gone.
LIMIT_S = 180

#: Is in the command line of what a call leaves behind on purpose.
LEFT_BY_CALLS = "time.sleep(300)"

GONE_S = 15


@dataclass(frozen=True)
class Verdict:
    """What came of one seed."""

    engine: str
    seed: int
    n_calls: int
    wrong: list[str]
    seconds: float


def run_seed(engine, seed):
    """Run the driver of one seed; return what was wrong with it."""
    begun = time.monotonic()
    mark = f"AMLTK_CHAOS_{uuid.uuid4().hex}"
    # Short names, since Ray's sockets are in there.
    with tempfile.TemporaryDirectory(prefix="c-", ignore_cleanup_errors=True) as folder:
        temp = Path(folder, "t")
        temp.mkdir()
        paths = os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])
        environment = {**os.environ, mark: "1", "PYTHONPATH": paths, "TMPDIR": str(temp)}
        with Path(folder, "output").open("w+b") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "stress.chaos.driver", engine, str(seed), folder],
                env=environment, stdout=output, stderr=output, cwd=folder, start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
                wrong = [f"it did not end in {LIMIT_S} s"]
            else:
                wrong = [] if code == 0 else [f"its exit code was {code}: {tail(folder)}"]
        n_calls = 0
        with suppress(OSError):
            n_calls, found = pickle.loads(Path(folder, "verdict").read_bytes())
            wrong += found
        left = left_of(mark)
        if not engine.startswith(("standard", "loky", "dask", "ray")):
            wrong += left  # elsewhere what a call leaves behind is its own affair, as docs tell
        else:
            wrong += [one for one in left if LEFT_BY_CALLS not in one]
        wrong += [
            f"left in the folder of temporary files: {path.name}"
            for path in sorted(temp.glob("amltk-*"))
        ]
    return Verdict(engine, seed, n_calls, wrong, time.monotonic() - begun)


def tail(folder):
    return Path(folder, "output").read_bytes()[-3000:].decode(errors="replace")


def left_of(mark):
    """Return processes of a driver that are not gone a while after it, and end them."""
    deadline = time.monotonic() + GONE_S
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        with suppress(OSError):
            os.kill(pid, 9)
    return [f"process {pid} is left: {command}" for pid, command in left.items()]


def marked(mark):
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if mark in process.environ() and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = " ".join(process.cmdline())[:120]
    return found


def main(engine, first, last):
    """Run many seeds and print what is wrong: ``python -m stress.chaos.harness ENGINE FIRST LAST``."""
    n_wrong = n_calls = 0
    for seed in range(first, last):
        verdict = run_seed(engine, seed)
        n_calls += verdict.n_calls
        n_wrong += bool(verdict.wrong)
        for one in verdict.wrong:
            print(f"{engine} {seed}: {one}", flush=True)  # noqa: T201 - a program
    print(f"{engine}: {last - first} seeds, {n_calls} calls, {n_wrong} seeds with something wrong")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
