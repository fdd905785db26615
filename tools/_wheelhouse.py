"""Wheels whose bytes depend on their content only, made without a network."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from hcpl_kernel.errors import InputError

BUILD_FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")
# What installers add to a distribution; a wheel has none of it.
INSTALLED_ONLY = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the zip format's first moment, so that no clock enters the bytes


def build_package_wheel(root: Path, out: Path) -> Path:
    """Build the wheel of the checkout's package.

    Args:
        root: the checkout; it is copied first, so that the build leaves nothing in it.
        out: folder that gets the wheel.

    Raises:
        InputError: if the build fails; its own words are in the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, built = Path(folder, "source"), Path(folder, "built")
        shutil.copytree(root / "hcpl_kernel", source / "hcpl_kernel", ignore=shutil.ignore_patterns("__pycache__"))
        for name in BUILD_FILES:
            shutil.copy(root / name, source / name)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
        done = subprocess.run([*command, "--wheel-dir", built, source], capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f"the wheel of {root} could not be built:\n{done.stderr.strip()}")
        (wheel,) = built.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            contents = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
        return _write(out / wheel.name, contents)


def rebuild_wheel(name: str, version: str, out: Path) -> Path:
    """Make the wheel of an installed pure-Python distribution again, each file checked against its recorded hash.

    Raises:
        InputError: if it is not installed in that version, not pure Python, or was changed after it was installed.
    """
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(f"{name} is not installed; `pip install {name}=={version}` provides it") from error
    if distribution.version != version:
        raise InputError(f"{name}: expected version {version}, found {distribution.version} installed")
    if "Root-Is-Purelib: true" not in (distribution.read_text("WHEEL") or ""):
        raise InputError(f"{name} {version} is not pure Python; its wheel would fit one machine only")
    contents = {}
    for file in distribution.files or ():
        if file.suffix == ".pyc" or file.name in INSTALLED_ONLY or ".." in file.parts:
            continue
        data = file.read_binary()
        if file.hash is not None and _hash(data) != f"{file.hash.mode}={file.hash.value}":
            raise InputError(f"{file.locate()} differs from what {name} {version} installed; reinstall it")
        contents[file.as_posix()] = data
    info = f"{name}-{version}.dist-info"
    record = "".join(f"{path},{_hash(data)},{len(data)}\n" for path, data in sorted(contents.items()))
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    return _write(out / f"{name}-{version}-py3-none-any.whl", contents)


def _write(path: Path, contents: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(contents):
            member = zipfile.ZipInfo(name, EARLIEST)
            member.external_attr = 0o100644 << 16
            member.create_system = 3
            archive.writestr(member, contents[name], zipfile.ZIP_DEFLATED, 9)
    return path


def _hash(data: bytes) -> str:
    """As a wheel's RECORD writes it."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
