"""Draw the pictures of README and `docs/` again.

    make demo
    python -m tools.docs demo_output/work

They show the demo's run on simulated fields. Needs chromium, chromium-driver and selenium.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hcpl_kernel.errors import HcplError
from tools.docs.pictures import draw_pictures

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 0 done, 2 bad use or input."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.docs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, metavar="WORK", help="work folder of a finished `hcpl predict`")
    parser.add_argument("--output", type=Path, default=IMAGES, metavar="DIR", help="for the pictures (default: docs/images)")
    given = parser.parse_args(arguments)
    try:
        for path in draw_pictures(given.work, given.output):
            print(f"{path}  {path.stat().st_size / 1000:.0f} kB")
    except HcplError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
