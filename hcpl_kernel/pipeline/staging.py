"""Crops on their way from the disk to a device: read once into page-locked memory, copied on a stream of their own.

A GPU copies while it computes where the memory is page-locked and the copy is not on the stream that computes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

_own = threading.local()


def send(crops: np.ndarray | Tensor, device: torch.device) -> Callable[[], Tensor]:
    """Begin to copy crops to a device.

    Args:
        crops: (n, S, S, 4) uint8, perhaps mapped from a file, which is read here; or a tensor.
        device: where they go.

    Returns:
        A function that gives them, (n, S, S, 4) uint8 on the device, to what is computed next on the present stream of the
        thread that calls it. It does not wait: on a GPU, the stream does.
    """
    if isinstance(crops, Tensor):
        given = crops.to(device)
        return lambda: given
    if device.type != "cuda":
        there = torch.from_numpy(np.array(crops))
        return lambda: there
    locked = torch.empty(crops.shape, dtype=torch.uint8, pin_memory=True)
    np.copyto(locked.numpy(), crops)
    copying = _copying_stream(device)
    with torch.cuda.stream(copying):
        sent = locked.to(device, non_blocking=True)
        arrived = copying.record_event()

    def receive() -> Tensor:
        computing = torch.cuda.current_stream(device)
        computing.wait_event(arrived)
        sent.record_stream(computing)  # its memory is not given away before what is computed of it has run
        return sent

    return receive


def wait_for(device: torch.device) -> Callable[[], None]:
    """A function that returns when what a GPU was told so far on the present stream is done; other threads run meanwhile."""
    if device.type != "cuda":
        return lambda: None
    event = torch.cuda.Event(blocking=True)
    event.record(torch.cuda.current_stream(device))
    return event.synchronize


def _copying_stream(device: torch.device) -> torch.cuda.Stream:
    """The calling thread's own stream for copies to a GPU."""
    streams: dict[torch.device, torch.cuda.Stream] = _own.__dict__.setdefault("streams", {})
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)
    return streams[device]
