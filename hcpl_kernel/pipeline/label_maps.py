"""Label maps on disk: written with what they are recognised by later, so that one that was changed is noticed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hcpl_kernel.runtime.atomic import atomic_path, remove_any


def write_label_map(path: Path, labels: np.ndarray) -> str:
    """Write a label map, (H, W) with ids up to 65535, as 16-bit PNG; gives its size, time of change and hash."""
    import cv2

    # OpenCV's own settings: run lengths, a third of the time that any given level takes
    encoded = cv2.imencode(".png", labels.astype(np.uint16))[1].data
    with atomic_path(path, sync=False) as temporary:  # a part knows its label maps' hashes
        temporary.write_bytes(encoded)
        if path.is_dir():
            remove_any(path)
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns} {hashlib.blake2b(encoded, digest_size=16).hexdigest()}"


def label_maps_stand(folder: Path, written: Mapping[str, str]) -> bool:
    """Whether label maps are in a folder as they were written.

    Args:
        folder: of the label maps.
        written: per file name its size, time and hash, as :func:`write_label_map` gives them. A file of another time, such
            as a copy, is read and compared by its hash.
    """
    return all(_stands(os.path.join(folder, name), stamp) for name, stamp in written.items())


def _stands(path: str, stamp: str) -> bool:
    try:
        size, time, digest = stamp.split()
        status = os.stat(path)
        if status.st_size != int(size):
            return False
        if status.st_mtime_ns == int(time):
            return True
        with open(path, "rb") as file:
            return hashlib.blake2b(file.read(), digest_size=16).hexdigest() == digest
    except OSError:
        return False
