"""Notebooks from plain sources, and the folder that `kaggle kernels push` takes.

    python -m tools.build_notebooks            # notebooks/sources/*.py -> notebooks/*.ipynb
    python -m tools.build_notebooks --check    # exit 1 if a notebook is not what its source gives
    python -m tools.build_notebooks --push dist/notebook --owner NAME [--dataset NAME/hcpl-weights-full]

What `--push` prepares runs the weights of the attached dataset `hcpl-weights-<name>`; without one, those of the bundle.

A source is a Python file in the percent format: a line `# %%` starts a code cell, `# %% [markdown]` a text cell whose lines
are comments, and `tags=["parameters"]` on that line tags the cell.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from hcpl_kernel.errors import HcplError, InputError, SettingsError
from hcpl_kernel.kaggle import BUNDLE_MARKER, WEIGHTS_MARKER
from tools._kaggle_metadata import OWNER_PLACEHOLDER, check_kernel_metadata

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
METADATA_NAME = "kernel-metadata.json"
WEIGHTS_DATASET = "hcpl-weights-"
"""What the slug of a dataset of weights begins with; the ensemble's name follows."""
CELL_START = re.compile(r"# %%(?P<text> \[markdown\])?(?: tags=(?P<tags>\[.*\]))?")


def build(source: Path) -> str:
    """The notebook of a source, as the text of an `.ipynb` file; the same source gives the same text.

    Raises:
        InputError: if the source has text before its first cell, a line that starts like a cell mark but is none, or a
            text cell with a line that is not a comment.
    """
    cells: list[Any] = []
    for number, (mark, lines) in enumerate(_split(source)):
        match = CELL_START.fullmatch(mark)
        if match is None:
            raise InputError(f"{source}: {mark!r}, expected '# %%', '# %% [markdown]' or either with tags=[...]")
        body = "\n".join(_uncomment(line, source) for line in lines) if match["text"] else "\n".join(lines)
        cell = (new_markdown_cell if match["text"] else new_code_cell)(body.strip("\n"))
        cell["id"] = f"{source.stem}-{number}"
        if match["tags"]:
            cell["metadata"]["tags"] = json.loads(match["tags"])
        cells.append(cell)
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook = new_notebook(cells=cells, metadata=metadata)
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def write_push_folder(
    out: Path,
    owner: str,
    datasets: Sequence[str] = (),
    machine: str | None = None,
    image: str | None = None,
    weights: str | None = None,
    bundle: Path | None = None,
) -> Path:
    """Make the folder that `kaggle kernels push` takes: the submission notebook and its metadata.

    Args:
        out: the folder.
        owner: Kaggle user or organisation; takes the placeholder's place.
        datasets: further datasets to attach, `<owner>/<slug>`.
        machine: another machine shape than the committed one.
        image: a docker image to pin, `<registry>/<name>@sha256:<digest>`.
        weights: name of the ensemble that the notebook runs; None for that of the attached dataset of weights, or, where
            there is none, of the bundle.
        bundle: the folder of the built bundle, which tells what weights are in it; None for `mini`.

    Raises:
        SettingsError: if the metadata breaks one of Kaggle's rules, or the weights are not attached or not one.
    """
    values = json.loads((NOTEBOOKS / METADATA_NAME).read_text(encoding="utf-8").replace(OWNER_PLACEHOLDER, owner))
    values["dataset_sources"] += datasets
    if machine is not None:
        values["machine_shape"] = machine
    if image is not None:
        values["docker_image"] = image
    chosen = weights_to_run(values["dataset_sources"], _weights_in(bundle), weights)
    out.mkdir(parents=True, exist_ok=True)
    text = with_parameter((NOTEBOOKS / values["code_file"]).read_text(encoding="utf-8"), "WEIGHTS", chosen)
    (out / values["code_file"]).write_text(text, encoding="utf-8")
    check_kernel_metadata(values, out)
    (out / METADATA_NAME).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return out


def weights_to_run(datasets: Sequence[str], in_bundle: Sequence[str], asked: str | None) -> str:
    """The name of the ensemble that a notebook runs with these datasets.

    Args:
        datasets: that are attached, `<owner>/<slug>`.
        in_bundle: names of the weights that the bundle holds.
        asked: the one that is asked for, or None.

    Raises:
        SettingsError: if it is not attached, or none is asked for and several are.
    """
    slugs = [dataset.rpartition("/")[2] for dataset in datasets]
    attached = [slug.removeprefix(WEIGHTS_DATASET) for slug in slugs if slug.startswith(WEIGHTS_DATASET)]
    if asked is not None and asked not in (*attached, *in_bundle):
        raise SettingsError(
            f"weights {asked!r} are not attached; found {', '.join((*attached, *in_bundle)) or 'none'}. "
            f"Attach them: --dataset OWNER/{WEIGHTS_DATASET}{asked}"
        )
    found = [asked] if asked is not None else attached or list(in_bundle)
    if len(found) != 1:
        raise SettingsError(f"datasets with {len(found)} weights are attached ({', '.join(found)}); choose one by --weights")
    return found[0]


def with_parameter(notebook: str, name: str, value: str) -> str:
    """The text of a notebook whose parameters' cell gives a name another value.

    Raises:
        InputError: if the cell does not set that name, exactly once.
    """
    parsed = nbformat.reads(notebook, as_version=4)
    found = 0
    for cell in parsed.cells:
        if "parameters" in cell.metadata.get("tags", []):
            pattern = rf"^{name} = (?:\"[^\"]*\"|\S+)"
            cell.source, count = re.subn(pattern, lambda _: f"{name} = {json.dumps(value)}", cell.source, flags=re.MULTILINE)
            found += count
    if found != 1:
        raise InputError(f"the parameters of the notebook set {name} {found} times, expected once")
    return nbformat.writes(parsed) + "\n"


def _weights_in(bundle: Path | None) -> list[str]:
    """Names of the weights in a built bundle."""
    if bundle is None:
        return ["mini"]
    if not (bundle / BUNDLE_MARKER).is_file():
        raise SettingsError(
            f"{bundle} has no {BUNDLE_MARKER}; expected the folder hcpl-kernel that tools.build_dataset makes"
        )
    before, after = WEIGHTS_MARKER.split("{}")
    return sorted(path.name[len(before) : -len(after)] for path in bundle.glob(WEIGHTS_MARKER.format("*")))


def _split(source: Path) -> list[tuple[str, list[str]]]:
    """(cell mark, lines) of each cell."""
    cells: list[tuple[str, list[str]]] = []
    for line in source.read_text(encoding="utf-8").splitlines():
        if line.startswith("# %%"):
            cells.append((line, []))
        elif cells:
            cells[-1][1].append(line)
        elif line.strip():
            raise InputError(f"{source}: {line!r} comes before the first cell; start the file with a line '# %%'")
    return cells


def _uncomment(line: str, source: Path) -> str:
    if line and not line.startswith("#"):
        raise InputError(f"{source}: {line!r} in a text cell, expected a comment")
    return line.removeprefix("#").removeprefix(" ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, check or prepare for pushing; returns the exit code."""
    parser = argparse.ArgumentParser(description="Build the notebooks from notebooks/sources.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a notebook is out of date")
    parser.add_argument("--push", type=Path, metavar="DIR", help="make a folder for `kaggle kernels push -p DIR`")
    parser.add_argument("--owner", metavar="NAME", help="your Kaggle user name (with --push)")
    parser.add_argument("--dataset", action="append", default=[], metavar="OWNER/SLUG", help="attach it too (with --push)")
    parser.add_argument("--weights", metavar="NAME", help="what it runs (with --push); default: the weights attached")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the built bundle, if other weights than mini are in it")
    parser.add_argument("--machine", metavar="SHAPE", help="machine shape (with --push), for instance NvidiaL4")
    parser.add_argument("--docker-image", metavar="IMAGE", help="image to pin (with --push), <name>@sha256:<digest>")
    options = parser.parse_args(arguments)
    if (options.push is None) != (options.owner is None):
        parser.error("--push and --owner belong together")
    stale = []
    try:
        for source in sorted((NOTEBOOKS / "sources").glob("*.py")):
            text, target = build(source), NOTEBOOKS / f"{source.stem}.ipynb"
            if not target.is_file() or target.read_text(encoding="utf-8") != text:
                stale.append(target.name)
                if not options.check:
                    target.write_text(text, encoding="utf-8")
        if options.push is not None:
            write_push_folder(
                options.push,
                options.owner,
                options.dataset,
                options.machine,
                options.docker_image,
                options.weights,
                options.bundle,
            )
    except HcplError as error:
        print(f"build_notebooks: {error}", file=sys.stderr)
        return 2
    if stale:
        print(f"{'out of date' if options.check else 'written'}: {', '.join(stale)}")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
