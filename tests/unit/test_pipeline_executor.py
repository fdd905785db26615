"""The executor: order, bounds, and what happens when something fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator

import pytest

from hcpl_kernel.pipeline.executor import Background, Cancelled, Stop, run_in_order


def test_results_come_in_the_order_of_the_items() -> None:
    def slow_first(_worker: None, item: int, _stop: Stop) -> int:
        time.sleep(0.02 if item == 0 else 0)
        return item * item

    assert list(run_in_order(slow_first, range(6), [None] * 3, ahead=4)) == [0, 1, 4, 9, 16, 25]


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_no_more_than_the_bound_is_begun_and_not_taken(threads: int) -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for item in range(20):
            begun.append(item)
            yield item

    for taken, _ in enumerate(run_in_order(lambda w, item, s: item, items(), [None] * threads, ahead=3)):
        assert len(begun) - taken <= 3


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("error", [KeyError("a"), TypeError("b"), ZeroDivisionError("c"), MemoryError(), SystemExit(7)])
def test_the_first_error_comes_out_as_it_was_raised(workers: int, error: BaseException) -> None:
    begun, ended = threading.Event(), threading.Event()

    def work(_worker: int, item: int, stop: Stop) -> int:
        if item == 2 or workers == 1:
            assert workers == 1 or begun.wait(5)
            raise error
        begun.set()
        try:
            for _ in range(500):
                stop.check()
                time.sleep(0.002)
        finally:
            ended.set()
        return item

    with pytest.raises(type(error)) as caught:
        list(run_in_order(work, [1, 2, 3, 4], range(workers), ahead=4))
    assert caught.value is error
    if workers > 1:
        assert ended.is_set()  # what ran was told to stop, and was joined


def test_nothing_runs_once_the_caller_has_left() -> None:
    running = threading.Semaphore(0)
    active: list[int] = []

    def work(_worker: None, item: int, stop: Stop) -> int:
        active.append(item)
        try:
            if item:
                running.release()
                while True:
                    stop.check()
                    time.sleep(0.001)
        finally:
            active.remove(item)
        return item

    results = run_in_order(work, range(100), [None] * 3, ahead=3)
    assert next(results) == 0
    running.acquire()
    results.close()
    assert not active
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hcpl")]


def test_every_item_meets_a_worker_of_its_own() -> None:
    lock, used = threading.Lock(), set()

    def work(worker: str, item: int, _stop: Stop) -> str:
        with lock:
            assert worker not in used
            used.add(worker)
        time.sleep(0.001)
        with lock:
            used.remove(worker)
        return worker

    assert set(run_in_order(work, range(40), ["cuda:0", "cuda:1"], ahead=4)) == {"cuda:0", "cuda:1"}


def test_an_error_of_the_items_themselves_comes_out() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the listing went away")

    with pytest.raises(OSError, match="went away"):
        list(run_in_order(lambda w, item, s: item, items(), [None], ahead=2))


def test_a_stop_is_silent_until_it_is_set() -> None:
    stop = Stop()
    stop.check()
    stop.set()
    with pytest.raises(Cancelled):
        stop.check()


def test_a_background_stream_gives_what_is_made_so_far() -> None:
    more = threading.Event()

    def stream(_stop: Stop) -> Generator[int, None, None]:
        yield 1
        assert more.wait(5)
        yield 2
        yield 3

    with Background(stream) as background:
        assert background.take() == [1]
        more.set()
        taken: list[int] = []
        while ready := background.take():
            taken += ready
        assert taken == [2, 3] and background.take() == []


def test_what_a_background_stream_raises_comes_out_after_what_it_made() -> None:
    def stream(_stop: Stop) -> Generator[int, None, None]:
        yield 1
        raise KeyError("a")

    with Background(stream) as background:
        assert background.take() == [1]
        with pytest.raises(KeyError):
            background.take()


def test_a_background_stream_is_stopped_closed_and_joined() -> None:
    closed = threading.Event()

    def stream(stop: Stop) -> Generator[int, None, None]:
        try:
            yield 0
            while True:
                stop.check()
                time.sleep(0.002)
        finally:
            closed.set()

    with pytest.raises(ZeroDivisionError), Background(stream) as background:
        background.take()
        raise ZeroDivisionError
    assert closed.is_set()
