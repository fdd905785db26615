"""The competition and the data sets are found in each layout in which Kaggle mounts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcpl_kernel.errors import InputError
from hcpl_kernel.fields.kaggle import COMPETITION, find_competition, find_dataset


def mount_competition(folder: Path) -> None:
    (folder / "test").mkdir(parents=True)
    (folder / "sample_submission.csv").touch()


@pytest.mark.parametrize("layout", ["", "competitions", "datasets/owner"])
def test_competition_is_found_in_every_layout(tmp_path: Path, layout: str) -> None:
    folder = tmp_path / layout / COMPETITION
    mount_competition(folder)
    (tmp_path / "other-input").mkdir()
    found = find_competition(tmp_path)
    assert (found.fields_dir, found.sample) == (folder / "test", folder / "sample_submission.csv")


def test_competition_may_have_another_name_but_its_own_is_preferred(tmp_path: Path) -> None:
    mount_competition(tmp_path / "another")
    assert find_competition(tmp_path).fields_dir == tmp_path / "another" / "test"
    mount_competition(tmp_path / "competitions" / COMPETITION)
    assert find_competition(tmp_path).fields_dir == tmp_path / "competitions" / COMPETITION / "test"


def test_no_competition_says_what_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "datasets" / "someone" / "weights").mkdir(parents=True)
    with pytest.raises(InputError, match="test/ and sample_submission.csv.*datasets/someone/weights"):
        find_competition(tmp_path)


def test_absent_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        find_competition(tmp_path / "kaggle")


@pytest.mark.parametrize("layout", ["weights", "datasets/owner/weights", "weights/unpacked"])
def test_dataset_is_found_by_its_marker(tmp_path: Path, layout: str) -> None:
    folder = tmp_path / layout
    folder.mkdir(parents=True)
    (folder / "ensemble.json").touch()
    assert find_dataset("ensemble.json", tmp_path) == folder


def test_one_dataset_under_two_layouts_counts_once(tmp_path: Path) -> None:
    folder = tmp_path / "datasets" / "owner" / "weights"
    folder.mkdir(parents=True)
    (folder / "ensemble.json").touch()
    (tmp_path / "weights").symlink_to(folder)
    assert find_dataset("ensemble.json", tmp_path).resolve() == folder


def test_two_datasets_with_the_marker_are_an_error(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ensemble.json").touch()
    with pytest.raises(InputError, match="2 inputs.*one, two"):
        find_dataset("ensemble.json", tmp_path)
