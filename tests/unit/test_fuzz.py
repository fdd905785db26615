"""Damaged files of every kind that the package reads give a result of the right form or one of its errors."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path

import pytest

from tests.fuzz.__main__ import TARGETS
from tests.fuzz.readers import check_zarr, originals, zarr_cases

COUNT = {"readers": 400}
"""Cases of a target; of the others 150."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", TARGETS)
def test_damaged_files_are_read_or_named(tmp_path: Path, target: str) -> None:
    module = importlib.import_module(f"tests.fuzz.{target}")
    for name, data in itertools.islice(module.cases(3), COUNT.get(target, 150)):
        try:
            module.check(data, tmp_path)
        except Exception as error:
            raise AssertionError(f"{name}: {error!r}: {data[:300]!r}") from error


@pytest.mark.filterwarnings("ignore")
def test_damaged_zarr_folders_are_read_or_are_a_problem_of_their_field(tmp_path: Path) -> None:
    pytest.importorskip("numcodecs", reason="the extra 'zarr' is not installed")
    for name, path, data in itertools.islice(zarr_cases(seed=3), 300):
        try:
            check_zarr(name, path, data, tmp_path / "a.zarr")
        except Exception as error:
            (tmp_path / "damaged").write_bytes(data)
            raise AssertionError(f"{name}: {path.name}: {error!r}: {data[:300]!r}") from error


def test_the_originals_are_read(tmp_path: Path) -> None:
    from hcpl_kernel.errors import FieldError
    from hcpl_kernel.fields.channels import CHANNELS
    from hcpl_kernel.fields.files import FieldFiles
    from hcpl_kernel.fields.readers import read_field

    path, unread = tmp_path / "file", []
    for name, data in originals().items():
        path.write_bytes(data)
        for files in (FieldFiles("f", dict.fromkeys(CHANNELS, path)), FieldFiles("f", {"file": path}, "stacks")):
            try:
                read_field(files)
                break
            except FieldError as error:
                reason = error.reason
        else:
            unread.append((name, reason))
    assert not unread
