"""Whether the places that a command is to write can be written, found out before anything begins.

Access is not asked for but tried: a temporary file is made in the nearest folder that exists. Permissions alone do not
tell (a read-only file system, `/proc`, a quota).
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from hcpl_kernel.errors import SettingsError, describe
from hcpl_kernel.runtime.atomic import PREFIX

WORK_FILES = frozenset(
    {"cells.csv", "run_report.json", "error.txt", "index.html", "results.json", "state.json", "rescued_submission.csv"}
)
"""Files that a run writes into its work folder; no output may have one of their names there."""
WORK_FOLDERS = frozenset({"labels", "parts", "pieces", "stamps", "report", "descriptors"})
"""Folders that a run makes in its work folder; no output may be in one of them. Hidden names are a run's own, too."""


def check_output(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Check that a file can be written, atomically, under a name.

    Args:
        path: the file; neither it nor its folder need exist.
        inputs: files that the command reads, which the output must not replace.

    Raises:
        SettingsError: if it is a folder, a device or an input, if its folder is a file or cannot be written to, or if
            its name is too long.
    """
    kind = _kind("output", path)
    if kind not in ("", "a file"):
        raise SettingsError(f"output {path} is {kind}; expected the name of a file, such as submission.csv")
    for taken in inputs:
        if kind and taken.exists() and os.path.samefile(path, taken):
            raise SettingsError(f"output {path} would replace {taken}, which this command reads; name another output")
    check_folder("output", path.parent)


def check_new_folder(role: str, path: Path) -> None:
    """Check that a folder can be made under a name.

    Args:
        role: what the folder is for, the first word of messages.
        path: the folder; it may exist if nothing is in it.

    Raises:
        SettingsError: if it is a file or a folder with something in it, or where nothing can be written.
    """
    check_folder(role, path)
    try:
        filled = path.exists() and any(path.iterdir())
    except OSError as error:
        raise SettingsError(f"{role} {path} cannot be used: {describe(error)}") from error
    if filled:
        raise SettingsError(f"{role} {path} is a folder that is not empty; name another, or remove it first")
    check_folder(role, path.parent)


def check_work(path: Path, output: Path) -> None:
    """Check that a work folder can be made or written to, and that the output does not collide with what it holds.

    Args:
        path: the work folder; it need not exist.
        output: the file that is written in addition; it may be in the work folder, under a name that is not the run's own.

    Raises:
        SettingsError: if `path` or what should be a folder above it is not one, if it cannot be written to, or if
            the output has the place of one of the work folder's own files.
    """
    check_folder("work", path)
    check_no_own_file(path, output)


def check_no_own_file(path: Path, output: Path) -> None:
    """Check that an output has not the place of a work folder, nor of anything that a run writes into it.

    Args:
        path: the work folder; it need not exist, nor be one that can be written to.
        output: see :func:`check_work`.

    Raises:
        SettingsError: if it has.
    """
    target, folder = _resolved(output), _resolved(path)
    if folder.is_relative_to(target):
        raise SettingsError(f"the work folder {path} is at or under the output {output}; name another output or work folder")
    if target.is_relative_to(folder):
        first, *more = target.relative_to(folder).parts
        if first.startswith(".") or first in WORK_FOLDERS or (not more and first in WORK_FILES):
            raise SettingsError(
                f"output {output} has the name of one of the work folder's own files; write it next to {path}, not there"
            )


def check_folder(role: str, folder: Path) -> None:
    """Check that a file can be made in a folder, or in the nearest one above it that exists.

    Args:
        role: what the folder is for, the first word of messages.
        folder: it need not exist.

    Raises:
        SettingsError: if `folder` or what should be a folder above it is not one, or cannot be written to.
    """
    nearest = Path(os.path.abspath(folder))
    while not (kind := _kind(role, nearest)) and nearest != nearest.parent:
        nearest = nearest.parent
    if kind != "a folder":
        raise SettingsError(f"{role}: {nearest} is {kind}; expected a folder, or a name that is free")
    try:
        with tempfile.TemporaryFile(dir=nearest, prefix=PREFIX):
            pass
    except OSError as error:
        raise SettingsError(f"{role}: nothing can be written in {nearest}: {error.strerror or describe(error)}") from error


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _kind(role: str, path: Path) -> str:
    """What a path is, in words; "" where there is nothing."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "a broken link" if os.path.islink(path) else ""
    except NotADirectoryError:
        return ""  # something above it is a file, which the check of its folder names
    except (OSError, ValueError) as error:
        raise SettingsError(f"{role} {path} cannot be used: {describe(error)}") from error
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a file" if stat.S_ISREG(mode) else "a device, pipe or socket"
