"""How far a run on a cluster is: what its driver writes every few seconds, and what `hcpl status` says of it."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

from hcpl_kernel.errors import InputError
from hcpl_kernel.pipeline.progress import spoken
from hcpl_kernel.runtime.atomic import atomic_open

FILE_NAME = "state.json"
OBJECT_NAME = f"reports/{FILE_NAME}"
PUBLISH_SECONDS = 5.0
SILENT_SECONDS = 60.0
"""After which a driver that has not written is taken for one that was killed (our choice)."""


@dataclasses.dataclass
class State:
    """Counts of a run.

    Attributes:
        shards, fields: of the run.
        found: shards whose parts were there already.
        made: shards made by this command.
        running, failed: shards.
        workers: that have begun and are alive.
        worker_seconds: that the shards made have taken.
        started, updated: seconds since the epoch.
        ended: whether the driver has ended.
    """

    shards: int
    fields: int
    found: int = 0
    made: int = 0
    running: int = 0
    failed: int = 0
    workers: int = 0
    worker_seconds: float = 0.0
    started: float = dataclasses.field(default_factory=time.time)
    updated: float = dataclasses.field(default_factory=time.time)
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

    def as_json(self) -> str:
        """From which :func:`parse_state` makes it again."""
        return json.dumps(dataclasses.asdict(self))


def parse_state(text: str | bytes, where: str) -> State:
    """A state from its JSON.

    Raises:
        InputError: if it is not one.
    """
    try:
        return State(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise InputError(f"{where} is not the state of a run: {error}") from error


def publisher(folder: Path, store: str | None) -> Callable[[State], None]:
    """What leaves the state of a run in its work folder and its store, every `PUBLISH_SECONDS` and at the end.

    Args:
        folder: the work folder.
        store: URL of the store; None where there is none.
    """
    last = -PUBLISH_SECONDS

    def publish(state: State) -> None:
        nonlocal last
        if state.ended or time.monotonic() - last >= PUBLISH_SECONDS:
            last = time.monotonic()
            with atomic_open(folder / FILE_NAME) as file:
                file.write(state.as_json())
            if store is not None:
                from hcpl_kernel.pipeline.object_store import Objects

                Objects(store).replace(OBJECT_NAME, state.as_json().encode())

    return publish


def publish_report(store: str, path: Path) -> None:
    """Put a run report into a store, under its file name."""
    from hcpl_kernel.pipeline.object_store import Objects

    Objects(store).replace(f"reports/{path.name}", path.read_bytes())


def read_state(place: str) -> State:
    """The state of the run of a work folder or a store.

    Args:
        place: a folder, or the URL of a store.

    Raises:
        InputError: if there is no run on a cluster.
    """
    if "://" in place:
        from hcpl_kernel.pipeline.object_store import Objects

        data = Objects(place).read(OBJECT_NAME)
        if data is None:
            raise InputError(f"{place} has no {OBJECT_NAME}; expected the store of an `hcpl predict --cluster` run")
        return parse_state(data, f"{place}/{OBJECT_NAME}")
    path = Path(place, FILE_NAME)
    try:
        return parse_state(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not there; expected the work folder of an `hcpl predict --cluster` run") from error


def format_state(state: State, price: float | None, now: float) -> str:
    """A state as text for people.

    Args:
        state: of the run.
        price: money per worker and hour; None where it is not known.
        now: seconds since the epoch.
    """
    if state.ended:
        how = "ended"
    elif now - state.updated > SILENT_SECONDS:
        how = f"silent for {spoken(now - state.updated)}: if its driver was killed, the same command goes on"
    else:
        how = "running"
    left = state.remaining_worker_seconds
    lines = [
        f"run        {how}, {state.fields} fields in {state.shards} shards",
        f"done       {state.found + state.made} shards, {state.found} of them from earlier runs",
        f"running    {state.running} shards on {state.workers} workers",
        f"waiting    {state.waiting} shards",
        f"failed     {state.failed} shards",
        f"used       {state.worker_seconds / 3600:.2f} worker hours" + _money(state.worker_seconds, price),
    ]
    if left is not None and not state.ended:
        each = f", {spoken(left / state.workers)} with {state.workers} workers" if state.workers else ""
        lines.append(f"remaining  {left / 3600:.2f} worker hours{_money(left, price)}{each}")
    return "\n".join(lines)


def _money(seconds: float, price: float | None) -> str:
    return "" if price is None else f" = {seconds / 3600 * price:.2f} at {price:g} per hour"
