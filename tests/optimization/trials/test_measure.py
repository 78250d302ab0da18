"""What is measured of a piece of work, with real work."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import support

from amltk import Scheduler
from amltk.optimization.trials import measure
from amltk.optimization.trials.measure import Stopwatch, worker_name

#: How far a peak may be from what was allocated: the interpreter and its allocator have needs too.
ABOUT_MB = 40

needs_proc = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="this system does not forget peaks"
)


def use_mb(size):
    """Have so much memory in use, then none of it."""
    return len(bytearray(b"x") * (size * 10**6))


def burn(seconds):
    """Use so much processor time, however long it takes."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def peak_of(work, *args):
    watch = Stopwatch()
    work(*args)
    return watch.stop().peak_memory_mb


def test_wall_time_is_that_of_the_clock():
    before, begun = time.time(), time.perf_counter()
    watch = Stopwatch()
    burn(0.05)
    timing = watch.stop().time
    most_s = time.perf_counter() - begun

    assert 0.045 <= timing.wall_s <= most_s  # by another clock than what burns
    assert before <= timing.started_at <= time.time()
    assert timing.ended_at == timing.started_at + timing.wall_s


def test_it_is_stopped_once():
    watch = Stopwatch()
    first = watch.stop()
    burn(0.01)

    assert watch.stop() is first


def test_processor_time_is_what_was_used():
    watch = Stopwatch()
    burn(0.2)
    assert 0.19 <= watch.stop().time.cpu_s < 2


def test_waiting_uses_no_processor_time():
    watch = Stopwatch()
    threading.Event().wait(0.2)
    timing = watch.stop().time

    assert timing.wall_s >= 0.19
    assert timing.cpu_s < 0.15


def test_processor_time_of_children_that_have_ended_counts():
    code = "import time\nwhile time.process_time() < 0.4: pass"
    watch = Stopwatch()
    subprocess.run([sys.executable, "-c", code], check=True)

    assert watch.stop().time.cpu_s >= 0.35  # the system counts in hundredths of a second


@needs_proc
def test_the_peak_is_that_of_the_block_and_a_later_one_is_smaller_again():
    little = peak_of(use_mb, 1)
    much = peak_of(use_mb, 200)
    again = peak_of(use_mb, 1)

    assert 200 - ABOUT_MB <= much - little <= 200 + ABOUT_MB
    assert abs(again - little) < ABOUT_MB


@needs_proc
def test_two_blocks_at_once_get_the_peak_since_the_first_began():
    little = peak_of(use_mb, 1)
    first = Stopwatch()
    use_mb(200)
    second = Stopwatch()
    peaks = second.stop().peak_memory_mb, first.stop().peak_memory_mb

    assert all(peak - little >= 200 - ABOUT_MB for peak in peaks)
    assert peak_of(use_mb, 1) - little < ABOUT_MB


@needs_proc
def test_threads_may_measure_at_once_and_leave_nothing_behind():
    scheduler = Scheduler.with_threads(4)
    futures = []
    scheduler.on_start(
        lambda: futures.extend(scheduler.submit(peak_of, use_mb, 1) for _ in range(200))
    )
    scheduler.run()

    assert all(future.result() > 1 for future in futures)
    assert measure._PEAK._n_active == 0


def no_such(monkeypatch, **paths):
    """Measure as on a system that lacks some files."""
    for name, path in paths.items():
        monkeypatch.setattr(measure, name, path)
    monkeypatch.setattr(measure, "_PEAK", measure._Peak())


def test_where_peaks_are_not_forgotten_it_is_that_of_the_process(monkeypatch, tmp_path):
    no_such(monkeypatch, _CLEAR=tmp_path / "none" / "clear_refs")
    little = peak_of(use_mb, 1)
    much = peak_of(use_mb, 200)

    assert little <= much
    assert peak_of(use_mb, 1) >= much  # it has not forgotten


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="nothing here refuses what is written")
def test_a_file_that_takes_nothing_does_no_harm(monkeypatch):
    no_such(monkeypatch, _CLEAR=Path("/dev/full"))

    assert peak_of(use_mb, 1) > 1


@pytest.mark.skipif(sys.platform == "win32", reason="it has no resource")
def test_without_proc_the_system_is_asked_for_the_peak(monkeypatch, tmp_path):
    nothing = tmp_path / "none" / "status"
    no_such(monkeypatch, _STATUS=nothing, _CLEAR=nothing)

    assert 1 < peak_of(use_mb, 1) < 10**5


def test_where_nobody_knows_the_peak_there_is_none(monkeypatch, tmp_path):
    nothing = tmp_path / "none" / "status"
    no_such(monkeypatch, _STATUS=nothing, _CLEAR=nothing)
    monkeypatch.setattr(measure, "resource", None)
    measured = Stopwatch().stop()

    assert measured.peak_memory_mb is None
    assert measured.time.wall_s >= 0


def test_a_worker_is_named_by_host_process_and_thread():
    names = [worker_name()]
    thread = threading.Thread(target=lambda: names.append(worker_name()), name="second")
    thread.start()
    thread.join()

    assert names == [f"{os.uname().nodename}:{os.getpid()}", f"{names[0]}:second"]


@needs_proc
def test_a_child_that_is_forked_inside_of_a_block_measures_for_itself(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os\n"
        "from amltk.optimization.trials.measure import Stopwatch\n"
        "outer = Stopwatch()\n"
        "kept = bytearray(b'x') * 50_000_000\n"
        "if os.fork() == 0:\n"
        "    inner = Stopwatch()\n"
        "    more = bytearray(b'x') * 100_000_000\n"
        "    print(150 < inner.stop().peak_memory_mb < 250, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print(50 < outer.stop().peak_memory_mb < 150)\n"
    )
    process = support.start_script(Path(script))

    assert process.communicate(timeout=30)[0].split() == ["True", "True"]
