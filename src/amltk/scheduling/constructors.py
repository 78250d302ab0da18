"""One constructor of a scheduler for each engine; those of batch systems are in ``clusters``.

::

    Scheduler.with_ray(num_cpus=4) ──▶ factory_of("ray", …) ──▶ Scheduler(factory)
                                          checks packages and options at once
    scheduler.run() ── factory() ──▶ the executor of this run, closed when it ends
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from amltk.executors.registry import factory_of
from amltk.scheduling.clusters import ClusterConstructors

if TYPE_CHECKING:
    from amltk.scheduling.closing import Terminate


class Constructors(ClusterConstructors):
    """The ``with_…`` constructors of ``Scheduler``."""

    @classmethod
    def with_processes(
        cls,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        terminate: Terminate = True,
    ) -> Self:
        """Run calls in worker processes of this machine.

        Args:
            max_workers: How many workers at most; as many as there are processors by default.
            mp_context: A context of ``multiprocessing`` to start workers with. By default they
                are started without importing the main module again, so that a script needs no
                ``if __name__ == "__main__":``.
            initializer: Called in each worker when it starts.
            initargs: The initializer's arguments.
            max_tasks_per_child: After how many calls a worker is replaced; never by default.
            terminate: See the class.
        """
        factory = factory_of(
            "processes",
            max_workers=max_workers,
            mp_context=mp_context,
            initializer=initializer,
            initargs=initargs,
            max_tasks_per_child=max_tasks_per_child,
        )
        return cls(factory, terminate=terminate)

    @classmethod
    def with_threads(
        cls,
        max_workers: int | None = None,
        *,
        thread_name_prefix: str = "amltk",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        terminate: Terminate = True,
    ) -> Self:
        """Run calls in threads of this process, which cannot be ended while they run.

        Args:
            max_workers: How many threads at most.
            thread_name_prefix: How the threads are named.
            initializer: Called in each thread when it starts.
            initargs: The initializer's arguments.
            terminate: See the class.
        """
        factory = factory_of(
            "threads",
            max_workers=max_workers,
            thread_name_prefix=thread_name_prefix,
            initializer=initializer,
            initargs=initargs,
        )
        return cls(factory, terminate=terminate)

    @classmethod
    def with_sequential(cls) -> Self:
        """Run one call after the other in the thread of the scheduler: for debugging."""
        return cls(factory_of("sequential"))

    @classmethod
    def with_loky(
        cls,
        max_workers: int | None = None,
        *,
        terminate: Terminate = True,
        recover: bool = True,
        **options: Any,
    ) -> Self:
        """Run calls in the worker processes of loky; needs the extra ``loky``.

        Args:
            max_workers: How many workers at most.
            terminate: See the class.
            recover: See the class.
            **options: Passed on to ``loky.ProcessPoolExecutor``.

        Raises:
            MissingExtraError: When loky is not installed.
        """
        factory = factory_of("loky", max_workers=max_workers, **options)
        return cls(factory, terminate=terminate, recover=recover)

    @classmethod
    def with_dask(
        cls,
        address_or_client: Any = None,
        *,
        n_workers: int | None = None,
        terminate: Terminate = True,
        **options: Any,
    ) -> Self:
        """Run calls on Dask; needs the extra ``dask``.

        Args:
            address_or_client: Where the Dask scheduler is, or a client of yours, which is left
                open after a run. By default a cluster of worker processes is started on this
                machine for each run.
            n_workers: How many worker processes the cluster of this machine has; as many as there
                are processors by default.
            terminate: See the class.
            **options: Passed on to ``distributed.LocalCluster``, or to ``distributed.Client``
                where an address is given.

        Raises:
            MissingExtraError: When distributed is not installed.
            InvalidOptionError: When an option makes no sense.
        """
        factory = factory_of(
            "dask", address_or_client=address_or_client, n_workers=n_workers, **options
        )
        return cls(factory, terminate=terminate)

    @classmethod
    def with_ray(
        cls,
        address: str | None = None,
        *,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        terminate: Terminate = True,
        **init_options: Any,
    ) -> Self:
        """Run calls on Ray; needs the extra ``ray``.

        What a single call needs is said by ``Task.options``, such as ``task.options(num_cpus=2)``.

        Args:
            address: Where a Ray cluster is. By default the Ray that this program has started is
                used, or else one is started on this machine for each run.
            num_cpus: How many processors a Ray that is started here may use.
            num_gpus: How many graphics processors a Ray that is started here may use.
            memory: How many bytes of memory calls of a Ray that is started here may reserve.
            terminate: See the class.
            **init_options: Passed on to ``ray.init``.

        Raises:
            MissingExtraError: When ray is not installed.
            InvalidOptionError: When an option makes no sense.
        """
        factory = factory_of(
            "ray",
            address=address,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            memory=memory,
            **init_options,
        )
        return cls(factory, terminate=terminate)

    @classmethod
    def with_airflow(
        cls,
        url: str,
        *,
        auth: tuple[str, str] | str | Callable[[], str],
        payload_store: str | Path,
        terminate: Terminate = True,
        **options: Any,
    ) -> Self:
        """Run calls as runs of a DAG of Apache Airflow; needs the extra ``airflow``.

        The DAG is installed once by ``amltk airflow install-dag``.

        Args:
            url: Where Airflow's API server is, such as ``"http://127.0.0.1:8080"``.
            auth: User and password, a token, or a function that returns a token.
            payload_store: A folder or a URL for fsspec that this program and Airflow's workers
                can both read and write.
            terminate: See the class.
            **options: More options of the engine; its page in the docs lists them.

        Raises:
            MissingExtraError: When httpx or fsspec is not installed.
            InvalidOptionError: When an option makes no sense.
        """
        factory = factory_of("airflow", url=url, auth=auth, payload_store=payload_store, **options)
        return cls(factory, terminate=terminate)

    @classmethod
    def with_engine(
        cls, name: str, *, terminate: Terminate = True, recover: bool = True, **options: Any
    ) -> Self:
        """Run calls on an engine by its name, such as one that an installed package adds.

        Args:
            name: ``"processes"``, ``"slurm"``, …, or the name of an entry point of the group
                ``amltk.engines``.
            terminate: See the class.
            recover: See the class.
            **options: Passed on to the engine's factory.

        Raises:
            InvalidOptionError: When there is no such engine, or an option makes no sense.
            MissingExtraError: When a package is missing.
        """
        return cls(factory_of(name, **options), terminate=terminate, recover=recover)
