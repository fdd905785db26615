"""Fit what warns of fields that are unlike those of the training, on simulated fields; see `benchmarks/novelty.md`.

    python -m tools.novelty spoil FIELDS --output SPOILT
    hcpl predict SPOILT --weights DIR --output RUN/submission.csv --work RUN/work --descriptors NAME,...
    python -m tools.novelty fit WORK --weights DIR --held-out WORK2 --spoilt WORK3 --output FOUND [--write]

`fit` takes the work folders of `hcpl predict --descriptors`: of several hundred fields like those of the training, of others
of the kind, which set the limit, and of spoilt ones, which choose the network. Writes `novelty.json` (figures) and
`novelty.safetensors`; with `--write` also into the weights folder, which then warns by them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from hcpl_kernel.errors import HcplError, InputError
from hcpl_kernel.models.ensemble import Ensemble, read_ensemble
from hcpl_kernel.runtime.atomic import atomic_open
from tools.novelty.entering import FILE_NAME, enter_novelty, figures, source_of
from tools.novelty.fitting import SHARE, Fitted, fit, read_means, save_gaussian
from tools.novelty.spoiling import spoil_fields


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 0 done, 2 bad use or input."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.novelty", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    spoil = steps.add_parser("spoil", help="write spoilt copies of fields, of every kind")
    spoil.add_argument("fields", type=Path, metavar="FIELDS", help="8-bit fields, for instance of tools.simulate")
    spoil.add_argument("--output", type=Path, required=True, metavar="SPOILT", help="folder for the spoilt fields")
    spoil.add_argument("--limit", type=int, default=24, metavar="N", help="the first N fields only (default %(default)s)")
    spoil.set_defaults(run=_spoil)
    fitting = steps.add_parser("fit", help="fit the distance and its limit, and choose the network")
    fitting.add_argument("work", type=Path, metavar="WORK", help="work folder of the fields to fit")
    fitting.add_argument("--weights", type=Path, required=True, help="the weights folder of the runs")
    fitting.add_argument("--held-out", type=Path, required=True, metavar="WORK2", help="work folder of other such fields")
    fitting.add_argument("--spoilt", type=Path, metavar="WORK3", help="work folder of spoilt fields")
    fitting.add_argument("--network", metavar="NAME", help="its descriptors; default: which finds most of the spoilt fields")
    fitting.add_argument("--output", type=Path, required=True, metavar="FOUND", help="folder for what is found")
    fitting.add_argument("--write", action="store_true", help="enter it in the weights folder")
    fitting.set_defaults(run=_fit)
    given = parser.parse_args(arguments)
    try:
        given.run(given)
    except HcplError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _spoil(given: argparse.Namespace) -> None:
    print(f"{spoil_fields(given.fields, given.output, given.limit)} fields in {given.output}")


def _fit(given: argparse.Namespace) -> None:
    folders = [given.work, given.held_out, *([] if given.spoilt is None else [given.spoilt])]
    names = _networks(read_ensemble(given.weights), folders, given.network)
    if len(names) > 1 and given.spoilt is None:
        raise InputError(f"name one of {', '.join(names)} with --network, or give --spoilt, which chooses one of them")
    tried = [_fit_network(given, name) for name in names]
    chosen = max(tried, key=lambda each: each.mean_found) if len(tried) > 1 else tried[0]
    print(_table(tried))
    print(f"\nchosen: {chosen.network}, {100 * SHARE:g} of 100 held-out fields are below {chosen.limit:.4f}")
    given.output.mkdir(parents=True, exist_ok=True)
    save_gaussian(chosen.gaussian, given.output / FILE_NAME)
    with atomic_open(given.output / "novelty.json") as file:
        json.dump({"chosen": chosen.network, "networks": {each.network: figures(each) for each in tried}}, file, indent=1)
    if given.write:
        enter_novelty(given.weights, chosen, source_of(given.work), source_of(given.held_out))


def _networks(ensemble: Ensemble, folders: Sequence[Path], asked: str | None) -> list[str]:
    """The classifiers to try.

    Raises:
        InputError: if there is none.
    """
    names = [spec.name for spec in ensemble.networks]
    if asked is not None:
        if asked not in names:
            raise InputError(f"{ensemble.folder} has no network {asked!r}; it has {', '.join(names)}")
        return [asked]
    there = [name for name in names if all(_descriptors(folder, name).is_file() for folder in folders)]
    if not there:
        raise InputError(f"{', '.join(map(str, folders))} have descriptors of no network in common; see --descriptors")
    return there


def _descriptors(work: Path, network: str) -> Path:
    return work / "descriptors" / f"{network}.npz"


def _fit_network(given: argparse.Namespace, name: str) -> Fitted:
    folders = (given.work, given.held_out, given.spoilt)
    fields, held_out, spoilt = (None if work is None else read_means(_descriptors(work, name)) for work in folders)
    assert fields is not None and held_out is not None
    return fit(name, fields, held_out, spoilt)


def _table(tried: Sequence[Fitted]) -> str:
    """Of each kind of spoilt fields the share that is found by each network."""
    width = max(len(each.network) for each in tried) + 2
    lines = [f"{'share found of':<26}{'fields':>8}" + "".join(f"{each.network:>{width}}" for each in tried)]
    for kind, count in tried[0].spoilt.items():
        lines.append(f"{kind:<26}{count:>8}" + "".join(f"{each.found[kind]:>{width}.2f}" for each in tried))
    lines.append(f"{'mean over the kinds':<34}" + "".join(f"{each.mean_found:>{width}.3f}" for each in tried))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
