"""What a wave keeps on disk of shards that are not finished: their records, their crops, predictions of single networks."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np

from hcpl_kernel.fields.channels import CHANNEL_COUNT
from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.pipeline import part as part_file
from hcpl_kernel.pipeline.part import CutShard
from hcpl_kernel.pipeline.sealed import DamagedFile
from hcpl_kernel.runtime.atomic import atomic_path


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
        self._folder.mkdir(exist_ok=True)
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
            raise DamagedFile(f"the crops are not readable: {error.strerror}") from error
        if size != header["crops_bytes"] or (verify and _file_digest(self._crops) != header["crops_digest"]):
            raise DamagedFile("the crops were changed after they were written")
        return cut

    def crops(self, cut: CutShard) -> np.ndarray:
        """The crops of all cells, (N, S, S, 4) uint8, mapped from the file."""
        shape = (cut.cells, cut.crop_size, cut.crop_size, CHANNEL_COUNT)
        if not cut.cells:  # an empty file cannot be mapped
            return np.empty(shape, np.uint8)
        return np.memmap(self._crops, np.uint8, "r", shape=shape)

    def has_prediction(self, network: str, key: str, crop_size: int) -> bool:
        """Whether a network's prediction is there and whole; one that is not is removed."""
        try:
            self.prediction(network, key, crop_size)
        except DamagedFile:
            return False
        return True

    def prediction(self, network: str, key: str, crop_size: int) -> Prediction:
        """A network's prediction.

        Raises:
            DamagedFile: if it is absent or not whole; it is then removed, so that it is computed again.
        """
        path = self._prediction(network, key, crop_size)
        try:
            return part_file.load_prediction(path)
        except DamagedFile:
            path.unlink(missing_ok=True)
            raise

    def put_prediction(self, network: str, key: str, crop_size: int, prediction: Prediction) -> None:
        """Keep a network's prediction."""
        self._folder.mkdir(exist_ok=True)
        with atomic_path(self._prediction(network, key, crop_size), sync=False) as temporary:
            part_file.save_prediction(temporary, prediction)

    def remove(self) -> None:
        """Remove everything of the shard."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _prediction(self, network: str, key: str, crop_size: int) -> Path:
        return self._folder / f"{network}-{key}-{crop_size}.safetensors"

    def exists(self) -> bool:
        """Whether anything of the shard was kept."""
        return self._cut.exists()


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
