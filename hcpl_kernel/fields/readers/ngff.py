"""The reader of OME-Zarr: a folder per field, NGFF 0.4 (Zarr format 2) and 0.5 (Zarr format 3)."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from hcpl_kernel.errors import FieldError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.readers._choice import choose
from hcpl_kernel.fields.readers._resolution import in_micrometres
from hcpl_kernel.fields.readers._zarr_array import ZarrArray, open_array, read_json
from hcpl_kernel.fields.readers.base import Unreadable, check_sides
from hcpl_kernel.fields.stamps import ContentStamps

_METADATA = ("zarr.json", ".zattrs", ".zgroup")
_MOST_FILES = 1 << 18


class NgffReader:
    """One OME-Zarr image per field: its largest resolution, one slice and one time.

    Channels are found as in `stacks`; their names are those of `omero`. The pixel size is the scale of the axis x. Of a
    folder that bioformats2raw made, its only image is taken; of a plate, see :func:`plate_images`.
    """

    name = "ngff"

    def can_read(self, files: FieldFiles) -> bool:
        """Whether it is named `.zarr`, or a folder with the metadata of one."""
        path = files.paths.get("file")
        if not isinstance(path, Path):
            return False
        return path.name.lower().endswith(".zarr") or any(os.path.isfile(path / name) for name in _METADATA)

    def size(self, files: FieldFiles) -> tuple[int, int] | None:
        """From the metadata."""
        image = _open(files)
        return image.length("y"), image.length("x")

    def bits(self, files: FieldFiles) -> int | None:
        """From the metadata."""
        return 8 * _open(files).array.itemsize

    def pixel_size(self, files: FieldFiles) -> float | None:
        """From the scale of the axis x and its unit."""
        return _open(files).pixel_size

    def read(self, files: FieldFiles) -> np.ndarray:
        """The field, (4, H, W) uint8 or uint16, channels red, green, blue, yellow.

        Raises:
            FieldError: if the folder is not an image of one slice and one time, or any of its chunks is damaged.
        """
        try:
            image = _open(files)
            name = image.folder.name
            check_sides(image.length("y"), image.length("x"), name)
            for axis in image.axes:
                if axis not in "cyx" and image.length(axis) != 1:
                    raise Unreadable(f"has {image.length(axis)} positions along the axis {axis}: {name}; expected 1")
            order = choose(image.length("c"), image.channel_names, files.channels, name)
            wanted = {"c": order, "y": range(image.length("y")), "x": range(image.length("x"))}
            found = image.array.read([wanted.get(axis, [0]) for axis in image.axes])
            places = [image.axes.index(axis) for axis in "cyx" if axis in image.axes]
            others = [place for place in range(found.ndim) if place not in places]
            sides = image.length("y"), image.length("x")
            return np.ascontiguousarray(found.transpose([*others, *places]).reshape(len(CHANNELS), *sides))
        except Unreadable as error:
            raise FieldError(files.id, f"its image {error}") from error

    def stamp(self, files: FieldFiles, stamps: ContentStamps) -> list[Any]:
        """Of the metadata and of every file of the largest resolution; and which channels are taken."""
        try:
            image = _open(files)
            paths = sorted(_files(image))
        except (Unreadable, OSError):
            return [None, dict(files.channels)]
        digest = hashlib.blake2b(digest_size=16)
        for path in paths:
            digest.update(f"{path.relative_to(image.folder)} {stamps.of(path)}\n".encode(errors="surrogateescape"))
        return [digest.hexdigest(), dict(files.channels)]


READER = NgffReader()


def plate_images(folder: Path) -> list[tuple[str, Path]]:
    """The images of an OME-Zarr plate: what follows the plate's name in their IDs (`_A_1_0`), and their folders.

    Empty where the folder is not a plate, or its metadata are damaged.
    """
    try:
        plate = _attributes(folder).get("plate")
        wells = [_inside(folder, well["path"]) for well in plate["wells"]] if isinstance(plate, dict) else []
        found = []
        for well in wells:
            for image in _attributes(well)["well"]["images"]:
                place = _inside(well, image["path"])
                found.append(("_" + "_".join(place.relative_to(folder).parts), place))
        return found
    except (Unreadable, KeyError, TypeError, ValueError):
        return []


@dataclasses.dataclass(frozen=True)
class _Image:
    folder: Path
    axes: str
    array: ZarrArray
    channel_names: list[str]
    pixel_size: float | None

    def length(self, axis: str) -> int:
        return self.array.shape[self.axes.index(axis)] if axis in self.axes else 1


def _open(files: FieldFiles) -> _Image:
    folder = files.paths.get("file")
    if not isinstance(folder, Path) or not os.path.isdir(folder):
        raise Unreadable(f"is missing: {folder} is not a folder")
    attributes = _attributes(folder)
    if "bioformats2raw.layout" in attributes and "multiscales" not in attributes:
        if (folder / "1").is_dir():
            raise Unreadable(f"holds several images: {folder.name}; name each in a --listing with the columns ID, file")
        folder = folder / "0"
        attributes = _attributes(folder)
    if "plate" in attributes:
        raise Unreadable(f"is a plate: {folder.name}; give the folder that holds it, or a --listing of its images")
    try:
        return _image(folder, attributes)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise Unreadable(f"has damaged metadata: {folder}: {type(error).__name__}: {error}") from error


def _image(folder: Path, attributes: Mapping[str, Any]) -> _Image:
    if not attributes.get("multiscales"):
        raise Unreadable(f"is not an OME-Zarr image: {folder} has no multiscales in its metadata")
    scales = attributes["multiscales"][0]
    level = scales["datasets"][0]
    array = open_array(_inside(folder, level["path"]))
    listed = scales.get("axes", [*"tczyx"])
    names = [axis if isinstance(axis, str) else axis["name"] for axis in listed]
    axes = "".join(str(name).lower() for name in names)
    if len(axes) != len(array.shape) or len(axes) != len(names) or not {"y", "x"} <= set(axes) or len(set(axes)) < len(axes):
        raise Unreadable(
            f"has the axes {names} for an array of {len(array.shape)}: {folder}; expected such as t, c, z, y, x"
        )
    x = axes.index("x")
    unit = listed[x].get("unit") if isinstance(listed[x], dict) else None
    size = 1.0
    for transformation in (*level.get("coordinateTransformations", ()), *scales.get("coordinateTransformations", ())):
        if transformation.get("type") == "scale":
            size *= float(transformation["scale"][x])
    channels = attributes.get("omero", {}).get("channels", [])
    labels = [str(channel.get("label", "")) for channel in channels]
    return _Image(folder, axes, array, labels, in_micrometres(size, unit) if unit else None)


def _attributes(folder: Path) -> dict[str, Any]:
    """The attributes of a group, of NGFF 0.5 what is under `ome`."""
    if (folder / "zarr.json").exists():
        values = read_json(folder / "zarr.json").get("attributes", {})
        values = values.get("ome", values) if isinstance(values, dict) else None
    else:
        values = read_json(folder / ".zattrs")
    if not isinstance(values, dict):
        raise Unreadable(f"has damaged metadata: {folder}: its attributes are not an object")
    return values


def _inside(folder: Path, path: str) -> Path:
    parts = PurePosixPath(path).parts
    if not parts or not all(re.fullmatch(r"[^/\\\0]+", part) and part != ".." for part in parts):
        raise Unreadable(f"has damaged metadata: {folder} names {path!r}, expected a folder in it")
    return folder.joinpath(*parts)


def _files(image: _Image) -> Iterator[Path]:
    """The metadata and all files of the largest resolution."""
    yield from (image.folder / name for name in _METADATA)
    count = 0
    for place, _, names in os.walk(image.array.folder):
        count += len(names)
        if count > _MOST_FILES:
            raise Unreadable(f"has more than {_MOST_FILES} files: {image.folder}")
        yield from (Path(place, name) for name in names)
