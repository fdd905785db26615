"""Memory, cores, disk and write permission, as the process may use them and not as the machine has them."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hcpl_kernel.doctor.report import Finding

# Our choices. The networks of weights/mini run within 2 GiB, the nine networks of the paper one by one within 8.
MEMORY_NEEDED, MEMORY_WISHED = 2048, 8192
# A submission has about 350 MB; label maps and crops of a full test set take most of the rest.
DISK_NEEDED, DISK_WISHED = 1024, 20480
MIB = 1 << 20


def check_memory(root: Path = Path("/")) -> Finding:
    """Memory that is free for this process: the machine's, or the least of its control groups'.

    Args:
        root: where `/proc` and `/sys` are found.
    """
    free = _available(root)
    if free is None:
        return Finding("memory", "free", "note", "unknown: this system has no /proc/meminfo")
    limits = [limit - used for limit, used in _control_groups(root)]
    limited = bool(limits) and min(limits) < free
    free = min([free, *limits])
    found = f"{max(free, 0):.0f} MiB" + (" (limited by the container)" if limited else "")
    if free < MEMORY_NEEDED:
        return Finding(
            "memory",
            "free",
            "problem",
            f"{found}, expected {MEMORY_NEEDED}",
            "end other programs, or take a larger machine",
        )
    if free < MEMORY_WISHED:
        return Finding(
            "memory", "free", "note", f"{found}; enough for weights/mini, {MEMORY_WISHED} are better for large networks"
        )
    return Finding("memory", "free", "ok", found)


def check_cores(root: Path = Path("/")) -> Finding:
    """Cores that this process may use: its affinity, or its control group's quota.

    Args:
        root: where `/sys` is found.
    """
    machine = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    quota = _core_quota(root)
    cores = min(allowed, max(1, math.ceil(quota))) if quota is not None else allowed
    found = f"{cores} of the machine's {machine}" + (f", a quota of {quota:.1f}" if quota is not None else "")
    if cores == 1:
        return Finding("cores", "usable", "note", found, "reading images and labelling scale with cores; expect a slow run")
    return Finding("cores", "usable", "ok", found)


def check_folder(role: str, folder: Path, wished: int = DISK_NEEDED) -> Iterator[Finding]:
    """Whether a folder can be written (by writing), and its free space.

    Args:
        role: "working folder" or "scratch folder".
        folder: the folder.
        wished: MiB below which a note is given.
    """
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".hcpl_doctor_") as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        reason = error.strerror or str(error)
        yield Finding(
            "disk", role, "problem", f"{folder} cannot be written: {reason}", "run in a folder that you may write to"
        )
        return
    free = shutil.disk_usage(folder).free / MIB
    found = f"{folder}: writable, {free:.0f} MiB free"
    if free < DISK_NEEDED:
        yield Finding("disk", role, "problem", f"{found}, expected {DISK_NEEDED}", "make room, or use another folder")
    elif free < wished:
        yield Finding("disk", role, "note", f"{found}; a full test set may need {wished}")
    else:
        yield Finding("disk", role, "ok", found)


def scratch_folder() -> Path:
    """Kaggle's scratch folder where there is one, else the system's."""
    kaggle = Path("/kaggle/temp")
    return kaggle if kaggle.is_dir() else Path(tempfile.gettempdir())


def _available(root: Path) -> float | None:
    text = _read(root / "proc/meminfo")
    values = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    kibibytes = values.get("MemAvailable", "").split()
    return int(kibibytes[0]) / 1024 if kibibytes else None


def _control_groups(root: Path) -> Iterator[tuple[float, float]]:
    """(limit, used) in MiB of this process's control group and those above it, where a limit is set."""
    for group, limit_name, used_name in _groups(root, "memory", "memory.max", "memory.limit_in_bytes"):
        limit, used = _read(group / limit_name).strip(), _read(group / used_name).strip()
        # Version 1 says "no limit" by a number near 2^63.
        if limit.isdigit() and used.isdigit() and int(limit) < 1 << 60:
            # The page cache counts as used, but is given up when memory is short.
            statistics = dict(line.split(" ", 1) for line in _read(group / "memory.stat").splitlines() if " " in line)
            cache = int(statistics.get("inactive_file", statistics.get("total_inactive_file", "0")))
            yield int(limit) / MIB, (int(used) - cache) / MIB


def _core_quota(root: Path) -> float | None:
    quotas = []
    for group, name, _ in _groups(root, "cpu", "cpu.max", "cpu.cfs_quota_us"):
        words = _read(group / name).split()
        if name == "cpu.cfs_quota_us":
            words += _read(group / "cpu.cfs_period_us").split()
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]) > 0:
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas) if quotas else None


def _groups(root: Path, controller: str, name_2: str, name_1: str) -> Iterator[tuple[Path, str, str]]:
    """The folders of this process's control group and those above it, with its file names of limit and use."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root / "sys/fs/cgroup", (name_2, "memory.current")
        elif controller in controllers.split(","):
            base, names = root / "sys/fs/cgroup" / controller, (name_1, "memory.usage_in_bytes")
        else:
            continue
        group = base / path.lstrip("/")
        # Inside a container the path may not exist below the mount, whose top then is the group.
        for folder in (group, *group.parents):
            if folder == base.parent:
                break
            if (folder / names[0]).is_file():
                yield folder, *names


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
