"""Arrays of a Zarr folder, formats 2 and 3: chunks and shards, read strictly and with bounded memory.

The `zarr` library is not used: it hands whatever a file names to a decoder, without a bound for what comes out. Only
compressors that are known are used (Blosc, Zstandard and LZ4 by the library numcodecs, which is loaded with the first
such chunk), no object types and no filters.
"""

from __future__ import annotations

import bz2
import dataclasses
import itertools
import json
import lzma
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hcpl_kernel.fields.readers.base import MAX_BYTES, MAX_UNPACKED, Unreadable, open_regular
from hcpl_kernel.runtime.compiling import kernel

MOST_JSON = 1 << 20
MOST_CHUNKS = 1 << 16
_V2_TYPES = {"|u1": "u1", "<u2": "<u2", ">u2": ">u2"}
_ENDIAN: dict[str, Literal["<", ">"]] = {"little": "<", "big": ">"}
_COMPRESSORS = ("blosc", "zstd", "lz4", "zlib", "gzip", "bz2", "lzma")
_ABSENT = (1 << 64) - 1


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How the bytes of a chunk become an array: C-ordered `shape` of `dtype`, transposed back by `order`."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: tuple[int, ...]
    compressor: str | None
    checksum: bool
    inner: _Layout | None = None  # of the chunks inside a shard
    index_checksum: bool = True
    index_first: bool = False

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class ZarrArray:
    """An array of uint8 or uint16 in a folder.

    Attributes:
        folder: of the array.
        shape: of the array.
        itemsize: bytes per value, 1 or 2.
    """

    folder: Path
    shape: tuple[int, ...]
    itemsize: int
    _layout: _Layout
    _fill: int
    _prefix: str
    _separator: str

    def read(self, wanted: Sequence[Sequence[int]]) -> np.ndarray:
        """Some positions along each axis.

        Args:
            wanted: per axis, which positions.

        Returns:
            as many values along each axis, uint8 or uint16. Where a chunk is not stored it is the fill value, which is what
            Zarr writers mean by leaving out a chunk.

        Raises:
            Unreadable: if a chunk is damaged, or none at all is stored.
        """
        chunk = self._layout.shape
        held = [sorted({place // size for place in axis}) for axis, size in zip(wanted, chunk, strict=True)]
        if math.prod(map(len, held)) > MOST_CHUNKS:
            raise Unreadable(f"has more than {MOST_CHUNKS} chunks: {self.folder.name}")
        found = np.full([len(axis) for axis in wanted], self._fill, self._layout.dtype.newbyteorder("="))
        stored = 0
        for place in itertools.product(*held):
            path = self.folder / (self._prefix + self._separator.join(map(str, place)) if place else "0")
            if not path.exists() and not path.is_symlink():
                continue
            stored += 1
            values = _decode(_read(path), self._layout, self._fill, path.name)
            into, taken = [], []
            for axis, at, size in zip(wanted, place, chunk, strict=True):
                here = [(index, position - at * size) for index, position in enumerate(axis) if position // size == at]
                into.append([index for index, _ in here])
                taken.append([position for _, position in here])
            found[np.ix_(*into)] = values[np.ix_(*taken)]
        if not stored:
            raise Unreadable(f"holds no pixels: {self.folder} has none of its chunks")
        return found


def open_array(folder: Path) -> ZarrArray:
    """The array in a folder.

    Raises:
        Unreadable: if there is none, or one of a kind that is not read, which is named.
    """
    try:
        return _version_3(folder) if (folder / "zarr.json").exists() else _version_2(folder)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise Unreadable(f"has damaged metadata: {folder}: {type(error).__name__}: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of at most `MOST_JSON` bytes.

    Raises:
        Unreadable: if it is not one.
    """
    data = _read(path, MOST_JSON)
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"has damaged metadata: {path} is not JSON") from error
    if not isinstance(values, dict):
        raise Unreadable(f"has damaged metadata: {path} is not a JSON object")
    return values


def _version_2(folder: Path) -> ZarrArray:
    meta = read_json(folder / ".zarray")
    if meta["dtype"] not in _V2_TYPES:
        raise Unreadable(f"has pixels of type {meta['dtype']}: {folder}; expected 8 or 16 bit unsigned integers")
    if meta.get("filters"):
        raise Unreadable(f"has the filters {[f.get('id') for f in meta['filters']]}: {folder}; expected none")
    compressor = (meta.get("compressor") or {"id": None})["id"]
    dtype = np.dtype(_V2_TYPES[meta["dtype"]])
    shape, chunks = _sizes(meta["shape"], 0), _sizes(meta["chunks"], 1)
    places = tuple(range(len(shape)))
    order = places if meta.get("order", "C") == "C" else places[::-1]
    layout = _layout(chunks, dtype, order, compressor, False, folder)
    return _array(folder, shape, layout, meta.get("fill_value"), "", meta.get("dimension_separator", "."))


def _version_3(folder: Path) -> ZarrArray:
    meta = read_json(folder / "zarr.json")
    if meta.get("node_type") != "array":
        raise Unreadable(f"has damaged metadata: {folder} is not an array")
    if meta["data_type"] not in ("uint8", "uint16"):
        raise Unreadable(f"has pixels of type {meta['data_type']}: {folder}; expected 8 or 16 bit unsigned integers")
    grid, keys = meta["chunk_grid"], meta.get("chunk_key_encoding", {"name": "default"})
    if grid["name"] != "regular":
        raise Unreadable(f"has a chunk grid of kind {grid['name']}: {folder}; expected a regular one")
    default = keys["name"] == "default"
    separator = keys.get("configuration", {}).get("separator", "/" if default else ".")
    chunks = _sizes(grid["configuration"]["chunk_shape"], 1)
    layout = _coded(chunks, np.dtype(meta["data_type"]), meta["codecs"], folder)
    prefix = f"c{separator}" if default else ""
    return _array(folder, _sizes(meta["shape"], 0), layout, meta.get("fill_value"), prefix, separator)


def _coded(shape: tuple[int, ...], dtype: np.dtype[Any], codecs: Sequence[Mapping[str, Any]], folder: Path) -> _Layout:
    """The layout that a list of format 3 codecs makes."""
    order, compressor, checksum, inner = tuple(range(len(shape))), None, False, None
    index_checksum, index_first = True, False
    for codec in codecs:
        name, configuration = codec["name"], codec.get("configuration") or {}
        if name == "transpose":
            order = tuple(configuration["order"])
            if sorted(order) != list(range(len(shape))):
                raise Unreadable(f"has damaged metadata: {folder}: a transposition by {order}")
        elif name == "bytes":
            dtype = dtype.newbyteorder(_ENDIAN[configuration.get("endian", "little")])
        elif name == "sharding_indexed":
            inner = _coded(_sizes(configuration["chunk_shape"], 1), dtype, configuration["codecs"], folder)
            index_checksum = any(c["name"] == "crc32c" for c in configuration["index_codecs"])
            index_first = configuration.get("index_location", "end") == "start"
        elif name == "crc32c":
            checksum = True
        elif compressor is None:
            compressor = name
        else:
            raise Unreadable(f"has the codecs {[c['name'] for c in codecs]}: {folder}; expected one compressor")
    layout = _layout(shape, dtype, order, compressor, checksum, folder)
    if inner is None:
        return layout
    if compressor or checksum or inner.inner or len(inner.shape) != len(shape) or order != tuple(range(len(shape))):
        raise Unreadable(f"has shards of a kind that is not read: {folder}")
    if any(size % part for size, part in zip(shape, inner.shape, strict=True)):
        raise Unreadable(f"has damaged metadata: {folder}: shards of {shape} in chunks of {inner.shape}")
    return dataclasses.replace(
        layout, inner=inner, dtype=inner.dtype, index_checksum=index_checksum, index_first=index_first
    )


def _layout(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    order: tuple[int, ...],
    compressor: str | None,
    checksum: bool,
    folder: Path,
) -> _Layout:
    if compressor is not None and compressor not in _COMPRESSORS:
        raise Unreadable(f"has the compression {compressor!r}: {folder}; expected {', '.join(_COMPRESSORS)} or none")
    if math.prod(shape) * dtype.itemsize > MAX_UNPACKED:
        raise Unreadable(f"is too large: {folder} has chunks of {' x '.join(map(str, shape))}")
    return _Layout(shape, dtype, order, compressor, checksum)


def _array(folder: Path, shape: tuple[int, ...], layout: _Layout, fill: object, prefix: str, separator: str) -> ZarrArray:
    if len(shape) != len(layout.shape) or separator not in ("/", "."):
        raise Unreadable(f"has damaged metadata: {folder}: {len(shape)} axes, {len(layout.shape)} in its chunks")
    value = 0 if fill is None else fill
    if not isinstance(value, int) or not 0 <= value <= np.iinfo(layout.dtype).max:
        raise Unreadable(f"has damaged metadata: {folder}: the fill value {value!r}")
    return ZarrArray(folder, shape, layout.dtype.itemsize, layout, value, prefix, separator)


def _sizes(values: object, least: int) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int and least <= value < 1 << 31 for value in values):
        raise ValueError(f"{values!r} are not sizes")
    return tuple(values)


def _read(path: Path, most: int = MAX_BYTES) -> bytes:
    with open_regular(path) as file:
        try:
            data = file.read(most + 1)
        except OSError as error:
            raise Unreadable(f"cannot be read: {path}: {error.strerror}") from error
    if len(data) > most:
        raise Unreadable(f"is too large: {path} has more than {most} bytes")
    return data


def _decode(data: bytes, layout: _Layout, fill: int, name: str) -> np.ndarray:
    """The values of one stored chunk or shard."""
    if layout.inner is not None:
        return _shard(data, layout, layout.inner, fill, name)
    if layout.checksum:
        data = _checked(data, name)
    raw = data if layout.compressor is None else _unpacked(data, layout.compressor, layout.bytes, name)
    if len(raw) != layout.bytes:
        raise Unreadable(f"is truncated or damaged: chunk {name} has {len(raw)} bytes, expected {layout.bytes}")
    stored = np.frombuffer(raw, layout.dtype).reshape([layout.shape[axis] for axis in layout.order])
    return stored.transpose(np.argsort(layout.order))


def _shard(data: bytes, layout: _Layout, inner: _Layout, fill: int, name: str) -> np.ndarray:
    """The chunks of a shard, by its index of offsets and lengths."""
    grid = [size // part for size, part in zip(layout.shape, inner.shape, strict=True)]
    count = math.prod(grid)
    length = 16 * count + 4 * layout.index_checksum
    if count > MOST_CHUNKS or len(data) < length:
        raise Unreadable(f"is truncated or damaged: shard {name} has {len(data)} bytes and an index of {length}")
    index = data[:length] if layout.index_first else data[-length:]
    index = _checked(index, name) if layout.index_checksum else index
    values = np.full(layout.shape, fill, inner.dtype)
    for place, (offset, size) in zip(np.ndindex(*grid), struct.iter_unpack("<QQ", index), strict=True):
        if offset == size == _ABSENT:
            continue
        if offset + size > len(data):
            raise Unreadable(f"is truncated or damaged: shard {name} has {len(data)} bytes, a chunk ends at {offset + size}")
        corner = tuple(slice(at * part, (at + 1) * part) for at, part in zip(place, inner.shape, strict=True))
        values[corner] = _decode(data[offset : offset + size], inner, fill, name)
    return values


def _unpacked(data: bytes, compressor: str, size: int, name: str) -> bytes | NDArray[np.uint8]:
    """The bytes of a compressed chunk, `size` of them; one more is asked for where a decoder would give more."""
    try:
        if compressor in ("zlib", "gzip"):
            return zlib.decompressobj(wbits=32 + zlib.MAX_WBITS).decompress(data, size + 1)
        if compressor == "bz2":
            return bz2.BZ2Decompressor().decompress(data, size + 1)
        if compressor == "lzma":
            return lzma.LZMADecompressor(memlimit=1 << 28).decompress(data, size + 1)
        return _by_numcodecs(data, compressor, size)
    except Unreadable:
        raise
    except Exception as error:  # noqa: BLE001 - every decoder has errors of its own for damaged data
        raise Unreadable(f"is truncated or damaged: chunk {name}: {error}") from error


def _by_numcodecs(data: bytes, compressor: str, size: int) -> NDArray[np.uint8]:
    try:
        from numcodecs import blosc, lz4, zstd
    except ImportError as error:
        raise Unreadable(f"is compressed by {compressor}, which needs numcodecs: pip install 'hcpl-kernel[zarr]'") from error
    header = struct.unpack_from("<4xIII" if compressor == "blosc" else "<I", data)
    if compressor == "blosc" and (header[0], header[2]) != (size, len(data)):
        raise ValueError(f"{header[2]} bytes for {header[0]}, found {len(data)}, expected {size}")
    if compressor == "lz4" and header[0] != size:
        raise ValueError(f"{header[0]} bytes, expected {size}")
    found = np.empty(size, np.uint8)
    codec: Any = {"blosc": blosc, "lz4": lz4, "zstd": zstd}[compressor]
    codec.decompress(data, found)
    return found


def _checked(data: bytes, name: str) -> bytes:
    """What stands before a CRC-32C.

    Raises:
        Unreadable: if it is not that checksum's.
    """
    body = data[:-4]
    if len(data) < 4 or struct.unpack("<I", data[-4:])[0] != int(_crc32c(np.frombuffer(body, np.uint8), _table())):
        raise Unreadable(f"is truncated or damaged: {name} differs from its checksum")
    return body


def _table() -> NDArray[np.uint32]:
    """Of the Castagnoli polynomial, bits reversed."""
    values: NDArray[np.uint32] = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, (values >> 1) ^ np.uint32(0x82F63B78), values >> 1).astype(np.uint32)
    return values


@kernel
def _crc32c(data: NDArray[np.uint8], table: NDArray[np.uint32]) -> np.uint32:
    rest = np.uint32(0xFFFFFFFF)
    for value in data:
        rest = table[(rest ^ value) & np.uint32(0xFF)] ^ (rest >> np.uint32(8))
    return np.uint32(rest ^ np.uint32(0xFFFFFFFF))
