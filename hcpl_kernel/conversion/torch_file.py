"""The containers that `torch.save` writes: the zip archive of torch >= 1.6 and the legacy stream before it.

Both hold a pickle that names storages by persistent ids, and the storages' raw bytes. Nothing is unpacked: a storage is
a byte range of the file, and a tensor's bytes are read when they are asked for.
"""

from __future__ import annotations

import dataclasses
import io
import mmap
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from hcpl_kernel.conversion.inert import Named, Storage, TensorRecord
from hcpl_kernel.conversion.pickle_vm import PickleVM
from hcpl_kernel.errors import UnsafePickleError, WeightsError

# Names of storage classes -> (dtype, the NumPy dtype of the same bytes). bfloat16 has none, so its bits are integers.
STORAGES = {
    "DoubleStorage": ("float64", "<f8"),
    "FloatStorage": ("float32", "<f4"),
    "HalfStorage": ("float16", "<f2"),
    "BFloat16Storage": ("bfloat16", "<u2"),
    "LongStorage": ("int64", "<i8"),
    "IntStorage": ("int32", "<i4"),
    "ShortStorage": ("int16", "<i2"),
    "CharStorage": ("int8", "|i1"),
    "ByteStorage": ("uint8", "|u1"),
    "BoolStorage": ("bool", "|b1"),
}
NUMPY_DTYPES = {dtype: np.dtype(bits) for dtype, bits in STORAGES.values()}

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
ZIP_SIGNATURE = b"PK\x03\x04"
LOCAL_HEADER = struct.Struct("<4s22xHH")
# Our choice: the pickle of a full-size module has well below 1 MiB.
MAX_PROGRAM_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class TorchFile:
    """What a file holds.

    Attributes:
        layout: "zip" or "legacy".
        content: the pickled object, as inert data (see :mod:`hcpl_kernel.conversion.inert`).
        ranges: storage key -> (first byte, number of bytes) in the file.
    """

    path: Path
    layout: str
    content: Any
    ranges: dict[str, tuple[int, int]]

    def read(self, file: IO[bytes], tensor: TensorRecord) -> np.ndarray:
        """The values of a tensor, C-contiguous, of its shape; bfloat16 as its bits in uint16.

        Raises:
            WeightsError: if the tensor's storage is not in the file.
        """
        dtype = NUMPY_DTYPES[tensor.storage.dtype]
        begin = (tensor.storage.start + tensor.offset) * dtype.itemsize
        count = tensor.extent * dtype.itemsize
        first, size = self.ranges.get(tensor.storage.key, (0, 0))
        if begin + count > size:
            raise WeightsError(
                f"{self.path}: storage {tensor.storage.key!r:.60} has {size} bytes, a tensor needs {begin + count}; "
                "the file is damaged or forged"
            )
        # NumPy takes no empty buffer for an array without elements.
        if count == 0:
            return np.empty(tensor.shape, dtype)
        file.seek(first + begin)
        strides = tuple(step * dtype.itemsize for step in tensor.stride)
        values: np.ndarray = np.ndarray(tensor.shape, dtype, file.read(count), strides=strides)
        return np.asarray(values, order="C")


def read_torch_file(path: Path) -> TorchFile:
    """Read the pickle of a file that `torch.save` wrote, and locate its storages.

    Raises:
        UnsafePickleError: if the pickle wants anything executed, or is made to exhaust memory.
        WeightsError: if the file is absent, damaged, big endian, or of a kind that is not read (tar, TorchScript).
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; give the .pth file to convert")
    if not path.is_file():
        raise WeightsError(f"{path} {'is not a file' if path.exists() else 'does not exist'}; give the .pth file to convert")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path} is empty; copy or download it again")
    with open(path, "rb") as file:
        head = file.read(512)
        _refuse_text(path, head)
        if head.startswith(ZIP_SIGNATURE):
            return _read_zip(path, file)
        if head[257:262] == b"ustar":
            raise WeightsError(f"{path} is a tar file of torch < 0.2; save it again with a later torch, then convert it")
        if head[8:9] == b"{":
            raise WeightsError(f"{path} looks like a safetensors file already; nothing is to be converted")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return _read_legacy(path, mapped)


def _refuse_text(path: Path, head: bytes) -> None:
    """Name what downloads leave in place of a file."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<!--", b"<?xml")):
        raise WeightsError(f"{path} is a web page, not a torch file; open its address in a browser and download the file")
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is a Git LFS pointer: fetch the file itself (git lfs pull)")


def _read_zip(path: Path, file: IO[bytes]) -> TorchFile:
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as error:
        raise WeightsError(f"{path} is not an intact zip archive ({error}); copy or download it again") from error
    entries = {info.filename: info for info in infos}
    if len(entries) != len(infos):
        raise UnsafePickleError(f"{path}: its zip archive has entries of the same name, so programs may disagree about it")
    programs = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(programs) != 1:
        raise WeightsError(f"{path}: expected one <name>/data.pkl in the archive as torch.save writes it, found {programs}")
    root = programs[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in entries or any(name.startswith(f"{root}code/") for name in entries):
        raise WeightsError(f"{path} is a TorchScript archive, which holds code; save its state_dict() with torch.save")

    def payload(name: str, limit: int | None = None) -> tuple[int, int]:
        return _payload(path, file, entries[name], limit)

    if f"{root}byteorder" in entries:
        first, size = payload(f"{root}byteorder", limit=16)
        file.seek(first)
        _check_little_endian(path, file.read(size) == b"little")
    ranges: dict[str, tuple[int, int]] = {}

    def locate(key: str) -> int:
        if key not in ranges:
            if f"{root}data/{key}" not in entries:
                raise WeightsError(f"{path}: storage {key!r:.60} is not in the archive; the file is damaged or forged")
            ranges[key] = payload(f"{root}data/{key}")
        return ranges[key][1]

    first, size = payload(programs[0], limit=MAX_PROGRAM_BYTES)
    file.seek(first)
    program = io.BytesIO(file.read(size))
    content = PickleVM(str(path), lambda pid: _storage(path, pid, locate)).run(program)
    return TorchFile(path, "zip", content, ranges)


def _payload(path: Path, file: IO[bytes], info: zipfile.ZipInfo, limit: int | None) -> tuple[int, int]:
    """First byte and size of an entry, read from its own header, since the central directory does not say it."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.compress_size != info.file_size:
        raise UnsafePickleError(f"{path}: the entry {info.filename} is compressed or encrypted; torch.save never does that")
    if limit is not None and info.file_size > limit:
        raise UnsafePickleError(f"{path}: the entry {info.filename} has {info.file_size} bytes, expected at most {limit}")
    end = path.stat().st_size
    header = b""
    if 0 <= info.header_offset < end:
        file.seek(info.header_offset)
        header = file.read(LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size or not header.startswith(ZIP_SIGNATURE):
        raise WeightsError(f"{path}: the entry {info.filename} has no header where the archive says; the file is damaged")
    _, name_length, extra_length = LOCAL_HEADER.unpack(header)
    first = info.header_offset + LOCAL_HEADER.size + name_length + extra_length
    if first + info.file_size > end:
        raise WeightsError(f"{path}: the entry {info.filename} ends beyond the file; it is cut off or forged")
    return first, info.file_size


def _read_legacy(path: Path, mapped: mmap.mmap) -> TorchFile:
    storages: dict[str, Storage] = {}

    def no_storage(pid: Any) -> Any:
        raise UnsafePickleError(f"{path}: a persistent id is where torch writes none")

    def storage(pid: Any) -> Any:
        if type(pid) is tuple and len(pid) == 4 and pid[0] == "module" and isinstance(pid[1], Named):
            # Modules come with their class's source text, which is of no use here.
            return pid[1]
        found = _storage(path, pid, locate=None)
        known = storages.setdefault(found.key, found)
        if known.dtype != found.dtype:
            raise WeightsError(f"{path}: storage {found.key} is named as {known.dtype} and {found.dtype}")
        return found

    def program(persistent: Callable[[Any], Any]) -> Any:
        return PickleVM(str(path), persistent).run(mapped)  # type: ignore[arg-type]

    if program(no_storage) != LEGACY_MAGIC:
        raise WeightsError(f"{path} was not written by torch.save; expected a torch file (.pth, .pt, .ckpt)")
    if program(no_storage) != LEGACY_PROTOCOL:
        raise WeightsError(f"{path} has another protocol than torch's legacy one ({LEGACY_PROTOCOL})")
    system = program(no_storage)
    _check_little_endian(path, type(system) is dict and system.get("little_endian") is True)
    content = program(storage)
    keys = program(no_storage)
    if type(keys) is not list or any(type(key) is not str or key not in storages for key in keys):
        raise WeightsError(f"{path}: its list of storages is damaged")
    ranges: dict[str, tuple[int, int]] = {}
    position, end = mapped.tell(), len(mapped)
    for key in keys:
        count = int.from_bytes(mapped[position : position + 8], "little", signed=True)
        size = count * NUMPY_DTYPES[storages[key].dtype].itemsize
        if count < 0 or position + 8 + size > end:
            raise WeightsError(f"{path}: storage {key} of {count} elements ends beyond the file; it is cut off or forged")
        ranges[key] = (position + 8, size)
        position += 8 + size
    return TorchFile(path, "legacy", content, ranges)


def _storage(path: Path, pid: Any, locate: Callable[[str], int] | None) -> Storage:
    """The storage of `("storage", class, key, location, numel[, view])`; `locate` gives its bytes where known."""
    good = (
        type(pid) is tuple
        and len(pid) in (5, 6)
        and pid[0] == "storage"
        and isinstance(pid[1], Named)
        and type(pid[2]) is str
        and type(pid[4]) is int
        and 0 <= pid[4] < 2**48
    )
    if not good:
        raise UnsafePickleError(f"{path}: a persistent id is not what torch writes (storage, class, key, device, elements)")
    _, kind, key, _, numel, *view = pid
    module, _, name = kind.full_name.rpartition(".")
    if module not in ("torch", "torch.cuda") or name not in STORAGES:
        raise WeightsError(
            f"{path}: storage {key!r:.60} is of {kind.full_name}, which is not read; expected one of torch's"
            f" {', '.join(STORAGES)}"
        )
    dtype, _ = STORAGES[name]
    if locate is not None and numel * NUMPY_DTYPES[dtype].itemsize > locate(key):
        raise WeightsError(
            f"{path}: storage {key!r:.60} claims {numel} elements of {dtype}, the archive has {locate(key)} bytes; "
            "the file is damaged or forged"
        )
    if not view or view[0] is None:
        return Storage(key, dtype, numel)
    view_good = type(view[0]) is tuple and len(view[0]) == 3 and all(type(n) is int and n >= 0 for n in view[0][1:])
    if not view_good or view[0][1] + view[0][2] > numel:
        raise WeightsError(f"{path}: a view of storage {key!r:.60} is outside of it; the file is damaged or forged")
    return Storage(key, dtype, numel=view[0][2], start=view[0][1])


def _check_little_endian(path: Path, good: bool) -> None:
    if not good:
        raise WeightsError(f"{path} was written on a big-endian machine; save it again on a little-endian one")
