"""What `hcpl status` says of the runs of a work folder or a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hcpl_kernel.pipeline.progress import spoken
from hcpl_kernel.pipeline.status import ENDED, FAILED, RUNNING, SILENT, Seen, State
from hcpl_kernel.settings import Part

_KILLED = "killed, or on a machine that cannot be seen: the same command goes on"


def format_seen(seen: Mapping[Part | None, Seen], price: float | None) -> str:
    """All runs of a place as text for people.

    Args:
        seen: by part; None is a run of all.
        price: money per machine or worker and hour; None where it is not known.
    """
    texts = []
    if None in seen:
        texts.append(_format_whole(seen[None], price))
    for count in sorted({part.count for part in seen if part is not None}):
        texts.append(_format_parts([seen.get(Part(index + 1, count)) for index in range(count)], price))
    return "\n".join(texts)


def _format_whole(seen: Seen, price: float | None) -> str:
    state = seen.state
    lines = [
        f"run        {_how(seen)}, {state.fields} fields in {state.shards} shards",
        f"done       {state.found + state.made} shards, {state.found} of them from earlier runs",
    ]
    if not state.workers and not state.worker_seconds:
        left = state.remaining_seconds
        lines += [f"progress   {100 * state.share:.0f} % of what this run has to do", f"failed     {state.failed} shards"]
        if seen.how == RUNNING and left is not None:
            lines.append(f"remaining  {spoken(left)}{_money(left, price)}")
        return "\n".join(lines)
    lines += [
        f"running    {state.running} shards on {state.workers} workers",
        f"waiting    {state.waiting} shards",
        f"failed     {state.failed} shards",
        f"used       {state.worker_seconds / 3600:.2f} worker hours" + _money(state.worker_seconds, price),
    ]
    left = state.remaining_worker_seconds
    if left is not None and seen.how != ENDED:
        each = f", {spoken(left / state.workers)} with {state.workers} workers" if state.workers else ""
        lines.append(f"remaining  {left / 3600:.2f} worker hours{_money(left, price)}{each}")
    return "\n".join(lines)


def _how(seen: Seen) -> str:
    if seen.how == FAILED:
        return seen.reason
    return f"silent ({_KILLED})" if seen.how == SILENT else seen.how


def _format_parts(parts: Sequence[Seen | None], price: float | None) -> str:
    """One line for each part of a run, and what is left of all."""
    done = sum(_is_done(seen) for seen in parts)
    running = [seen for seen in parts if seen is not None and seen.how == RUNNING]
    absent = sum(seen is None for seen in parts)
    others = len(parts) - done - len(running) - absent
    lines = [
        f"run        {len(parts)} parts: {done} done, {len(running)} running, {others} ended before their end, "
        f"{absent} not begun"
    ]
    for index, seen in enumerate(parts, 1):
        lines.append(f"part {f'{index}/{len(parts)}':<9} {'not begun' if seen is None else _format_part(seen)}")
    paces = [seen.state.seconds / seen.state.share for seen in parts if seen is not None and seen.state.share]
    if paces and done < len(parts):
        whole = sum(paces) / len(paces)
        left = sum(whole * (1 - (0 if seen is None else seen.state.share)) for seen in parts if not _is_done(seen))
        ends = [seconds for seen in running if (seconds := seen.state.remaining_seconds) is not None]
        until = f"{spoken(max(ends))} until the last one that runs has ended, " if ends else ""
        lines.append(f"remaining  {until}{left / 3600:.2f} machine hours for all{_money(left, price)}")
    elif done == len(parts):
        lines.append("remaining  `hcpl assemble`, which writes the outputs")
    return "\n".join(lines)


def _is_done(seen: Seen | None) -> bool:
    return seen is not None and seen.how == ENDED and not seen.state.failed


def _format_part(seen: Seen) -> str:
    state: State = seen.state
    if seen.how == ENDED:
        missing = f", {state.failed} not made: the same command makes them" if state.failed else ""
        return f"{'ended' if missing else 'done'}, {state.found + state.made} of {state.shards} shards{missing}"
    left = state.remaining_seconds
    about = f", {spoken(left)} left" if left is not None and seen.how == RUNNING else ""
    return f"{_how(seen)}, {100 * state.share:.0f} % of {state.fields} fields{about}"


def _money(seconds: float, price: float | None) -> str:
    return "" if price is None else f" = {seconds / 3600 * price:.2f} at {price:g} per hour"
