"""Batches for the training loop, on its device before it asks for them: reading and copying overlap with the step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, nullcontext
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from hcpl_kernel.pipeline.executor import Stop, run_in_order

AHEAD = 2
"""Batches that are on the device or on their way to it while a step computes (our choice; each takes its memory there)."""


def feed(make: Callable[[int], Any], steps: Iterable[int], workers: int, device: torch.device) -> Generator[Any, None, None]:
    """The batches of some steps, in their order, with their tensors on a device.

    A thread keeps `AHEAD` batches ready. They are made in `workers` processes, of which each prepares whole batches, or
    without any in that thread. To a GPU they go through pinned memory, on a stream of their own.

    Args:
        make: the batch of a step, a function of the step only; called in threads or in processes.
        steps: which.
        workers: processes.
        device: where the tensors go.

    Raises:
        what `make` raises.
    """
    on_gpu = device.type == "cuda"
    stream = torch.cuda.Stream(device) if on_gpu else None
    batches = _made(make, list(steps), workers, pinned=on_gpu)

    def bring(_: None, fetch: Callable[[], Any], stop: Stop) -> Any:
        with torch.cuda.stream(stream) if stream is not None else nullcontext():
            batch = on_device(fetch(), device)
        if stream is not None:
            stream.synchronize()  # of this thread only: the step goes on
        return batch

    with closing(run_in_order(bring, batches, [None], AHEAD)) as ready:
        for batch in ready:
            if on_gpu:  # its memory was taken on the other stream; it is not given away while this one works on it
                for tensor in _tensors(batch):
                    tensor.record_stream(torch.cuda.current_stream(device))
            yield batch


def on_device(batch: Any, device: torch.device) -> Any:
    """A batch (a tensor, a tuple or a dataclass of such) with its tensors on a device; other values as they are."""
    return _changed(batch, lambda tensor: tensor.to(device, non_blocking=True))


def _made(make: Callable[[int], Any], steps: list[int], workers: int, pinned: bool) -> Iterator[Callable[[], Any]]:
    """For every step what fetches its batch."""
    if workers == 0:
        for step in steps:
            yield lambda step=step: _pinned(make(step)) if pinned else make(step)  # type: ignore[misc]
        return
    loader = iter(DataLoader(_Steps(make), batch_size=None, sampler=steps, num_workers=workers, collate_fn=_as_it_is))
    for _ in steps:
        yield lambda: _pinned(next(loader)) if pinned else next(loader)


def _pinned(batch: Any) -> Any:
    return _changed(batch, torch.Tensor.pin_memory)


def _changed(batch: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(batch, torch.Tensor):
        return change(batch)
    if isinstance(batch, tuple):
        return tuple(_changed(part, change) for part in batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        parts = {field.name: _changed(getattr(batch, field.name), change) for field in dataclasses.fields(batch)}
        return dataclasses.replace(batch, **parts)
    return batch


def _tensors(batch: Any) -> Iterator[torch.Tensor]:
    found: list[torch.Tensor] = []
    _changed(batch, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return iter(found)


class _Steps(Dataset):
    """The batches by step, for a loader with worker processes."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self._make = make

    def __getitem__(self, step: int) -> Any:
        return self._make(step)


def _as_it_is(batch: Any) -> Any:
    return batch
