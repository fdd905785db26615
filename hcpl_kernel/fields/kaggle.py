"""Finding the inputs of a Kaggle notebook, in each of the three layouts in which Kaggle has mounted them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from hcpl_kernel.errors import InputError

INPUT_ROOT = Path("/kaggle/input")
COMPETITION = "hpa-single-cell-image-classification"
SAMPLE_NAME = "sample_submission.csv"
TEST_FOLDER = "test"
# the competition or data set itself, competitions/<slug>, datasets/<owner>/<slug>.
LAYOUTS = ("*", "competitions/*", "datasets/*/*")


@dataclasses.dataclass(frozen=True)
class CompetitionInput:
    """The competition's inputs.

    Attributes:
        fields_dir: folder with the test images.
        sample: the sample submission, whose IDs and row order the submission follows.
    """

    fields_dir: Path
    sample: Path


def find_competition(root: Path = INPUT_ROOT) -> CompetitionInput:
    """Find the mounted input that has a `test` folder and a `sample_submission.csv`.

    Where several have both, the one with the competition's slug is taken.

    Raises:
        InputError: if no input has both, or several have and none has the slug.
    """
    found = [m for m in _mounts(root) if (m / SAMPLE_NAME).is_file() and (m / TEST_FOLDER).is_dir()]
    named = [mount for mount in found if mount.name == COMPETITION]
    mount = _the_only(named or found, f"{TEST_FOLDER}/ and {SAMPLE_NAME}", root)
    return CompetitionInput(fields_dir=mount / TEST_FOLDER, sample=mount / SAMPLE_NAME)


def find_dataset(marker: str, root: Path = INPUT_ROOT) -> Path:
    """Find the folder that holds a marker file, in a mounted input or one folder below.

    One folder below, because Kaggle unpacks an uploaded archive into a folder of its own.

    Args:
        marker: a file's path relative to the folder that is sought, for instance `ensemble.json`.
        root: where the inputs are mounted.

    Returns:
        The folder, so that `folder / marker` exists.

    Raises:
        InputError: if no input, or more than one, has the marker.
    """
    mounts = _mounts(root)
    found = [mount for mount in mounts if (mount / marker).is_file()]
    if not found:
        below = (path for mount in mounts for path in sorted(mount.iterdir()))
        found = _distinct(path for path in below if path.is_dir() and (path / marker).is_file())
    return _the_only(found, marker, root)


def _mounts(root: Path) -> list[Path]:
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root} does not exist; expected the folder in which Kaggle mounts a notebook's inputs")
    return _distinct(path for layout in LAYOUTS for path in sorted(root.glob(layout)) if path.is_dir())


def _distinct(paths: Iterable[Path]) -> list[Path]:
    """Without the repetitions that links make: one input can be mounted under two layouts."""
    return list({path.resolve(): path for path in paths}.values())


def _the_only(found: list[Path], wanted: str, root: Path) -> Path:
    if len(found) == 1:
        return found[0]
    if not found:
        there = ", ".join(str(path.relative_to(root)) for path in _mounts(root)) or "nothing"
        raise InputError(f"no input under {root} has {wanted}; add it to the notebook (mounted: {there})")
    raise InputError(
        f"{len(found)} inputs under {root} have {wanted}: {', '.join(str(path.relative_to(root)) for path in found)}; "
        "remove all but one from the notebook, or name the folder"
    )
