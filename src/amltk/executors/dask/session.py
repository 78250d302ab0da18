"""Dask's clients: of a cluster that is there already, or of one that is started beside this process.

::

    attach ───────▶ client ◀─────── Dask's scheduler, somebody else's
    open_cluster ─▶ client, close ─▶ a process of its own that has Dask's scheduler; `cluster`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from amltk._contexts import context
from amltk._optional import require
from amltk.exceptions import ExecutorError
from amltk.executors.dask.cluster import ClusterProcess, Opener


def attach(distributed: Any, address: str, options: Mapping[str, Any]) -> Any:
    """Return a client of a cluster that is there already.

    Args:
        distributed: The package.
        address: Where its scheduler is.
        options: Of ``distributed.Client``.

    Raises:
        ExecutorError: When it cannot be reached.
    """
    try:
        return _connected(distributed, address, **options)
    except (OSError, TypeError, ValueError) as error:  # the latter of an address, or of TLS
        message = f"no Dask scheduler could be reached at {address!r}: {error}"
        raise ExecutorError(message) from error


def open_cluster(
    distributed: Any, opener: Opener, options: Mapping[str, Any], *, security: Any
) -> tuple[Any, Callable[[], None]]:
    """Open a cluster in a process of its own.

    Args:
        distributed: The package.
        opener: Opens it there.
        options: The opener's.
        security: What connections are encrypted with, if anything.

    Returns:
        A client, and what closes client and cluster.

    Raises:
        ExecutorError: When it could not be opened.
    """
    cluster = ClusterProcess(opener, options)
    try:
        client = _connected(distributed, cluster.address, security=security)
    except BaseException:
        cluster.close()
        raise

    def close() -> None:
        client.close()
        cluster.close()

    return client, close


def _connected(distributed: Any, address: str, **options: Any) -> Any:
    """Return a client; one that cannot connect is closed here and now.

    Dask leaves that to its collection as garbage. This may fall to the thread in which another
    client starts, and waits there for a lock that is held until that thread has begun.
    """
    client = distributed.Client.__new__(distributed.Client)
    try:
        client.__init__(address, set_as_default=False, **options)
    except BaseException:
        if hasattr(client, "_loop_runner"):
            client.close()
            client._loop_runner.stop()  # which a client that closed by itself leaves running
        raise
    return client


def security_of(given: Any) -> Any:
    """Return what Dask encrypts connections with; of ``True``, certificates made for one run."""
    if given is not True:
        return given or None
    require("cryptography", extra="tls", purpose="security=True")
    from distributed.security import Security

    return Security.temporary()  # type: ignore[no-untyped-call] # Dask's


def install_keeper(client: Any) -> None:
    """Have Dask's scheduler keep our calls."""
    from amltk.executors.dask.calls import CallKeeper

    try:
        client.register_plugin(CallKeeper())
    except Exception as error:
        message = (
            f"Dask's scheduler at {client.scheduler.address} could not be told how calls are kept: "
            f"{error}; is amltk installed where it runs?"
        )
        raise ExecutorError(message) from error


def has_lone_workers(client: Any) -> bool:
    """Tell whether each worker that there is runs one call at a time, under a nanny."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return all(worker["nthreads"] == 1 and worker["nanny"] for worker in workers)


@context
def no_size_warning() -> Iterator[None]:
    """Have Dask not warn of large graphs: ours are calls, and large arguments travel once."""
    import dask.config

    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 PB"}):
        yield
