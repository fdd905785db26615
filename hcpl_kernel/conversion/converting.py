"""`hcpl weights convert`: a torch file in, a safetensors file and its manifest entry out."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from hcpl_kernel import __version__
from hcpl_kernel.conversion.inert import TensorRecord
from hcpl_kernel.conversion.state_dict import StateDict, find_state_dict
from hcpl_kernel.conversion.torch_file import NUMPY_DTYPES, TorchFile, read_torch_file
from hcpl_kernel.errors import UnsafePickleError, WeightsError
from hcpl_kernel.models.manifest import FileEntry, read_manifest, record, sha256_of
from hcpl_kernel.runtime.atomic import atomic_path

# Our choice: tensors that share a storage are written once each, which must not multiply a file without bound.
MAX_GROWTH = 4
BFLOAT16_EXPONENT = 0x7F80
SAFETENSORS_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What was written: the safetensors file, its manifest entry, and the number of tensors and of their elements."""

    path: Path
    entry: FileEntry
    tensors: int
    elements: int

    def __str__(self) -> str:
        return f"{self.path}: {self.tensors} tensors, {self.elements} elements, sha256 {self.entry.sha256}"


def convert(path: Path, output: Path | None = None) -> Conversion:
    """Write the network in a pickled torch file as safetensors, without executing anything of the file.

    Takes a state dict, a whole module (the published segmentation networks), or a checkpoint that holds either, in
    torch's zip or legacy layout. Values and dtypes stay as they are. The tensors are read and written one by one, so
    that memory holds the largest of them, not the file.

    Args:
        path: the file. If a `manifest.json` next to it has its hash, the hash is checked.
        output: folder of `<stem>.safetensors` and of the `manifest.json` that gets its entry; default: that of `path`.

    Returns:
        what was written.

    Raises:
        UnsafePickleError: if the file wants anything executed; the message names it.
        WeightsError: if the file is absent, damaged, changed since its hash was recorded, holds no network or a value
            that is not finite, or if the folder cannot be written.
    """
    path = Path(path)
    content = read_torch_file(path)
    source_sha256, origin = _source(path)
    state = find_state_dict(content.content, where=str(path))
    elements = sum(tensor.numel for tensor in state.tensors.values())
    folder = _writable(Path(output) if output is not None else path.parent)
    target = folder / f"{path.stem}.safetensors"
    with atomic_path(target) as temporary:
        _write_safetensors(temporary, path, content, state)
    entry = record(
        target,
        {
            "converted_from": path.name,
            "source_sha256": source_sha256,
            "source_layout": content.layout,
            "source_content": state.origin,
            "tensors": len(state.tensors),
            "elements": elements,
            "renamed": state.renamed,
            "dropped": list(state.dropped),
            "converter": f"hcpl_kernel {__version__}",
            **({"source": origin} if origin else {}),
        },
    )
    return Conversion(target, entry, len(state.tensors), elements)


def _write_safetensors(target: Path, path: Path, content: TorchFile, state: StateDict) -> None:
    """Write the tensors one after the other, so that memory holds one of them at a time.

    The format: the header's length (8 bytes, little-endian), the header (JSON, padded with blanks to a multiple of 8),
    then the values in the order of the header's offsets; larger elements come first, so that all are aligned.
    """
    sizes = {name: tensor.numel * NUMPY_DTYPES[tensor.storage.dtype].itemsize for name, tensor in state.tensors.items()}
    total = sum(sizes.values())
    if total > MAX_GROWTH * path.stat().st_size:
        raise UnsafePickleError(
            f"{path} has {path.stat().st_size} bytes, but its tensors would fill {total}, since they share storages; "
            "the file is forged, or its tensors are to be saved with .clone()"
        )
    order = sorted(sizes, key=lambda name: (-NUMPY_DTYPES[state.tensors[name].storage.dtype].itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name in order:
        tensor = state.tensors[name]
        stop = start + sizes[name]
        header[name] = {
            "dtype": SAFETENSORS_DTYPES[tensor.storage.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "rb") as source, open(target, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            tensor = state.tensors[name]
            file.write(_finite(path, name, tensor, content.read(source, tensor)).tobytes())


def _finite(path: Path, name: str, tensor: TensorRecord, values: np.ndarray) -> np.ndarray:
    if tensor.storage.dtype == "bfloat16":
        bad = (values & BFLOAT16_EXPONENT) == BFLOAT16_EXPONENT
    else:
        bad = ~np.isfinite(values)
    if bad.any():
        raise WeightsError(
            f"{path}: tensor {name} has {int(bad.sum())} of {values.size} values that are NaN or infinite; "
            "the training that wrote the file went wrong"
        )
    return values


def _source(path: Path) -> tuple[str, dict[str, Any]]:
    """The file's sha256, and what its folder's manifest says of its origin."""
    sha256 = sha256_of(path)
    entry = read_manifest(path.parent).get(path.name)
    if entry is not None and entry.sha256 != sha256:
        raise WeightsError(
            f"{path}: sha256 expected {entry.sha256} (manifest.json next to it), found {sha256}; the file was changed "
            "or damaged, so download it again"
        )
    return sha256, dict(entry.provenance) if entry is not None else {}


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(f"{folder} cannot be made ({error.strerror}); give another folder with --output") from error
    if not os.access(folder, os.W_OK):
        raise WeightsError(f"{folder} is not writable; give another folder with --output")
    return folder
