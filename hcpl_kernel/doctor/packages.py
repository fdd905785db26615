"""Python and the packages, read from their metadata, without importing any of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from hcpl_kernel.doctor.report import Finding

PYTHONS = ((3, 10), (3, 12))

# Oldest supported release; the names after the first are distributions that bring the same module.
REQUIRED: tuple[tuple[tuple[str, ...], str], ...] = (
    (("torch",), "2.2"),
    (("torchvision",), "0"),
    (("timm",), "1.0.9"),
    (("numpy",), "1.24"),
    (("pandas",), "2.0"),
    (("scipy",), "1.10"),
    (("opencv-python-headless", "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"), "4.8"),
    (("numba",), "0.59"),
    (("safetensors",), "0.4"),
    (("pydantic",), "2.6"),
    (("xgboost", "xgboost-cpu"), "2.0"),
    (("pycocotools",), "2.0.7"),
    (("tqdm",), "4.60"),
    (("pillow",), "9.1"),
    (("psutil",), "5.9"),
)
# What brings more when it is there: (distributions as above, oldest supported release, what it is for).
OPTIONAL = (
    (("openvino",), "2024.4", "the faster CPU engine (--engine openvino)"),
    (("onnxruntime", "onnxruntime-gpu"), "1.18", "ONNX Runtime as an engine (--engine onnx)"),
    (("onnx",), "1.16", "what --engine onnx exports networks with"),
)

Versions = Callable[[str], str | None]


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def check_python() -> Finding:
    """Python's version against the supported ones."""
    found = ".".join(map(str, sys.version_info[:3]))
    low, high = (".".join(map(str, bound)) for bound in PYTHONS)
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return Finding("python", "Python", "ok", f"{found} (supported {low} to {high})")
    if sys.version_info[:2] > PYTHONS[1]:
        return Finding(
            "python", "Python", "note", f"{found}, tested are {low} to {high}", "if something fails, use one of these"
        )
    return Finding("python", "Python", "problem", f"{found}, expected {low} to {high}", f"use Python {high}")


def check_packages(versions: Versions = installed_version) -> Iterator[Finding]:
    """Every package against its supported range, and torchvision against torch.

    Args:
        versions: distribution -> installed version or None.
    """
    for names, oldest in REQUIRED:
        installed = [(name, found) for name in names if (found := versions(name)) is not None]
        if not installed:
            yield Finding("package", names[0], "problem", f"not installed, expected >= {oldest}", _install(names[0], oldest))
        for name, found in installed:
            if _release(found) < _release(oldest):
                yield Finding("package", name, "problem", f"{found}, expected >= {oldest}", _install(name, oldest))
            else:
                yield Finding("package", name, "ok", found if oldest == "0" else f"{found} (>= {oldest})")
    for names, oldest, purpose in OPTIONAL:
        name, optional = next(((n, found) for n in names if (found := versions(n)) is not None), (names[0], None))
        if optional is None or _release(optional) < _release(oldest):
            yield Finding("package", name, "note", f"{optional or 'not installed'}; >= {oldest} would bring {purpose}")
        else:
            yield Finding("package", name, "ok", f"{optional} (>= {oldest})")
    yield from check_torchvision(versions("torch"), _wanted_torch())


def check_torchvision(torch: str | None, wanted: str | None) -> Iterator[Finding]:
    """Whether torchvision was built for this torch; timm imports torchvision, so a mismatch stops every network.

    Args:
        torch: installed version.
        wanted: the version that the installed torchvision pins, None where it pins none.
    """
    if torch is not None and wanted is not None and _release(torch) != _release(wanted):
        yield Finding(
            "package",
            "torchvision",
            "problem",
            f"built for torch {wanted}, but torch is {torch}",
            "install the torch and torchvision of one release together",
        )


def _wanted_torch() -> str | None:
    try:
        lines = requires("torchvision") or []
    except PackageNotFoundError:
        return None
    pins = (re.match(r"torch\s*\(?==\s*([\w.+]+)", line) for line in lines)
    return next((pin[1] for pin in pins if pin), None)


def _install(name: str, oldest: str) -> str:
    return f"pip install '{name}{'' if oldest == '0' else f'>={oldest}'}' (without internet: from a wheel in a data set)"


def _release(text: str) -> tuple[int, ...]:
    """The numbers of a version before any suffix: `2.9.1+cu126` -> (2, 9, 1)."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
