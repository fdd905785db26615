"""Devices that share the batches of a shard: the same numbers, equal work, and errors as they were raised."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from torch import Tensor

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.pipeline import inference, loading
from hcpl_kernel.pipeline.device_group import DeviceGroup
from hcpl_kernel.pipeline.executor import Cancelled, Stop
from hcpl_kernel.pipeline.inference import Predictor
from hcpl_kernel.pipeline.loading import DeviceLost
from tests.apart_engine import Apart
from tests.unit.test_inference import crops, predictor, spec

FIELD_OF_CELL = np.array([0, 0, 0, 2, 2, 2, 2])


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> list[Predictor]:
    """A network on two devices, in batches of two cells."""
    monkeypatch.setattr(inference, "get_engine", lambda name: Apart())
    monkeypatch.setattr(inference, "GPU_BATCH", 2)
    return [predictor(spec("dsa")) for _ in range(2)]


def test_several_devices_say_what_one_says(two: list[Predictor]) -> None:
    stored = crops(7)
    alone = DeviceGroup(two[:1]).predict(stored, FIELD_OF_CELL, 3, Stop())
    shared = DeviceGroup(two).predict(stored, FIELD_OF_CELL, 3, Stop())
    np.testing.assert_array_equal(shared.prob_cell, alone.prob_cell)
    np.testing.assert_array_equal(shared.prob_image, alone.prob_image)  # type: ignore[arg-type]


def test_the_batches_of_one_shard_are_computed_on_all_devices_at_once(two: list[Predictor]) -> None:
    meeting = threading.Barrier(2, timeout=60)
    for each in two:
        compute = each._engine.descriptors

        def meet(cells: Tensor, compute=compute) -> Tensor:  # type: ignore[no-untyped-def]
            meeting.wait()
            return compute(cells)

        each._engine.descriptors = meet  # type: ignore[method-assign]
    assert DeviceGroup(two).predict(crops(4), np.zeros(4, np.int64), 1, Stop()).prob_cell.shape == (4, 19)


def test_a_shard_without_cells_needs_no_device(two: list[Predictor]) -> None:
    nothing = DeviceGroup(two).predict(crops(0), np.zeros(0, np.int64), 5, Stop())
    assert nothing.prob_cell.shape == (0, 19) and nothing.prob_image.shape == (5, 19)  # type: ignore[union-attr]


def test_what_a_device_raises_comes_out(two: list[Predictor], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(cells: Tensor) -> Tensor:
        raise RuntimeError("CUDA error: unspecified launch failure")

    for each in two:
        each._engine.descriptors = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="launch failure"):
        DeviceGroup(two).predict(crops(7), FIELD_OF_CELL, 3, Stop())
    monkeypatch.setattr(loading, "find_fault", lambda device: "it is gone")
    with pytest.raises(DeviceLost, match="it is gone"):
        DeviceGroup(two).predict(crops(7), FIELD_OF_CELL, 3, Stop())


def test_work_that_is_not_wanted_any_more_ends(two: list[Predictor]) -> None:
    stop = Stop()
    stop.set()
    with pytest.raises(Cancelled):
        DeviceGroup(two).predict(crops(7), FIELD_OF_CELL, 3, stop)


def test_a_device_that_is_lost_while_a_network_is_made_ready_is_not_the_network_s_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = SettingsError("torch.compile failed on tiny: CUDA error: unspecified launch failure; use --engine torch")
    for fault, raised in ((None, SettingsError), ("it is gone", DeviceLost)):
        monkeypatch.setattr(loading, "find_fault", lambda device, fault=fault: fault)
        with pytest.raises(raised), loading.losing(torch.device("cpu")):
            raise refused
