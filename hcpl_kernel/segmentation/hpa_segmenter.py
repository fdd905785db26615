"""The two segmentation networks and the labelling as a segmenter; torch is imported when the first field is segmented."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
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
NETWORK_BYTES = {"mini_unet": 950, "dpn_unet": 1800}
"""Main memory that a pixel at the networks' resolution takes: input, class maps and the labelling's maps (our estimate), and
on a CPU the activations of both networks, which run side by side. Measured peaks less what the process held before: mini
U-Net 932 at 1024 px a side, 694 at 2048 (one network after the other 482 and 436); DPN-UNet 1692 at 1024 (1510)."""


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
            distance_slope=cell.distance_slope,
            side_by_side=engine.shares_cores and device.type == "cpu",
        )

    parts = (nuclei, cell)
    networks = [[computed_values(part), resolve_sha256(ensemble.folder, part)] for part in parts]
    on_cpu = any(device.type == "cpu" for device in request.devices)
    network_bytes = max(NETWORK_BYTES[part.architecture] for part in parts) if on_cpu else MAP_BYTES
    identity = [request.engine, request.precision, networks]
    in_turn: list[Callable[[], Segmentator]] = [functools.partial(load, device) for device in _in_turn(request.devices)]
    loads = in_turn or [_stamps_only]
    together = max(1, len(set(request.devices)))
    return HpaNetworks(loads[0], identity, request.pixel_size, request.resolution, network_bytes, loads[1:], together)


def _in_turn(devices: Sequence[torch.device]) -> list[torch.device]:
    """Each device once, in the order in which they are used when those before fail; at last the CPU."""
    import torch

    return list(dict.fromkeys([*devices, torch.device("cpu")])) if devices else []


def _stamps_only() -> Segmentator:
    raise SettingsError("this segmenter was made for its stamps only: it has no device")


class HpaNetworks:
    """A segmenter of the two networks; see :class:`hcpl_kernel.segmentation.interface.Segmenter`.

    Every device runs one field at a time; rescaling and labelling run in the calling threads meanwhile.

    Args:
        load: makes the networks, once, when the first field is segmented.
        identity: what the networks' maps depend on (hashes of the weights, their specs, the engine), for `stamp`.
        pixel_size: um per pixel of the images.
        resolution: one of :data:`hcpl_kernel.settings.RESOLUTIONS`.
        network_bytes: of the main memory that one pixel at the networks' resolution takes, about, for `memory`.
        spares: make the networks on other devices, which are used in turn when the device in use fails.
        together: so many devices, `load`'s and the first of `spares`, segment at the same time.

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
        together: int = 1,
    ) -> None:
        if resolution not in RESOLUTIONS:
            raise SettingsError(f"resolution {resolution!r}, expected one of {', '.join(RESOLUTIONS)}")
        self._loads = (load, *spares)[:together]
        self._identity = identity
        self._pixel_size = pixel_size
        self._resolution = resolution
        self._network_bytes = network_bytes
        self._spares = list((load, *spares)[together:])
        self._lock = threading.Lock()
        self._padding: bool | None = None
        self._seats = self._free_seats()

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

        padding = self._loaded()
        try:
            nuclei_map, cell_map, lost = self._maps(image, padding)
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
        with self._lock:
            self._padding, self._seats = None, self._free_seats()

    def _free_seats(self) -> SimpleQueue[_Seat]:
        seats: SimpleQueue[_Seat] = SimpleQueue()
        for load in self._loads:
            seats.put(_Seat(load))
        return seats

    def _loaded(self) -> bool:
        """Whether the networks take padded images; the first call loads them, and raises what that raises."""
        with self._lock:
            if self._padding is None:
                with _taken(self._seats) as seat:
                    self._padding = seat.networks().padding
            return self._padding

    def _maps(self, image: NDArray, padding: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8], str]:
        """Class maps of one image, and where another device made them a sentence that says so."""
        from hcpl_kernel.segmentation.hpa_networks import network_shape, segmentation_input

        planes = segmentation_input(image, self._pixel_size, padding)
        shape = network_shape(image.shape[1:], self._pixel_size)
        with _taken(self._seats) as seat:
            nuclei, cells = self._forward(seat, planes[None])
            networks, lost = seat.networks(), seat.lost
        return *networks.finished(nuclei[0], cells[0], shape), lost

    def _forward(self, seat: _Seat, inputs: NDArray[np.float32]) -> Maps:
        """The networks' forward passes, on the next device where the present one has failed."""
        from hcpl_kernel.runtime.devices import find_fault

        while True:
            networks = seat.networks()
            try:
                return _forward(networks, inputs)
            except RuntimeError:
                reason = find_fault(networks.device) if self._spares else None
                spare = self._spare(seat) if reason is not None else None
                if reason is None or spare is None:
                    raise
            seat.move(spare, networks.device, reason)

    def _spare(self, seat: _Seat) -> Callable[[], Segmentator] | None:
        """What is used in place of a device that failed; the last one, the CPU, is there for all but itself."""
        with self._lock:
            if len(self._spares) > 1:
                return self._spares.pop(0)
            return self._spares[0] if seat.load is not self._spares[0] else None


class _Seat:
    """A device that segments one field at a time, and what is used in its place when it fails."""

    def __init__(self, load: Callable[[], Segmentator]) -> None:
        self.load, self.lost = load, ""
        self._networks: Segmentator | None = None

    def networks(self) -> Segmentator:
        """The networks on the device, loaded when they are first wanted."""
        if self._networks is None:
            self._networks = self.load()
        return self._networks

    def move(self, load: Callable[[], Segmentator], device: torch.device, reason: str) -> None:
        """Go on with what `load` gives, because a device failed."""
        self.load, self._networks = load, None
        self.lost = f"segmented on another device, because {device} failed ({reason})"


@contextmanager
def _taken(seats: SimpleQueue[_Seat]) -> Iterator[_Seat]:
    """Wait for a device that is free; it is free again after the block."""
    seat = seats.get()
    try:
        yield seat
    finally:
        seats.put(seat)


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
