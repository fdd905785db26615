"""What two runs left, compared byte by byte."""

from __future__ import annotations

from pathlib import Path


def results(place: Path) -> dict[str, bytes]:
    """The outputs of a run, by file name."""
    files = [place / "submission.csv", place / "work" / "cells.csv", *sorted((place / "work" / "labels").glob("*.png"))]
    return {file.name: file.read_bytes() for file in files if file.exists()}


def differences(expected: dict[str, bytes], found: dict[str, bytes]) -> list[str]:
    """Names of files that differ."""
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def temporaries(place: Path) -> list[str]:
    """Temporary files that were left."""
    return sorted(path.name for path in place.rglob(".hcpl-*"))
