"""The DAG that runs calls for ``Scheduler.with_airflow``: one run of it is one call.

``amltk airflow install-dag DIR`` copies this file into a DAG folder. It imports nothing of amltk,
so that workers need only cloudpickle, fsspec and what the calls themselves need::

    <store>/<executor>/calls/7      written by the driver before it triggers run 7
    <store>/<executor>/started/7    written here before the call is read
    <store>/<executor>/cancel/7     written by the driver; seen here before and while 7 runs
    <store>/<executor>/outcomes/7   written here, whole or not at all, when 7 has ended

Each file is one line of JSON, its header, and then bytes. The header is checked before anything is
unpickled: what was pickled by another minor version of Python can make an interpreter loop.

Settings, all on the side of Airflow:

- the store: ``AMLTK_AIRFLOW_STORE`` in the workers' environment, or Airflow's variable
  ``amltk_store``, or what ``install-dag --store`` wrote into this file. Nothing outside is read.
- ``AMLTK_AIRFLOW_STORE_OPTIONS``: options of fsspec for it, as JSON.
- ``AMLTK_AIRFLOW_SECRET``: if set, only calls that are signed with this secret are unpickled.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import pickle
import re
import sys
import threading
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

DAG_ID = "amltk_call"
STORE = ""
VERSION = 1
TASK_ID = "call"

#: The place of the function among what travels apart, where it holds on to large things.
FUNCTION = -1

#: How often a running call looks whether it was cancelled.
CANCEL_LOOK_S = 1.0


class RefusedError(RuntimeError):
    """A call that this deployment does not run, or that was cancelled before it began."""


class Files:
    """The files of one call.

    Args:
        folder: The executor's folder, as an URL for fsspec.
        number: The call's number.
    """

    def __init__(self, folder: str, number: int) -> None:
        options = json.loads(os.environ.get("AMLTK_AIRFLOW_STORE_OPTIONS") or "{}")
        self._fs, self._path = import_module("fsspec.core").url_to_fs(folder, **options)
        self._number = number
        #: Which call this is, in every header, so that no signed file stands for another.
        self.place: dict[str, object] = {"folder": folder, "number": number}
        self._is_local = "file" in _listed(self._fs.protocol)

    def path(self, kind: str, name: object = None) -> str:
        """Return where a file is."""
        return f"{self._path}/{kind}/{self._number if name is None else name}"

    def read(self, kind: str, name: object = None) -> bytes:
        """Read a file."""
        return bytes(self._fs.cat_file(self.path(kind, name)))

    def exists(self, kind: str) -> bool:
        """Tell whether a file is there by now."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self.path(kind)))

    def write(self, kind: str, data: bytes) -> None:
        """Write a file so that nobody ever sees a part of it."""
        if not self._is_local:  # one request is whole or nothing there, and renaming is a copy
            self._fs.pipe_file(self.path(kind), data)
            return
        part = self.path(kind, f".{uuid4().hex}")
        self._fs.pipe_file(part, data)
        Path(part).replace(self.path(kind))


def _listed(protocol: Any) -> tuple[str, ...]:
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def sign(header: dict[str, Any], body: bytes, secret: str) -> dict[str, Any]:
    """Return a header with the signature of header and body, or as it is without a secret."""
    plain = {name: value for name, value in header.items() if name != "mac"}
    if not secret:
        return plain
    signed = json.dumps(plain, sort_keys=True).encode() + b"\n" + body
    return {**plain, "mac": hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}


def join(header: dict[str, Any], body: bytes, secret: str) -> bytes:
    """Make the content of a file."""
    return json.dumps(sign(header, body, secret)).encode() + b"\n" + body


def split(data: bytes, secret: str) -> tuple[dict[str, Any], bytes]:
    """Take the content of a file apart and check its signature, where there is a secret."""
    line, _, body = data.partition(b"\n")
    header = json.loads(line)
    expected = sign(header, body, secret).get("mac", "")
    if secret and not hmac.compare_digest(str(header.get("mac", "")), expected):
        message = "the signature does not fit: client and workers need the same secret"
        raise RefusedError(message)
    return header, body


def run_call(folder: str, number: int, roots: str) -> None:
    """Run one call and write its outcome; what it raises is raised, so that Airflow sees it.

    Args:
        folder: The executor's folder in the store.
        number: The call's number.
        roots: The store that this deployment allows, or several with commas between.
    """
    require_names(folder, number)
    require_inside(folder, roots)
    files = Files(folder, number)
    # In this order, with the driver doing the same the other way round: either we see its mark
    # or it sees ours.
    files.write("started", b"{}\n")
    if files.exists("cancel"):
        message = "the call was cancelled before it began"
        raise RefusedError(message)
    secret = os.environ.get("AMLTK_AIRFLOW_SECRET", "")
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(files, done, secret), daemon=True)
    watcher.start()
    header, body, error = _outcome(files, secret)
    # From here on it is too late to cancel: whoever is first to set this writes the outcome.
    done.set()
    files.write("outcomes", join({**header, **files.place}, body, secret))
    if error is not None:
        raise error


def require_names(folder: object, number: object) -> None:
    """Refuse what no driver says; whoever may trigger the DAG can say anything."""
    if not isinstance(folder, str):
        message = f"amltk: folder={folder!r} in the run's conf is no text"
        raise RefusedError(message)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        message = f"amltk: number={number!r} in the run's conf is no number of a call"
        raise RefusedError(message)


def require_inside(folder: str, roots: str) -> None:
    """Refuse a folder that is not in the store of this deployment."""
    allowed = [_plain(root) for root in roots.split(",") if root.strip()]
    if not allowed:
        message = (
            "amltk: this Airflow has no payload store; set AMLTK_AIRFLOW_STORE for the workers, or "
            'the variable "amltk_store", or install the DAG with --store'
        )
        raise RefusedError(message)
    if ".." in folder.split("/") or not any(_plain(folder).startswith(f"{r}/") for r in allowed):
        message = f"amltk: {folder} is not in the payload store of this Airflow, {roots}"
        raise RefusedError(message)


def _plain(url: str) -> str:
    path = url.strip().removeprefix("file://").rstrip("/")
    return path if "://" in path else os.path.realpath(path)


def _watch(files: Files, done: threading.Event, secret: str) -> None:
    """End this process when the driver cancels the call: sooner than Airflow would."""
    while not done.wait(CANCEL_LOOK_S):
        try:
            if files.exists("cancel") and not done.is_set():
                files.write("outcomes", join({"kind": "cancelled", **files.place}, b"", secret))
                os._exit(1)
        except Exception:  # noqa: S112 - the store does not answer; Airflow itself ends the task
            continue


_Outcome = tuple[dict[str, Any], bytes, BaseException | None]


def _outcome(files: Files, secret: str) -> _Outcome:
    try:
        header, body = split(files.read("calls"), secret)
        _require_same(header, files.place)
        function, args, kwargs = _read_call(files, header["blobs"], body)
    except RefusedError as error:
        return _told("refused", error)
    except BaseException as error:
        return _told("unreadable", error)
    pid = os.getpid()
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        _end_child(pid, error)
        return _raised(error)
    _end_child(pid, None)
    return _returned(result, function)


def _end_child(pid: int, error: BaseException | None) -> None:
    """End a child of the call that has forked and comes out of its function: it has no say here."""
    if os.getpid() == pid:
        return
    code: object = error.code if isinstance(error, SystemExit) else error and 1
    try:
        if error is not None and not isinstance(error, SystemExit):
            sys.stderr.write(_traceback(error))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code if isinstance(code, int) else bool(code))


def _require_same(header: dict[str, Any], place: dict[str, Any]) -> None:
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if header["format"] != VERSION:
        message = (
            f"the call has format {header['format']}, the installed DAG reads {VERSION}; install "
            f"the DAG again with the client's version: amltk airflow install-dag DIR"
        )
        raise RefusedError(message)
    if any(header[name] != value for name, value in place.items()):
        message = f"the file of this call, {place}, is that of another one"
        raise RefusedError(message)
    if header["python"] != ours:
        message = (
            f"the call was pickled by Python {header['python']} and the worker has {ours}; use the "
            f"same minor version on both sides"
        )
        raise RefusedError(message)


def _read_call(
    files: Files, blobs: list[str], body: bytes
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Unpickle a call, and put what is large, and travels apart, where it belongs."""
    function, args, kwargs, places = pickle.loads(body)
    data = [_blob(files, digest) for digest in blobs]
    filled, named = list(args), dict(kwargs)
    for place, which in places:
        value = pickle.loads(data[which])
        if place == FUNCTION:
            function = value
        elif isinstance(place, int):
            filled[place] = value
        else:
            named[place] = value
    return function, tuple(filled), named


def _blob(files: Files, digest: str) -> bytes:
    if not re.fullmatch("[0-9a-f]{32}", str(digest)):
        message = f"{digest!r} is no digest of a large argument"
        raise RefusedError(message)
    data = files.read("blobs", digest)
    if hashlib.blake2b(data, digest_size=16).hexdigest() != digest:
        message = f"the large argument {digest} was changed in the store"
        raise RefusedError(message)
    return data


def _dumps(value: object) -> bytes:
    cloudpickle = import_module("cloudpickle")
    return bytes(cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))


def _returned(result: object, function: Any) -> _Outcome:
    try:
        return {"kind": "pickled"}, _dumps((True, result)), None
    except BaseException as error:
        header, body, error_told = _told("unpicklable", error)
        name = getattr(function, "__qualname__", None) or type(function).__qualname__
        return {**header, "name": name, "repr": _short(result)}, body, error_told


def _raised(error: BaseException) -> _Outcome:
    text = _traceback(error)
    try:
        body = _dumps((False, error, text))
        # What pickles and does not load would be the driver's trouble otherwise.
        pickle.loads(body)
    except BaseException as reason:
        header, body, _ = _told("exception", error)
        return {**header, "reason": _short(reason)}, body, error
    return {"kind": "pickled"}, body, error


def _told(kind: str, error: BaseException) -> _Outcome:
    """Describe an error in words where it cannot travel itself."""
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    header = {"kind": kind, "type": name, "message": _short(error), "traceback": _traceback(error)}
    return header, b"", error


def _short(value: object) -> str:
    try:
        text = str(value) if isinstance(value, BaseException) else repr(value)
    except Exception:
        text = f"an object of {type(value).__qualname__}"
    return text[:500]


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))[-20_000:]
    except BaseException:
        return f"{type(error).__qualname__} (its traceback could not be formatted)\n"


def _run_of_airflow() -> None:
    sdk = import_module("airflow.sdk")
    conf = sdk.get_current_context()["dag_run"].conf
    roots = os.environ.get("AMLTK_AIRFLOW_STORE") or STORE or sdk.Variable.get("amltk_store", "")
    begun = time.monotonic()
    try:
        run_call(conf.get("folder"), conf.get("number"), roots)
    finally:
        print(f"amltk: {time.monotonic() - begun:.3f} s in the call and its files")  # noqa: T201


def _make_dag() -> Any:
    # By name, since amltk itself is developed and checked without Airflow.
    sdk = import_module("airflow.sdk")
    with sdk.DAG(
        DAG_ID,
        schedule=None,
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=10_000,
        max_active_tasks=10_000,
        tags=["amltk", f"amltk-format-{VERSION}"],
        doc_md="One run is one call of an amltk scheduler.",
    ) as dag:
        # No retries, whatever the deployment's default is: a call that has begun never runs twice.
        sdk.task(task_id=TASK_ID, retries=0, do_xcom_push=False)(_run_of_airflow)()
    return dag


# Airflow gives this file a name of its own; where it is a module of amltk, only its parts are used.
if not __name__.startswith("amltk."):
    dag: Any = _make_dag()
