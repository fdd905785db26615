"""What a network looks at (`gradcam`), and how it sees the classes (`embedding`).

    python -m tools.explain gradcam --weights W --network NAME --fields DIR --labels WORK/labels --output sheet.png
    python -m tools.explain embedding --weights W --network NAME --fields DIR --labels DIR/masks \\
        --truth DIR/cells.csv --method umap --output plane.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2

from hcpl_kernel.errors import HcplError, SettingsError
from hcpl_kernel.runtime.atomic import atomic_path
from tools.explain.described import load_explained, read_cells
from tools.explain.embedding import METHODS, describe_single_labels, project, read_single_labels, write_embedding
from tools.explain.gradcam import gradcam_sheet, most_probable


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 0 done, 2 bad use or input."""
    given = _parser().parse_args(arguments)
    try:
        if given.output.suffix != ".png":
            raise SettingsError(f"--output {given.output}, expected a name that ends in .png")
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.run(given)
    except HcplError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _gradcam(given: argparse.Namespace) -> None:
    explained = load_explained(given.weights, given.network, given.device)
    classes = list(range(len(explained.classes))) if given.classes is None else given.classes
    wrong = [label for label in classes if not 0 <= label < len(explained.classes)]
    if wrong or given.cells < 1:
        raise SettingsError(
            f"classes {wrong} and {given.cells} cells; expected class ids {explained.classes.range} and at least one cell"
        )
    source = read_cells(given.fields, given.labels, explained.spec.input_size)
    sheet = gradcam_sheet(explained, most_probable(explained, source, classes, given.cells))
    with atomic_path(given.output) as temporary:
        cv2.imwrite(str(temporary), sheet[..., ::-1])
    print(f"{given.output}: {len(classes)} classes; next to each cell its probability and the map over its protein")


def _embedding(given: argparse.Namespace) -> None:
    explained = load_explained(given.weights, given.network, given.device)
    source = read_cells(given.fields, given.labels, explained.spec.input_size)
    cells = describe_single_labels(explained, source, read_single_labels(given.truth, explained.classes), given.most)
    plane = project(cells.descriptors, given.method, given.seed)
    trained = "" if explained.spec.trained else ", untrained"
    write_embedding(
        cells,
        plane,
        explained.classes,
        f"{given.network}{trained}: {len(plane)} single-label cells, {given.method}",
        given.output,
    )
    print(f"{given.output}: {len(plane)} cells; their places in {given.output.with_suffix('.csv')}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.explain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--weights", type=Path, required=True, help="weights folder")
    shared.add_argument("--network", required=True, help="name of a classifier in its ensemble.json")
    shared.add_argument("--fields", type=Path, required=True, help="folder with the images")
    shared.add_argument("--labels", type=Path, required=True, help="folder with <ID>_cells.png label maps")
    shared.add_argument("--output", type=Path, required=True, help="the picture to write (.png)")
    shared.add_argument("--device", default="auto", help="as in `hcpl predict`")
    commands = parser.add_subparsers(required=True)
    gradcam = commands.add_parser("gradcam", parents=[shared], help="a sheet of the most probable cells of each class")
    gradcam.set_defaults(run=_gradcam)
    gradcam.add_argument("--classes", type=int, nargs="+", help="class ids; default: all")
    gradcam.add_argument("--cells", type=int, default=4, help="cells per class")
    embedding = commands.add_parser("embedding", parents=[shared], help="the descriptors of single-label cells")
    embedding.set_defaults(run=_embedding)
    embedding.add_argument("--truth", type=Path, required=True, help="CSV: ID,cell,classes of cells or ID,Label of images")
    embedding.add_argument("--method", choices=METHODS, default="umap", help="umap (needs umap-learn) or pca")
    embedding.add_argument("--most", type=int, default=500, help="cells per class at most")
    embedding.add_argument("--seed", type=int, default=0, help="of umap")
    return parser


if __name__ == "__main__":
    sys.exit(main())
