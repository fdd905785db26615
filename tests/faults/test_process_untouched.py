"""A call from Python leaves its process as it was: threads, cores, environment, locale, signals."""

from __future__ import annotations

import locale
import os
import signal
import threading

import cv2
import pytest
import torch

import hcpl_kernel
from hcpl_kernel.errors import HcplError

from .conftest import PIXEL_SIZE, Case


def state() -> dict[str, object]:
    return {
        "cores": os.sched_getaffinity(0),
        "environment": dict(os.environ),
        "locale": locale.setlocale(locale.LC_ALL),
        "opencv threads": cv2.getNumThreads(),
        "torch threads": torch.get_num_threads(),
        "precision": torch.get_float32_matmul_precision(),
        "type": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "folder": os.getcwd(),
        "mask": os.umask(os.umask(0o022)),
        "threads": {thread for thread in threading.enumerate() if not thread.daemon},
    }


def test_a_call_leaves_its_process_as_it_was(case: Case) -> None:
    for field_id in "ab":
        case.add(field_id)
    opencv, torch_count = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(3)
    torch.set_num_threads(3)
    try:
        for device in ("cpu", "cpu:2"):
            before = state()
            result = hcpl_kernel.predict(
                case.fields,
                case.weights,
                case.folder / f"{device[-1]}.csv",
                labels=case.labels,
                pixel_size=PIXEL_SIZE,
                device=device,
                quiet=True,
            )
            assert result.readable == 2
            assert state() == before
    finally:
        cv2.setNumThreads(opencv)
        torch.set_num_threads(torch_count)


def test_a_call_that_fails_leaves_its_process_as_it_was(case: Case) -> None:
    case.add("a")
    before = state()
    with pytest.raises(HcplError, match="nowhere"):
        hcpl_kernel.predict(case.fields, case.folder / "nowhere", case.output, labels=case.labels)
    assert state() == before


def test_the_limit_of_a_call_counts_from_the_call(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.add("a")
    monkeypatch.setenv("HCPL_STARTED_AT", "1")  # what the command line would refuse
    result = hcpl_kernel.predict(
        case.fields, case.weights, case.output, labels=case.labels, pixel_size=PIXEL_SIZE, time_limit="1h", device="cpu"
    )
    assert result.cells and not result.degraded
