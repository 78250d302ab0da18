"""The command ``amltk``.

::

    amltk airflow install-dag DIR     put the DAG that runs calls into Airflow's DAG folder
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

#: What the DAG's file is called in a DAG folder.
DAG_FILE = "amltk_call.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: What follows the command's name; by default what the program was given.

    Returns:
        The exit code: 0 if all went well.
    """
    given = _parser().parse_args(arguments)
    try:
        path = install_dag(given.dir, dag_id=given.dag_id, store=given.store)
    except (OSError, ValueError) as error:
        print(f"amltk: the DAG could not be installed: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(path)  # noqa: T201
    return 0


def install_dag(folder: Path, *, dag_id: str | None = None, store: str | None = None) -> Path:
    """Put the DAG that runs calls into a DAG folder of Airflow.

    Args:
        folder: The folder, which exists.
        dag_id: What to call the DAG.
        store: The payload store that this Airflow allows, if its environment does not say so.

    Returns:
        The file.

    Raises:
        OSError: When it cannot be written.
    """
    text = (files("amltk") / "executors" / "airflow" / "dag.py").read_text(encoding="utf-8")
    for name, value in (("DAG_ID", dag_id), ("STORE", store)):
        if value is not None:
            text = _with_constant(text, name, value)
    path = folder / DAG_FILE if dag_id is None else folder / f"{dag_id}.py"
    # Whole or not at all: Airflow reads the folder at any time.
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    return path


def _with_constant(text: str, name: str, value: str) -> str:
    lines = text.splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if line.startswith(f"{name} = "))
    lines[at] = f"{name} = {value!r}\n"
    return "".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="amltk", description="Event-driven compute scheduling.")
    rooms = parser.add_subparsers(required=True, metavar="airflow")
    airflow = rooms.add_parser("airflow", help="what runs calls on Apache Airflow")
    commands = airflow.add_subparsers(required=True, metavar="install-dag")
    install = commands.add_parser(
        "install-dag",
        help="put the DAG that runs calls into Airflow's DAG folder",
        description="Put the DAG that runs calls into Airflow's DAG folder; prints the file.",
    )
    install.add_argument("dir", type=Path, metavar="DIR", help="Airflow's DAG folder")
    install.add_argument("--dag-id", type=_id, metavar="ID", help='instead of "amltk_call"')
    install.add_argument(
        "--store",
        metavar="URL",
        help="the payload store that this Airflow allows, if the environment does not say so "
        "(AMLTK_AIRFLOW_STORE, or Airflow's variable amltk_store)",
    )
    return parser


def _id(text: str) -> str:
    if not text.replace("_", "").replace("-", "").replace(".", "").isalnum():
        message = f"{text!r} is no name for a DAG; use letters, digits, dots, _ and -"
        raise argparse.ArgumentTypeError(message)
    return text
