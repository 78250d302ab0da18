"""Reads back what Weights & Biases has written offline: wandb itself has no reader any more.

A file has 7 bytes of header, and then the framing of a LevelDB log: blocks of 32 KiB, in them
fragments of records, each with checksum, length and type.
"""

import json
import struct
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import support

HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
BLOCK = 32768
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class StoredRun:
    """One run, as its file has it."""

    id: str = ""
    name: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    tags: list = field(default_factory=list)
    config: dict = field(default_factory=dict)
    rows: list = field(default_factory=list)
    summary: dict = field(default_factory=dict)
    #: ``None`` as long as the run is not finished.
    exit_code: int | None = None


def read_runs(folder):
    """Return all runs below a folder, finished or not."""
    return [read_run(path) for path in sorted(Path(folder).glob("wandb/*run-*/run-*.wandb"))]


def read_finished(folder, n_runs, timeout_s=20.0):
    """Wait until a number of runs is finished, and return them by name."""
    found = []

    def are_there():
        found[:] = [run for run in read_runs(folder) if run.exit_code is not None]
        return len(found) >= n_runs

    support.wait_until(are_there, timeout_s)
    by_name = defaultdict(list)
    for run in found:
        by_name[run.name].append(run)
    assert len(found) == n_runs, sorted(by_name)
    return {name: runs[0] if len(runs) == 1 else runs for name, runs in by_name.items()}


def read_run(path):
    from wandb.proto import wandb_internal_pb2 as pb

    run = StoredRun()
    for data in records(Path(path).read_bytes()):
        record = pb.Record()
        record.ParseFromString(data)
        note(run, record)
    return run


def note(run, record):
    kind = record.WhichOneof("record_type")
    if kind == "run":
        stored = record.run
        run.id, run.name, run.project = stored.run_id, stored.display_name, stored.project
        run.group, run.job_type, run.tags = stored.run_group, stored.job_type, list(stored.tags)
        run.config.update(values(stored.config.update))
    elif kind == "config":
        run.config.update(values(record.config.update))
    elif kind == "history":
        run.rows.append(values(record.history.item))
    elif kind == "summary":
        run.summary.update(values(record.summary.update))
    elif kind == "exit":
        run.exit_code = record.exit.exit_code


def values(items):
    return {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}


def records(data):
    """Yield the records of a file, joined from their fragments."""
    if not data.startswith(HEADER):
        return
    position, parts = len(HEADER), []
    while position + 7 <= len(data):
        if BLOCK - position % BLOCK < 7:  # too short for a fragment: padding
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        start, position = position + 7, position + 7 + length
        if kind not in (FULL, FIRST, MIDDLE, LAST) or position > len(data):
            return  # not written to its end
        parts.append(data[start:position])
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []
