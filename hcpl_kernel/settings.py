"""Settings: frozen dataclasses, filled from mappings or JSON files, where an unknown key is an error."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from hcpl_kernel.engines import ENGINES
from hcpl_kernel.errors import SettingsError

RESOLUTIONS = ("quarter", "paper-half", "exact")
VIEW_COUNTS = (1, 2, 4, 8)

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class PredictSettings:
    """What `hcpl predict` is asked to do; the command line's options carry the same names.

    Attributes:
        fields_dir: folder with the images.
        weights: folder with `ensemble.json` and the weight files that it names.
        output: the submission CSV to write.
        work: folder for label maps, cells, ledger and report; default: the output's folder / `<output stem>_work`.
        sample: a sample submission whose header, IDs and row order are followed.
        listing: CSV with the columns ID, red, green, blue, yellow (one path a channel), instead of scanning the folder.
        suffixes: file name suffix of each channel, for instance `{"red": "_r"}`; absent channels keep `_<channel>`.
        pixel_size: micrometres a pixel of the input images; the networks work at 0.08.
        labels: folder with `<ID>_cells.png` (and, where present, `<ID>_nuclei.png`) maps, used instead of segmenting.
        resolution: where the labelling works: "quarter", "paper-half" or "exact".
        time_limit: seconds from the start of the process (or from `HCPL_STARTED_AT`), None for no limit.
        limit: only the first so many fields are predicted, None for all.
        device: "auto", "cpu", "cuda", "cuda:0,1", ...
        engine: what runs the forward passes, the segmentation networks' included.
        views: test-time views of each cell, None for what each network's spec says.
        strict: exit with 1 when anything was degraded.
        fresh: forget what an earlier run left in the work folder.
    """

    fields_dir: Path
    weights: Path
    output: Path
    work: Path | None = None
    sample: Path | None = None
    listing: Path | None = None
    suffixes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    pixel_size: float = 0.08
    labels: Path | None = None
    resolution: str = "quarter"
    time_limit: float | None = None
    limit: int | None = None
    device: str = "auto"
    engine: str = "torch"
    views: int | None = None
    strict: bool = False
    fresh: bool = False

    def __post_init__(self) -> None:
        for name in ("fields_dir", "weights", "output", "work", "sample", "listing", "labels"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, Path(value))
        if isinstance(self.time_limit, str):
            object.__setattr__(self, "time_limit", parse_duration(self.time_limit))
        if not (isinstance(self.pixel_size, (int, float)) and 0.005 <= self.pixel_size <= 5):
            raise SettingsError(f"pixel_size is {self.pixel_size!r}, expected micrometres a pixel between 0.005 and 5")
        _one_of("resolution", self.resolution, RESOLUTIONS)
        _one_of("engine", self.engine, ENGINES)
        if self.views is not None:
            _one_of("views", self.views, VIEW_COUNTS)
        if self.limit is not None and self.limit < 1:
            raise SettingsError(f"limit is {self.limit}, expected a positive number of fields")
        if self.time_limit is not None and not (math.isfinite(self.time_limit) and self.time_limit > 0):
            raise SettingsError(f"time_limit is {self.time_limit} s, expected a positive number of seconds")

    @property
    def work_dir(self) -> Path:
        """The work folder, resolved from `work` or `output`."""
        return self.work if self.work is not None else self.output.parent / f"{self.output.stem}_work"


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
        SettingsError: if the file is absent, is no JSON object, or has another schema version.
    """
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise SettingsError(f"{path} does not exist") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SettingsError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(values, dict) or values.get("schema") != schema:
        found = values.get("schema") if isinstance(values, dict) else type(values).__name__
        raise SettingsError(f"{path}: expected an object with schema {schema}, found {found!r}")
    return values


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `8h30m`, `45m`, `90s`, `1h` or plain seconds (`600`)."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text)
    if not text or match is None:
        raise SettingsError(f"{text!r} is no duration; write for instance 8h30m, 45m or 90s")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def _one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise SettingsError(f"{name} is {value!r}, expected one of {', '.join(map(str, allowed))}")
