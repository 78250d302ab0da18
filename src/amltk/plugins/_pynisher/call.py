"""A limited call, as the worker sees it.

pynisher is called with a ``context`` of ours. It makes the plan of the call: which limits the
process sets on itself, what comes back, and what an exit code means. The context has the processes:
how they are started, the wall clock, the watch on memory, and how everything is ended.

Called with multiprocessing's contexts, pynisher 1.0.10 adds 5 seconds to each call that runs out of
time, keeps two file descriptors open for each call, and leaves the worker deaf to TERM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from amltk.executors.travel.envelope import PortableFunction, name_of, pack_call, unpack_outcome
from amltk.plugins._pynisher.child import LimitedFunction, Sender, let_travel
from amltk.plugins._pynisher.library import load
from amltk.plugins._pynisher.limits import Limits
from amltk.plugins._pynisher.process import CallProcess
from amltk.plugins._pynisher.start import choose_method


def call_limited(
    function: PortableFunction[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    limits: Limits,
) -> Any:
    """Call a function in a process of its own, within limits.

    Args:
        function: What to call.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        limits: What the call may use.

    Returns:
        What the function returns.

    Raises:
        PynisherException: When a limit is reached; subclasses say which.
        WorkerDiedError: When the process has died without a limit being the reason.
        BaseException: What the function raises.
    """
    pynisher = load()
    name = name_of(function)
    method = choose_method(limits)
    call = (
        (function.function, args, dict(kwargs))
        if method == "fork"
        else pack_call(function, args, kwargs)
    )
    process = CallProcess(name, limits, method, pynisher)
    limited = pynisher.limit(
        LimitedFunction(name, call, limits.address_space),
        memory=limits.address_space,
        cpu_time=limits.cpu_time_s,
        context=_Context(process),
        warnings=False,  # of a memory limit that is made relative later
        terminate_child_processes=False,  # the keeper does
    )
    try:
        outcome = limited()
    except pynisher.PynisherException as error:
        failure = process.explain(error)
        if failure is not error:
            raise failure from error
        let_travel(error)
        raise
    finally:
        process.close()
    returned, value = unpack_outcome(outcome)
    if returned:
        return value
    if isinstance(value, pynisher.PynisherException):
        let_travel(value)
    raise value


class _Context:
    """What pynisher needs of a multiprocessing context.

    Args:
        process: The one process that it is going to ask for.
    """

    def __init__(self, process: CallProcess) -> None:
        self._process = process

    def Pipe(self, duplex: bool) -> tuple[CallProcess, Sender]:  # noqa: N802, FBT001 - multiprocessing's
        """Return the receiving end, and one that is told later where to send."""
        del duplex
        return self._process, Sender()

    def Process(self, *, target: Callable[[], object], **options: Any) -> CallProcess:  # noqa: N802 - multiprocessing's
        """Return the process."""
        del options
        self._process.target = target
        return self._process
