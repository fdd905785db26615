"""The two networks on images, under the name that the published package has for them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hcpl_kernel.errors import InputError, WeightsError
from hcpl_kernel.models.weights import load_into
from hcpl_kernel.segmentation._rescale import rescale
from hcpl_kernel.segmentation.hpa_networks import crop, pad, predict
from hcpl_kernel.segmentation.unet import DPNUNet

Image = str | Path | NDArray
Model = str | Path | nn.Module

NUCLEI_MODEL, CELL_MODEL = "./nuclei_model.pth", "./cell_model.pth"
"""Where the published package looks for its networks when nothing is said."""
# Our choice: what rounding and resampling may exceed 1 by in floating-point images.
FLOAT_TOLERANCE = 1e-3


class CellSegmentator:
    """The nuclei and the cell network, on images of any size.

    Args:
        nuclei_model, cell_model: a module, or the path of a published network's weights: a `.safetensors` file, or a
            `.pth` file that has its converted `.safetensors` sibling. `cell_model` is None where only nuclei are wanted.
        scale_factor: how much smaller the networks see the images; 0.25 is right for 0.08 um per pixel.
        device: "cpu", "cuda" or "cuda:<n>"; without a GPU, the CPU is used with a warning.
        padding: reflect the images at their edges before the networks see them; needed for sizes that are not a multiple
            of 32 after scaling.
        multi_channel_model: whether `cell_model` takes microtubules, ER and nuclei; otherwise the ER channel is 0.

    Raises:
        WeightsError: if a weights file is missing, unconverted or does not fit.
        InputError: if the device has another form.
    """

    def __init__(
        self,
        nuclei_model: Model = NUCLEI_MODEL,
        cell_model: Model | None = CELL_MODEL,
        scale_factor: float = 0.25,
        device: str = "cuda",
        padding: bool = False,
        multi_channel_model: bool = True,
    ) -> None:
        if device != "cpu" and not device.startswith("cuda"):
            raise InputError(f"device {device!r}, expected cpu, cuda or cuda:<n>")
        if device != "cpu" and not torch.cuda.is_available():
            warnings.warn(f"no GPU found for device {device!r}; the CPU is used", RuntimeWarning, stacklevel=2)
            device = "cpu"
        self.device = torch.device(device)
        self.scale_factor = scale_factor
        self.padding = padding
        self.multi_channel_model = multi_channel_model
        self.nuclei_model = _network(nuclei_model).to(self.device).eval()
        self.cell_model = None if cell_model is None else _network(cell_model).to(self.device).eval()

    def pred_nuclei(self, images: Sequence[Image]) -> list[NDArray[np.uint8]]:
        """Class maps of nuclei.

        Args:
            images: a list of (H, W) arrays of nuclei, (H, W, 3) RGB arrays with the nuclei in blue, or paths of such
                images; uint8, uint16, or floating point in [0, 1].

        Returns:
            For each image (H, W, 3) uint8: 0, then 255 times the probabilities of border and interior.

        Raises:
            InputError: if `images` is a single image, or an image has another shape, dtype or range.
        """
        planes = [_plane(_read(image), 2) for image in _listed(images, "[image, ...]")]
        return [self._predict(self.nuclei_model, plane[..., None]) for plane in planes]

    def pred_cells(
        self, images: Sequence[Image] | Sequence[Sequence[Image] | None], precombined: bool = False
    ) -> list[NDArray[np.uint8]]:
        """Class maps of cells.

        Args:
            images: `[microtubules, er, nuclei]`, three equally long lists of (H, W) arrays (of RGB arrays the red,
                green and blue plane is taken) or paths; `er` is None for a model without that channel.
            precombined: `images` is a list of (H, W, 3) arrays or paths with these channels as red, green and blue.

        Returns:
            For each field (H, W, 3) uint8: 0, then 255 times the probabilities of border and interior.

        Raises:
            InputError: if there is no cell network, lists are missing or of different lengths, channels of different sizes,
                or an image has another shape, dtype or range.
        """
        if self.cell_model is None:
            raise InputError("cell_model is None, which is for nuclei only; name the cell network to segment cells")
        fields = [_read(image) for image in _flat(images)] if precombined else self._combined(images)
        for field in fields:
            if field.ndim != 3 or field.shape[2] != 3:
                raise InputError(f"precombined images are (H, W, 3): microtubules, ER, nuclei; found {field.shape}")
        return [self._predict(self.cell_model, field) for field in fields]

    def _combined(self, images: Sequence[Any]) -> list[NDArray]:
        """(H, W, 3) fields of microtubules, ER and nuclei."""
        if len(_listed(images, _THREE_LISTS)) != 3 or images[0] is None or images[2] is None:
            raise InputError("pred_cells takes [microtubules, er, nuclei], three lists; or set precombined=True")
        if (images[1] is None) == self.multi_channel_model:
            expected = "a list" if self.multi_channel_model else "None"
            raise InputError(f"multi_channel_model={self.multi_channel_model} expects {expected} as ER images")
        lists = [
            None if channel is None else [_plane(_read(image), k) for image in _listed(channel, _THREE_LISTS)]
            for k, channel in enumerate(images)
        ]
        microtubules, er, nuclei = lists[0] or [], lists[1], lists[2] or []
        er = [np.zeros_like(image) for image in microtubules] if er is None else er
        if not len(microtubules) == len(er) == len(nuclei):
            raise InputError(f"the lists have {len(microtubules)}, {len(er)} and {len(nuclei)} images")
        fields = []
        for index, planes in enumerate(zip(microtubules, er, nuclei, strict=True)):
            if len({(plane.shape, plane.dtype) for plane in planes}) > 1:
                found = ", ".join(f"{plane.shape} {plane.dtype}" for plane in planes)
                raise InputError(f"the channels of image {index} differ: {found}")
            fields.append(np.dstack(planes))
        return fields

    def _predict(self, net: nn.Module, image: NDArray) -> NDArray[np.uint8]:
        """(H, W, 3) class map at the image's size from (H, W, 3) channels, or (H, W, 1) for three equal ones."""
        if image.dtype not in (np.uint8, np.uint16) and not np.issubdtype(image.dtype, np.floating):
            raise InputError(f"images are uint8, uint16 or floating point in [0, 1]; found {image.dtype}")
        if np.issubdtype(image.dtype, np.floating):
            lowest, highest = float(image.min()), float(image.max())
            if not (lowest >= -FLOAT_TOLERANCE and highest <= 1 + FLOAT_TOLERANCE):
                raise InputError(
                    f"floating-point images are in [0, 1], found values from {lowest:g} to {highest:g}; divide by the "
                    "largest possible value (255, 65535), or pass uint8 or uint16"
                )
        h, w = image.shape[:2]
        small = max(1, round(h * self.scale_factor)), max(1, round(w * self.scale_factor))
        planes = [np.ascontiguousarray(image[..., k]) for k in range(image.shape[2])]
        batch = np.stack([pad(rescale(plane, small), self.padding) for plane in planes])[None]
        maps = crop(predict(net, torch.from_numpy(batch).to(self.device))[0], small, self.padding)
        return np.asarray(cv2.resize(maps, (w, h), interpolation=cv2.INTER_AREA), np.uint8)


def _network(model: Model) -> nn.Module:
    """A module as it is, or a published network with its converted weights."""
    if isinstance(model, nn.Module):
        return model
    path = Path(model).expanduser()
    converted = path.with_suffix(".safetensors")
    if not converted.is_file():
        raise WeightsError(
            f"{converted} does not exist; pickled weights are never loaded, convert them once with "
            f"`hcpl weights convert {path.with_suffix('.pth') if path == converted else path}`"
        )
    net = DPNUNet()
    # A file next to the user's notebook has no recorded hash; names, shapes and finite values are checked.
    load_into(net, converted, expected_sha256=None)
    return net


def _read(image: Image) -> NDArray:
    """An array, or an image file with its colours in the order red, green, blue: (H, W), or (H, W, 3) and more planes."""
    if isinstance(image, np.ndarray):
        found, where = image, "an image"
    elif isinstance(image, (str, Path)):
        where = str(Path(image).expanduser())
        read = cv2.imread(where, cv2.IMREAD_UNCHANGED)
        if read is None:
            raise InputError(f"{image} cannot be read as an image")
        found = read if read.ndim == 2 else np.ascontiguousarray(read[..., 2::-1])
    else:
        raise InputError(f"an image is an array or a path, found {type(image).__name__}")
    if found.size == 0 or found.ndim not in (2, 3) or (found.ndim == 3 and found.shape[2] not in (3, 4)):
        raise InputError(f"{where} has the shape {found.shape}, expected (H, W), or (H, W, 3) with red, green and blue")
    return found


def _plane(image: NDArray, channel: int) -> NDArray:
    """A grey image as it is, or one plane of an RGB image."""
    return image if image.ndim == 2 else image[..., channel]


_THREE_LISTS = "[[microtubules, ...], [er, ...] or None, [nuclei, ...]]"


def _listed(images: Any, expected: str) -> Sequence[Any]:
    """A list of images; a single array or path would be taken apart into rows or letters."""
    if not isinstance(images, (list, tuple)):
        what = f"a single {images.shape} array" if isinstance(images, np.ndarray) else repr(images)
        raise InputError(f"images are given in lists: {expected}; found {what} in place of a list")
    return images


def _flat(images: Sequence[Any]) -> list[Image]:
    """A list of images, refused where it holds lists."""
    if any(image is None or isinstance(image, (list, tuple)) for image in _listed(images, "[image, ...]")):
        raise InputError("precombined=True takes a plain list of (H, W, 3) images or paths")
    return list(images)
