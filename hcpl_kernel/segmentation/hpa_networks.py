"""The two segmentation networks: four-channel images in, class maps of nuclei and cells out, and labels from these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hcpl_kernel.errors import InputError
from hcpl_kernel.runtime.devices import memory_format
from hcpl_kernel.runtime.process_tuning import torch_threads
from hcpl_kernel.segmentation._rescale import rescale
from hcpl_kernel.segmentation.distance_slope import with_distance_slope

# The networks were trained on images of 0.08 um per pixel reduced four times.
NETWORK_PIXEL_SIZE = 0.32
# Standardisation of the three input channels, for both networks.
MEAN = (124 / 255, 117 / 255, 104 / 255)
STD = 1 / (0.0167 * 255)
# Networks halve their input five times.
STRIDE = 32
# Red, yellow, blue of a (red, green, blue, yellow) image: the cell network's input; its last one is the nuclei's.
CELL_CHANNELS = (0, 3, 2)
# Pixels of one forward pass, padding included: eight fields of 512 x 512. Bounds the memory, our choice.
BATCH_PIXELS = 8 * 576 * 576

Maps = tuple[NDArray[np.uint8], NDArray[np.uint8]]


class Segmentator:
    """The nuclei and the cell network on one device, on batches of images: for training, benchmarks, `HpaNetworks`.

    Args:
        nuclei_net, cell_net: (B, 3, h, w) standardised float -> (B, 3, h, w) logits of background, border, interior,
            for h and w that are multiples of 32. They are moved to `device` and set to evaluation.
        device: where the networks run; on a GPU they run in half precision.
        nuclei_background_cut, cell_background_cut: where the background probability exceeds it, border and interior
            are set to 0; None keeps the published behaviour (see `SegmentationSpec.background_cut`).
        distance_slope: of the cell maps' interior, see :func:`with_distance_slope`; None keeps the published behaviour.
        padding: reflect 32 px before and `32 - n % 32` px after each axis, as the published code does on request; it
            gives any size and better borders. Without it, sizes must be multiples of 32 at the networks' resolution.
        side_by_side: both networks run at the same time, each on half of torch's threads. For networks that torch runs on
            a CPU: cores that share a layer wait for each other at its end, which costs a multiple of the time where
            another program holds one of them.
    """

    def __init__(
        self,
        nuclei_net: nn.Module,
        cell_net: nn.Module,
        device: str = "cpu",
        nuclei_background_cut: float | None = None,
        cell_background_cut: float | None = None,
        distance_slope: float | None = None,
        padding: bool = True,
        side_by_side: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.nuclei_net = nuclei_net.to(self.device).eval()
        self.cell_net = cell_net.to(self.device).eval()
        self.nuclei_background_cut = nuclei_background_cut
        self.cell_background_cut = cell_background_cut
        self.distance_slope = distance_slope
        self.padding = padding
        self.side_by_side = side_by_side

    def maps(self, images: Sequence[NDArray], pixel_size: float = 0.08) -> list[Maps]:
        """Class maps of fields of view.

        Args:
            images: each (4, H, W) uint8 or uint16, channels red, green, blue, yellow; sizes may differ. Fields of one
                size share forward passes.
            pixel_size: um per pixel of the images.

        Returns:
            For each image `(nuclei_map, cell_map)`, (h, w, 3) uint8 at 0.32 um per pixel, `h = round(H * pixel_size /
            0.32)`: 0, then 255 times the probabilities of border and interior.

        Raises:
            InputError: for another shape or dtype, and for a size that needs `padding` where it is off.
        """
        inputs = [segmentation_input(image, pixel_size, self.padding) for image in images]
        results: list[Maps | None] = [None] * len(images)
        for indices in _batches([x.shape[1:] for x in inputs]):
            nuclei, cells = self.forward(np.stack([inputs[i] for i in indices]))
            for k, i in enumerate(indices):
                results[i] = self.finished(nuclei[k], cells[k], network_shape(images[i].shape[1:], pixel_size))
        return [maps for maps in results if maps is not None]

    def forward(self, inputs: NDArray[np.float32]) -> Maps:
        """What the networks say of a batch, padding included; each field's maps are :meth:`finished` afterwards.

        Args:
            inputs: (B, 3, h, w) float32 in [0, 1], each as :func:`segmentation_input` gives it.

        Returns:
            Nuclei and cell maps, both (B, h, w, 3) uint8.
        """
        batch = torch.from_numpy(inputs).to(self.device)
        if not self.side_by_side:
            return self._nuclei(batch), self._cells(batch)
        with torch_threads(max(1, torch.get_num_threads() // 2)), ThreadPoolExecutor(1) as beside:
            nuclei = beside.submit(self._nuclei, batch)
            cells = self._cells(batch)
            return nuclei.result(), cells

    def finished(self, nuclei: NDArray[np.uint8], cells: NDArray[np.uint8], shape: tuple[int, int]) -> Maps:
        """A field's maps without the padding, with the slope of its interior; needs no device.

        Args:
            nuclei, cells: (h, w, 3) uint8, of :meth:`forward`.
            shape: (height, width) at the networks' resolution.

        Returns:
            Nuclei and cell map, both (height, width, 3) uint8.
        """
        nuclei, cells = crop(nuclei, shape, self.padding), crop(cells, shape, self.padding)
        if self.distance_slope is None:
            return nuclei, cells
        return nuclei, with_distance_slope(nuclei, cells, self.distance_slope)

    def _nuclei(self, batch: Tensor) -> NDArray[np.uint8]:
        return predict(self.nuclei_net, batch[:, 2:], self.nuclei_background_cut)

    def _cells(self, batch: Tensor) -> NDArray[np.uint8]:
        return predict(self.cell_net, batch, self.cell_background_cut)


def segmentation_input(image: NDArray, pixel_size: float, padding: bool) -> NDArray[np.float32]:
    """Both networks' input before standardisation: red, yellow and blue, rescaled and padded.

    Args:
        image: (4, H, W) uint8 or uint16, channels red, green, blue, yellow.
        pixel_size: um per pixel of the image.
        padding: as in :class:`Segmentator`.

    Returns:
        (3, h, w) float32 in [0, 1], channels red, yellow, blue.
    """
    if image.ndim != 3 or image.shape[0] != 4 or image.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"segmentation takes (4, H, W) uint8 or uint16 images (red, green, blue, yellow), "
            f"found {image.shape} {image.dtype}"
        )
    shape = network_shape(image.shape[1:], pixel_size)
    return np.stack([pad(rescale(image[c], shape), padding) for c in CELL_CHANNELS])


def network_shape(shape: tuple[int, ...], pixel_size: float) -> tuple[int, int]:
    """Height and width at the networks' resolution, at least 1 px each."""
    h, w = (max(1, round(n * pixel_size / NETWORK_PIXEL_SIZE)) for n in shape)
    return h, w


def pad(plane: NDArray[np.float32], padding: bool) -> NDArray[np.float32]:
    """A plane extended to the size that a network takes; see `padding` of :class:`Segmentator`."""
    h, w = plane.shape
    if padding:
        after = STRIDE - h % STRIDE, STRIDE - w % STRIDE
        padded = cv2.copyMakeBorder(plane, STRIDE, after[0], STRIDE, after[1], cv2.BORDER_REFLECT_101)
        return padded.astype(np.float32, copy=False)
    if h % STRIDE or w % STRIDE:
        raise InputError(
            f"an image of {h} x {w} px at the networks' resolution needs padding=True; without it, height and width "
            f"must be multiples of {STRIDE}"
        )
    return plane


def crop(maps: NDArray[np.uint8], shape: tuple[int, int], padding: bool) -> NDArray[np.uint8]:
    """What `pad` added removed again from an (H, W, 3) map."""
    start = STRIDE if padding else 0
    return np.ascontiguousarray(maps[start : start + shape[0], start : start + shape[1]])


@torch.inference_mode()
def predict(net: nn.Module, batch: Tensor, background_cut: float | None = None) -> NDArray[np.uint8]:
    """One network's class maps of a batch.

    Args:
        net: (B, 3, h, w) standardised float -> (B, 3, h, w) logits.
        batch: (B, 3, h, w) float in [0, 1], or (B, 1, h, w), which stands for three equal channels.
        background_cut: as in :class:`Segmentator`.

    Returns:
        (B, h, w, 3) uint8: 0, then 255 times the probabilities of border and interior.
    """
    mean = torch.tensor(MEAN, device=batch.device).view(1, 3, 1, 1)
    standardised = ((batch - mean) / STD).contiguous(memory_format=memory_format(batch.device))
    with torch.autocast(batch.device.type, dtype=torch.float16, enabled=batch.device.type == "cuda"):
        logits = net(standardised)
    probabilities = logits.float().softmax(dim=1)
    foreground = probabilities[:, 1:]
    if background_cut is not None:
        foreground = foreground * (probabilities[:, :1] <= background_cut)
    maps = torch.zeros((*probabilities.shape[:1], *probabilities.shape[2:], 3), dtype=torch.uint8, device=batch.device)
    maps[..., 1:] = (foreground * 255).round().to(torch.uint8).movedim(1, -1)
    return maps.cpu().numpy()


def _batches(shapes: Sequence[tuple[int, ...]]) -> Iterator[list[int]]:
    """Indices grouped by equal shape, each group of at most `BATCH_PIXELS` (and at least one field)."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, shape in enumerate(shapes):
        groups.setdefault(tuple(shape), []).append(index)
    for (h, w), indices in groups.items():
        size = max(1, BATCH_PIXELS // (h * w))
        yield from (indices[start : start + size] for start in range(0, len(indices), size))
