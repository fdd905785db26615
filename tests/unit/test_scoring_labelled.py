"""Scores from what people have: label maps with a table of their cells, and classes of images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.cli import main
from hcpl_kernel.errors import InputError
from hcpl_kernel.scoring import image_average_precision, mean_average_precision, read_image_labels, read_labelled_maps
from hcpl_kernel.scoring.choosing import score_by
from hcpl_kernel.submission import encode_labels

HEADER = "ID,ImageWidth,ImageHeight,PredictionString"


def bands(count: int = 3) -> np.ndarray:
    """Cells 1, 2, ... below each other, in a map of 60 x 40."""
    labels = np.zeros((60, 40), np.uint16)
    for cell in range(count):
        labels[20 * cell : 20 * cell + 15, 5:35] = cell + 1
    return labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images with label maps and a submission that finds every cell of `a`, and nothing of `b`."""
    (tmp_path / "maps").mkdir()
    for name in "ab":
        cv2.imwrite(str(tmp_path / "maps" / f"{name}_cells.png"), bands())
    masks = encode_labels(bands().astype(np.int32))
    triples = [
        f"{label} {score} {masks[cell]}" for cell, label, score in ((1, 0, 0.9), (2, 0, 0.8), (3, 5, 0.7), (3, 0, 0.6))
    ]
    rows = [HEADER, f"a,40,60,{' '.join(triples)}", f"elsewhere,40,60,{' '.join(triples)}"]
    (tmp_path / "submission.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text)
    return path


def score(folder: Path, table: str, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    arguments = ["score", "--truth", str(write(folder, table)), "--predictions", str(folder / "submission.csv")]
    assert main([*arguments, "--bootstrap", "50", *more]) == 0
    return capsys.readouterr().out


def test_cells_of_label_maps_are_the_truth(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = "ID,cell,Label,cell_line\na,1,0|16,U-2 OS\na,2,5,U-2 OS\na,3,5,U-2 OS\nb,1,0,HeLa\n"
    printed = score(folder, table, capsys, "--masks", str(folder / "maps"))
    assert "1 of 2 images of the truth have no prediction, for instance b" in printed
    assert "1 predicted images are not in the truth and do not count" in printed
    assert "2 cells of the label maps have no row in labels.csv and are not judged" in printed
    maps = read_labelled_maps(folder / "labels.csv", folder / "maps", HPA_CLASSES)
    assert maps.table.groupby("label").size().to_dict() == {0: 2, 5: 2, 16: 1}
    assert "mAP@0.6 (all classes verified): 0.3333 (95 % interval" in printed  # 1/2, 1/2 and 0


def test_a_cell_that_the_table_does_not_name_is_not_judged(folder: Path) -> None:
    path = write(folder, "ID,cell,Label\na,1,0\na,3,0\n")
    found = pd.DataFrame({"image": ["a"] * 3, "height": 60, "width": 40, "label": 0, "score": [0.2, 0.9, 0.3]})
    found["mask"] = list(encode_labels(bands().astype(np.int32)).values())
    report, _ = score_by(path, folder / "maps", found, 0.6, "all", 0, 0)
    assert report.mean == 1  # the detection of cell 2 is neither right nor wrong
    path = write(folder, "ID,cell,Label\na,1,0\na,2,\na,3,0\n")  # cell 2 has none of the classes
    assert score_by(path, folder / "maps", found, 0.6, "all", 0, 0)[0].mean < 1


def test_classes_of_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = score(folder, "ID,Label\na,5\nb,0\nelsewhere,0|17\n", capsys)
    assert "macro average precision of images: " in printed and "95 % interval" in printed
    truth = read_image_labels(folder / "labels.csv", HPA_CLASSES)
    assert truth == {"a": {5}, "b": {0}, "elsewhere": {0, 17}}


@given(st.data())
def test_average_precision_of_images_is_that_of_scikit_learn(data: st.DataObject) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    count = data.draw(st.integers(2, 12))
    has = data.draw(st.lists(st.booleans(), min_size=count, max_size=count).filter(any))
    scores = data.draw(st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.9]), min_size=count, max_size=count))
    truth = {f"i{k}": frozenset({3} if own else ()) for k, own in enumerate(has)}
    found = pd.DataFrame({"image": [f"i{k}" for k in range(count)], "label": 3, "score": scores})
    found = pd.concat([found, found.assign(score=0.05)])  # the highest counts
    report = image_average_precision(truth, found)
    assert report.per_class[3] == pytest.approx(metrics.average_precision_score(has, scores))
    assert report.mean == report.per_class[3] and np.isnan(report.per_class[0])


def test_images_without_a_prediction_come_last_and_are_equal() -> None:
    truth = {"a": frozenset({0}), "b": frozenset({0}), "c": frozenset(), "d": frozenset()}
    found = pd.DataFrame({"image": ["a"], "label": [0], "score": [0.4]})
    assert image_average_precision(truth, found).per_class[0] == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)


def test_the_interval_spans_the_value_and_is_seeded() -> None:
    rng = np.random.default_rng(0)
    truth = {f"i{k}": frozenset({int(k % 3 == 0)}) for k in range(60)}
    scores = [(f"i{k}", 1, float(rng.random() + (k % 3 == 0) * 0.4)) for k in range(60)]
    found = pd.DataFrame(scores, columns=["image", "label", "score"])
    first, second = (image_average_precision(truth, found, bootstrap=200, seed=1) for _ in range(2))
    assert first.intervals[1][0] < first.per_class[1] < first.intervals[1][1]
    assert first.intervals[1] == second.intervals[1] and np.isnan(first.intervals[7][0])


def test_the_bootstrap_of_the_metric_repeats_and_leaves_its_value(folder: Path) -> None:
    truth = read_labelled_maps(write(folder, "ID,cell,Label\na,1,0\nb,1,5\n"), folder / "maps", HPA_CLASSES).table
    masks = encode_labels(bands().astype(np.int32))
    found = pd.DataFrame({"image": ["a", "b"], "height": 60, "width": 40, "label": [0, 5], "score": 0.5, "mask": masks[1]})
    plain, drawn = mean_average_precision(truth, found), mean_average_precision(truth, found, bootstrap=100)
    assert plain.mean == drawn.mean == 1 and drawn.mean_interval == (1, 1) and not plain.intervals


@pytest.mark.parametrize(
    ("table", "masks", "complaint"),
    [
        ("ID,cell,Label\na,1,0\n", False, "give the folder of their <ID>_cells.png by --masks"),
        ("ID,Label\na,0\n", True, "--masks goes with a table ID,cell,Label"),
        ("ID,class\na,0\n", False, "expected image,height,width,label,mask; ID,cell,Label; or ID,Label"),
        ("ID,cell,Label\na,9,0\n", True, "cells 9 are not in the label map of a, whose cells are 1 to 3"),
        ("ID,cell,Label\na,one,0\n", True, "line 2: cell 'one', expected the cell's id"),
        ("ID,cell,Label\na,1,0\na,1,5\n", True, "line 3: cell 1 of a comes again"),
        ("ID,cell,Label\na,1,0;5\n", True, "line 2: the label '0;5' is not class ids separated by |"),
        ("ID,cell,Label\na,1,19\n", True, "line 2: the label '19' has an id that is not a class"),
        ("ID,cell,Label\nc,1,0\n", True, "c_cells.png is not a readable label map"),
        ("ID,cell,Label\nb,1,0\n", True, "none of the 1 images of the truth is predicted"),
        ("ID,Label\na,0\na,1\n", False, "line 3: a comes again"),
        ("ID,Label\n", False, "has no rows"),
        ("", False, "cannot be read as CSV"),
    ],
)
def test_truth_of_other_kinds_is_refused(
    folder: Path, table: str, masks: bool, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["score", "--truth", str(write(folder, table)), "--predictions", str(folder / "submission.csv")]
    assert main([*arguments, *(["--masks", str(folder / "maps")] if masks else [])]) == 2
    assert complaint in capsys.readouterr().err


def test_a_map_of_another_size_is_named(folder: Path) -> None:
    cv2.imwrite(str(folder / "maps" / "a_cells.png"), bands()[:, :30])
    maps = read_labelled_maps(write(folder, "ID,cell,Label\na,1,0\n"), folder / "maps", HPA_CLASSES)
    found = pd.DataFrame({"image": ["a"], "height": 60, "width": 40, "label": 0, "score": 0.5, "mask": ""})
    with pytest.raises(
        InputError, match=r"image a: its label map is \(60, 30\) \(height, width\), predictions are \[\(60, 40\)\]"
    ):
        maps.judged(found, 0.6)


def test_hand_checked_cells_against_predicted_masks(hpa_data: Path, tmp_path: Path) -> None:
    """Real maps: the hand-checked cells of two images, found by another program and given their true classes."""
    table = pd.read_csv(hpa_data / "cell_masks" / "cell_labels.csv", dtype=str)
    images = sorted(table["ID"].unique())[:2]
    table[table["ID"].isin(images)].to_csv(tmp_path / "labels.csv", index=False)
    maps = read_labelled_maps(tmp_path / "labels.csv", hpa_data / "cell_masks", HPA_CLASSES)
    assert set(maps.sizes) == set(images) and not any(maps.unknown.values())
    perfect = maps.table.assign(score=0.5)
    assert mean_average_precision(maps.table, maps.judged(perfect, 0.6)).mean == 1
