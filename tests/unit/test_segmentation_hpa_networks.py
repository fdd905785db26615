"""Input preparation and output convention of the segmentation networks."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hcpl_kernel.errors import FieldError, InputError, SettingsError
from hcpl_kernel.runtime.process_tuning import torch_threads
from hcpl_kernel.segmentation import HpaNetworks, Labels, MiniUNet, Segmentator, Segmenter, label_cells
from hcpl_kernel.segmentation._rescale import rescale
from hcpl_kernel.segmentation.hpa_networks import MEAN, STD, network_shape, pad, predict, segmentation_input
from hcpl_kernel.segmentation.labellers import LABELLERS


@pytest.fixture
def segmentator() -> Segmentator:
    torch.manual_seed(0)
    return Segmentator(MiniUNet(width=4), MiniUNet(width=4))


def random_image(shape: tuple[int, ...], dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("shape", "scale"), [((256, 256), 0.25), ((173, 121), 0.25), ((90, 77), 0.4375), ((40, 50), 1.0), ((9, 14), 1.7)]
)
def test_rescale_equals_scikit_image(shape: tuple[int, int], scale: float, dtype: type) -> None:
    transform = pytest.importorskip("skimage.transform")
    plane = random_image(shape, dtype)
    expected = transform.rescale(plane / np.iinfo(dtype).max, scale, anti_aliasing=scale < 1)
    found = rescale(plane, expected.shape)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-6


def test_rescale_takes_floating_point_as_it_is() -> None:
    plane = random_image((64, 48)).astype(float) / 255
    assert np.abs(rescale(plane, (64, 48)) - plane).max() < 1e-6


@pytest.mark.parametrize("shape", [(7, 40), (1, 64), (33, 95)])
def test_padding_reflects_as_numpy_does(shape: tuple[int, int]) -> None:
    plane = np.random.default_rng(0).random(shape, dtype=np.float32)
    h, w = shape
    padded = pad(plane, True)
    assert np.array_equal(padded, np.pad(plane, ((32, 32 - h % 32), (32, 32 - w % 32)), mode="reflect"))
    assert padded.shape[0] % 32 == padded.shape[1] % 32 == 0


def test_without_padding_other_sizes_are_refused() -> None:
    assert segmentation_input(random_image((4, 256, 128)), 0.08, padding=False).shape == (3, 64, 32)
    with pytest.raises(InputError, match="padding=True"):
        segmentation_input(random_image((4, 256, 120)), 0.08, padding=False)


def test_channels_go_to_the_networks_in_their_order() -> None:
    image = np.stack([np.full((128, 128), value, np.uint8) for value in (51, 102, 153, 204)])
    prepared = segmentation_input(image, 0.32, padding=False)
    # Red, yellow, blue.
    assert np.allclose(prepared.mean(axis=(1, 2)), [0.2, 0.8, 0.6], atol=1e-6)


class Standardised(nn.Module):
    """Remembers its input; background, border and interior probabilities are 0.5, 0.2, 0.3 everywhere."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return torch.log(torch.tensor([0.5, 0.2, 0.3])).view(1, 3, 1, 1).expand(len(x), 3, *x.shape[2:])


def test_predict_standardises_and_scales() -> None:
    net = Standardised()
    maps = predict(net, torch.full((1, 1, 32, 64), 0.6))
    assert np.allclose(net.seen[0, :, 0, 0], [(0.6 - mean) / STD for mean in MEAN], atol=1e-5)
    assert maps.shape == (1, 32, 64, 3)
    assert maps.dtype == np.uint8
    assert (maps == [0, 51, 76]).all()


def test_background_cut_clears_border_and_interior() -> None:
    batch = torch.zeros(1, 3, 32, 32)
    assert predict(Standardised(), batch, background_cut=0.6).any()
    assert not predict(Standardised(), batch, background_cut=0.4).any()


def test_fields_of_any_size_keep_their_place(segmentator: Segmentator) -> None:
    images = [random_image((4, h, w), seed=k) for k, (h, w) in enumerate([(256, 256), (300, 260), (256, 256), (3, 9)])]
    together = segmentator.maps(images)
    for image, (nuclei, cells) in zip(images, together, strict=True):
        expected = network_shape(image.shape[1:], 0.08)
        assert nuclei.shape == cells.shape == (*expected, 3)
        assert not nuclei[..., 0].any()
        (alone,) = segmentator.maps([image])
        assert np.abs(alone[0].astype(int) - nuclei).max() <= 1
        assert np.abs(alone[1].astype(int) - cells).max() <= 1


class Counted(nn.Module):
    """Says how many threads torch has for it, and waits until another network has begun, too."""

    def __init__(self, both: threading.Barrier) -> None:
        super().__init__()
        self.both = both

    def forward(self, x: Tensor) -> Tensor:
        self.both.wait(10)
        self.threads = torch.get_num_threads()
        return x


def test_networks_side_by_side_share_the_threads(segmentator: Segmentator) -> None:
    both = threading.Barrier(2)
    counted = Segmentator(Counted(both), Counted(both), side_by_side=True)
    before = torch.get_num_threads()
    with torch_threads(4):
        counted.forward(np.zeros((1, 3, 32, 32), np.float32))
        assert torch.get_num_threads() == 4
    assert counted.nuclei_net.threads == counted.cell_net.threads == 2
    assert torch.get_num_threads() == before

    inputs = np.random.default_rng(0).random((1, 3, 64, 96), dtype=np.float32)
    alone = segmentator.forward(inputs)
    segmentator.side_by_side = True
    for one, other in zip(alone, segmentator.forward(inputs), strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1  # another number of threads rounds in another place


def test_pixel_size_sets_the_scale(segmentator: Segmentator) -> None:
    ((nuclei, _),) = segmentator.maps([random_image((4, 90, 60))], pixel_size=0.32)
    assert nuclei.shape == (90, 60, 3)


@pytest.mark.parametrize("image", [np.zeros((3, 64, 64), np.uint8), np.zeros((4, 64, 64), np.float32)])
def test_other_images_are_refused(segmentator: Segmentator, image: np.ndarray) -> None:
    with pytest.raises(InputError, match="uint16"):
        segmentator.maps([image])


class NoStamps:
    """Stamps of a run without files."""

    def of(self, path: Path) -> str | None:
        return None


def test_the_segmenter_labels_what_the_networks_see(segmentator: Segmentator) -> None:
    image = random_image((4, 256, 200))
    segmenter: Segmenter = HpaNetworks(lambda: segmentator, {"weights": "abc"}, pixel_size=0.16)
    found = segmenter.labels("a", image)
    ((nuclei_map, cell_map),) = segmentator.maps([image], 0.16)
    nuclei, cells = label_cells(nuclei_map, cell_map, image.shape[1:])
    assert found.nuclei is not None
    assert np.array_equal(found.nuclei, nuclei)
    assert np.array_equal(found.cells, cells)
    assert found.warnings == ()
    assert segmenter.stamp("a", NoStamps()) == ["HPA networks", {"weights": "abc"}, 0.16, "quarter"]
    segmenter.close()


def test_an_unknown_resolution_is_refused(segmentator: Segmentator) -> None:
    with pytest.raises(SettingsError, match="paper-half"):
        HpaNetworks(lambda: segmentator, None, resolution="half")


class Watched(Segmentator):
    """Counts the forward passes, and how many run at the same time; fails the first ones with given errors."""

    def __init__(self, *errors: BaseException) -> None:
        super().__init__(MiniUNet(width=4), MiniUNet(width=4))
        self.errors, self.passes, self.inside, self.most_inside = list(errors), 0, 0, 0

    def forward(self, inputs: NDArray[np.float32]) -> Any:
        self.passes += 1
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            if self.errors:
                raise self.errors.pop(0)
            return super().forward(inputs)
        finally:
            self.inside -= 1


def test_threads_share_one_loading_and_take_turns_on_the_device() -> None:
    watched, loadings = Watched(), []

    def load() -> Segmentator:
        loadings.append(threading.get_ident())
        return watched

    segmenter = HpaNetworks(load, None, pixel_size=0.32)
    images = [random_image((4, 64, 64), seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(segmenter.labels, map(str, range(8)), images))
    assert len(loadings) == 1
    assert (watched.passes, watched.most_inside) == (8, 1)
    for image, found in zip(images, together, strict=True):
        assert np.array_equal(found.cells, segmenter.labels("again", image).cells)


def test_devices_segment_at_the_same_time() -> None:
    both = threading.Barrier(2)

    class Waiting(Watched):
        def forward(self, inputs: NDArray[np.float32]) -> Any:
            both.wait(10)  # breaks unless the other device is in work, too
            return super().forward(inputs)

    segmenter = HpaNetworks(Waiting, None, pixel_size=0.32, spares=[Waiting, Watched], together=2)
    images = [random_image((4, 64, 64), seed=seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(segmenter.labels, map(str, range(4)), images))) == 4


GPU_ERROR = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def test_a_gpu_out_of_memory_gets_a_second_chance() -> None:
    watched = Watched(GPU_ERROR)
    assert HpaNetworks(lambda: watched, None).labels("a", random_image((4, 64, 64))).cells.shape == (64, 64)
    assert watched.passes == 2


@pytest.mark.parametrize(
    "errors",
    [
        (GPU_ERROR, GPU_ERROR),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),) * 2,
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),),
        (MemoryError(),),
    ],
)
def test_a_field_that_does_not_fit_into_memory_is_that_fields_problem(errors: tuple[BaseException, ...]) -> None:
    watched = Watched(*errors)
    segmenter = HpaNetworks(lambda: watched, None)
    with pytest.raises(FieldError, match=r"field large: .* ran out of .*memory on a field of 96 x 64 px"):
        segmenter.labels("large", random_image((4, 64, 96)))
    assert watched.passes == len(errors)
    segmenter.labels("small", random_image((4, 64, 64)))


def test_other_errors_keep_their_type() -> None:
    segmenter = HpaNetworks(lambda: Watched(RuntimeError("shapes cannot be multiplied")), None)
    with pytest.raises(RuntimeError, match="multiplied"):
        segmenter.labels("a", random_image((4, 64, 64)))


def test_more_cells_than_a_label_map_holds(segmentator: Segmentator, monkeypatch: pytest.MonkeyPatch) -> None:
    many = np.arange(256 * 257, dtype=np.int32).reshape(256, 257)
    monkeypatch.setitem(LABELLERS, "quarter", lambda nuclei, cells, output_shape: (many, many))
    with pytest.raises(FieldError, match="65791 cells"):
        HpaNetworks(lambda: segmentator, None).labels("a", random_image((4, 64, 64)))


class BrightGreen:
    """Another segmenter, as a user would write one: what is bright in green is a cell; nuclei are not known."""

    def __init__(self, threshold: int) -> None:
        self._threshold = threshold

    def labels(self, field_id: str, image: NDArray) -> Labels:
        return Labels(None, (image[1] > self._threshold).astype(np.int32), ("every bright pixel is one cell",))

    def stamp(self, field_id: str, stamps: Any) -> Any:
        return ["bright green", self._threshold]

    def close(self) -> None:
        pass


def test_another_segmenter_is_one_class() -> None:
    segmenter: Segmenter = BrightGreen(128)
    image = random_image((4, 32, 48))
    found = segmenter.labels("a", image)
    assert np.array_equal(found.cells > 0, image[1] > 128)
