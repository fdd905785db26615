"""Input preparation and output convention of the segmentation networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hcpl_kernel.errors import InputError
from hcpl_kernel.segmentation import MiniUNet, Segmentator
from hcpl_kernel.segmentation._rescale import rescale
from hcpl_kernel.segmentation.hpa_networks import MEAN, STD, network_shape, pad, predict, prepare


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
    assert prepare(random_image((4, 256, 128)), 0.08, padding=False).shape == (3, 64, 32)
    with pytest.raises(InputError, match="padding=True"):
        prepare(random_image((4, 256, 120)), 0.08, padding=False)


def test_channels_go_to_the_networks_in_their_order() -> None:
    image = np.stack([np.full((128, 128), value, np.uint8) for value in (51, 102, 153, 204)])
    prepared = prepare(image, 0.32, padding=False)
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


def test_pixel_size_sets_the_scale(segmentator: Segmentator) -> None:
    ((nuclei, _),) = segmentator.maps([random_image((4, 90, 60))], pixel_size=0.32)
    assert nuclei.shape == (90, 60, 3)


@pytest.mark.parametrize("image", [np.zeros((3, 64, 64), np.uint8), np.zeros((4, 64, 64), np.float32)])
def test_other_images_are_refused(segmentator: Segmentator, image: np.ndarray) -> None:
    with pytest.raises(InputError, match="uint16"):
        segmentator.maps([image])
