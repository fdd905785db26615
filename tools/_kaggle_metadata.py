"""The rules that Kaggle's client and server apply to `dataset-metadata.json` and `kernel-metadata.json`.

Checked before anything is uploaded, because some breaches are silent: a missing `enable_internet` means internet on,
which the competition refuses. The rules are those of the client's version 2.2.5 and its documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hcpl_kernel.errors import SettingsError

OWNER_PLACEHOLDER = "INSERT_OWNER_HERE"
# fmt: off
DATASET_LICENCES = frozenset({
    "CC0-1.0", "CC-BY-3.0", "CC-BY-3.0-IGO", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-ND-4.0", "CC-BY-NC-ND-4.0",
    "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-BY-NC-SA-3.0-IGO", "CC-BY-NC-SA-4.0", "CDLA-Permissive-1.0", "CDLA-Sharing-1.0",
    "DbCL-1.0", "ODbL-1.0", "ODC-BY-1.0", "PDDL", "apache-2.0", "GPL-2.0", "GPL-3.0", "LGPL-3.0", "AGPL-3.0", "FDL-1.3",
    "EU-ODP-Legal-Notice", "US-Government-Works", "copyright-authors", "other", "unknown",
})
MACHINE_SHAPES = frozenset({
    "NvidiaTeslaT4", "NvidiaTeslaT4Highmem", "NvidiaTeslaP100", "NvidiaTeslaA100", "NvidiaL4", "NvidiaL4X1",
    "NvidiaH100", "NvidiaRtxPro6000", "None",
})
# fmt: on
RETIRED_SHAPE = "NvidiaTeslaP100"
IMAGE = re.compile(r"[\w.-]+(/[\w.-]+)+@sha256:[0-9a-f]{64}")
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def check_dataset_metadata(values: Mapping[str, Any], folder: Path) -> None:
    """Check the metadata of a dataset folder, and that the client would upload everything in it.

    Raises:
        SettingsError: naming every rule that is broken.
    """
    _refuse(f"{folder}/dataset-metadata.json", [*_dataset_faults(values), *_folder_faults(folder)])


def check_kernel_metadata(values: Mapping[str, Any], folder: Path) -> None:
    """Check the metadata of a notebook in `folder`.

    Raises:
        SettingsError: naming every rule that is broken.
    """
    _refuse(f"{folder}/kernel-metadata.json", list(_kernel_faults(values, folder)))


def slug_of(title: str) -> str:
    """The slug that Kaggle makes of a title: lower case, every run of other characters a dash."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _dataset_faults(values: Mapping[str, Any]) -> Iterator[str]:
    unknown = set(values) - {"title", "id", "licenses", "subtitle", "description", "keywords"}
    if unknown:
        yield f"unknown keys {', '.join(sorted(unknown))}"
    title, subtitle = values.get("title", ""), values.get("subtitle")
    if not 6 <= len(title) <= 50:
        yield f"title {title!r} has {len(title)} characters, expected 6 to 50"
    if subtitle is not None and not 20 <= len(subtitle) <= 80:
        yield f"subtitle {subtitle!r} has {len(subtitle)} characters, expected 20 to 80"
    yield from _reference_faults("id", values.get("id", ""), shortest=6)
    licences = [entry.get("name") for entry in values.get("licenses", [])]
    if len(licences) != 1:
        yield f"licenses {licences}, expected exactly one"
    elif licences[0] not in DATASET_LICENCES:
        yield f"license {licences[0]!r}, expected one of {', '.join(sorted(DATASET_LICENCES))}"


def _folder_faults(folder: Path) -> Iterator[str]:
    """The client leaves sub-folders out silently, and Kaggle unpacks archives and converts tables on arrival."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield f"the sub-folder {path.name} would not be uploaded"
        elif path.suffix in (".zip", ".tar", ".gz", ".7z", ".csv", ".tsv"):
            yield f"{path.name} would not arrive as it is: archives are unpacked, tables converted"


def _kernel_faults(values: Mapping[str, Any], folder: Path) -> Iterator[str]:
    title = values.get("title", "")
    if len(title) < 5:
        yield f"title {title!r} has {len(title)} characters, expected at least 5"
    yield from _reference_faults("id", values.get("id", ""), shortest=5)
    if values.get("id", "").rpartition("/")[2] != slug_of(title):
        yield f"id {values.get('id')!r} does not end in the title's slug {slug_of(title)!r}"
    code_file = values.get("code_file", "")
    if not code_file or not (folder / code_file).is_file():
        yield f"code_file {code_file!r} is not in {folder}"
    for key, allowed in (("language", ("python",)), ("kernel_type", ("notebook",))):
        if values.get(key) not in allowed:
            yield f"{key} {values.get(key)!r}, expected {allowed[0]!r}"
    for key in ("is_private", "enable_gpu", "enable_tpu", "enable_internet"):
        if not isinstance(values.get(key), bool):
            yield f"{key} {values.get(key)!r}, expected true or false, written out"
    if values.get("enable_internet") is not False:
        yield "enable_internet must be written out as false: the client's default is true, and the competition refuses it"
    for source in values.get("dataset_sources", []):
        yield from _reference_faults("dataset_sources", source, shortest=6)
    for slug in values.get("competition_sources", []):
        if not SLUG.fullmatch(slug):
            yield f"competition_sources {slug!r} is not a slug"
    shape, image = values.get("machine_shape"), values.get("docker_image")
    if shape not in MACHINE_SHAPES:
        yield f"machine_shape {shape!r}, expected one of {', '.join(sorted(MACHINE_SHAPES))}"
    if image is not None and not IMAGE.fullmatch(image):
        yield f"docker_image {image!r}, expected <registry>/<name>@sha256:<64 hex digits>"
    if shape == RETIRED_SHAPE and image is None:
        yield (
            f"machine_shape {shape} without docker_image: the default image has no kernels for this GPU. "
            "Name an image of early 2026 or before (`kaggle kernels pull -m` of a notebook of that time shows its "
            "docker_image), or take NvidiaTeslaT4, which is two T4"
        )
    if values.get("docker_image_pinning_type") not in ("original", "latest"):
        yield f"docker_image_pinning_type {values.get('docker_image_pinning_type')!r}, expected 'original' or 'latest'"


def _reference_faults(key: str, reference: str, shortest: int) -> Iterator[str]:
    owner, _, slug = reference.partition("/")
    if not slug or not re.fullmatch(r"[A-Za-z0-9_-]+", owner):
        yield f"{key} {reference!r}, expected <owner>/<slug>"
    elif not SLUG.fullmatch(slug) or not shortest <= len(slug) <= 50:
        yield f"{key}: slug {slug!r}, expected {shortest} to 50 characters of a-z, 0-9 and single dashes"


def _refuse(where: str, faults: list[str]) -> None:
    if faults:
        raise SettingsError(f"{where}: " + "; ".join(faults))
