"""What a writer is, and how several of them share one stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TypeAlias

from hcpl_kernel.fusion.fused_field import FusedField

Writer: TypeAlias = AbstractContextManager[Callable[[FusedField], None]]
"""Entered, it gives the function that takes a field; left without an error, it gives the finished file its name."""


def write_fields(fields: Iterable[FusedField], writers: Sequence[Writer]) -> None:
    """Give every field to every writer.

    Args:
        fields: taken one at a time, sorted by ID.
        writers: each of one output.
    """
    with ExitStack() as stack:
        adders = [stack.enter_context(writer) for writer in writers]
        for field in fields:
            for add in adders:
                add(field)
