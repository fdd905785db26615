"""What a wave keeps on disk of shards that are not finished: their records, their crops, predictions of single networks."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hcpl_kernel.fields.channels import CHANNEL_COUNT
from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.pipeline import part as part_file
from hcpl_kernel.pipeline.part import CutShard
from hcpl_kernel.pipeline.plan import digest
from hcpl_kernel.pipeline.sealed import DamagedFile
from hcpl_kernel.runtime.atomic import atomic_path, remove_any


class Pieces:
    """The pieces of one shard, in a folder named by the shard's key.

    Args:
        folder: of all pieces.
        key: of the shard.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.key = key
        self._folder = folder / key
        self._cut = self._folder / "cut.safetensors"
        self._crops = self._folder / "crops.raw"

    def put_cut(self, cut: CutShard, crops: CropFile) -> None:
        """Keep a cut shard and the crops that were written for it."""
        self._make_folder()
        for path in (self._cut, self._crops):  # never new crops with the old record of them
            remove_any(path)
        crops.move_to(self._crops)
        with atomic_path(self._cut, sync=False) as temporary:
            part_file.save_cut(temporary, cut, {"crops_digest": crops.digest, "crops_bytes": crops.bytes})

    def cut(self, verify: bool) -> CutShard:
        """The cut shard.

        Args:
            verify: also compare the crops with their digest: for pieces that another run left.

        Raises:
            DamagedFile: if it or its crops are absent or not whole.
        """
        cut, header = part_file.load_cut(self._cut)
        try:
            size = self._crops.stat().st_size
        except OSError as error:
            raise DamagedFile(f"{self._crops.name} is not readable: {error.strerror}") from error
        if size != header["crops_bytes"] or (verify and _file_digest(self._crops) != header["crops_digest"]):
            raise DamagedFile(f"{self._crops.name} was changed after it was written")
        return cut

    def crops(self, cut: CutShard) -> np.ndarray:
        """The crops of all cells, (N, S, S, 4) uint8, mapped from the file."""
        shape = (cut.cells, cut.crop_size, cut.crop_size, CHANNEL_COUNT)
        if not cut.cells:  # an empty file cannot be mapped
            return np.empty(shape, np.uint8)
        return np.memmap(self._crops, np.uint8, "r", shape=shape)

    def prediction(self, network: str, key: str, seen: str) -> Prediction:
        """A network's prediction.

        Args:
            network: its name.
            key: what the prediction depends on besides what the network saw.
            seen: what of the shard the network saw (:func:`seen_of`).

        Raises:
            AbsentFile: if it is not there.
            DamagedFile: if it is not whole; it is then removed, so that it is computed again.
        """
        path = self._prediction(network, key, seen)
        try:
            return part_file.load_prediction(path)
        except DamagedFile:
            remove_any(path)
            raise

    def put_prediction(self, network: str, key: str, seen: str, prediction: Prediction) -> None:
        """Keep a network's prediction."""
        self._make_folder()
        path = self._prediction(network, key, seen)
        if path.is_dir():
            remove_any(path)
        with atomic_path(path, sync=False) as temporary:
            part_file.save_prediction(temporary, prediction)

    def remove(self) -> None:
        """Remove everything of the shard."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _prediction(self, network: str, key: str, seen: str) -> Path:
        return self._folder / f"{network}-{key}-{seen}.safetensors"

    def _make_folder(self) -> None:
        if not self._folder.is_dir():
            remove_any(self._folder)
            self._folder.mkdir(exist_ok=True)

    def exists(self) -> bool:
        """Whether anything of the shard was kept."""
        return self._cut.exists()


def seen_of(crop_size: int, unfinished: Sequence[str]) -> str:
    """What of a shard its networks see: the side of the crops in px, and that some of its fields had no time or memory."""
    return f"{crop_size}-{digest(list(unfinished))}" if unfinished else str(crop_size)


class CropFile:
    """The crops of a shard while its fields are finished one after the other, so that memory holds one field's.

    Args:
        path: a temporary file in the pieces' folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open(path, "wb")  # noqa: SIM115 - held until it is moved or discarded
        self._digest = hashlib.blake2b(digest_size=16)
        self.bytes = 0

    def append(self, crops: np.ndarray) -> None:
        """Add a field's crops, (n, S, S, 4) uint8."""
        data = np.ascontiguousarray(crops).data
        self._file.write(data)
        self._digest.update(data)
        self.bytes += data.nbytes

    @property
    def digest(self) -> str:
        """Of all that was added."""
        return self._digest.hexdigest()

    def move_to(self, path: Path) -> None:
        """Give the finished file its name."""
        self._file.close()
        self._path.replace(path)

    def discard(self) -> None:
        """Remove the file where it was not moved."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def _file_digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
