"""How far a run is: what it writes every few seconds, and what is found when somebody asks.

A run on one machine, each `--part` run and the driver of a cluster leave a state of their own. Whether a run goes on is not
read from the clock, which may jump and differs between machines: a run holds its work folder's lock, and in a store its
state changes while one looks.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hcpl_kernel.errors import InputError
from hcpl_kernel.pipeline.report import report_path
from hcpl_kernel.pipeline.workspace import is_in_use
from hcpl_kernel.runtime.atomic import atomic_path
from hcpl_kernel.settings import Part

FOLDER = "reports"
"""Of states in a store."""
PUBLISH_SECONDS = 5.0
LOOK_SECONDS = 2 * PUBLISH_SECONDS
"""A state that does not change for so long is of a run that was killed, where no lock says otherwise (our choice)."""
_NAME = re.compile(r"state(?:_(\d+)of(\d+))?\.json")
ENDED, RUNNING, SILENT, FAILED = "ended", "running", "silent", "failed"
EARLY = ("the run ended", "the run was")
"""How the last degradation of a report begins where the run did not reach its end."""


@dataclasses.dataclass
class State:
    """Counts of a run.

    Attributes:
        shards, fields: of the run.
        found: shards whose parts were there already.
        made: shards made by this command.
        running, failed: shards.
        workers: of a cluster, that have begun and are alive.
        worker_seconds: of a cluster, that the shards made have taken.
        seconds: on one machine, since its work began.
        share: on one machine, part of its work that is done, 0 to 1.
        beats: how often this was written.
        ended: whether the run has ended.
    """

    shards: int
    fields: int
    found: int = 0
    made: int = 0
    running: int = 0
    failed: int = 0
    workers: int = 0
    worker_seconds: float = 0.0
    seconds: float = 0.0
    share: float = 0.0
    beats: int = 0
    ended: bool = False

    @property
    def waiting(self) -> int:
        """Shards that nobody works on yet."""
        return max(0, self.shards - self.found - self.made - self.running - self.failed)

    @property
    def remaining_worker_seconds(self) -> float | None:
        """Of the shards that are not finished, at the pace so far; None where no shard has been made."""
        if not self.made:
            return None
        return (self.waiting + self.running) * self.worker_seconds / self.made

    @property
    def remaining_seconds(self) -> float | None:
        """Of a run on one machine, at the pace so far; None before anything is done."""
        return self.seconds * (1 / self.share - 1) if self.share else None

    def as_json(self) -> str:
        """From which :func:`parse_state` makes it again."""
        return json.dumps(dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class Seen:
    """What was found of a run.

    Attributes:
        state: as it was left last.
        how: `ended`, `running`, `silent` (killed, or on a machine that cannot be seen), or `failed`.
        reason: why it failed.
    """

    state: State
    how: str
    reason: str = ""


def file_name(part: Part | None) -> str:
    """Of the state of a run in its work folder."""
    return "state.json" if part is None else f"state_{part.index}of{part.count}.json"


def parse_state(text: str | bytes, where: str) -> State:
    """A state from its JSON.

    Raises:
        InputError: if it is not one.
    """
    try:
        return State(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise InputError(f"{where} is not the state of a run: {error}") from error


def publisher(folder: Path, store: str | None, part: Part | None = None) -> Callable[[State], None]:
    """What leaves the state of a run in its work folder and its store, at first, every `PUBLISH_SECONDS` and at the end.

    A place that cannot be written to is for the run itself to name: the state is left out there.

    Args:
        folder: the work folder.
        store: URL of the store; None where there is none.
        part: the share of a `--part` run.
    """
    last = -PUBLISH_SECONDS

    def publish(state: State) -> None:
        nonlocal last
        now = time.monotonic()
        if state.beats and not state.ended and now - last < PUBLISH_SECONDS:
            return
        last, state.beats = now, state.beats + 1
        with suppress(OSError), atomic_path(folder / file_name(part), sync=False) as path:
            path.write_text(state.as_json(), encoding="utf-8")
        if store is not None:
            from hcpl_kernel.pipeline.object_store import Objects

            with suppress(InputError):
                Objects(store).replace(f"{FOLDER}/{file_name(part)}", state.as_json().encode())

    return publish


class LocalState:
    """The state of a run on one machine, published as the run goes.

    Args:
        publish: see :func:`publisher`.
        shards, fields: of the run.
    """

    def __init__(self, publish: Callable[[State], None], shards: int, fields: int) -> None:
        self._publish, self._state = publish, State(shards, fields)
        self._start = time.monotonic()

    def begin(self, found: int) -> None:
        """The work begins; so many shards were finished before."""
        self._state.found, self._start = found, time.monotonic()
        self._state.running = self._state.shards - found
        self._publish(self._state)

    def advance(self, share: float) -> None:
        """So much of the work is done, 0 to 1."""
        self._state.share, self._state.seconds = share, time.monotonic() - self._start
        self._publish(self._state)

    def end(self, finished: int) -> None:
        """The run has ended; so many shards are finished now."""
        state = self._state
        if not state.running:
            state.found = finished
        state.made, state.failed, state.running = finished - state.found, state.shards - finished, 0
        state.share, state.ended = finished / state.shards if state.shards else 1.0, True
        self._publish(state)


def publish_report(store: str, path: Path) -> None:
    """Put a run report into a store, under its file name."""
    from hcpl_kernel.pipeline.object_store import Objects

    Objects(store).replace(f"{FOLDER}/{path.name}", path.read_bytes())


def look(place: str, wait: Callable[[float], Any] = time.sleep) -> dict[Part | None, Seen]:
    """The runs of a work folder or a store, by their part, in order; None is a run of all.

    Args:
        place: a folder, or the URL of a store.
        wait: sleeps, where only a second look tells whether a run goes on.

    Raises:
        InputError: if there is no run.
    """
    first = _read(place)
    if not first:
        raise InputError(f"{place} has no {file_name(None)}; expected the work folder or the store of `hcpl predict` runs")
    folder = None if "://" in place else Path(place)
    running = {part for part in first if folder is not None and is_in_use(folder, part)}
    doubtful = {part for part, state in first.items() if not state.ended} - running
    if doubtful:
        wait(LOOK_SECONDS)
        second = _read(place)
        running |= {part for part in doubtful if part in second and second[part].beats != first[part].beats}
        first |= second
    return {part: _seen(folder, part, state, part in running) for part, state in first.items()}


def _seen(folder: Path | None, part: Part | None, state: State, running: bool) -> Seen:
    if state.ended:
        return Seen(state, ENDED)
    if running:
        return Seen(state, RUNNING)
    reason = _ended_early(report_path(folder, part)) if folder is not None else None
    return Seen(state, SILENT) if reason is None else Seen(state, FAILED, reason)


def _ended_early(report: Path) -> str | None:
    """Why a run did not reach its end, by its report; None where that does not say so."""
    try:
        told = json.loads(report.read_text(encoding="utf-8"))["degradations"][-1]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    return told if isinstance(told, str) and told.startswith(EARLY) else None


def _read(place: str) -> dict[Part | None, State]:
    """All states of a place, by part."""
    found: dict[Part | None, State] = {}
    for name, text in _texts(place).items():
        match = _NAME.fullmatch(name)
        if match is not None:
            part = None if match[1] is None else Part(int(match[1]), int(match[2]))
            found[part] = parse_state(text, f"{place}/{name}")
    return dict(sorted(found.items(), key=lambda item: (item[0].count, item[0].index) if item[0] else (0, 0)))


def _texts(place: str) -> Mapping[str, bytes]:
    if "://" in place:
        from hcpl_kernel.pipeline.object_store import Objects

        objects = Objects(place)
        names = [name for name in objects.names(FOLDER) if _NAME.fullmatch(name.rpartition("/")[2])]
        return {name.rpartition("/")[2]: objects.read(name) or b"" for name in names}
    try:
        return {path.name: path.read_bytes() for path in Path(place).glob("state*.json") if _NAME.fullmatch(path.name)}
    except OSError as error:
        raise InputError(f"{place} cannot be read: {error}") from error
