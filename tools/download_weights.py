"""Fetch published weight files, on a machine with internet, and hold their hashes from then on.

The first download records the sha256 that it saw in the folder's `manifest.json`; any later one must bring the same
bytes. The files are pickles: `hcpl weights convert FILE --output weights/full` makes safetensors of them.

    python -m tools.download_weights                        # both segmentation networks, into downloads/
    python -m tools.download_weights cell --output DIR
    python -m tools.download_weights https://host/path/file.pth --sha256 HEX
    python -m tools.download_weights --bases weights/full   # timm's pretrained bases: see tools/base_weights.py
"""

from __future__ import annotations

import argparse
import dataclasses
import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hcpl_kernel.errors import HcplError, WeightsError
from hcpl_kernel.models.manifest import FileEntry, read_manifest, record, sha256_of
from hcpl_kernel.settings import as_names

RECORD = "https://zenodo.org/record/4665863"
PUBLISHED = {
    "nuclei": f"{RECORD}/files/dpn_unet_nuclei_v1.pth",
    "cell": f"{RECORD}/files/dpn_unet_cell_3ch_v1.pth",
}
BLOCK = 1 << 20
# Our choice: enough for a connection that drops now and then in half a gigabyte.
ATTEMPTS = 5
TIMEOUT = 60.0


@dataclasses.dataclass(frozen=True)
class Remote:
    """What the server said with the first byte: total size, and what identifies this version (None: nothing)."""

    size: int | None
    validator: str | None


def download(
    url: str,
    folder: Path,
    sha256: str | None = None,
    pause: float = 2.0,
    name: str | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> FileEntry:
    """Fetch a file, resuming what an earlier attempt left, and record its hash.

    Args:
        url: http or https.
        folder: gets the file, `<name>.part` while it is incomplete, and `manifest.json`.
        sha256: what the file must have; default: what the manifest recorded at an earlier download.
        pause: seconds before the second attempt, doubled before each further one.
        name: of the file in the folder; default: as in the address.
        provenance: what the manifest says of the file besides its address.

    Returns:
        the manifest's entry.

    Raises:
        WeightsError: if the file cannot be had, or has another hash than expected; the file of an earlier download
            stays untouched then.
    """
    name = name or _file_name(url)
    target = folder / name
    known = read_manifest(folder).get(name)
    expected = sha256.lower() if sha256 else known.sha256 if known else None
    if target.exists():
        return _present(target, known, expected)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{name}.part"
    _fetch(url, part, pause)
    found = sha256_of(part)
    if expected is not None and found != expected:
        _discard(part)
        raise WeightsError(
            f"{url}: sha256 expected {expected}, found {found}; the published file has changed or the transfer was "
            f"tampered with, so it was not kept. If the change is genuine, remove {name!r} from {folder}/manifest.json"
        )
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    _discard(part)
    return record(target, {"url": url, **({"record": RECORD} if url.startswith(RECORD) else {}), **(provenance or {})})


def _present(target: Path, known: FileEntry | None, expected: str | None) -> FileEntry:
    """Check a file that is there already."""
    if known is None:
        raise WeightsError(f"{target} exists, but manifest.json does not know it; move it away, then download again")
    found = sha256_of(target)
    if found != expected or known.sha256 != expected:
        raise WeightsError(f"{target}: sha256 expected {expected}, found {found}; move the file away, then download again")
    return known


def _fetch(url: str, part: Path, pause: float) -> None:
    """Complete `part`, in several attempts where the connection breaks."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch_rest(url, part)
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise WeightsError(f"{url}: the server answers {error.code} {error.reason}; check the address") from error
            reason = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
        else:
            return
        if attempt < ATTEMPTS:
            print(f"{url}: {reason}; attempt {attempt + 1} of {ATTEMPTS}", file=sys.stderr)
            time.sleep(pause * 2 ** (attempt - 1))
    raise WeightsError(
        f"{url} could not be fetched in {ATTEMPTS} attempts ({reason}); run the same command again to resume from {part}"
    )


def _fetch_rest(url: str, part: Path) -> None:
    """One attempt, from where `part` ends if the server still has the version that it began with."""
    have = part.stat().st_size if part.exists() else 0
    begun = _read_begun(part) if have else None
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if begun is not None and begun.validator is not None:
        request.add_header("Range", f"bytes={have}-")
        # The server sends the whole file if it is another version by now.
        request.add_header("If-Range", begun.validator)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        # The part holds all there is, or more: begin again unless its size is the whole.
        if begun is not None and begun.size == have:
            return
        _discard(part)
        raise OSError("the partial file did not fit the published one") from error
    with response:
        resumed = response.status == http.client.PARTIAL_CONTENT
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            _discard(part)
            raise OSError("the server sent another part than asked for")
        if not resumed:
            have = 0
        remote = begun if resumed and begun is not None else _begin(part, response.headers)
        progress = tqdm(total=remote.size, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=None)
        with open(part, "ab" if resumed else "wb") as file, progress:
            while block := response.read(BLOCK):
                file.write(block)
                progress.update(len(block))
    size = part.stat().st_size
    if remote.size is not None and size != remote.size:
        raise OSError(f"the connection ended after {size} of {remote.size} bytes")


def _begin(part: Path, headers: Mapping[str, str]) -> Remote:
    """Note which version of the file `part` will hold the beginning of."""
    length, tag = headers.get("Content-Length"), headers.get("ETag")
    # A weak tag does not promise equal bytes, so it cannot guard a resumption.
    validator = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
    remote = Remote(int(length) if length and length.isdigit() else None, validator)
    _notes(part).write_text(json.dumps(dataclasses.asdict(remote)))
    return remote


def _read_begun(part: Path) -> Remote | None:
    try:
        values: dict[str, Any] = json.loads(_notes(part).read_text())
        return Remote(values["size"], values["validator"])
    except (OSError, ValueError, KeyError, TypeError):
        # Without intact notes the download begins again, which is always right.
        return None


def _notes(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)


def _file_name(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    name = urllib.parse.unquote(parts.path.rpartition("/")[2])
    if parts.scheme not in ("http", "https") or not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise WeightsError(f"{url!r} is not an http(s) address of a file; known names are {', '.join(PUBLISHED)}")
    return name


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns 0, or 2 with a reason."""
    parser = argparse.ArgumentParser(prog="python -m tools.download_weights", description="Fetch published weight files.")
    parser.add_argument("files", nargs="*", metavar="NAME|URL", help=f"{', '.join(PUBLISHED)} (default: both), or addresses")
    parser.add_argument("--bases", type=Path, metavar="DIR", help="instead: the pretrained bases that ensemble.json names")
    parser.add_argument("--configs", type=Path, metavar="DIR", help="with --bases: the training configs to fill")
    parser.add_argument("--networks", metavar="NAME,...", help="with --bases: only of these networks")
    parser.add_argument("--output", type=Path, default=Path("downloads"), metavar="DIR")
    parser.add_argument("--sha256", help="expected hash, for a single file")
    options = parser.parse_args(arguments)
    if options.sha256 and len(options.files) != 1:
        parser.error("--sha256 goes with a single file")
    if options.bases is None and (options.configs or options.networks):
        parser.error("--configs and --networks go with --bases")
    if options.bases is not None and options.files:
        parser.error("--bases takes the files from ensemble.json; name none")
    try:
        if options.bases is not None:
            from tools.base_weights import fetch_bases

            names = None if options.networks is None else as_names("networks", options.networks)
            for line in fetch_bases(options.bases, options.output, options.configs, names):
                print(line)
            return 0
        for file in options.files or PUBLISHED:
            url = PUBLISHED.get(file, file)
            entry = download(url, options.output, options.sha256)
            print(f"{options.output / _file_name(url)}: {entry.bytes} bytes, sha256 {entry.sha256}")
    except HcplError as error:
        print(f"download_weights: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
