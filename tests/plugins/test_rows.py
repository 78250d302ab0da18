"""Rows in a file: whole, whoever else writes."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from amltk import Scheduler, Task
from amltk.plugins import _rows
from amltk.plugins._rows import append_row


@dataclass
class Row:
    writer: int
    text: str


def write_many(folder, writer):
    for _ in range(50):
        append_row(Path(folder), "rows", Row(writer, "x" * 3000))
    return writer


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_row_is_a_line_of_the_hosts_file(tmp_path, monkeypatch):
    monkeypatch.setattr(_rows.socket, "gethostname", lambda: "node7")
    append_row(tmp_path / "new", "rows", Row(1, "first\nline"))
    path = append_row(tmp_path / "new", "rows", Row(2, "ä \udcff"))
    assert path == tmp_path / "new" / "rows-node7.jsonl"
    assert [row["writer"] for row in read(path)] == [1, 2]


def test_rows_of_many_processes_do_not_mix(tmp_path):
    scheduler = Scheduler.with_processes(3)
    task = Task(write_many, scheduler)
    scheduler.on_start(lambda: [task(str(tmp_path), writer) for writer in range(6)])
    scheduler.run()
    rows = read(next(tmp_path.iterdir()))
    assert sorted(row["writer"] for row in rows) == sorted(list(range(6)) * 50)


def test_a_row_that_is_written_in_part_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(_rows.os, "write", lambda *_: 3)
    with pytest.raises(OSError, match="in part"):
        append_row(tmp_path, "rows", Row(1, "text"))
