"""The Ray of this program: started, attached to, or the program's own; see `executor`."""

from __future__ import annotations

import importlib
import os
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from amltk._contexts import context
from amltk.exceptions import ExecutorError, InvalidOptionError
from amltk.executors._signals import kept_handler
from amltk.executors.travel.folders import make_folder
from amltk.executors.travel.surroundings import search_path

#: How long a Ray that was left may take to write its last lines.
_END_S = 15.0

#: Ray's one switch for listening on loopback only, meant for other systems.
_CLUSTER_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"

#: What a Ray that is started here gets, unless the environment says something else: it listens on
#: loopback only, and reports nothing.
_PRIVATE = {_CLUSTER_SWITCH: "0", "RAY_USAGE_STATS_ENABLED": "0"}

#: What Ray itself sets when it starts: that the new cluster asks for a token.
_SET_BY_RAY = "RAY_AUTH_MODE"

#: Options of ``ray.init`` that size a Ray that is started.
_SIZES = ("num_cpus", "num_gpus", "_memory")


def address_meant(address: str | None) -> str | None:
    """Return where to attach to; ``None`` for a Ray of this program, as ``"local"`` is for Ray."""
    return None if address == "local" else address or os.environ.get("RAY_ADDRESS") or None


def connect(address: str | None, options: Mapping[str, Any]) -> tuple[Any, Callable[[], object]]:
    """Return Ray, initialized, and what leaves it again."""
    ray = importlib.import_module("ray")
    address = address_meant(address)
    options = {"log_to_driver": False, "logging_level": "ERROR", **options}
    with _door:
        if ray.is_initialized():
            if _ours.n_users:
                return ray, _share_of(ray)
            _refuse_sizes(options)
            return ray, _leave_alone
        with kept_handler(signal.SIGTERM):
            folder = None
            if address is not None:
                _attach(ray, address, options)
            else:
                folder = _start(ray, {"include_dashboard": False, **options})
        _ours.folder = folder
        return ray, _share_of(ray)


def _refuse_sizes(options: Mapping[str, Any]) -> None:
    sizes = {name.lstrip("_"): options[name] for name in _SIZES if name in options}
    if sizes:
        names = ", ".join(sizes)
        message = (
            f"{names} cannot be given: this program has started Ray already, and that Ray has what "
            f"it has; leave them out, or call ray.shutdown() before"
        )
        raise InvalidOptionError(message, option=names, value=sizes)


class _Ours:
    """What is known of the Ray that executors of this program have started or attached to."""

    n_users = 0
    folder: str | None = None


_ours = _Ours()

#: Held while Ray is initialized or left: a program has one, whatever the number of executors.
_door = threading.Lock()


def _share_of(ray: Any) -> Callable[[], object]:
    """Count a user of our Ray; the last one to leave shuts it down."""
    _ours.n_users += 1

    def leave() -> None:
        with _door:
            _ours.n_users -= 1
            if not _ours.n_users:
                ray.shutdown()
                _forget_token()
                _remove(_ours.folder)

    return leave


def _start(ray: Any, options: Mapping[str, Any]) -> str | None:
    """Start a Ray on this machine and return the folder to remove after it."""
    folder = None
    if "_temp_dir" not in options:
        # Our own, since Ray's default one is never tidied up. Ray lets everybody into the one that it
        # is given, so that is inside of one that nobody else can enter.
        folder = str(make_folder("ray"))
        options = {**options, "_temp_dir": os.path.join(folder, "r")}  # noqa: PTH118 - for Ray
    try:
        with _private_environment(ray):
            ray.init(address="local", **options)
    except BaseException as error:
        _remove(folder)
        if not isinstance(error, Exception):
            raise
        message = f"Ray could not be started on this machine with {dict(options)!r}: {error}"
        raise ExecutorError(message) from error
    return folder


def _attach(ray: Any, address: str, options: Mapping[str, Any]) -> None:
    try:
        ray.init(address=address, **options)
    except Exception as error:
        message = (
            f"no Ray could be reached at {address!r}: {error}. If it asks for a token, set "
            f"RAY_AUTH_MODE=token and RAY_AUTH_TOKEN before Ray is imported; an address that begins "
            f'with "ray://" needs ray[client]'
        )
        raise ExecutorError(message) from error


def _leave_alone() -> None:
    """Do nothing: Ray is the program's own."""


def _remove(folder: str | None) -> None:
    if folder is None:
        return
    # Ray's agents may be writing their last lines.
    deadline = time.monotonic() + _END_S
    while os.path.exists(folder) and time.monotonic() < deadline:  # noqa: PTH110 - a str of tempfile
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


@context
def _private_environment(ray: Any) -> Iterator[None]:
    """Have what a Ray that is started here must find in the environment, for as long as it starts.

    Its workers find modules where this program finds them.
    """
    before = dict(os.environ)
    path = os.pathsep.join(search_path())
    os.environ.update({**_PRIVATE, "RAY_AUTH_TOKEN": _token, **before, "PYTHONPATH": path})
    constants = ray._private.ray_constants
    clusters = constants.ENABLE_RAY_CLUSTER
    if _CLUSTER_SWITCH not in before:
        # Ray read the switch when it was imported, which may have been the program's doing.
        constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = clusters
        for name in (*_PRIVATE, _SET_BY_RAY, "RAY_AUTH_TOKEN", "PYTHONPATH"):
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)


def _forget_token() -> None:
    """Have Ray read the environment again, for a Ray that the program itself may start next."""
    with suppress(ImportError, AttributeError):  # no public ways
        raylet = importlib.import_module("ray._raylet")
        raylet.AuthenticationTokenLoader.instance().reset_cache()
        raylet.Config.initialize("")


#: The token of a Ray that is started here.
_token = secrets.token_hex(32)
