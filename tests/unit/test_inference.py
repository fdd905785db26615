"""One network over one shard: preparing crops, views, bags, batches, and a GPU that runs out of memory."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks import build
from hcpl_kernel.pipeline import inference
from hcpl_kernel.pipeline.executor import Cancelled, Stop
from hcpl_kernel.pipeline.inference import Predictor, affordable_batch, network_input, view
from hcpl_kernel.runtime.process_tuning import torch_threads
from tests.apart_engine import Apart

CPU = torch.device("cpu")


def spec(kind: str = "dsa", **changes: object) -> NetworkSpec:
    values = {"name": "n", "kind": kind, "base": "test_efficientnet", "input_size": 64, "file": "f", **changes}
    return NetworkSpec(**values)  # type: ignore[arg-type]


def crops(count: int, side: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 4), dtype=np.uint8)


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparisons here are of numbers, so half precision is left out."""
    monkeypatch.setattr("hcpl_kernel.engines.torch_engine.native_precision", lambda device: "float32")


def predictor(network_spec: NetworkSpec, views: int | None = None) -> Predictor:
    torch.manual_seed(0)
    return Predictor(build(network_spec).eval(), network_spec, CPU, "torch", views)


def test_masked_crops_are_black_outside_the_cell_and_kept_ones_are_not() -> None:
    stored = np.full((1, 64, 64, 4), 200, np.uint8)  # 200 is even: nothing is masked in
    stored[0, :32, :, 3] |= 1
    masked = network_input(stored, spec(crop="masked"), CPU)
    kept = network_input(stored, spec(crop="unmasked"), CPU)
    assert (masked[:, :, 32:] == 0).all() and (kept[:, :3] == 200 / 255).all()
    torch.testing.assert_close(masked[:, :3, :32], kept[:, :3, :32])
    assert masked.is_contiguous(memory_format=torch.channels_last)


def test_crops_have_the_device_s_memory_order(monkeypatch: pytest.MonkeyPatch) -> None:
    for layout in (torch.channels_last, torch.contiguous_format):
        monkeypatch.setattr(inference, "memory_format", lambda device, layout=layout: layout)
        assert network_input(crops(2), spec(), CPU).is_contiguous(memory_format=layout)


def test_crops_are_resized_to_what_the_network_takes() -> None:
    assert network_input(crops(2, side=96), spec(), CPU).shape == (2, 4, 64, 64)
    assert network_input(crops(2, side=48), spec(), CPU).shape == (2, 4, 64, 64)


def test_the_views_are_the_eight_symmetries_of_the_square() -> None:
    cell = torch.arange(9.0).reshape(1, 1, 3, 3)
    seen = {tuple(view(cell, index).flatten().tolist()) for index in range(8)}
    assert len(seen) == 8
    assert torch.equal(view(cell, 0), cell) and torch.equal(view(cell, 1), cell.flip(3))


@pytest.mark.usefixtures("in_float32")
def test_all_eight_views_make_the_prediction_independent_of_the_orientation() -> None:
    stored = crops(3)
    turned = np.ascontiguousarray(np.rot90(stored, 1, (1, 2)))
    bag = np.zeros(3, np.int64)
    upright, other = (predictor(spec(), views=8).predict(c, bag, 1) for c in (stored, turned))
    np.testing.assert_allclose(upright.prob_cell, other.prob_cell, atol=1e-5)
    np.testing.assert_allclose(upright.prob_image, other.prob_image, atol=1e-5)


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("kind", ["dsa", "cla", "clh"])
def test_batches_and_neighbours_in_the_batch_do_not_matter(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stored, bag = crops(7), np.array([0, 0, 0, 2, 2, 2, 2])
    together = predictor(spec(kind)).predict(stored, bag, 3)
    monkeypatch.setattr(inference, "CPU_BATCH", 2)
    apart = predictor(spec(kind)).predict(stored, bag, 3)
    np.testing.assert_allclose(together.prob_cell, apart.prob_cell, atol=1e-5)
    if kind == "dsa":
        alone = predictor(spec(kind)).predict(stored[3:], np.zeros(4, np.int64), 1)
        np.testing.assert_allclose(together.prob_image[2], alone.prob_image[0], atol=1e-5)  # type: ignore[index]
    else:
        assert together.prob_image is None


def test_a_shard_without_cells_is_predicted_too() -> None:
    empty = np.empty((0, 64, 64, 4), np.uint8)
    prediction = predictor(spec()).predict(empty, np.zeros(0, np.int64), 5)
    assert prediction.prob_cell.shape == (0, 19) and prediction.prob_image.shape == (5, 19)  # type: ignore[union-attr]
    assert predictor(spec("completeness")).predict(empty, np.zeros(0, np.int64), 5).prob_cell.shape == (0, 4)


def test_the_bands_of_completeness_sum_to_one() -> None:
    prediction = predictor(spec("completeness")).predict(crops(3), np.zeros(3, np.int64), 1)
    np.testing.assert_allclose(prediction.prob_cell.sum(1), 1, atol=1e-5)


@pytest.mark.usefixtures("in_float32")
def test_out_of_memory_halves_the_batch_and_loses_no_cell() -> None:
    stored, bag = crops(9), np.zeros(9, np.int64)
    expected = predictor(spec()).predict(stored, bag, 1)
    tight = predictor(spec())
    compute = tight._engine.descriptors

    def with_little_memory(cells: Tensor) -> Tensor:
        if len(cells) > 3:
            raise torch.cuda.OutOfMemoryError
        return compute(cells)

    tight._engine.descriptors = with_little_memory  # type: ignore[method-assign]
    found = tight.predict(stored, bag, 1)
    assert tight.batch < inference.CPU_BATCH
    np.testing.assert_allclose(found.prob_cell, expected.prob_cell, atol=1e-5)


def test_out_of_memory_for_a_single_cell_is_told() -> None:
    hopeless = predictor(spec())

    def never(cells: Tensor) -> Tensor:
        raise torch.cuda.OutOfMemoryError

    hopeless._engine.descriptors = never  # type: ignore[method-assign]
    with pytest.raises(torch.cuda.OutOfMemoryError):
        hopeless.predict(crops(3), np.zeros(3, np.int64), 1)


@pytest.mark.parametrize("kind", ["dsa", "cla", "clh"])
def test_batches_side_by_side_say_what_one_after_the_other_says(kind: str, in_float32: None) -> None:
    cells, fields = crops(70), np.sort(np.arange(70) % 3)
    said = []
    for threads in (1, 3):
        with torch_threads(threads):
            said.append(predictor(spec(kind), views=2).predict(cells, fields, 3).prob_cell)
            assert torch.get_num_threads() == threads
    np.testing.assert_allclose(*said, atol=1e-5)


def test_batches_side_by_side_stop_when_the_result_is_not_wanted() -> None:
    stop = Stop()
    stop.set()
    with torch_threads(2), pytest.raises(Cancelled):
        predictor(spec()).predict(crops(40), np.zeros(40, np.int64), 1, stop)


def test_a_shard_is_read_while_another_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "get_engine", lambda name: Apart())
    shared = predictor(spec())
    computing, read = threading.Event(), threading.Event()
    compute, begin = shared._engine.descriptors, inference.begin_input

    def descriptors(cells: Tensor) -> Tensor:
        computing.set()
        assert read.wait(10)  # not while a pass holds the cores, were it one after the other
        return compute(cells)

    def begin_input(stored: np.ndarray, *rest: Any) -> Any:
        if computing.is_set():
            read.set()
        return begin(stored, *rest)

    shared._engine.descriptors = descriptors  # type: ignore[method-assign]
    monkeypatch.setattr(inference, "begin_input", begin_input)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shared.predict, crops(3), np.zeros(3, np.int64), 1)
        assert computing.wait(10)
        second = pool.submit(shared.predict, crops(3), np.zeros(3, np.int64), 1)
        np.testing.assert_array_equal(first.result().prob_cell, second.result().prob_cell)


@pytest.mark.parametrize(("gibibytes", "batch"), [(6, 64), (15, 64), (16, 64), (24, 128), (40, 256), (80, 256), (141, 256)])
def test_the_batch_grows_with_a_gpu_s_memory(gibibytes: int, batch: int) -> None:
    assert affordable_batch(gibibytes * 2**30) == batch
