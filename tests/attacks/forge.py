"""Hand-made files in torch's layouts around arbitrary pickle programs."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hcpl_kernel.conversion.torch_file import LEGACY_MAGIC, LEGACY_PROTOCOL

# One storage of four float32 under the key "0", and a tensor of it, as opcodes without PROTO and STOP.
FLOATS = struct.pack("<4f", 1.0, 2.0, 3.0, 4.0)


def text(value: str) -> bytes:
    """Push a string."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    """Push an integer."""
    return pickle.dumps(value, protocol=2)[2:-1]


def named(module: str, name: str) -> bytes:
    """Push a class or function."""
    return b"c" + f"{module}\n{name}\n".encode()


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """Push the result of a call."""
    return named(module, name) + b"(" + b"".join(arguments) + b"tR"


def storage(key: str = "0", count: int = 4, kind: str = "FloatStorage") -> bytes:
    """Push a storage."""
    return b"(" + text("storage") + named("torch", kind) + text(key) + text("cpu") + number(count) + b"tQ"


def legacy_storage(key: str = "0", count: int = 4, view: bytes = b"N") -> bytes:
    """Push a storage as the legacy layout names it."""
    head = text("storage") + named("torch", "FloatStorage") + text(key) + text("cpu")
    return b"(" + head + number(count) + view + b"tQ"


def tensor(shape: tuple[int, ...] = (4,), stride: tuple[int, ...] = (1,), offset: int = 0, of: bytes = b"") -> bytes:
    """Push a tensor of a storage."""
    sizes = b"(" + b"".join(map(number, shape)) + b"t"
    strides = b"(" + b"".join(map(number, stride)) + b"t"
    hooks = call("collections", "OrderedDict")
    return call("torch._utils", "_rebuild_tensor_v2", of or storage(), number(offset), sizes, strides, b"\x89", hooks)


def state_dict(*extra: bytes, of: bytes = b"") -> bytes:
    """A program that gives {"weight": tensor, "extra0": ..., ...}."""
    entries = [text("weight") + tensor(of=of), *(text(f"extra{n}") + value for n, value in enumerate(extra))]
    return b"\x80\x02}(" + b"".join(entries) + b"u."


def zip_file(path: Path, program: bytes, storages: Mapping[str, bytes] | None = None, **others: bytes) -> Path:
    """A file in the zip layout; `others` are further entries, `__` in their names for `/`."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", b"little")
        for key, data in ({"0": FLOATS} if storages is None else storages).items():
            archive.writestr(f"archive/data/{key}", data)
        for name, data in others.items():
            archive.writestr(name.replace("__", "/"), data)
    return path


def legacy_file(path: Path, program: bytes, storages: Mapping[str, bytes] | None = None, keys: Any = None) -> Path:
    """A file in the legacy layout."""
    storages = {"0": FLOATS} if storages is None else storages
    system = {"protocol_version": LEGACY_PROTOCOL, "little_endian": True, "type_sizes": {}}
    head = b"".join(pickle.dumps(value, protocol=2) for value in (LEGACY_MAGIC, LEGACY_PROTOCOL, system))
    tail = pickle.dumps(list(storages) if keys is None else keys, protocol=2)
    data = b"".join(struct.pack("<q", len(values) // 4) + values for values in storages.values())
    path.write_bytes(head + program + tail + data)
    return path
