"""Damaged and made-up torch files: tensors, or an error of this package; nothing that they name is called."""

from __future__ import annotations

import pickletools
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hcpl_kernel.conversion import convert
from hcpl_kernel.errors import HcplError
from tests.attacks.forge import legacy_file, state_dict, zip_file
from tests.fuzz.damage import damaged

CALLED: list[str] = []
"""Events that only code of a file could cause."""
_FORBIDDEN = ("os.system", "subprocess.Popen", "socket.connect", "pickle.find_class", "os.exec", "os.posix_spawn")
_OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]


def _watch(event: str, values: tuple[Any, ...]) -> None:
    if event in _FORBIDDEN and _watching:
        CALLED.append(event)


_watching: list[bool] = []
sys.addaudithook(_watch)


def cases(seed: int) -> Iterator[tuple[str, bytes]]:
    """Files in both layouts with bytes changed, and files around programs with opcodes changed or made up."""
    rng = np.random.default_rng(seed)
    good = state_dict()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.pth"
        files = {"zip": zip_file(path, good).read_bytes(), "legacy": legacy_file(path, good).read_bytes()}
        while True:
            for layout, data in files.items():
                yield f"{layout}, bytes", damaged(data, rng)
            for program in (damaged(good, rng), _other_opcodes(good, rng), _made_up(rng)):
                yield "zip, program", zip_file(path, program).read_bytes()
                yield "legacy, program", legacy_file(path, program).read_bytes()


def check(data: bytes, folder: Path) -> None:
    """Convert the file; only errors of this package may come, and nothing may be called."""
    path, output = folder / "a.pth", folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    path.write_bytes(data)
    _watching.append(True)
    try:
        convert(path, output)
    except HcplError as error:
        assert str(error), "a reason is needed"
    finally:
        _watching.clear()
    assert not CALLED, CALLED


def _other_opcodes(program: bytes, rng: np.random.Generator) -> bytes:
    places = [place for _, _, place in pickletools.genops(program) if place is not None]
    changed = bytearray(program)
    for _ in range(int(rng.integers(1, 4))):
        place = places[int(rng.integers(len(places)))]
        changed[place : place + 1] = _OPCODES[int(rng.integers(len(_OPCODES)))]
    return bytes(changed)


def _made_up(rng: np.random.Generator) -> bytes:
    """A program of random opcodes with plausible arguments."""
    parts = [b"\x80\x02"]
    for _ in range(int(rng.integers(1, 40))):
        code = _OPCODES[int(rng.integers(len(_OPCODES)))]
        argument = (b"", b"\x01", b"\x05\0\0\0hello", b"cos\nsystem\n", b"1\n", rng.bytes(4))[int(rng.integers(6))]
        parts.append(code + argument)
    return b"".join(parts) + b"."
