"""Kill runs at random moments and before single writes, refuse them every write, fill their disk; each must resume.

    python -m tools.endurance --kills 100 --every-write --full-disks

A write is a file opened for writing, renamed, linked or synced, or a folder made. Every disturbed run is repeated
undisturbed, and its `submission.csv`, `cells.csv` and label maps are compared byte by byte with those of a run that
nothing happened to; no temporary file may stay. Full disks need the right to mount a tmpfs.
"""

from __future__ import annotations

import argparse
import errno
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tools.endurance.child import REFUSED, Fault, finish, start
from tools.endurance.compared import differences, results, temporaries
from tools.endurance.material import Material, make_material

DONE, NAMED = 0, 2
"""Exit codes of a run that is done and of one that says in a line what the system refused it."""
DISK_STEP = 1 << 16
"""Bytes by which the disk grows from one trial to the next."""


class Trials:
    """Disturbed runs, each compared with an undisturbed one.

    Args:
        folder: for everything.
        fields: how many fields a run has.
    """

    def __init__(self, folder: Path, fields: int) -> None:
        self.material: Material = make_material(folder / "material", fields)
        self.folder = folder
        self.wrong: list[str] = []
        self.codes: Counter[str] = Counter()
        began = time.perf_counter()
        whole = folder / "whole"
        code = self.run(whole)
        if code != DONE:
            raise SystemExit(f"the undisturbed run ended with {code}: {(folder / 'log').read_text()}")
        self.seconds = time.perf_counter() - began
        self.expected = results(whole)

    def run(self, place: Path, fault: Fault | None = None) -> int:
        """One run to its end; its exit code."""
        place.mkdir(exist_ok=True)
        return finish(start(self.material.arguments(place), self.folder / "log", fault))

    def kill_at_random(self, after: float) -> None:
        """Kill a run after so many seconds."""
        place = self._place()
        process = start(self.material.arguments(place), self.folder / "log")
        time.sleep(after)
        process.kill()
        code = finish(process)
        self._resume(f"killed after {after:.3f} s", place, code, (DONE, -signal.SIGKILL))

    def every_write(self, code: int | None, once: bool = False) -> int:
        """Kill a run before its k-th write, or refuse it and, unless `once`, all later ones, for every k; how many."""
        number = 0
        while True:
            number += 1
            place = self._place()
            ended = self.run(place, Fault(place, number, code, once))
            name = "killed" if code is None else errno.errorcode[code]
            hit = ended == -signal.SIGKILL or REFUSED in (self.folder / "log").read_bytes()
            allowed = (DONE,) if not hit else (-signal.SIGKILL,) if code is None else (NAMED, DONE)
            self._resume(f"{name} at write {number}", place, ended, allowed)
            if not hit:
                return number - 1

    def full_disks(self, most: int) -> int:
        """Runs whose work folder and output are on disks of growing size, then enlarged; how many disks were too small."""
        size, small = DISK_STEP, 0
        while size <= most:
            place = self._place()
            mount(place, size)
            try:
                ended = self.run(place)
                mount(place, 16 * most, remount=True)
                self._resume(f"disk of {size >> 10} KiB", place, ended, (NAMED, DONE), clear=False)
            finally:
                subprocess.run(["umount", str(place)], check=True)
            small += ended != DONE
            if ended == DONE:
                break
            size += DISK_STEP
        return small

    def _place(self) -> Path:
        place = self.folder / "disturbed"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return place

    def _resume(self, what: str, place: Path, ended: int, allowed: tuple[int, ...], clear: bool = True) -> None:
        """Run again, undisturbed, and compare."""
        self.codes[str(ended)] += 1
        before = len(self.wrong)
        print(f"\r{what}: {ended}", end="", file=sys.stderr, flush=True)
        said = (self.folder / "log").read_text(errors="replace")
        if ended not in allowed or "Traceback" in said or (ended == NAMED and said.count("hcpl: ") != 1):
            self.wrong.append(f"{what}: ended with {ended}, expected one of {allowed}: {said[-300:]}")
        if ended != -signal.SIGKILL and temporaries(place):
            self.wrong.append(f"{what}: leaves {temporaries(place)}")
        again = self.run(place)
        if again != DONE:
            self.wrong.append(f"{what}: resumed with {again}: {(self.folder / 'log').read_text()[-300:]}")
        elif different := differences(self.expected, results(place)):
            self.wrong.append(f"{what}: resumed to another {different}")
        if temporaries(place):
            self.wrong.append(f"{what}: after the resumed run there is {temporaries(place)}")
        for text in self.wrong[before:]:
            print(text, flush=True)
        if clear:
            shutil.rmtree(place)


def mount(place: Path, size: int, remount: bool = False) -> None:
    """Mount an empty disk in memory, or change its size."""
    options = f"{'remount,' if remount else ''}size={size}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)


def main() -> int:
    """Run the trials that were asked for; 1 if any run was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tools.endurance", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="kills -9 at random moments (default 100)")
    parser.add_argument("--every-write", action="store_true", help="kill before, and refuse, the k-th write for every k")
    parser.add_argument("--full-disks", action="store_true", help="disks of growing size; needs root")
    parser.add_argument("--fields", type=int, default=4, help="fields of a run (default 4)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="hcpl-endurance-") as folder:
        trials = Trials(Path(folder), options.fields)
        trials.run(Path(folder) / "warm")  # the first run also waited for the server's imports
        began = time.perf_counter()
        trials.run(Path(folder) / "timed")
        seconds = time.perf_counter() - began
        print(f"undisturbed run of {options.fields} fields: {seconds:.2f} s", flush=True)
        for _ in range(options.kills):
            trials.kill_at_random(moments.uniform(0, seconds))
        print(f"{options.kills} kills at random moments; {_told(trials)}", flush=True)
        if options.every_write:
            for code, once in ((None, False), (errno.ENOSPC, False), (errno.EIO, True)):
                count = trials.every_write(code, once)
                what = "killed before" if code is None else f"{errno.errorcode[code]} at"
                then = " and at every later one" if code is not None and not once else ""
                print(f"{what} write k{then}, k = 1 ... {count}; {_told(trials)}", flush=True)
        if options.full_disks:
            small = trials.full_disks(64 << 20)
            print(f"{small} disks too small, in steps of {DISK_STEP >> 10} KiB; {_told(trials)}", flush=True)
    return 1 if trials.wrong else 0


def _told(trials: Trials) -> str:
    codes = ", ".join(f"{code}: {count}" for code, count in sorted(trials.codes.items()))
    trials.codes.clear()
    return f"exit codes {codes}; wrong so far: {len(trials.wrong)}"


if __name__ == "__main__":
    sys.exit(main())
