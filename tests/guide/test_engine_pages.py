"""The blocks of pages about engines that must be started run as programs, on these engines."""

import os
import re

import pytest
import support
from started.clusters import SCRIPTS, SYSTEMS, ready

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PAGES = support.ROOT / "docs" / "engines"


def program_of(page, after=""):
    blocks = re.findall(r"```python\n(.*?)```", (PAGES / page).read_text("utf-8"), re.DOTALL)
    return "\n\n".join([*blocks, after])


def run_program(code, folder):
    script = folder / "page.py"
    script.write_text(code)
    process = support.start_script(script)
    try:
        output, _ = process.communicate(timeout=140)
    finally:
        process.kill()
    assert process.returncode == 0, output
    return output


#: Run under the page's blocks: each of its schedulers whose system has a stand-in.
EACH = """
import os

found = []
for name, scheduler in zip(("pbs", "sge", "lsf", "moab", "htcondor", "oar"), make_schedulers()):
    folder = os.path.join({scripts!r}, "standin", name)
    if os.path.isdir(folder):
        os.environ["PATH"] = folder + os.pathsep + {path!r}
        assert run_on(scheduler) == [0, 1, 4, 9], name
        found.append(name)
print(*found)
"""


def test_the_page_of_clusters(tmp_path, monkeypatch):
    """Its first block runs on Slurm, the others on stand-ins."""
    with ready("slurm", tmp_path):
        for name in {system.constructor.removeprefix("with_") for system in SYSTEMS.values()}:
            monkeypatch.setenv(f"DASK_JOBQUEUE__{name.upper()}__INTERFACE", "lo")
            monkeypatch.setenv(f"DASK_JOBQUEUE__{name.upper()}__LOG_DIRECTORY", ".")
        code = program_of("clusters.md", EACH.format(scripts=str(SCRIPTS), path=os.environ["PATH"]))
        output = run_program(code, tmp_path)
    assert output.splitlines()[-1] == "pbs lsf moab htcondor oar"


def test_the_page_of_ray(ray_package, tmp_path):
    assert "Traceback" not in run_program(program_of("ray.md"), tmp_path)


def test_the_page_of_airflow(airflow, tmp_path):
    """Its block names an Airflow of the reader's; here it is ours."""
    code = program_of(
        "airflow.md",
        "task.on_returned(print)\nscheduler.on_start(lambda: task(3))\nscheduler.run()\n",
    )
    for written, ours in (
        ('"http://127.0.0.1:8080"', repr(airflow.url)),
        ('("user", "password")', repr(airflow.auth)),
        ('"/shared/amltk"', repr(str(airflow.store))),
    ):
        assert code.count(written) == 1
        code = code.replace(written, ours)

    assert run_program(code, tmp_path).splitlines()[-1] == "9"
