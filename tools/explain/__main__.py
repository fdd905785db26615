"""What a network looks at (`gradcam`), and how it sees the classes (`embedding`).

    python -m tools.explain gradcam --weights W --network NAME --fields DIR --labels WORK/labels --output sheet.png
    python -m tools.explain embedding --weights W --network NAME --fields DIR --labels DIR/masks \\
        --truth DIR/cells.csv --method umap --output plane.png
    python -m tools.explain figures --run WORK --output FOLDER

With `--run WORK` in place of `--weights`, `--fields` and `--labels` both take those of a finished `hcpl predict`, and an
embedding without `--truth` the cells to which the run gives a single name.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2

from hcpl_kernel.errors import HcplError, SettingsError
from hcpl_kernel.fields.locate import locate_fields
from hcpl_kernel.pipeline.locating import located_fields
from hcpl_kernel.runtime.atomic import atomic_path
from tools.explain.described import FieldCells, load_explained, read_cells
from tools.explain.embedding import METHODS, describe_single_labels, project, read_single_labels, write_embedding
from tools.explain.figures import draw_figures
from tools.explain.from_run import settings_of, single_names
from tools.explain.gradcam import gradcam_sheet, most_probable
from tools.explain.hover import write_hover_page


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 0 done, 2 bad use or input."""
    given = _parser().parse_args(arguments)
    try:
        _places(given)
        if given.run is not _figures and given.output.suffix != ".png":
            raise SettingsError(f"--output {given.output}, expected a name that ends in .png")
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.run(given)
    except HcplError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _places(given: argparse.Namespace) -> None:
    """Take from the run what was not named.

    Raises:
        SettingsError: if something is named neither way.
        InputError: if the run is not finished.
    """
    given.settings = None
    if given.work is not None:
        settings = settings_of(given.work)
        given.weights = given.weights or settings.weights
        given.labels = given.labels or given.work / "labels"
        if given.fields is None:
            given.settings = settings
    elif None in (given.weights, given.fields, given.labels):
        raise SettingsError("expected --run WORK, or --weights, --fields and --labels")


def _figures(given: argparse.Namespace) -> None:
    if given.work is None:
        raise SettingsError("figures are of a run: expected --run WORK")
    for path in draw_figures(given.work, given.weights, given.output):
        print(path)


def _cells(given: argparse.Namespace, size: int) -> Iterator[FieldCells]:
    located = locate_fields(given.fields) if given.settings is None else located_fields(given.settings)
    return read_cells(located.fields, given.labels, size)


def _gradcam(given: argparse.Namespace) -> None:
    explained = load_explained(given.weights, given.network, given.device)
    classes = list(range(len(explained.classes))) if given.classes is None else given.classes
    wrong = [label for label in classes if not 0 <= label < len(explained.classes)]
    if wrong or given.cells < 1:
        raise SettingsError(
            f"classes {wrong} and {given.cells} cells; expected class ids {explained.classes.range} and at least one cell"
        )
    source = _cells(given, explained.spec.input_size)
    sheet = gradcam_sheet(explained, most_probable(explained, source, classes, given.cells), given.channels)
    with atomic_path(given.output) as temporary:
        cv2.imwrite(str(temporary), sheet[..., ::-1])
    print(f"{given.output}: {len(classes)} classes; next to each cell its probability and the map over its protein")


def _embedding(given: argparse.Namespace) -> None:
    explained = load_explained(given.weights, given.network, given.device)
    source = _cells(given, explained.spec.input_size)
    if given.truth is None and given.work is None:
        raise SettingsError("expected --truth with the classes of cells, or --run WORK, whose single names are taken")
    known = single_names(given.work) if given.truth is None else read_single_labels(given.truth, explained.classes)
    cells = describe_single_labels(explained, source, known, given.most)
    plane = project(cells.descriptors, given.method, given.seed)
    trained = "" if explained.spec.trained else ", untrained"
    of = "single-label cells" if given.truth is not None else "cells with a single name"
    title = f"{given.network}{trained}: {len(plane)} {of}, {given.method}"
    write_embedding(cells, plane, explained.classes, title, given.output)
    page = given.output.with_suffix(".html")
    write_hover_page(cells, plane, _cells(given, explained.spec.input_size), explained.classes, title, page)
    print(f"{given.output}: {len(plane)} cells; their places in {given.output.with_suffix('.csv')}, with pictures in {page}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.explain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--run", dest="work", type=Path, metavar="WORK", help="work folder of a finished `hcpl predict`")
    shared.add_argument("--weights", type=Path, help="weights folder")
    shared.add_argument("--fields", type=Path, help="folder with the images")
    shared.add_argument("--labels", type=Path, help="folder with <ID>_cells.png label maps")
    shared.add_argument("--output", type=Path, required=True, help="the picture to write (.png); figures: a folder")
    shared.add_argument("--device", default="auto", help="as in `hcpl predict`")
    commands = parser.add_subparsers(required=True)
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--network", required=True, help="name of a classifier in its ensemble.json")
    gradcam = commands.add_parser(
        "gradcam", parents=[shared, named], help="a sheet of the most probable cells of each class"
    )
    gradcam.set_defaults(run=_gradcam)
    gradcam.add_argument("--classes", type=int, nargs="+", help="class ids; default: all")
    gradcam.add_argument("--cells", type=int, default=4, help="cells per class")
    gradcam.add_argument("--channels", action="store_true", help="show the four channels of each cell one by one, too")
    embedding = commands.add_parser("embedding", parents=[shared, named], help="the descriptors of single-label cells")
    embedding.set_defaults(run=_embedding)
    embedding.add_argument("--truth", type=Path, help="CSV: ID,cell,classes of cells or ID,Label of images")
    embedding.add_argument("--method", choices=METHODS, default="umap", help="umap (needs umap-learn) or pca")
    embedding.add_argument("--most", type=int, default=500, help="cells per class at most")
    embedding.add_argument("--seed", type=int, default=0, help="of umap")
    figures = commands.add_parser("figures", parents=[shared], help="confidences, histograms and correlation of a run")
    figures.set_defaults(run=_figures)
    return parser


if __name__ == "__main__":
    sys.exit(main())
