"""A GPU that disappears: the run goes on with the other one or with the CPU, and says so.

The lost device is one that torch computes on the CPU under another name, `cpu:1`, and that fails from a chosen moment on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from hcpl_kernel.pipeline import inference, loading, plan
from hcpl_kernel.runtime import devices
from hcpl_kernel.runtime.allocation import is_gpu_out_of_memory, is_out_of_memory
from hcpl_kernel.segmentation.hpa_networks import Segmentator
from tests.faults.conftest import NETWORK, Case, predicted

LOST = torch.device("cpu", 1)
GONE = "CUDA error: unspecified launch failure"


class Loss:
    """A device that fails once something was computed on it so many times.

    Attributes:
        left: computations before it fails; None for a device that works.
        error: what it raises then.
    """

    def __init__(self) -> None:
        self.left: int | None = None
        self.error: type[RuntimeError] = torch.AcceleratorError if hasattr(torch, "AcceleratorError") else RuntimeError

    def compute(self, device: torch.device) -> None:
        if device != LOST or self.left is None:
            return
        if self.left <= 0:
            raise self.error(GONE)
        self.left -= 1

    def fault(self, device: torch.device) -> str | None:
        return GONE if device == LOST and self.left == 0 else None


@pytest.fixture
def loss(monkeypatch: pytest.MonkeyPatch) -> Loss:
    """What the networks and the segmenter compute on may be lost."""
    loss = Loss()
    views_of, forward = inference.Predictor._views_of, Segmentator.forward

    def compute_views(self: inference.Predictor, *arguments: Any) -> Any:
        loss.compute(self.device)
        return views_of(self, *arguments)

    def compute_maps(self: Segmentator, inputs: Any) -> Any:
        loss.compute(self.device)
        return forward(self, inputs)

    monkeypatch.setattr(inference.Predictor, "_views_of", compute_views)
    monkeypatch.setattr(Segmentator, "forward", compute_maps)
    for module in (loading, devices):
        monkeypatch.setattr(module, "find_fault", loss.fault)
    return loss


def use(monkeypatch: pytest.MonkeyPatch, *found: torch.device) -> None:
    monkeypatch.setattr(devices, "resolve_devices", lambda wanted: (list(found), []))


@pytest.fixture
def whole(case: Case, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What an undisturbed run gives, with a shard for every field."""
    monkeypatch.setattr(plan, "MOST_FIELDS", 1)
    for field_id in "abc":
        case.add(field_id)
    assert case.predict() == 0
    return case.output.read_bytes()


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("found", [(LOST,), (LOST, torch.device("cpu")), (torch.device("cpu"), LOST)], ids=len)
def test_networks_go_on_without_a_lost_device(
    case: Case, whole: bytes, loss: Loss, monkeypatch: pytest.MonkeyPatch, found: Sequence[torch.device], left: int
) -> None:
    use(monkeypatch, *found)
    loss.left = left
    assert case.predict("--fresh", "--strict") == 1
    assert case.output.read_bytes() == whole
    told = json.dumps(case.report["degradations"])
    assert GONE in told and "went on with cpu" in told
    assert all(facts["state"] == "done" for facts in case.report["networks"].values())


def test_a_device_of_another_precision_makes_what_a_later_run_makes_again(
    case: Case, whole: bytes, loss: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        use(patch, LOST)
        patch.setattr(
            "hcpl_kernel.engines.torch_engine.native_precision", lambda device: "bfloat16" if device == LOST else "float32"
        )
        loss.left = 1
        assert case.predict("--fresh") == 0
        elsewhere = case.output.read_bytes()
        loss.left = None
        assert case.predict() == 0  # the device is back
        resumed = case.output.read_bytes()
        assert case.predict("--fresh") == 0
        assert case.output.read_bytes() == resumed != elsewhere


def test_segmentation_goes_on_without_a_lost_device(case: Case, loss: Loss, monkeypatch: pytest.MonkeyPatch) -> None:
    for field_id in "abc":
        case.add(field_id)
    assert case.predict(segment=True) == 0
    whole = case.output.read_bytes()
    use(monkeypatch, LOST)
    loss.left = 1
    assert case.predict("--fresh", segment=True) == 0
    assert case.output.read_bytes() == whole and not case.problems
    warnings = [entry["ID"] for entry in case.report["warnings"] if GONE in entry["reason"]]
    assert len(warnings) == 2  # the first one was segmented by the device
    loss.left = None
    assert case.predict(segment=True) == 0  # the device is back: what it did not segment is made again
    assert GONE not in json.dumps(case.report["warnings"]) and case.output.read_bytes() == whole


def test_an_error_of_the_network_is_not_taken_for_a_lost_device(
    case: Case, whole: bytes, loss: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, LOST)
    loss.left = -1  # raises, but the device still computes
    assert case.predict("--fresh") == 2
    assert case.report["networks"][NETWORK]["state"] == "left out"
    assert "went on with" not in json.dumps(case.report["degradations"]) and predicted(case.rows) == []


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "Unable to find a valid cuDNN algorithm to run convolution",
        "GET was unable to find an engine to execute this computation (cuDNN)",
    ],
)
def test_every_library_s_words_for_a_full_gpu_are_known(text: str) -> None:
    assert is_gpu_out_of_memory(RuntimeError(text)) and is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(ValueError(text))


@pytest.mark.parametrize("text", [GONE, "CUDA error: an illegal memory access was encountered", "mat1 and mat2 shapes"])
def test_other_errors_are_not_taken_for_a_full_gpu(text: str) -> None:
    assert not is_out_of_memory(RuntimeError(text))
