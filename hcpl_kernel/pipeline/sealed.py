"""Files of a run that say whether they are whole: safetensors with a JSON header and a digest of everything in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from hcpl_kernel.errors import HcplError

_HEADER, _HEADER_DIGEST, _DIGEST = "hcpl", "header_digest", "digest"


class DamagedFile(HcplError):
    """A file of the work folder is not what was written; the reason is the message."""


class AbsentFile(DamagedFile):
    """A file of the work folder is not there."""


def save(path: Path, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays and a JSON header; the caller gives the file its final name.

    The bytes are written here and not by safetensors, whose error for a full disk is not an OSError.

    Args:
        path: a temporary file.
        header: JSON values.
        arrays: by name, any shape, of the dtypes that safetensors stores.
    """
    text = json.dumps(header, sort_keys=True)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {_HEADER: text, _HEADER_DIGEST: _digest(text, {}), _DIGEST: _digest(text, contiguous)}
    path.write_bytes(serialise(contiguous, metadata))


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header alone, compared with its own digest; the arrays are not read.

    Raises:
        AbsentFile: if it is not there.
        DamagedFile: if its header is not readable.
    """
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata()
        if metadata[_HEADER_DIGEST] != _digest(metadata[_HEADER], {}):
            raise DamagedFile(f"{path.name} was changed after it was written")
        header = json.loads(metadata[_HEADER])
    except FileNotFoundError as error:
        raise AbsentFile(f"{path.name} is not there") from error
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise DamagedFile(f"{path.name} is not readable: {error}") from error
    if not isinstance(header, dict):
        raise DamagedFile(f"{path.name} has a header that is not an object")
    return header


def load(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays, compared with the digest.

    Raises:
        AbsentFile: if it is not there.
        DamagedFile: if it is cut, changed, or not one of :func:`save`.
    """
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the handle is not a mapping
        text = metadata[_HEADER]
        if metadata[_HEADER_DIGEST] != _digest(text, {}) or metadata[_DIGEST] != _digest(text, arrays):
            raise DamagedFile(f"{path.name} was changed after it was written")
        return json.loads(text), arrays
    except FileNotFoundError as error:
        raise AbsentFile(f"{path.name} is not there") from error
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise DamagedFile(f"{path.name} is not readable: {error}") from error


def _digest(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def pack_texts(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Texts as one array of UTF-8 bytes, uint8, and where each of them ends, int64."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), ends


def unpack_texts(data: np.ndarray, ends: np.ndarray) -> list[str]:
    """The texts that :func:`pack_texts` packed."""
    whole = data.tobytes()
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64) if len(ends) else ends
    return [whole[start:end].decode() for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
