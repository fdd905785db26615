"""Weights at run time: safetensors only, hash verified, strict names and shapes, finite values.

Importing this module imports no torch; loading does.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcpl_kernel.errors import WeightsError
from hcpl_kernel.models.ensemble import Ensemble, Part, SegmentationSpec
from hcpl_kernel.models.integrity_spec import NoveltySpec
from hcpl_kernel.models.manifest import member, read_manifest, sha256_of

if TYPE_CHECKING:
    from torch import Tensor, nn

PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")
GEOMETRY_SUFFIXES = (".json", ".ubj")
# How many names or shapes a message lists: enough to see the pattern, few enough to read.
SHOWN = 5
# Seconds in which a file could be written again and still have the same time of change.
JUST_WRITTEN = 1.0


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Args:
        path: the file. Its pages are mapped, so a tensor costs memory only when it is read or copied.

    Returns:
        name -> tensor, on the CPU, of the file's dtypes; every floating-point value is finite.

    Raises:
        WeightsError: if the file is absent, a pickle, damaged, or holds a NaN or an infinity (the tensor is named).
    """
    tensors = {}
    with _opened(path) as file:
        for name in file.keys():  # noqa: SIM118 - a safetensors handle is not a mapping
            tensors[name] = file.get_tensor(name)
            _check_finite(path, name, tensors[name])
    return tensors


def load_into(module: nn.Module, path: Path, expected_sha256: str | None) -> None:
    """Copy a safetensors file into a module, parameter by parameter, on whatever device the module is.

    Args:
        module: takes the values; its dtypes stay (a float16 file fills a float32 module).
        path: the file.
        expected_sha256: the hash that the file must have (see :func:`resolve_sha256`). None skips the check: only for
            a file that the caller has just written or verified.

    Raises:
        WeightsError: if the file is absent, a pickle, damaged, of another hash, has other names or shapes than the
            module, or holds a value that is not finite. The module is unchanged unless the last is the reason.
    """
    import torch

    if expected_sha256 is not None:
        _check_hash(path, expected_sha256)
    targets = module.state_dict()
    with _opened(path) as file:
        _check_names(path, expected=set(targets), found=set(file.keys()))
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in targets}
        wrong = [
            f"{name}: expected {tuple(target.shape)}, found {shapes[name]}"
            for name, target in targets.items()
            if tuple(target.shape) != shapes[name]
        ]
        if wrong:
            raise WeightsError(
                f"{path}: {len(wrong)} of {len(targets)} tensors have other shapes than the network: "
                f"{_some(wrong, '; ')}. Take the file that belongs to this entry of ensemble.json, or correct the entry"
            )
        with torch.no_grad():
            for name, target in targets.items():
                tensor = file.get_tensor(name)
                _check_finite(path, name, tensor)
                target.copy_(tensor)


def resolve_sha256(folder: Path, part: Part) -> str:
    """The recorded hash of a part's file: that of `ensemble.json`, or else that of the folder's `manifest.json`.

    Raises:
        WeightsError: if neither records one, or both do and differ.
    """
    entry = read_manifest(folder).get(part.file)
    recorded = entry.sha256 if entry else None
    if part.sha256 and recorded and part.sha256 != recorded:
        raise WeightsError(
            f"{folder}: ensemble.json and manifest.json record different hashes of {part.file} ({part.sha256[:12]}..., "
            f"{recorded[:12]}...); keep the one of the file that you trust"
        )
    sha256 = part.sha256 or recorded
    if sha256 is None:
        raise WeightsError(
            f"{folder}: no hash of {part.file} is recorded. `hcpl weights convert FILE --output {folder}`, "
            "`python -m tools.download_weights` and the training tools enter what they write in manifest.json; "
            "write the file that way, or add its sha256 to ensemble.json"
        )
    return sha256


def part_path(ensemble: Ensemble, part: Part) -> Path:
    """The path of a part's file.

    Raises:
        WeightsError: if it is absent; the message says which data set or command provides it.
    """
    path = member(ensemble.folder, part.file)
    if not path.is_file():
        raise WeightsError(f"{path} is missing: {_how_to_obtain(ensemble, part)}")
    return path


def verify_parts(ensemble: Ensemble, segmentation: bool = True) -> None:
    """Check that every part's file is there with its recorded hash, before a run of hours begins.

    Args:
        ensemble: the weights folder.
        segmentation: False leaves out the two segmentation networks, for runs on existing label maps.

    Raises:
        WeightsError: naming every part at fault, one line per part.
    """

    with Verification(ensemble, segmentation) as verification:
        verification.wait()


class Verification:
    """The check of :func:`verify_parts` in threads of its own, while other work goes on; a context manager.

    The parts are read in the order in which a run needs them.

    Args:
        ensemble: the weights folder.
        segmentation: False leaves out the two segmentation networks.
    """

    def __init__(self, ensemble: Ensemble, segmentation: bool = True) -> None:
        self._ensemble = ensemble
        self._pool = ThreadPoolExecutor(thread_name_prefix="hcpl hashing")  # hashing lets other threads run
        parts = ensemble.parts_in_use(segmentation)
        self._faults = {part.file: self._pool.submit(_fault, ensemble, part) for part in parts}

    def __enter__(self) -> Verification:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, WeightsError):  # of one part; there may be others
            self.wait()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def wait(self, files: Collection[str] | None = None) -> None:
        """Return when the parts of these files, None for all, are known to be right.

        Raises:
            WeightsError: if one of them is not; it names every part at fault, one line per part.
        """
        wanted = [found for file, found in self._faults.items() if files is None or file in files]
        if any(found.result() for found in wanted):
            faults = filter(None, (found.result() for found in self._faults.values()))
            raise WeightsError("\n".join([*faults, *_way_out(self._ensemble)]))

    def look(self) -> None:
        """Raise what :meth:`wait` would raise if a part is already known to be at fault; never waits for the first one."""
        if any(found.done() and found.result() for found in self._faults.values()):
            self.wait()


def _fault(ensemble: Ensemble, part: Part) -> str | None:
    """What is wrong with a part's file, None if nothing is."""
    try:
        _check_hash(part_path(ensemble, part), resolve_sha256(ensemble.folder, part))
    except WeightsError as error:
        return str(error)
    return None


def _way_out(ensemble: Ensemble) -> Iterator[str]:
    """How to predict with the networks that are there, where only some files are missing."""
    there = [spec.name for spec in ensemble.networks if member(ensemble.folder, spec.file).is_file()]
    missing = [part.file for part in ensemble.parts if not member(ensemble.folder, part.file).is_file()]
    if there and missing:
        yield (
            f"To predict with what is there ({', '.join(there)}): "
            f"`hcpl weights subset {ensemble.folder} --output NEW`, then --weights NEW"
        )


def load_geometry_path(ensemble: Ensemble) -> Path | None:
    """The verified path of the XGBoost model of the VID's first module; None where the ensemble does not have it.

    Raises:
        WeightsError: if it is absent, of another hash, or not one of XGBoost's stable formats (JSON, UBJ).
    """
    part = ensemble.geometry
    if part is None:
        return None
    if Path(part.file).suffix not in GEOMETRY_SUFFIXES:
        raise WeightsError(
            f"{ensemble.folder}: the geometry module's file {part.file} must be an XGBoost model of suffix "
            f"{' or '.join(GEOMETRY_SUFFIXES)} (only these are stable across versions); save it with Booster.save_model"
        )
    return verified_path(ensemble, part)


def verified_path(ensemble: Ensemble, part: Part) -> Path:
    """The path of a part's file, which has the recorded hash.

    Raises:
        WeightsError: if it is absent, or of another hash.
    """
    path = part_path(ensemble, part)
    _check_hash(path, resolve_sha256(ensemble.folder, part))
    return path


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An open safetensors handle, with the library's errors told as ours."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; weights/README.md says how to obtain or train each file")
    with open(path, "rb") as file:
        head = file.read(9)
    # A pickle starts with its protocol opcode, torch's present format with a zip's signature. So may the header length
    # of a safetensors file, but there a brace follows as the ninth byte.
    pickled = head[8:] != b"{" and (head[:1] == b"\x80" or head[:4] == b"PK\x03\x04")
    if path.suffix.lower() in PICKLE_SUFFIXES or pickled:
        raise WeightsError(
            f"{path} is a pickle, which could run anything when it is loaded; "
            f"convert it once with `hcpl weights convert {path}` and use the .safetensors file"
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as handle:
            yield handle
    except SafetensorError as error:
        raise WeightsError(f"{path} is not an intact safetensors file ({error}); copy or download it again") from error


def _check_hash(path: Path, expected: str) -> None:
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; weights/README.md says how to obtain or train each file")
    found = _sha256(path)
    if found != expected.lower():
        raise WeightsError(
            f"{path}: sha256 expected {expected}, found {found}: the file was changed or damaged. "
            "Copy or download it again; if the change was meant, record the new hash (weights/README.md)"
        )


def _sha256(path: Path) -> str:
    """The hash of a file, computed once as long as the file is not rewritten; who comes meanwhile waits for it."""
    with _hashing[path]:
        status = path.stat()
        if time.time() - status.st_ctime < JUST_WRITTEN:
            return sha256_of(path)
        return _sha256_as_of(path, status.st_ino, status.st_size, status.st_ctime_ns)


_hashing: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)


@cache
def _sha256_as_of(path: Path, *_stamp: int) -> str:
    return sha256_of(path)


def _check_names(path: Path, expected: set[str], found: set[str]) -> None:
    if expected == found:
        return
    counts = ", ".join(
        f"{len(names)} are {kind} ({_some(sorted(names))})"
        for kind, names in (("missing", expected - found), ("unknown", found - expected))
        if names
    )
    raise WeightsError(
        f"{path} does not belong to this network: of {len(expected)} tensors, {counts}. "
        "Check the entry of ensemble.json; files of other programs go through `hcpl weights convert` first"
    )


def _check_finite(path: Path, name: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return
    lowest, highest = tensor.aminmax()  # both are NaN where any value is, in one pass over the memory
    if not (lowest.isfinite() and highest.isfinite()):
        bad = int((~tensor.isfinite()).sum())
        raise WeightsError(
            f"{path}: tensor {name} has {bad} of {tensor.numel()} values that are NaN or infinite; "
            "the training or conversion that wrote the file went wrong, so write it again"
        )


def _how_to_obtain(ensemble: Ensemble, part: Part) -> str:
    stated: Mapping[str, Any] = part.provenance
    if "obtain" in stated:
        return str(stated["obtain"])
    if isinstance(part, SegmentationSpec) and part.architecture == "dpn_unet":
        how = (
            "on a machine with internet, `python -m tools.download_weights` fetches the published file and "
            f"`hcpl weights convert FILE --output {ensemble.folder}` makes this one of it"
        )
    elif isinstance(part, NoveltySpec):
        how = f"`python -m tools.novelty fit --write` writes it into {ensemble.folder}"
    else:
        how = f"`python -m tools.train` writes it into {ensemble.folder}"
    return f"{how}; on Kaggle, attach the data set that holds the {ensemble.name!r} weights. See weights/README.md"


def _some(items: list[str], separator: str = ", ") -> str:
    more = len(items) - SHOWN
    return separator.join(items[:SHOWN]) + (f"{separator}and {more} more" if more > 0 else "")
