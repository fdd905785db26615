"""`python -m tools.simulate`: make a data set of simulated fields with weak labels and their truth."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from hcpl_kernel.errors import HcplError
from hcpl_kernel.simulation.annotation import FREQUENCIES
from hcpl_kernel.simulation.look import LOOKS, PLAIN
from tools.simulate.dataset import DatasetSettings, make_dataset


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.simulate", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--fields", type=int, required=True, help="number of fields")
    parser.add_argument("--seed", type=int, required=True, help="base seed; field seed = base * 1,000,000 + index")
    parser.add_argument("--size", type=int, default=512, help="height and width in px")
    parser.add_argument("--pixel-size", type=float, default=0.32, help="um per pixel (0.08 = full resolution)")
    parser.add_argument("--bits", type=int, choices=(8, 16), default=8)
    parser.add_argument("--frequency", choices=FREQUENCIES, default="natural", help="how often each class occurs")
    parser.add_argument("--look", choices=tuple(LOOKS), default=PLAIN, help="rough: as grainy and dark as real fields")
    parser.add_argument("--prefix", default="sim", help="what the IDs begin with")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; they do not change the result")
    given = parser.parse_args(arguments)
    try:
        settings = DatasetSettings(
            fields=given.fields,
            seed=given.seed,
            size=given.size,
            pixel_size=given.pixel_size,
            bits=given.bits,
            frequency=given.frequency,
            look=given.look,
            prefix=given.prefix,
        )
        make_dataset(settings, given.output, given.jobs)
    except HcplError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{given.fields} fields written to {given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
