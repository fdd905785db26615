"""Settings: frozen dataclasses, filled from mappings or JSON files, where an unknown key is an error."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import numbers
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hcpl_kernel.engines import AUTO, ENGINES
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.runtime.paths import check_output, check_work

BIT_DEPTHS = ("auto", 8, 10, 12, 14, 16)
RESOLUTIONS = ("quarter", "paper-half", "exact")
VIEW_COUNTS = (1, 2, 4, 8)

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Part:
    """One of several shares of a run that are computed apart and then assembled.

    Attributes:
        index: which share, 1 to `count`.
        count: how many shares there are.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not (_is_whole(self.index) and _is_whole(self.count) and 1 <= self.index <= self.count):
            raise SettingsError(f"part is {self}, expected I/N with I from 1 to N, such as 2/3")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclasses.dataclass(frozen=True)
class PredictSettings:
    """What `hcpl predict` is asked to do; the command line's options carry the same names.

    Attributes:
        fields_dir: folder with the images.
        weights: folder with `ensemble.json` and the weight files that it names.
        output: the submission CSV to write.
        work: folder for label maps, cells and report; default: the output's folder / `<output stem>_work`.
        sample: a sample submission whose header, IDs and row order are followed.
        listing: CSV with the columns ID, red, green, blue, yellow (one path per channel), instead of scanning the folder.
        suffixes: file name suffix of each channel, for instance `{"red": "_r"}`; absent channels keep `_<channel>`.
        channels: which channel of a file with several is which, by number from 1 or name, for instance
            `{"red": "3", "green": "GFP"}`; or the name of a channel's folder; `none` for red or yellow: not stained.
        pixel_size: micrometres per pixel of the input images, 0.005 to 5; the networks work at 0.08.
        bit_depth: bits that 16-bit images use: 8, 10, 12, 14, 16, or "auto" to recognise it over the run (the rule:
            `hcpl_kernel.fields.bit_depth`). A depth that is given also says that dim images are as dim as they look.
        labels: folder with `<ID>_cells.png` (and, where present, `<ID>_nuclei.png`) maps, used instead of segmenting.
        resolution: where the labelling works: "quarter", "paper-half" or "exact".
        time_limit: seconds, or a text such as "8h30m"; counted from the start that the run is told; None for no limit.
        limit: only the first so many fields are predicted, None for all.
        device: "auto", "cpu", "cuda", "cuda:0,1", ...
        engine: what runs the forward passes, the segmentation networks' included; "auto" is torch, which compiles networks
            for a GPU where that pays back.
        views: test-time views of each cell (1, 2, 4 or 8), None for what each network's spec says.
        part: only this share of the fields is predicted, also as text "I/N"; None for all. `hcpl assemble` joins them.
        cluster: address of a Ray cluster that computes: "auto", "local" or "HOST:PORT"; None for this machine.
        store: URL under which parts, label maps and rows are kept, such as "s3://bucket/run"; None for the work folder.
        networks: names of the networks of the ensemble that run, None for all.
        descriptors: names of the networks whose descriptors are kept, as `descriptors/<name>.npz` in the work folder.
        strict: exit with 1 when anything was degraded.
        fresh: forget what an earlier run left in the work folder.
        report: write `index.html` into the work folder.
        quiet: no progress and no summary; errors are still printed.

    Raises:
        SettingsError: for a value of another type or out of range, for `fresh` together with `part` or `store`, and for
            `cluster` together with `part` or `time_limit`.
    """

    fields_dir: Path
    weights: Path
    output: Path
    work: Path | None = None
    sample: Path | None = None
    listing: Path | None = None
    suffixes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    channels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    pixel_size: float = 0.08
    bit_depth: str | int = "auto"
    labels: Path | None = None
    resolution: str = "quarter"
    time_limit: float | None = None
    limit: int | None = None
    device: str = "auto"
    engine: str = AUTO
    views: int | None = None
    part: Part | None = None
    cluster: str | None = None
    store: str | None = None
    networks: tuple[str, ...] | None = None
    descriptors: tuple[str, ...] | None = None
    strict: bool = False
    fresh: bool = False
    report: bool = True
    quiet: bool = False

    def __post_init__(self) -> None:
        for name in ("fields_dir", "weights", "output"):
            self._set(name, as_path(name, getattr(self, name)))
        for name in ("work", "sample", "listing", "labels"):
            if getattr(self, name) is not None:
                self._set(name, as_path(name, getattr(self, name)))
        if isinstance(self.time_limit, str):
            self._set("time_limit", parse_duration(self.time_limit))
        if isinstance(self.part, str):
            self._set("part", parse_part(self.part))
        for name in ("networks", "descriptors"):
            if getattr(self, name) is not None:
                self._set(name, as_names(name, getattr(self, name)))
        self._check()

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check(self) -> None:
        if not (_is_number(self.pixel_size) and 0.005 <= self.pixel_size <= 5):
            raise SettingsError(f"pixel_size is {self.pixel_size!r}, expected micrometres per pixel between 0.005 and 5")
        _one_of("bit_depth", self.bit_depth, BIT_DEPTHS)
        _one_of("resolution", self.resolution, RESOLUTIONS)
        _one_of("engine", self.engine, ENGINES)
        if self.views is not None:
            _one_of("views", self.views, VIEW_COUNTS)
        if self.limit is not None and not (_is_whole(self.limit) and self.limit >= 1):
            raise SettingsError(f"limit is {self.limit!r}, expected a positive number of fields")
        if self.time_limit is not None and not (
            _is_number(self.time_limit) and math.isfinite(self.time_limit) and self.time_limit > 0
        ):
            raise SettingsError(f"time_limit is {self.time_limit!r}, expected a positive number of seconds")
        for name, example in (("suffixes", "_r"), ("channels", "3")):
            if not isinstance(getattr(self, name), Mapping):
                raise SettingsError(f"{name} is {getattr(self, name)!r}, expected a mapping such as {{'red': '{example}'}}")
        if not isinstance(self.device, str):
            raise SettingsError(f"device is {self.device!r}, expected a text such as 'auto', 'cpu' or 'cuda:0'")
        if not isinstance(self.part, (Part, type(None))):
            raise SettingsError(f"part is {self.part!r}, expected I/N with I from 1 to N, such as 2/3")
        if self.fresh and self.part is not None:
            raise SettingsError(
                "fresh with part would remove the other parts; remove the work folder before the first of them instead"
            )
        for name in ("cluster", "store"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                raise SettingsError(f"{name} is {value!r}, expected a text")
        self._check_cluster_and_store()
        for name in ("strict", "fresh", "report", "quiet"):
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"{name} is {getattr(self, name)!r}, expected True or False")

    def _check_cluster_and_store(self) -> None:
        if self.store is not None and "://" not in self.store:
            raise SettingsError(f"store is {self.store!r}, expected a URL such as s3://bucket/run or file:///shared/run")
        if self.store is not None and self.fresh:
            raise SettingsError("fresh does not remove what a store holds; name another URL instead")
        if self.cluster is not None and self.part is not None:
            raise SettingsError("cluster and part were given; a cluster shares the work by itself, leave part out")
        if self.cluster is not None and self.time_limit is not None:
            raise SettingsError(
                "cluster and time_limit were given; a cluster finishes shard by shard: end the command when the time is up, "
                "the same command goes on"
            )

    @property
    def work_dir(self) -> Path:
        """The work folder, resolved from `work` or `output`."""
        return self.work if self.work is not None else default_work(self.output)

    def as_plain(self) -> dict[str, Any]:
        """JSON values from which :func:`from_mapping` makes these settings again; paths are absolute."""
        values: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Path):
                value = str(value.absolute())
            elif isinstance(value, Part):
                value = str(value)
            elif isinstance(value, Mapping):
                value = dict(value)
            elif isinstance(value, tuple):
                value = list(value)
            values[field.name] = value
        return values

    def check_places(self) -> None:
        """Check, before anything begins, that the output and the work folder can be written.

        Raises:
            SettingsError: if one of them cannot; the message says why.
        """
        inputs = (self.sample, self.listing, self.weights / "ensemble.json")
        check_output(self.output, inputs=[path for path in inputs if path is not None])
        check_work(self.work_dir, self.output)


def default_work(output: Path) -> Path:
    """The work folder of a run that is not given one: `<output stem>_work` next to the output."""
    return output.parent / f"{output.stem}_work"


def from_mapping(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """Make a settings dataclass from a mapping.

    Args:
        kind: the dataclass.
        values: field name -> value.
        where: the origin of the values, named in messages (a file, a function).

    Raises:
        SettingsError: for an unknown key (the nearest known one is named), a missing one, or an invalid value.
    """
    known = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}"
            raise SettingsError(f"{where}: unknown setting {key!r}{hint}")
    missing = [
        name
        for name, f in known.items()
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise SettingsError(f"{where}: missing {', '.join(missing)}")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{where}: {error}") from error


def read_json(path: Path, schema: int) -> dict[str, Any]:
    """Read a JSON object that carries `"schema": <version>`.

    Raises:
        SettingsError: if the file is absent, is not a JSON object, or has another schema version.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"{path} does not exist") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(values, dict) or values.get("schema") != schema:
        found = values.get("schema") if isinstance(values, dict) else type(values).__name__
        raise SettingsError(f"{path}: expected an object with schema {schema}, found {found!r}")
    return values


def as_path(name: str, value: object) -> Path:
    """A path of a text or path.

    Raises:
        SettingsError: if it is empty (which would be the current folder) or of another type.
    """
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise SettingsError(f"{name} is {value!r}, expected a path")
    return Path(value)


def as_names(name: str, value: object) -> tuple[str, ...]:
    """Names, given as a sequence of texts or as one text with commas.

    Raises:
        SettingsError: if there is none, one is empty, not a text, or comes twice.
    """
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(each, str) for each in names):
        raise SettingsError(f"{name} is {value!r}, expected names such as a,b")
    stripped = tuple(each.strip() for each in names)
    if not stripped or not all(stripped) or len(set(stripped)) < len(stripped):
        raise SettingsError(f"{name} is {value!r}, expected at least one name, none of them empty or twice")
    return stripped


def parse_part(text: str) -> Part:
    """The share that a text such as `2/3` names.

    Raises:
        SettingsError: if it is not `I/N` with I from 1 to N.
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
    if match is None:
        raise SettingsError(f"part is {text!r}, expected I/N with I from 1 to N, such as 2/3")
    return Part(int(match[1]), int(match[2]))


def parse_duration(text: str) -> float:
    """Seconds of a duration: `8h30m`, `8h 30m`, `90m`, `45s`, `1.5h`, `8:30:00` (hours, minutes, seconds), or plain seconds.

    Raises:
        SettingsError: if the text is not one of these, or is not more than nothing.
    """
    seconds = _seconds(text.strip())
    if seconds is None:
        hint = "; with two parts it could mean hours or minutes" if re.fullmatch(r"\d+:\d+", text.strip()) else ""
        raise SettingsError(f"{text!r} is not a duration{hint}; write for instance 8h30m, 8:30:00, 45m or 90s")
    if not (math.isfinite(seconds) and seconds > 0):
        raise SettingsError(f"{text!r} is {seconds:g} seconds; expected a positive duration, such as 8h30m, 45m or 90s")
    return seconds


def _seconds(text: str) -> float | None:
    number = r"([0-9]+(?:\.[0-9]+)?)"
    if re.fullmatch(number, text):
        return float(text)
    clock = re.fullmatch(r"([0-9]+):([0-5][0-9]):([0-5][0-9])", text)
    units = re.fullmatch(rf"(?:{number}h)?\s*(?:{number}m)?\s*(?:{number}s)?", text)
    match = clock or units
    if not text or match is None:
        return None
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def _one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if isinstance(value, bool) or value not in allowed:
        near = difflib.get_close_matches(str(value).lower(), list(map(str, allowed)), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SettingsError(f"{name} is {value!r}, expected one of {', '.join(map(str, allowed))}{hint}")


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
