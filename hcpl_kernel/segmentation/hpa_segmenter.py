"""The two segmentation networks and the labelling as a segmenter; torch is imported when the first field is segmented."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.errors import FieldError, HcplError, SettingsError
from hcpl_kernel.models.network_spec import computed_values
from hcpl_kernel.models.weights import resolve_sha256
from hcpl_kernel.segmentation.interface import LARGEST_LABEL, Json, Labels, SegmenterRequest, Stamps
from hcpl_kernel.settings import RESOLUTIONS

if TYPE_CHECKING:
    import torch

    from hcpl_kernel.segmentation.hpa_networks import Maps, Segmentator

MAP_BYTES = 120
NETWORK_BYTES = {"mini_unet": 400, "dpn_unet": 1200}
"""Main memory that a pixel at the networks' resolution takes: input, class maps and the labelling's maps (our estimate), and
on a CPU the activations of the larger network as well. Measured peaks less what the process held before: mini U-Net 392 at
1024 px a side, 310 at 2048; DPN-UNet about 1140 at 1024 (784 above the peak of building it)."""


def make(request: SegmenterRequest) -> HpaNetworks:
    """The segmenter of an ensemble's two networks, as an engine computes them on a device.

    Raises:
        WeightsError: if the ensemble has no segmentation networks, or no hash of a file is recorded.
    """
    ensemble = request.ensemble
    nuclei, cell = ensemble.segmentation()

    def load(device: torch.device) -> Segmentator:
        from hcpl_kernel.engines import get_engine
        from hcpl_kernel.segmentation.hpa_networks import Segmentator
        from hcpl_kernel.segmentation.loading import load_segmentation

        engine = get_engine(request.engine)
        return Segmentator(
            engine.segmentation(load_segmentation(ensemble, "nuclei"), device),
            engine.segmentation(load_segmentation(ensemble, "cell"), device),
            device=str(device),
            nuclei_background_cut=nuclei.background_cut,
            cell_background_cut=cell.background_cut,
        )

    parts = (nuclei, cell)
    networks = [[computed_values(part), resolve_sha256(ensemble.folder, part)] for part in parts]
    on_cpu = any(device.type == "cpu" for device in request.devices)
    network_bytes = max(NETWORK_BYTES[part.architecture] for part in parts) if on_cpu else MAP_BYTES
    identity = [request.engine, request.precision, networks]
    in_turn: list[Callable[[], Segmentator]] = [functools.partial(load, device) for device in _in_turn(request.devices)]
    loads = in_turn or [_stamps_only]
    return HpaNetworks(loads[0], identity, request.pixel_size, request.resolution, network_bytes, loads[1:])


def _in_turn(devices: Sequence[torch.device]) -> list[torch.device]:
    """Each device once, in the order in which they are used when those before fail; at last the CPU."""
    import torch

    return list(dict.fromkeys([*devices, torch.device("cpu")])) if devices else []


def _stamps_only() -> Segmentator:
    raise SettingsError("this segmenter was made for its stamps only: it has no device")


class HpaNetworks:
    """A segmenter of the two networks; see :class:`hcpl_kernel.segmentation.interface.Segmenter`.

    The device runs one field at a time; rescaling and labelling run in the calling threads meanwhile.

    Args:
        load: makes the networks, once, when the first field is segmented.
        identity: what the networks' maps depend on (hashes of the weights, their specs, the engine), for `stamp`.
        pixel_size: um per pixel of the images.
        resolution: one of :data:`hcpl_kernel.settings.RESOLUTIONS`.
        network_bytes: of the main memory that one pixel at the networks' resolution takes, about, for `memory`.
        spares: make the networks on other devices, which are used in turn when the device in use fails.

    Raises:
        SettingsError: for an unknown resolution.
    """

    def __init__(
        self,
        load: Callable[[], Segmentator],
        identity: Json,
        pixel_size: float = 0.08,
        resolution: str = "quarter",
        network_bytes: int = 0,
        spares: Sequence[Callable[[], Segmentator]] = (),
    ) -> None:
        if resolution not in RESOLUTIONS:
            raise SettingsError(f"resolution {resolution!r}, expected one of {', '.join(RESOLUTIONS)}")
        self._load = load
        self._identity = identity
        self._pixel_size = pixel_size
        self._resolution = resolution
        self._network_bytes = network_bytes
        self._spares = list(spares)
        self._lost = ""
        self._segmentator: Segmentator | None = None
        self._device_lock = threading.Lock()

    def labels(self, field_id: str, image: NDArray) -> Labels:
        """The labels of a field, cells 1..n without gaps.

        Raises:
            FieldError: if memory is too small for this field (on a GPU: twice, the second time with an emptied cache),
                or it has more than 65535 cells.
            WeightsError: from `load`.
        """
        from hcpl_kernel.runtime.allocation import is_gpu_out_of_memory, is_out_of_memory
        from hcpl_kernel.segmentation.labellers import LABELLERS
        from hcpl_kernel.segmentation.labelling import seen_nuclei

        self._loaded()
        try:
            nuclei_map, cell_map, lost = self._maps(image)
            seen = seen_nuclei(nuclei_map)
            nuclei, cells = LABELLERS[self._resolution](nuclei_map, cell_map, output_shape=image.shape[1:])
        except (RuntimeError, MemoryError, cv2.error) as error:
            if not is_out_of_memory(error):
                raise
            size = f"{image.shape[2]} x {image.shape[1]} px"
            where = "the GPU's memory" if is_gpu_out_of_memory(error) else "memory"
            raise FieldError(field_id, f"segmentation ran out of {where} on a field of {size}") from error
        except HcplError as error:
            raise FieldError(field_id, f"segmentation failed: {error}") from error
        count = int(cells.max(initial=0))
        if count > LARGEST_LABEL:
            raise FieldError(field_id, f"segmentation found {count} cells, a 16-bit label map holds {LARGEST_LABEL}")
        return Labels(nuclei, cells, (lost,) if lost else (), seen, bool(lost))

    def memory(self, shape: tuple[int, int]) -> int:
        """The networks' activations, where they run on a CPU, and the maps at their resolution."""
        from hcpl_kernel.segmentation.hpa_networks import STRIDE, network_shape

        height, width = (side + 2 * STRIDE for side in network_shape(shape, self._pixel_size))
        return self._network_bytes * height * width

    def stamp(self, field_id: str, stamps: Stamps) -> Json:
        """The networks, the pixel size and the resolution; the same for every field."""
        return ["HPA networks", self._identity, self._pixel_size, self._resolution]

    def close(self) -> None:
        """Release the networks."""
        with self._device_lock:
            self._segmentator = None

    def _loaded(self) -> Segmentator:
        with self._device_lock:
            if self._segmentator is None:
                self._segmentator = self._load()
            return self._segmentator

    def _maps(self, image: NDArray) -> tuple[NDArray[np.uint8], NDArray[np.uint8], str]:
        """Class maps of one image, and where another device made them a sentence that says so."""
        from hcpl_kernel.segmentation.hpa_networks import crop, network_shape, segmentation_input

        padding = self._loaded().padding
        planes = segmentation_input(image, self._pixel_size, padding)
        shape = network_shape(image.shape[1:], self._pixel_size)
        with self._device_lock:
            nuclei, cells = self._forward(planes[None])
            lost = self._lost
        return crop(nuclei[0], shape, padding), crop(cells[0], shape, padding), lost

    def _forward(self, inputs: NDArray[np.float32]) -> Maps:
        """The networks' forward passes, on the next device where the present one has failed; called with its lock."""
        from hcpl_kernel.runtime.devices import find_fault

        while True:
            if self._segmentator is None:
                self._segmentator = self._load()
            try:
                return _forward(self._segmentator, inputs)
            except RuntimeError:
                device = self._segmentator.device
                reason = find_fault(device) if self._spares else None
                if reason is None:
                    raise
            self._segmentator, self._load = None, self._spares.pop(0)
            self._lost = f"segmented on another device, because {device} failed ({reason})"


def _forward(segmentator: Segmentator, inputs: NDArray[np.float32]) -> Maps:
    """The networks' forward passes; a GPU whose memory is too small gets a second chance."""
    import torch

    from hcpl_kernel.runtime.allocation import is_gpu_out_of_memory

    try:
        return segmentator.forward(inputs)
    except RuntimeError as error:
        if not is_gpu_out_of_memory(error):
            raise
    # Outside of the handler, whose traceback would keep the first attempt's tensors.
    torch.cuda.empty_cache()
    return segmentator.forward(inputs)
