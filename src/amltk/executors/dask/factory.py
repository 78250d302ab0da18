"""What makes executors on Dask: of the program's options, checked before there is a cluster."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any

from amltk._checks import check_whole
from amltk._optional import require
from amltk.exceptions import InvalidOptionError, UnprotectedWarning
from amltk.executors.dask.cluster import on_this_machine
from amltk.executors.dask.executor import DaskExecutor
from amltk.executors.dask.session import attach, open_cluster, security_of
from amltk.executors.traits import Factory, Traits


def dask_factory(
    address_or_client: Any = None,
    *,
    n_workers: int | None = None,
    threads_per_worker: int = 1,
    **options: Any,
) -> Factory:
    """Return what makes an executor on Dask.

    Args:
        address_or_client: Where Dask's scheduler is, or a client of it, which stays open. By
            default a cluster of processes of this machine is started.
        n_workers: How many processes a cluster of this machine has.
        threads_per_worker: How many calls at once each of them runs. With more than one, a running
            call cannot be ended, and a worker's death costs as many calls.
        **options: Of ``distributed.LocalCluster``, or of ``distributed.Client`` with an address.

    Raises:
        MissingExtraError: When distributed is not installed.
        InvalidOptionError: When an option makes no sense.
    """
    distributed = require("distributed", extra="dask", purpose='the "dask" executor')
    traits = Traits(shares_machine=None)  # what else there is to know, the cluster tells
    if address_or_client is None:
        if n_workers is not None:
            check_whole("n_workers", n_workers, least=1)
        check_whole("threads_per_worker", threads_per_worker, least=1)
        local = {
            "n_workers": n_workers,
            "threads_per_worker": threads_per_worker,
            "dashboard_address": "127.0.0.1:0",
            "host": "127.0.0.1",
            **options,
        }
        if "security" not in options:
            local["security"] = _can_be_private()
        at_once = None if n_workers is None else n_workers * threads_per_worker
        make = partial(_on_this_machine, distributed, local)
        return Factory(make, replace(traits, n_workers=at_once))
    given = {"n_workers": n_workers} if n_workers is not None else {}
    if isinstance(address_or_client, distributed.Client):
        _refuse_options("with a client of yours", {**given, **options})
        return Factory(partial(DaskExecutor, address_or_client), traits)
    if not isinstance(address_or_client, str):
        message = (
            f"{address_or_client!r} is neither an address nor a client of Dask; give for example "
            f'"tcp://10.0.0.1:8786"'
        )
        raise InvalidOptionError(message, option="address_or_client", value=address_or_client)
    _refuse_options("with an address", given)
    return Factory(partial(_at_address, distributed, address_or_client, options), traits)


def _can_be_private() -> bool:
    """Tell whether a cluster of this machine can be had that other users of it cannot command."""
    if find_spec("cryptography") is not None:
        return True
    message = (
        "other users of this machine can command the Dask cluster that is started on it, and so run what "
        "they like as you, since its connections cannot be encrypted: install cryptography, or say by "
        "security=False that there are no others"
    )
    warnings.warn(message, UnprotectedWarning, stacklevel=5)
    return False


def _refuse_options(why: str, options: Mapping[str, Any]) -> None:
    if options:
        names = ", ".join(options)
        message = f"{names} cannot be given {why}; they are for a cluster that is started here"
        raise InvalidOptionError(message, option=names, value=dict(options))


def _at_address(distributed: Any, address: str, options: Mapping[str, Any]) -> DaskExecutor:
    client = attach(distributed, address, options)
    return DaskExecutor(client, close=client.close)


def _on_this_machine(distributed: Any, options: Mapping[str, Any]) -> DaskExecutor:
    alone = options["threads_per_worker"] == 1 and options.get("processes", True)
    security = security_of(options.get("security"))
    options = {**options, "security": security}
    client, close = open_cluster(distributed, on_this_machine, options, security=security)
    return DaskExecutor(client, close=close, ends_running_calls=alone)
