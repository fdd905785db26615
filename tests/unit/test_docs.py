"""The pages of `docs/` are built without a warning, their links lead somewhere, and their commands and snippets run."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from conftest import TinyRun
from test_documents import ROOT, commands

from hcpl_kernel.cli import _parser as build_parser
from hcpl_kernel.cli import main
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.report.finished import read_run
from hcpl_kernel.simulation import simulate_field
from hcpl_kernel.submission.nothing import fallback_string
from hcpl_kernel.submission.rle import encode_labels
from tools.docs import pictures

PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
RUN_ELSEWHERE = re.compile(
    r"make |source |pip |export |ray |hcpl (demo|doctor|bench)|python -m tools\.(build_dataset|train)"
)
"""Commands that are only parsed here: they install, take minutes, or have tests of their own."""
NOT_RUN = ("scale.md",)  # needs a cluster; `make test-cluster`


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Language and content of every code block of a page."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w+)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        yield found[1], found[2]


def lines(block: str) -> Iterator[str]:
    for line in block.replace("\\\n", " ").splitlines():
        if line.split("#")[0].strip():
            yield line.split("  #")[0].strip()


def test_the_pages_are_built_offline_without_a_warning(tmp_path: Path) -> None:
    sphinx = pytest.importorskip("sphinx.cmd.build", reason="sphinx is not installed")
    pytest.importorskip("myst_parser", reason="myst-parser is not installed")
    code = sphinx.build_main(["-q", "-W", "-n", "-d", str(tmp_path / "trees"), str(ROOT / "docs"), str(tmp_path / "site")])
    assert code == 0, "see what Sphinx says above"
    pages = {path.stem for path in (tmp_path / "site").glob("*.html")}
    assert {Path(page).stem for page in PAGES} <= pages
    for path in (tmp_path / "site").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|link|iframe)[^>]*(?:src|href)="([^"]+)"', text)
        assert not [url for url in loaded if "//" in url], f"{path.name} asks another server"


def headings(path: Path) -> set[str]:
    """Anchors of a page, as GitHub and MyST make them."""
    found = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


@pytest.mark.parametrize("document", ["README.md", *(f"docs/{page}" for page in PAGES)])
def test_links_lead_to_what_exists(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        linked = path.parent / name if name else path
        assert linked.exists(), f"{document} links to {target}"
        assert not anchor or anchor in headings(linked), f"{document} links to {target}"


def test_every_page_is_reached_from_the_first() -> None:
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert {page for page in PAGES if f"({page})" in text} == {*PAGES} - {"index.md"}


def test_pictures_are_small_and_used() -> None:
    shown = {
        f"docs/{name}" if document.startswith("docs/") else name
        for document in ("README.md", *(f"docs/{page}" for page in PAGES))
        for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (ROOT / document).read_text(encoding="utf-8"))
    }
    kept = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "images").iterdir()}
    assert shown == kept
    assert sum((ROOT / name).stat().st_size for name in kept) < 400_000


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_read(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for words in commands("\n".join(f"```sh\n{block}```" for kind, block in blocks(page) if kind == "sh")):
        if "..." not in words:  # a command that is cut short
            build_parser().parse([re.sub(r"\$\w+", "1", word) for word in words])
    for line in re.findall(r"python -m tools[^`\n]+", text):
        assert not unknown_options(shlex.split(line)[2:]), line


def unknown_options(words: list[str]) -> set[str]:
    """The options behind `tools.NAME [COMMAND]` that its help does not have."""
    tool = importlib.import_module(words[0])
    if hasattr(tool, "__path__"):
        tool = importlib.import_module(f"{words[0]}.__main__")
    first = next((k for k, word in enumerate(words) if word.startswith("-")), len(words))
    verb = [word for word in words[1:first] if word.islower()]
    read, write = os.pipe()
    with os.fdopen(write, "w") as file, pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(sys, "stdout", file)
        tool.main([*verb, "--help"])
    with os.fdopen(read) as file:
        known = set(re.findall(r"--[a-z][a-z-]*", file.read()))
    return {word for word in words if word.startswith("--")} - known


@pytest.fixture(scope="module")
def desk(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a reader's: fields in every kind of storage that the pages show, masks, truth and weights."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "weights").mkdir()
    (folder / "weights" / "mini").symlink_to(tiny_run.weights)
    for name in ("my_fields", "my_masks", "stacks", "plate", "out"):
        (folder / name).mkdir()
    truth, rows, sample = [], [], ["ID,ImageWidth,ImageHeight,PredictionString"]
    suffixes = dict(zip(CHANNELS, ("_r", "_g", "_b", "_y"), strict=True))
    for number, condition in enumerate(["control"] * 4 + ["drug"] * 4, 1):
        field = simulate_field(number, shape=(224, 224), pixel_size=0.32, bits=8)
        name = f"f{number}"
        for channel, folder_name, pixels in zip(CHANNELS, ("Cy5", "GFP", "DAPI", "TRITC"), field.image, strict=True):
            for path in (folder / "my_fields" / f"{name}_{channel}.png", folder / "plate" / folder_name / f"{name}.png"):
                path.parent.mkdir(exist_ok=True)
                cv2.imwrite(str(path), pixels)
        metadata = {"axes": "CYX", "Channel": {"Name": ["Tubulin", "GFP", "DAPI", "ER"]}}
        tifffile.imwrite(folder / "stacks" / f"{name}.ome.tif", field.image, metadata=metadata)
        cv2.imwrite(str(folder / "my_masks" / f"{name}_cells.png"), field.cells.astype(np.uint16))
        sample.append(f"{name},224,224,{fallback_string(224, 224)}")
        rows.append([name, *(f"{name}_{channel}.png" for channel in CHANNELS), condition])
        truth += [(name, 224, 224, 0, mask) for mask in encode_labels(field.cells).values()]
    pd.DataFrame(rows, columns=["ID", *CHANNELS, "condition"]).to_csv(folder / "files.csv", index=False)
    pd.DataFrame(truth, columns=["image", "height", "width", "label", "mask"]).to_csv(
        folder / "groundtruth.csv", index=False
    )
    (folder / "sample_submission.csv").write_text("\n".join(sample) + "\n")
    (folder / "renamed").mkdir()
    for path in (folder / "my_fields").iterdir():
        field_id, _, channel = path.stem.rpartition("_")
        shutil.copy(path, folder / "renamed" / f"{field_id}{suffixes[channel]}.png")
    options = ["--weights", "weights/mini", "--pixel-size", "0.32", "--device", "cpu", "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        listed = ["--listing", "files.csv", "--output", "out/submission.csv"]
        assert main(["predict", "my_fields", *options, *listed]) == 0
        shutil.copytree("out/submission_work", "out/new_work")
        given = ["--labels", "my_masks", "--output", "out/old.csv", "--work", "out/old_work"]
        assert main(["predict", "my_fields", *options, *given]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page not in NOT_RUN])
def test_commands_and_snippets_run(page: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page, in one folder; a snippet of Python reads what the commands before it wrote."""
    monkeypatch.chdir(desk)
    names: dict[str, object] = {}
    for kind, block in blocks(page):
        if kind == "python":
            if "anndata" in block:
                pytest.importorskip("anndata", reason="the extra 'export' is not installed")
            exec(compile(block, f"docs/{page}", "exec"), names)
        for line in lines(block) if kind == "sh" else ():
            words = shlex.split(line)
            if RUN_ELSEWHERE.match(line):
                continue
            if words[:2] == ["python", "-m"]:
                tool = importlib.import_module(words[2])
                entry = importlib.import_module(f"{words[2]}.__main__") if hasattr(tool, "__path__") else tool
                assert entry.main(words[3:]) == 0, line
                continue
            assert words[0] == "hcpl", line
            if "--suffixes" in words:
                words[words.index("my_fields")] = "renamed"
            quick = ["--device", "cpu", "--pixel-size", "0.32", "--quiet"] if words[1] == "predict" else []
            if words[1] == "predict" and "out/submission.csv" not in words:
                quick += ["--fresh", "--networks", "dsa_efficientnet"]
            assert main([*words[1:], *quick]) in ((0, 1) if words[1] == "validate" else (0,)), line


class Viewer:
    """As much of a napari viewer as the script uses."""

    def __init__(self) -> None:
        self.layers: dict[str, tuple[np.ndarray, dict[str, object]]] = {}

    def add_image(self, data: np.ndarray, name: str, **form: object) -> None:
        self.layers[name] = data, form

    add_labels = add_image


def napari_script():  # noqa: ANN201 - a module of docs/, which is not a package
    spec = importlib.util.spec_from_file_location("open_in_napari", ROOT / "docs" / "open_in_napari.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_napari_script_adds_channels_and_cells_with_their_rows(tiny_run: TinyRun) -> None:
    cells = pd.read_csv(tiny_run.work / "cells.csv")
    first, second = cells["ID"].unique()[:2]
    viewer = Viewer()
    napari_script().add_run(viewer, tiny_run.work, [second])
    assert len(viewer.layers) == 6 and all(name.startswith(second) for name in viewer.layers)
    labels, form = viewer.layers[f"{second} cells"]
    assert labels.shape == viewer.layers[f"{second} protein"][0].shape and form["scale"] == (0.32, 0.32)
    table = form["features"]
    assert isinstance(table, pd.DataFrame)
    assert set(table["index"]) == set(np.unique(labels)) - {0} == set(cells.loc[cells["ID"] == second, "cell"])
    napari_script().add_run(viewer, tiny_run.work, [])
    assert f"{first} cells" in viewer.layers


def test_the_napari_script_says_what_is_missing(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hcpl_kernel.errors import InputError

    script = napari_script()
    with pytest.raises(InputError, match="no field 'nowhere'"):
        script.add_run(Viewer(), tiny_run.work, ["nowhere"])
    with pytest.raises(InputError, match="no finished run"):
        script.add_run(Viewer(), tmp_path, [])
    monkeypatch.setitem(sys.modules, "napari", None)
    assert script.main([str(tiny_run.work)]) == 2
    assert "pip install 'napari[all]'" in capsys.readouterr().err


def test_the_figure_of_the_steps_is_drawn_from_a_run(tiny_run: TinyRun) -> None:
    """Channels, colours, cells, names: four squares side by side. (The screenshots need a browser and `make demo`.)"""
    picture = pictures._steps(read_run(tiny_run.work))
    side = pictures.SIDE
    assert picture.shape == (side, 4 * side + 3 * 8, 3) and picture.dtype == np.uint8
    tiles = [picture[:, k * (side + 8) : k * (side + 8) + side] for k in range(4)]
    assert all(tile.std() > 5 for tile in tiles)
    assert (tiles[0][..., 0] == tiles[0][..., 1]).all()  # channels are grey
