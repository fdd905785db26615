"""The arithmetic of the relabelling, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hcpl_kernel.errors import InputError, SettingsError
from tools.relabel import RelabelSettings, relabel, soft_labels
from tools.train.cell_set import CellSet
from tools.train.predictions import NOTE, StoredPredictions


def two_fields(folder: Path) -> CellSet:
    """Two cells of a field with classes 0 and 3, one cell of a field with class 3."""
    image_labels = np.zeros((2, 19), bool)
    image_labels[0, [0, 3]] = image_labels[1, 3] = True
    return CellSet(
        folder,
        np.array(["a", "b"]),
        np.array(["a", "b"]),
        image_labels,
        np.array([0, 2, 3]),
        np.ones(3, bool),
        np.zeros(2, np.int64),
        np.array([0, 2]),
        np.array(["key"]),
    )


def store(folder: Path, prob_cell: np.ndarray, prob_image: np.ndarray, how: str) -> Path:
    folder.mkdir(parents=True)
    np.save(folder / "prob_cell.npy", prob_cell.astype(np.float16))
    np.save(folder / "prob_image.npy", prob_image.astype(np.float16))
    (folder / NOTE).write_text(json.dumps({"all": how}))
    return folder


def test_confidence_is_the_mean_where_inherited_and_its_power_the_label() -> None:
    inherited = np.array([[True, False]])
    prob = [np.array([[0.1, 0.9]]), np.array([[0.2, 0.9]]), np.array([[0.45, 0.9]])]
    confidence, labels = soft_labels(inherited, prob, beta=0.5)
    assert confidence.tolist() == [pytest.approx([0.25, 0.0])]
    assert labels.tolist() == [pytest.approx([0.5, 0.0])]


def test_a_round_replaces_the_one_before(tmp_path: Path) -> None:
    cells = two_fields(tmp_path)
    prob = np.full((3, 19), 0.9)
    prob[:, 3] = [0.04, 0.64, 1.0]
    image = np.full((2, 19), 0.5)
    folder = store(tmp_path / "dsa" / "predictions", prob, image, "out-of-fold")
    stored = [StoredPredictions.open(folder, cells)]
    facts = relabel(cells, stored, RelabelSettings(beta=0.5), tmp_path / "round.npy")
    labels = np.load(tmp_path / "round.npy")
    expected = np.zeros((3, 19))
    expected[:, 3] = [0.2, 0.8, 1.0]
    expected[:2, 0] = 0.9**0.5
    assert labels == pytest.approx(expected, abs=1e-3)
    assert facts["variant"] == "out-of-fold" and facts["inherited_labels"] == 5
    assert facts["share_below_0.1"] == pytest.approx(1 / 5)
    assert sum(facts["confidences"]) == sum(facts["new_labels"]) == 5  # type: ignore[call-overload]
    # the same predictions again give the same labels: nothing is multiplied
    relabel(cells, stored, RelabelSettings(beta=0.5), tmp_path / "round.npy")
    assert np.array_equal(labels, np.load(tmp_path / "round.npy"))
    relabel(cells, stored, RelabelSettings(beta=1.0, source="fused"), tmp_path / "fused.npy")
    assert np.load(tmp_path / "fused.npy")[:, 3] == pytest.approx([0.02, 0.32, 0.5], abs=1e-3)
    assert (tmp_path / "fused.png").stat().st_size > 0


def test_what_cannot_be_relabelled(tmp_path: Path) -> None:
    cells = two_fields(tmp_path)
    good = np.full((3, 19), 0.5)
    image = np.full((2, 19), 0.5)
    ours = StoredPredictions.open(store(tmp_path / "x" / "p", good, image, "out-of-fold"), cells)
    other = StoredPredictions.open(store(tmp_path / "y" / "p", good, np.full((2, 19), np.nan), "in-sample"), cells)
    with pytest.raises(InputError, match="all out of fold or all in-sample"):
        relabel(cells, [ours, other], RelabelSettings(), tmp_path / "z.npy")
    with pytest.raises(InputError, match="no image stream"):
        relabel(cells, [other], RelabelSettings(source="fused"), tmp_path / "z.npy")
    holes = good.copy()
    holes[2] = np.nan
    with pytest.raises(InputError, match="field b is not predicted"):
        StoredPredictions.open(store(tmp_path / "h" / "p", holes, image, "out-of-fold"), cells)
    with pytest.raises(InputError, match="holds no predictions"):
        StoredPredictions.open(tmp_path / "none", cells)
    with pytest.raises(SettingsError, match="beta"):
        RelabelSettings(beta=0)
