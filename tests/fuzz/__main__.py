"""Fuzz one target for a while: `python -m tests.fuzz readers|rle|tables|manifests|pickles SECONDS [SEED]`.

The bytes of a finding are kept as `fuzz_finding.bin` in the folder for temporary files; a process that crashes leaves them,
too.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
import warnings
from pathlib import Path

TARGETS = ("readers", "rle", "tables", "manifests", "pickles")
SLOW = 10.0
"""Processor seconds after which a case counts as a finding (our choice)."""


def main(target: str, seconds: float, seed: int) -> int:
    """Fuzz until the time is over or something is found; 1 for a finding."""
    module = importlib.import_module(f"tests.fuzz.{target}")
    kept = Path(tempfile.gettempdir()) / f"fuzz_finding_{target}.bin"
    start, count, slowest = time.monotonic(), 0, (0.0, "")
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        for kind, data in module.cases(seed):
            kept.write_bytes(data)
            begin = time.process_time()
            try:
                module.check(data, Path(name))
            except Exception as error:  # noqa: BLE001 - whatever comes is the finding
                print(f"{target}: finding in case {count} ({kind}), kept as {kept}: {error!r}", flush=True)
                raise
            took = time.process_time() - begin
            count, slowest = count + 1, max(slowest, (took, kind))
            if took > SLOW:
                print(f"{target}: case {count} ({kind}) took {took:.1f} s, kept as {kept}", flush=True)
                return 1
            if time.monotonic() - start > seconds:
                break
    kept.unlink()
    slow = f"slowest {slowest[0]:.2f} processor seconds ({slowest[1]})"
    text = f"{count} cases in {time.monotonic() - start:.0f} s, no finding; {slow}"
    print(f"{target}: {text}", flush=True)
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in TARGETS:
        raise SystemExit(__doc__)
    sys.exit(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0))
