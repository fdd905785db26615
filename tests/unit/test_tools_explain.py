"""Grad-CAM on a network that can be computed by hand, embeddings of single-label cells, and both commands once."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TinyRun
from torch import Tensor, nn

from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.fields.locate import locate_fields
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.networks.loading import load_network
from tools.explain.__main__ import main
from tools.explain.described import FieldCells, load_explained, read_cells
from tools.explain.embedding import describe_single_labels, project, read_single_labels
from tools.explain.gradcam import MARGIN, TILE, class_activation_maps, most_probable

WEIGHTS = Path(__file__).resolve().parents[2] / "weights" / "mini"


class TwoChannels(nn.Module):
    """Its feature map is the cell's first two channels, its logits are `head @ mean`."""

    def __init__(self, head: Tensor) -> None:
        super().__init__()
        self.head = head

    def feature_map(self, cells: Tensor) -> Tensor:
        return cells[:, :2]

    def descriptors(self, cells: Tensor) -> Tensor:
        return self.feature_map(cells).mean((2, 3))

    def cell_logits(self, descriptors: Tensor) -> Tensor:
        return descriptors @ self.head.T


def test_gradcam_of_a_linear_head_is_its_weighted_map() -> None:
    """Class 0 is the first channel less the second, class 1 the second, class 2 is against both."""
    network = TwoChannels(torch.tensor([[1.0, -1.0], [0.0, 2.0], [-1.0, -1.0]]))
    cells = torch.rand(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    maps = class_activation_maps(network, cells, [0, 1, 2])  # type: ignore[arg-type]
    first = (cells[:, 0] - cells[:, 1]).relu()
    torch.testing.assert_close(maps[:, 0], first / first.amax((1, 2), keepdim=True))
    torch.testing.assert_close(maps[:, 1], cells[:, 1] / cells[:, 1].amax((1, 2), keepdim=True))
    assert maps.shape == (3, 3, 8, 8) and not maps[:, 2].any()
    assert "feature_map" not in vars(network)


@pytest.mark.parametrize("name", ["dsa_efficientnet", "cla_swin", "clh_efficientnet"])
def test_gradcam_of_every_kind_is_the_gradient_through_the_whole_network(name: str) -> None:
    """The head alone is differentiated; the gradient of the whole network at its feature map is the same."""
    ensemble = read_ensemble(WEIGHTS)
    spec = next(network for network in ensemble.networks if network.name == name)
    network = load_network(ensemble, spec)
    cells = torch.rand(2, 4, spec.input_size, spec.input_size, generator=torch.Generator().manual_seed(1))
    maps = class_activation_maps(network, cells, [3])[:, 0]  # type: ignore[arg-type]
    seen: list[Tensor] = []
    whole = network.feature_map

    def keep(cells: Tensor) -> Tensor:
        seen.append(whole(cells))  # type: ignore[operator]
        return seen[-1]

    network.feature_map = keep  # type: ignore[assignment]
    logits = network.cell_logits(network.descriptors(cells))  # type: ignore[operator]
    (gradient,) = torch.autograd.grad(logits[:, 3].sum(), seen[0])
    small = (gradient.mean((2, 3), keepdim=True) * seen[0]).sum(1, keepdim=True).relu().detach()
    expected = nn.functional.interpolate(small, cells.shape[2:], mode="bilinear")[:, 0]
    expected = expected / expected.amax((1, 2), keepdim=True).clamp_min(1e-30)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-4)
    assert maps.min() >= 0 and maps.max() <= 1


def test_the_most_probable_cells_of_all_fields_are_shown() -> None:
    class Known:
        def describe(self, crops: np.ndarray) -> tuple[None, np.ndarray]:
            prob = np.zeros((len(crops), 19), np.float32)
            prob[:, 2] = crops[:, 0, 0, 0] / 255
            return None, prob

    def field(name: str, *values: int) -> FieldCells:
        crops = np.zeros((len(values), 4, 4, 4), np.uint8)
        crops[:, 0, 0, 0] = values
        return FieldCells(name, np.arange(len(values)) + 1, crops)

    shown = most_probable(Known(), [field("a", 10, 200, 30), field("b", 255, 20)], [2], 3)[2]  # type: ignore[arg-type]
    assert [(s.field, s.cell) for s in shown] == [("b", 1), ("a", 2), ("a", 3)]
    with pytest.raises(InputError, match="no cell"):
        most_probable(Known(), [], [2], 3)  # type: ignore[arg-type]


def test_single_labels_of_cells_and_of_images(tmp_path: Path) -> None:
    (tmp_path / "cells.csv").write_text("ID,cell,classes,visible\na,1,3,1\na,2,3|16,1\na,3,,1\n")
    of_cell = read_single_labels(tmp_path / "cells.csv", HPA_CLASSES)
    assert [of_cell("a", cell) for cell in (1, 2, 3, 4)] == [3, None, None, None] and of_cell("b", 1) is None
    (tmp_path / "train.csv").write_text("ID,Label\na,7\nb,7|0\n")
    of_image = read_single_labels(tmp_path / "train.csv", HPA_CLASSES)
    assert of_image("a", 99) == 7 and of_image("b", 1) is None
    (tmp_path / "other.csv").write_text("x,y\n1,2\n")
    with pytest.raises(InputError, match="no column ID"):
        read_single_labels(tmp_path / "other.csv", HPA_CLASSES)
    with pytest.raises(InputError, match="cannot be read"):
        read_single_labels(tmp_path / "absent.csv", HPA_CLASSES)


def test_pca_shows_the_directions_of_most_variance() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 30)
    descriptors = rng.normal(size=(60, 6)).astype(np.float32)
    descriptors[:, :4] += 50 * group[:, None]
    descriptors[:, 5] = 1  # says nothing
    plane = project(descriptors, "pca", seed=0)
    assert plane.shape == (60, 2)
    first, second = plane[group == 0, 0], plane[group == 1, 0]
    assert first.max() < second.min() or second.max() < first.min()
    with pytest.raises(SettingsError, match="expected one of umap, pca"):
        project(descriptors, "tsne", seed=0)


@pytest.mark.skipif(importlib.util.find_spec("umap") is not None, reason="umap-learn is installed")
def test_umap_is_never_replaced_silently() -> None:
    with pytest.raises(SettingsError, match="umap-learn.*--method pca"):
        project(np.zeros((20, 3), np.float32), "umap", seed=0)


@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="umap-learn is not installed")
def test_umap_keeps_groups_apart() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 40)
    plane = project((rng.normal(size=(80, 5)) + 20 * group[:, None]).astype(np.float32), "umap", seed=0)
    centres = np.stack([plane[group == g].mean(0) for g in (0, 1)])
    nearest = np.linalg.norm(plane[:, None] - centres, axis=2).argmin(1)
    np.testing.assert_array_equal(nearest, group)


def test_quota_a_class_and_too_few_cells(tiny_run: TinyRun) -> None:
    explained = load_explained(tiny_run.weights, "cla_resnet", "cpu")

    def source():
        return read_cells(locate_fields(tiny_run.fields).fields, tiny_run.fields / "masks", explained.spec.input_size)

    cells = describe_single_labels(explained, source(), lambda field, cell: cell % 2, most=6)
    assert np.bincount(cells.label).tolist() == [6, 6]
    assert cells.descriptors.shape == (12, explained.network.features)
    assert (cells.cell % 2 == cells.label).all()
    with pytest.raises(InputError, match="2 cells with a single known label"):
        describe_single_labels(explained, source(), lambda field, cell: 0, most=2)
    with pytest.raises(InputError, match="no <ID>_cells.png"):
        next(read_cells(locate_fields(tiny_run.fields).fields, tiny_run.fields, 64))
    with pytest.raises(SettingsError, match="no network 'cla'; it has dsa_efficientnet"):
        load_explained(tiny_run.weights, "cla", "cpu")


def test_both_commands(tiny_run: TinyRun, tmp_path: Path, capsys) -> None:
    shared = ["--weights", tiny_run.weights, "--fields", tiny_run.fields, "--device", "cpu", "--network"]
    sheet = tmp_path / "sheet.png"
    given = ["gradcam", *shared, "dsa_efficientnet", "--labels", tiny_run.work / "labels", "--output", sheet]
    assert main(list(map(str, [*given, "--classes", "0", "16", "--cells", "2"]))) == 0
    picture = cv2.imread(str(sheet))
    assert picture.shape == (2 * TILE, MARGIN + 4 * TILE, 3) and picture.std() > 10
    plane = tmp_path / "plane.png"
    given = ["embedding", *shared, "cla_resnet", "--labels", tiny_run.fields / "masks", "--method", "pca"]
    # every cell of a field inherits one label
    labels = pd.read_csv(tiny_run.fields / "train.csv", dtype=str).assign(Label=["0", "5", "11"])
    labels.to_csv(tmp_path / "single.csv", index=False)
    assert main(list(map(str, [*given, "--truth", tmp_path / "single.csv", "--output", plane]))) == 0
    assert plane.stat().st_size > 5000
    table = pd.read_csv(tmp_path / "plane.csv")
    assert list(table.columns) == ["ID", "cell", "class", "x", "y"] and set(table["class"]) == {0, 5, 11}
    assert main(list(map(str, [*given, "--truth", tmp_path / "single.csv", "--output", tmp_path / "plane.pdf"]))) == 2
    assert "ends in .png" in capsys.readouterr().err


def test_everything_from_a_finished_run(tiny_run: TinyRun, tmp_path: Path) -> None:
    """Grad-CAM with the four channels, an embedding by the run's own names with a page, and the figures."""
    run = ["--run", str(tiny_run.work)]
    sheet, plane = tmp_path / "sheet.png", tmp_path / "plane.png"
    network = ["--network", "cla_resnet"]
    options = ["--classes", "0", "--cells", "2", "--channels", "--output", str(sheet)]
    assert main(["gradcam", *run, *network, *options]) == 0
    assert cv2.imread(str(sheet)).shape == (TILE, MARGIN + 2 * 6 * TILE, 3)
    assert main(["embedding", *run, *network, "--method", "pca", "--output", str(plane)]) == 0
    page = plane.with_suffix(".html").read_text(encoding="utf-8")
    assert page.count("data-at=") == len(pd.read_csv(plane.with_suffix(".csv"))) and "http:" not in page
    assert main(["figures", *run, "--output", str(tmp_path / "figures")]) == 0
    found = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert found == ["confidences.png", "correlation.png", "histograms.png"]


def test_a_place_that_is_named_neither_way_is_refused(tmp_path: Path) -> None:
    given = ["--network", "cla_resnet", "--output", str(tmp_path / "sheet.png")]
    assert main(["gradcam", *given]) == 2
    assert main(["gradcam", "--run", str(tmp_path), *given]) == 2
