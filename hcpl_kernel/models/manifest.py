"""`manifest.json` of a weights folder: which files belong to it, their sha256, size and provenance.

Needs neither torch nor numpy, so that `hcpl weights list|verify` and the doctor work where these are broken or absent.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from hcpl_kernel.errors import WeightsError
from hcpl_kernel.models.ensemble import FILE_NAME, Ensemble, read_ensemble
from hcpl_kernel.models.schema import FreeForm, Integer, Sha256, check_file_name, specification, specified, unknown_key
from hcpl_kernel.models.strict_json import read_document, shown
from hcpl_kernel.runtime.atomic import atomic_open

NAME = "manifest.json"
SCHEMA = 1
BLOCK = 1 << 20


@specification
class FileEntry:
    """What a manifest says about one file: `sha256` (64 hex digits), size in bytes, and where it came from.

    Raises:
        SettingsError: for a value that is out of range or of another type.
    """

    sha256: Sha256
    bytes: Annotated[Integer, Field(ge=0)]
    provenance: FreeForm = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class FileStatus:
    """One file of a weights folder, as found.

    Attributes:
        name: relative to the folder, with forward slashes.
        state: "ok" (hash agrees), "present" (hash not computed), "unknown" (present, but no hash is recorded),
            "missing", "changed" (another hash than recorded) or "conflict" (`ensemble.json` and `manifest.json`
            record different hashes).
        expected: recorded sha256, None where there is none.
        found: computed sha256, None where it was not computed.
        bytes: size on disk, 0 where missing.
        trained: what `ensemble.json` says; None for a file that it does not name.
        provenance: from the manifest, or else from `ensemble.json`.
    """

    name: str
    state: str
    expected: str | None
    found: str | None
    bytes: int
    trained: bool | None
    provenance: Mapping[str, Any]

    @property
    def good(self) -> bool:
        """True unless the file is missing, changed, in conflict, or without a recorded hash."""
        return self.state in ("ok", "present")


def sha256_of(path: Path) -> str:
    """The sha256 of a file, read block by block."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def member(folder: Path, name: str) -> Path:
    """The path of a folder's file.

    Raises:
        WeightsError: if the name leaves the folder; it may come from a downloaded JSON file.
    """
    try:
        check_file_name(name)
    except ValueError as error:
        raise WeightsError(f"{folder}: file name {shown(name)}: {error}; correct the JSON that has it") from None
    return Path(folder, *name.split("/"))


def read_manifest(folder: Path) -> dict[str, FileEntry]:
    """Read `<folder>/manifest.json`; a folder without one has an empty manifest.

    Raises:
        SettingsError: if it is not readable JSON or has another schema version.
        WeightsError: for an unknown key, an entry without a hash or size, or one that names a file outside the folder.
    """
    path = Path(folder) / NAME
    if not path.exists():
        return {}
    values = read_document(path, SCHEMA)
    for key in values:
        if key not in ("schema", "files"):
            raise WeightsError(f"{path}: {unknown_key(key, ('schema', 'files'))}")
    files = values.get("files")
    if not isinstance(files, dict):
        raise WeightsError(f"{path}: expected an object under 'files', found {shown(files)}")
    entries = {}
    for name, entry in files.items():
        member(path.parent, name)
        entries[name] = specified(FileEntry, entry, f"{path}: files[{shown(name)}]", WeightsError)
    return entries


def write_manifest(folder: Path, files: Mapping[str, FileEntry]) -> None:
    """Write `<folder>/manifest.json` atomically, names sorted, so that equal contents give equal bytes."""
    values = {"schema": SCHEMA, "files": {name: dataclasses.asdict(files[name]) for name in sorted(files)}}
    with atomic_open(Path(folder) / NAME) as file:
        json.dump(values, file, indent=2)
        file.write("\n")


def record(path: Path, provenance: Mapping[str, Any]) -> FileEntry:
    """Hash a file and enter it in the manifest of its folder, replacing an entry of the same name."""
    entry = FileEntry(sha256_of(path), path.stat().st_size, provenance)
    write_manifest(path.parent, {**read_manifest(path.parent), path.name: entry})
    return entry


def list_files(folder: Path) -> list[FileStatus]:
    """Every file that `ensemble.json` or `manifest.json` names, without hashing; the data of `hcpl weights list`.

    Raises:
        WeightsError: if the folder has neither of the two files.
        SettingsError: if one of them is damaged.
    """
    return list(_statuses(Path(folder), hashing=False))


def verify(folder: Path) -> list[FileStatus]:
    """Like :func:`list_files`, with the hash of every file; the data of `hcpl weights verify`."""
    return list(_statuses(Path(folder), hashing=True))


def format_listing(statuses: Sequence[FileStatus]) -> str:
    """A table for people: state, size, sha256 (its beginning), trained or not, and name of each file."""
    rows = [("state", "MiB", "sha256", "trained", "file")]
    for status in statuses:
        sha256 = (status.found or status.expected or "-")[:12]
        trained = {True: "yes", False: "no", None: "-"}[status.trained]
        rows.append((status.state, f"{status.bytes / (1 << 20):.1f}", sha256, trained, status.name))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows]
    good = sum(status.good for status in statuses)
    return "\n".join([*lines, f"{good} of {len(statuses)} files are usable"])


def _statuses(folder: Path, hashing: bool) -> Iterator[FileStatus]:
    entries = read_manifest(folder)
    ensemble = _ensemble_if_any(folder)
    if not entries and ensemble is None:
        raise WeightsError(f"{folder} has neither ensemble.json nor {NAME}; expected a weights folder such as weights/mini")
    parts = {part.file: part for part in ensemble.parts} if ensemble else {}
    for name in [*parts, *(name for name in sorted(entries) if name not in parts)]:
        part, entry = parts.get(name), entries.get(name)
        recorded = {source.sha256 for source in (part, entry) if source is not None and source.sha256}
        expected = min(recorded) if len(recorded) == 1 else None
        path = member(folder, name)
        found = None
        if not path.is_file():
            state = "missing"
        elif len(recorded) > 1:
            state = "conflict"
        elif expected is None:
            state = "unknown"
        elif entry is not None and path.stat().st_size != entry.bytes:
            state = "changed"
        elif not hashing:
            state = "present"
        else:
            found = sha256_of(path)
            state = "ok" if found == expected else "changed"
        yield FileStatus(
            name=name,
            state=state,
            expected=expected,
            found=found,
            bytes=path.stat().st_size if path.is_file() else 0,
            trained=part.trained if part is not None else None,
            provenance=(entry.provenance if entry else {}) or (part.provenance if part else {}),
        )


def _ensemble_if_any(folder: Path) -> Ensemble | None:
    return read_ensemble(folder) if (folder / FILE_NAME).is_file() else None
