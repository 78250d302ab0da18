"""Apache Airflow as an engine; extra: ``airflow``.

One run of the DAG that amltk ships is one call. Calls and their outcomes travel through a folder or
an object store that this program and Airflow's workers share; Airflow is told by its REST API when
to run one, and asked what became of it. Who does what is drawn in ``calls.py`` and
``dag.py``.
"""

from __future__ import annotations

import atexit
import os
import secrets
import warnings
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from concurrent.futures import wait as wait_for
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar, ParamSpec, TypeVar
from urllib.parse import urlsplit

from amltk._checks import check_whole
from amltk._optional import require
from amltk.exceptions import CallPicklingError, InvalidOptionError, UnprotectedWarning
from amltk.executors.airflow.api import AirflowApi, Auth
from amltk.executors.airflow.calls import AirflowFuture, Calls
from amltk.executors.airflow.dag import DAG_ID
from amltk.executors.airflow.reach import Settings
from amltk.executors.airflow.store import Packed, Packer, PayloadStore
from amltk.executors.traits import Factory, Traits
from amltk.executors.travel.envelope import name_of

P = ParamSpec("P")
R = TypeVar("R")

#: How long an outcome may take to be seen in a store that is not a folder of this machine.
_REMOTE_SETTLE_S = 5.0


class AirflowExecutor(Executor):
    """Runs calls as runs of a DAG of Airflow; made by ``airflow_factory``, which has the options.

    Args:
        url: Where Airflow's API server is.
        auth: User and password, a token, or a function that returns a token.
        payload_store: The store, as an URL or an absolute path.
        storage_options: Options of fsspec for it.
        secret: What calls and outcomes are signed with.
        settings: How to behave.
    """

    traits: ClassVar[Traits] = Traits(
        packs_itself=True, ends_running_calls=True, shares_machine=None
    )

    def __init__(
        self,
        url: str,
        *,
        auth: Auth,
        payload_store: str,
        storage_options: Mapping[str, Any],
        secret: str,
        settings: Settings,
    ) -> None:
        executor_id = secrets.token_hex(6)
        api = AirflowApi(url, auth, settings.dag_id)
        store = PayloadStore(payload_store, executor_id, storage_options, secret)
        if settings.settle_s < 0:
            settings = _settled(settings, 0.0 if store.is_local else _REMOTE_SETTLE_S)
        self._packer = Packer()
        self._calls = Calls(settings, executor_id, api, store)
        # An executor that is forgotten is shut down. One that is alive at exit finishes its calls,
        # as the standard pool does.
        weakref.finalize(self, self._calls.close).atexit = False
        _alive.add(self)

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> AirflowFuture:
        """Hand a call to Airflow, as soon as it has room.

        Args:
            fn: What to call.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The call's future. If the call cannot be pickled, the future has failed already.

        Raises:
            ExecutorError: When the executor is shut down.
        """
        name = name_of(fn)
        try:
            packed = self._packer.pack(fn, args, kwargs)
        except CallPicklingError as error:
            failed = AirflowFuture(self._calls, name, Packed(b"", {}))
            failed.set_exception(error)
            return failed
        future = AirflowFuture(self._calls, name, packed)
        self._calls.submit(future)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the standard's signature
        """Take no more calls; when the last one has ended, the payload folder is removed.

        Args:
            wait: Whether to wait until then. In a callback of a future nothing is waited for: it
                runs in the thread that completes them.
            cancel_futures: Whether calls that Airflow was not told of are cancelled.
        """
        self._calls.close()
        if cancel_futures:
            for future in self._calls.live():
                future.cancel_pending()
        _alive.discard(self)
        if wait and not self._calls.is_own_thread():
            wait_for(self._calls.live())
            self._calls.join()


def airflow_factory(
    url: str,
    *,
    auth: Auth,
    payload_store: str | Path,
    max_workers: int = 4,
    poll_interval_s: float = 1.0,
    start_timeout_s: float = 60.0,
    api_down_limit_s: float = 600.0,
    settle_s: float | None = None,
    keep_runs: bool = True,
    dag_id: str = DAG_ID,
    storage_options: Mapping[str, Any] | None = None,
    secret: str | None = None,
) -> Factory:
    """Return what makes an executor on Airflow.

    Args:
        url: Where Airflow's API server is, such as ``"http://127.0.0.1:8080"``.
        auth: User and password, a token, or a function that returns a token.
        payload_store: A folder or an URL for fsspec that this program and Airflow's workers can
            both read and write.
        max_workers: How many calls are with Airflow at once, running or queued; others wait here.
        poll_interval_s: How often Airflow is asked what its tasks are doing.
        start_timeout_s: How long Airflow may take to find the DAG.
        api_down_limit_s: How long Airflow or the store may be away until all calls fail.
        settle_s: How long an outcome may take to be seen here after its task has ended; by default
            not at all in a folder of this machine, and 5 seconds elsewhere. A network folder that
            is mounted looks like one of this machine.
        keep_runs: Whether runs of calls that are done stay in Airflow's database.
        dag_id: What the DAG is called, if it was installed under another name.
        storage_options: Options of fsspec for the store.
        secret: What calls and outcomes are signed with, the same as ``AMLTK_AIRFLOW_SECRET`` of
            the workers; by default what this variable is here, if it is set.

    Raises:
        MissingExtraError: When httpx or fsspec is not installed.
        InvalidOptionError: When an option makes no sense.
    """
    for package in ("httpx", "fsspec"):
        require(package, extra="airflow", purpose='the "airflow" executor')
    _check_url(url)
    _check_auth(auth)
    check_whole("max_workers", max_workers, least=1)
    _check_seconds("poll_interval_s", poll_interval_s, least=0.05)
    _check_seconds("start_timeout_s", start_timeout_s)
    _check_seconds("api_down_limit_s", api_down_limit_s)
    _check_seconds("settle_s", 0.0 if settle_s is None else settle_s)
    settings = Settings(
        dag_id=dag_id,
        max_workers=max_workers,
        poll_interval_s=poll_interval_s,
        start_timeout_s=start_timeout_s,
        api_down_limit_s=api_down_limit_s,
        settle_s=-1.0 if settle_s is None else settle_s,
        keep_runs=keep_runs,
    )
    if secret is None:
        secret = os.environ.get("AMLTK_AIRFLOW_SECRET", "")
    store = _store_url(payload_store)
    make = partial(
        AirflowExecutor,
        url,
        auth=auth,
        payload_store=store,
        storage_options=storage_options or {},
        secret=secret,
        settings=settings,
    )
    return Factory(make, replace(AirflowExecutor.traits, n_workers=max_workers))


def _settled(settings: Settings, settle_s: float) -> Settings:
    from dataclasses import replace

    return replace(settings, settle_s=settle_s)


def _check_url(url: object) -> None:
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        message = f'url={url!r} is no address; give one such as "http://127.0.0.1:8080"'
        raise InvalidOptionError(message, option="url", value=url)
    if parts.path.rstrip("/").endswith("/api/v2"):
        message = f"url={url!r} goes too deep; leave /api/v2 away"
        raise InvalidOptionError(message, option="url", value=url)
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        warnings.warn(
            f"user and password, or the token, travel to Airflow at {parts.hostname} without TLS, where "
            f"others on the network can read them; use https://",
            UnprotectedWarning,
            stacklevel=5,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost" or host.endswith(".localhost")


def _check_auth(auth: object) -> None:
    is_pair = isinstance(auth, tuple) and [type(part) for part in auth] == [str, str]
    if not (is_pair or callable(auth) or (isinstance(auth, str) and auth)):
        # What it is may be half of a password: it is not shown.
        message = (
            f"auth= is a {type(auth).__name__} that cannot be used; give (user, password), a "
            f"token, or a function that returns a token"
        )
        raise InvalidOptionError(message, option="auth", value=type(auth).__name__)


def _check_seconds(option: str, value: object, *, least: float = 0.0) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value >= least:
        message = f"{option}={value!r} is not possible; give seconds from {least:g}"
        raise InvalidOptionError(message, option=option, value=value)


def _store_url(store: object) -> str:
    if not isinstance(store, (str, Path)) or not str(store):
        message = f"payload_store={store!r} is not possible; give a folder or an URL for fsspec"
        raise InvalidOptionError(message, option="payload_store", value=store)
    text = str(store)
    if text.startswith("memory:"):
        message = (
            "payload_store is in this program's memory, where no worker finds it; give a folder"
        )
        raise InvalidOptionError(message, option="payload_store", value=store)
    if "://" in text:
        return text
    return str(Path(text).expanduser().resolve())


#: Executors that were not shut down, to be so at exit.
_alive: weakref.WeakSet[AirflowExecutor] = weakref.WeakSet()


@atexit.register
def _shut_down_all() -> None:
    for executor in list(_alive):
        executor.shutdown(wait=True)
