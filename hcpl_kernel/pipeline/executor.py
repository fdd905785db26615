"""Threads for shards and fields: bounded submission, results in order, the first error out as it was raised."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Generic, TypeVar

Worker = TypeVar("Worker")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Cancelled(Exception):
    """Work was given up because something else failed or the caller stopped; never leaves :func:`run_in_order`."""


class Stop:
    """Tells running work that its result is not wanted any more.

    Work that takes long calls :meth:`check` between its steps.
    """

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """From now on :meth:`check` raises."""
        self._event.set()

    def check(self) -> None:
        """Raise :class:`Cancelled` once the work is not wanted any more."""
        if self._event.is_set():
            raise Cancelled


class _Failure(Generic[Worker]):
    """The first error of any worker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.error: BaseException | None = None

    def note(self, error: BaseException) -> None:
        with self._lock:
            if self.error is None:
                self.error = error


def run_in_order(
    function: Callable[[Worker, Item, Stop], Result],
    items: Iterable[Item],
    workers: Sequence[Worker],
    ahead: int,
) -> Generator[Result, None, None]:
    """Apply a function to every item, one thread per worker, and yield the results in the items' order.

    An item goes to whichever worker is free. When a call raises, calls that have not begun are cancelled, running ones
    are told to stop and joined, and the first error comes out with its own type and message. The same happens when the
    caller closes the iterator or is interrupted: nothing runs any more once control has left it.

    Args:
        function: called as `function(worker, item, stop)`; should call `stop.check()` between steps that take long.
        items: consumed as needed.
        workers: one entry per thread, for instance a network on its device; `None`s where threads need no state.
        ahead: at most so many items are begun or finished and not yet yielded; bounds the memory that they hold.

    Yields:
        The results, in the items' order.
    """
    stop, failure = Stop(), _Failure[Worker]()
    free: SimpleQueue[Worker] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    def call(item: Item) -> Result:
        stop.check()
        worker = free.get()
        try:
            return function(worker, item, stop)
        except Cancelled:
            raise
        except BaseException as error:
            failure.note(error)
            stop.set()
            raise
        finally:
            free.put(worker)

    pool = ThreadPoolExecutor(len(workers), thread_name_prefix="hcpl")
    pending: deque[Future[Result]] = deque()
    remaining = iter(items)
    try:
        exhausted = False
        while True:
            while not exhausted and len(pending) < max(1, ahead):
                try:
                    item = next(remaining)
                except StopIteration:
                    exhausted = True
                    break
                pending.append(pool.submit(call, item))
                del item
            if not pending:
                return
            try:
                result = pending.popleft().result()
            except BaseException:
                if failure.error is not None:
                    raise failure.error from None
                raise
            yield result
            del result  # the caller may have released it; this frame must not keep it alive
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


class Background(Generic[Result]):
    """A stream that a thread of its own makes; the caller takes what is there and does other work meanwhile.

    A context manager: when the block ends, the stream is told to stop, closed, and its thread joined.

    Args:
        make: gives the stream; it should check the :class:`Stop` that it is given between steps that take long.
    """

    def __init__(self, make: Callable[[Stop], Generator[Result, None, None]]) -> None:
        self._stop = Stop()
        self._stream = make(self._stop)
        self._ready: list[Result] = []
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._make, name="hcpl background")
        self._thread.start()

    def __enter__(self) -> Background[Result]:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def take(self) -> list[Result]:
        """What was made since the last call, in order; waits for one result, and gives none when the stream has ended.

        Raises:
            BaseException: what the stream raised, after everything that it made before has been taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended)
            taken, self._ready = self._ready, []
        if not taken and self._failure is not None:
            raise self._failure
        return taken

    def _make(self) -> None:
        try:
            with contextlib.closing(self._stream):
                for result in self._stream:
                    with self._changed:
                        self._ready.append(result)
                        self._changed.notify()
                    del result
                    self._stop.check()
        except BaseException as error:  # noqa: BLE001 - whatever it is, `take` raises it in the caller's thread
            self._failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()
