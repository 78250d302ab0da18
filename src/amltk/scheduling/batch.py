"""Several calls of a task of which one wants to hear as of one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, TypeVar

from amltk.events import Emitter, Event, Subscriber
from amltk.exceptions import BatchError, InvalidOptionError
from amltk.scheduling.driverside import DriverSide
from amltk.scheduling.future import Future

if TYPE_CHECKING:
    from amltk.scheduling.task import Task

P = ParamSpec("P")
R = TypeVar("R")


class Batch(DriverSide, Emitter, Generic[P, R]):
    """Several calls of a task, with events of their own; made by ``task.batch(...)``.

    The batch works with a copy of the task, whose plugins are copies too, so that the original
    task's listeners and limits do not see these calls. What plugins emit is emitted by the batch:
    ``batch.on(Comm.REQUEST, ...)``.

    Args:
        task: The task to call.
        args: The positional arguments of each call.
        cancel_on_failed_submission: Whether the other calls are cancelled when one is refused.

    Raises:
        InvalidOptionError: When ``args`` are not tuples.
    """

    #: All calls were handed to the executor; passes their futures.
    BATCH_SUBMITTED: ClassVar[Event[list[Future[Any]]]] = Event("batch-submitted")
    #: All calls returned; passes the results in the order of the arguments.
    BATCH_RETURNED: ClassVar[Event[list[Any]]] = Event("batch-returned")
    #: All calls ended; passes the results, the exceptions and the cancelled futures.
    BATCH_DONE: ClassVar[Event[list[Any], list[BaseException], list[Future[Any]]]] = Event(
        "batch-done"
    )
    #: A call was refused.
    BATCH_FAILED: ClassVar[Event[[]]] = Event("batch-failed")
    #: The batch was cancelled.
    BATCH_CANCELLED: ClassVar[Event[[]]] = Event("batch-cancelled")
    #: One of the calls was handed to the executor.
    ANY_SUBMITTED: ClassVar[Event[Future[Any]]] = Event("batch-any-submitted")
    #: One of the calls has a result or an exception.
    ANY_DONE: ClassVar[Event[Future[Any]]] = Event("batch-any-done")
    #: One of the calls returned.
    ANY_RETURNED: ClassVar[Event[Any]] = Event("batch-any-returned")
    #: One of the calls raised.
    ANY_EXCEPTION: ClassVar[Event[BaseException]] = Event("batch-any-exception")
    #: One of the calls was cancelled.
    ANY_CANCELLED: ClassVar[Event[Future[Any]]] = Event("batch-any-cancelled")

    #: Registers callbacks for ``BATCH_SUBMITTED``.
    on_batch_submitted: Subscriber[list[Future[R]]]
    #: Registers callbacks for ``BATCH_RETURNED``.
    on_batch_returned: Subscriber[list[R]]
    #: Registers callbacks for ``BATCH_DONE``.
    on_batch_done: Subscriber[list[R], list[BaseException], list[Future[R]]]
    #: Registers callbacks for ``BATCH_FAILED``.
    on_batch_failed: Subscriber[[]]
    #: Registers callbacks for ``BATCH_CANCELLED``.
    on_batch_cancelled: Subscriber[[]]
    #: Registers callbacks for ``ANY_SUBMITTED``.
    on_any_submitted: Subscriber[Future[R]]
    #: Registers callbacks for ``ANY_DONE``.
    on_any_done: Subscriber[Future[R]]
    #: Registers callbacks for ``ANY_RETURNED``.
    on_any_returned: Subscriber[R]
    #: Registers callbacks for ``ANY_EXCEPTION``.
    on_any_exception: Subscriber[BaseException]
    #: Registers callbacks for ``ANY_CANCELLED``.
    on_any_cancelled: Subscriber[Future[R]]

    def __init__(
        self,
        task: Task[P, R],
        args: Iterable[Any],
        *,
        cancel_on_failed_submission: bool = True,
    ) -> None:
        given: list[Any] = list(args)
        for place, one in enumerate(given):
            if not isinstance(one, tuple):
                message = (
                    f"call {place} of a batch of {task.name!r} has {one!r} for its arguments, "
                    f"which is not a tuple; write ({one!r},) for one argument"
                )
                raise InvalidOptionError(message, option="args", value=one)
        self.args: list[tuple[Any, ...]] = given
        super().__init__(f"{task.name}-batch")
        self.cancel_on_failed_submission = cancel_on_failed_submission
        self._task = task.copy()
        self._task.plugin_events = self.event_manager
        self._futures: list[Future[R]] = []
        self._n_announced = 0
        self._n_ended = 0
        self._submitted = False
        self._failed = False
        self._told_failed = False
        self._cancelled = False
        self._told_done = False
        self.event_manager.on_failure = task.scheduler.callback_failed
        self.on_batch_submitted = self.subscriber(self.BATCH_SUBMITTED)
        self.on_batch_returned = self.subscriber(self.BATCH_RETURNED)
        self.on_batch_done = self.subscriber(self.BATCH_DONE)
        self.on_batch_failed = self.subscriber(self.BATCH_FAILED)
        self.on_batch_cancelled = self.subscriber(self.BATCH_CANCELLED)
        self.on_any_submitted = self.subscriber(self.ANY_SUBMITTED)
        self.on_any_done = self.subscriber(self.ANY_DONE)
        self.on_any_returned = self.subscriber(self.ANY_RETURNED)
        self.on_any_exception = self.subscriber(self.ANY_EXCEPTION)
        self.on_any_cancelled = self.subscriber(self.ANY_CANCELLED)
        self._listen()

    def __len__(self) -> int:
        """Return how many calls the batch has."""
        return len(self.args)

    def futures(self) -> list[Future[R]]:
        """Return the futures of the calls that were submitted, in the order of the arguments."""
        return list(self._futures)

    def submit(self) -> list[Future[R]]:
        """Hand all calls to the executor.

        Returns:
            The futures of those that were taken, in the order of the arguments.

        Raises:
            BatchError: When the batch was submitted or cancelled before.
            SchedulerNotRunningError: When no run is on; submit from ``on_start``.
        """
        # The loop waits at the gate before it tells the first call: nobody hears of a half batch.
        with self._task.scheduler.gate:
            self._submit_all()
        return self.futures()

    def cancel(self) -> bool:
        """Cancel all calls that can be cancelled.

        From now on the batch emits ``BATCH_CANCELLED`` and nothing more.

        Returns:
            Whether there was anything to cancel: ``False`` when the batch is done or cancelled.
        """
        with self._task.scheduler.gate:
            if self._cancelled or (self._submitted and self._is_over()):
                return False
            self._cancelled = True
            self._task.plugin_events = self._task.event_manager  # which nobody listens to
        for future in self._futures:
            future.cancel()
        if self._submitted:
            self._post(self._tell_cancelled)
        return True

    def _submit_all(self) -> None:
        if self._submitted or self._cancelled:
            before = "cancelled" if self._cancelled else "submitted"
            message = f"{self.name!r} was {before} before; make a new one with task.batch(...)"
            raise BatchError(message)
        self._task.scheduler.require_run()  # an error here leaves the batch as it was
        self._submitted = True
        refused = False
        for one in self.args:
            future = self._task.submit(*one)  # type: ignore[call-arg] # tuples cannot be checked
            if future is not None:
                self._futures.append(future)
                continue
            refused = True
            if self.cancel_on_failed_submission:
                break
        if refused:
            self._fail()
        elif not self.args:
            self._post(self._tell_submitted)
            self._post(self._tell_done)

    # ------------------------------------------------------------- what the copied task tells

    def _listen(self) -> None:
        task = self._task
        task.on_submitted(self._one_submitted)
        task.on_done(self._one_done)
        task.on_f_returned(self._one_returned)
        task.on_f_exception(self._one_raised)
        task.on_f_cancelled(self._one_cancelled)

    def _one_submitted(self, future: Future[R]) -> None:
        with self._task.scheduler.gate:
            self._n_announced += 1
        self._tell(self.ANY_SUBMITTED, future)
        if self._n_announced == len(self.args):
            self._tell_submitted()

    def _one_done(self, future: Future[R]) -> None:
        self._n_ended += 1
        self._tell(self.ANY_DONE, future)

    def _one_returned(self, _future: Future[R], result: R) -> None:
        self._tell(self.ANY_RETURNED, result)
        self._tell_done()

    def _one_raised(self, _future: Future[R], error: BaseException) -> None:
        self._tell(self.ANY_EXCEPTION, error)
        self._tell_done()

    def _one_cancelled(self, future: Future[R]) -> None:
        self._n_ended += 1
        self._tell(self.ANY_CANCELLED, future)
        self._tell_done()

    # ------------------------------------------------------------------- what the batch tells

    def _is_over(self) -> bool:
        return self._n_ended == len(self._futures) and (
            self._failed or len(self._futures) == len(self.args)
        )

    def _tell(self, event: Event[Any], argument: Any) -> None:
        if not self._cancelled:
            self.emit(event, argument)

    def _tell_submitted(self) -> None:
        self._tell(self.BATCH_SUBMITTED, self.futures())

    def _tell_done(self) -> None:
        if self._cancelled or self._told_done or not self._is_over():
            return
        if self._failed and not self._told_failed:
            return  # a call that ended early: that the batch failed comes first
        self._told_done = True
        cancelled = [future for future in self._futures if future.cancelled()]
        ended = [future for future in self._futures if not future.cancelled()]
        errors = [error for future in ended if (error := future.exception()) is not None]
        results = [future.result() for future in ended if future.exception() is None]
        if not self._failed and len(results) == len(self.args):
            self.emit(self.BATCH_RETURNED, results)
        if not self._cancelled:  # a listener may have cancelled it
            self.emit(self.BATCH_DONE, results, errors, cancelled)

    def _fail(self) -> None:
        self._failed = True
        self._post(self._tell_failed)
        if self.cancel_on_failed_submission:
            for future in self._futures:
                future.cancel()

    def _tell_failed(self) -> None:
        if not self._cancelled:
            self._told_failed = True
            self.emit(self.BATCH_FAILED)
            self._tell_done()

    def _tell_cancelled(self) -> None:
        self.emit(self.BATCH_CANCELLED)

    def _post(self, tell: Any) -> None:
        self._task.scheduler.post(tell)
