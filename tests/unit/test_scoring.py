"""The metric against the host's own scorer, cases computed by hand, and real mask sets."""

from __future__ import annotations

import gzip
import json

import cv2
import numpy as np
import pandas as pd
import pytest

from hcpl_kernel.errors import InputError, SubmissionError
from hcpl_kernel.scoring import format_score, mean_average_precision, read_predictions, read_submission, read_truth
from hcpl_kernel.submission import (
    SubmissionRow,
    encode_labels,
    encode_mask,
    fallback_string,
    prediction_string,
)
from tests.submissions import write_rows

H, W = 10, 12


def strip(first: int, last: int) -> str:
    """A mask of whole columns, 10 px per column."""
    mask = np.zeros((H, W), bool)
    mask[:, first:last] = True
    return encode_mask(mask)


def truth_table(*rows: tuple) -> pd.DataFrame:
    """Rows of (image, label, mask, is_group_of)."""
    return pd.DataFrame(
        [(image, H, W, label, mask, group) for image, label, mask, group in rows],
        columns=["image", "height", "width", "label", "mask", "is_group_of"],
    )


def prediction_table(*rows: tuple) -> pd.DataFrame:
    """Rows of (image, label, score, mask)."""
    return pd.DataFrame(
        [(image, H, W, label, score, mask) for image, label, score, mask in rows],
        columns=["image", "height", "width", "label", "score", "mask"],
    )


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("verified", ["all", "present"])
def test_equal_to_the_hosts_scorer(reference_dir, name, verified):
    with gzip.open(reference_dir / f"metric_vector_{name}.json.gz") as file:
        vector = json.load(file)
    expected = vector["expected"][verified]
    report = mean_average_precision(
        pd.DataFrame(vector["ground_truth"]), pd.DataFrame(vector["predictions"]), verified=verified
    )
    per_class = [np.nan if expected.get(str(k)) is None else expected[str(k)] for k in range(19)]
    np.testing.assert_allclose(report.per_class, per_class, rtol=0, atol=1e-9)
    np.testing.assert_allclose(report.mean, next(v for k, v in expected.items() if "mAP" in k), rtol=0, atol=1e-9)


def test_precision_envelope_by_hand():
    truth = truth_table(("i", 3, strip(0, 4), 0), ("i", 3, strip(4, 8), 0), ("j", 3, strip(0, 5), 0))
    predictions = prediction_table(
        ("i", 3, 0.9, strip(0, 4)),  # hit: precision 1
        ("j", 3, 0.8, strip(6, 9)),  # miss
        ("i", 3, 0.7, strip(0, 4)),  # duplicate: miss
        ("j", 3, 0.6, strip(0, 5)),  # hit: precision 2/4
    )
    report = mean_average_precision(truth, predictions)
    assert report.per_class[3] == pytest.approx((1 + 2 / 4) / 3)
    assert report.mean == report.per_class[3]
    assert np.isnan(report.per_class).sum() == 18
    assert (report.truths[3], report.detections[3]) == (3, 4)


def test_a_hit_needs_the_threshold_and_exactly_the_threshold_is_enough():
    truth = truth_table(("i", 0, strip(0, 10), 0))
    for last, hit in ((6, True), (5, False)):
        report = mean_average_precision(truth, prediction_table(("i", 0, 0.5, strip(0, last))))
        assert report.per_class[0] == float(hit)


def test_a_detection_has_only_the_ground_truth_it_overlaps_most():
    """The second detection overlaps the taken strip most, so the other strip stays unfound."""
    truth = truth_table(("i", 0, strip(0, 5), 0), ("i", 0, strip(0, 4), 0))
    predictions = prediction_table(("i", 0, 0.9, strip(0, 5)), ("i", 0, 0.8, strip(0, 5)))
    assert mean_average_precision(truth, predictions).per_class[0] == pytest.approx(0.5)


def test_absent_classes_count_against_or_not():
    truth = truth_table(("i", 0, strip(0, 4), 0), ("j", 1, strip(0, 4), 0))
    predictions = prediction_table(
        ("j", 0, 0.9, strip(0, 4)), ("i", 0, 0.5, strip(0, 4)), ("elsewhere", 0, 0.8, strip(0, 4))
    )
    assert mean_average_precision(truth, predictions, verified="all").per_class[0] == pytest.approx(1 / 3)
    assert mean_average_precision(truth, predictions, verified="present").per_class[0] == 1
    assert mean_average_precision(truth, predictions).per_class[1] == 0


def test_a_group_absorbs_what_is_in_it_and_counts_once():
    truth = truth_table(("i", 0, strip(0, 3), 0), ("i", 0, strip(4, 12), 1))
    predictions = prediction_table(
        ("i", 0, 0.9, strip(0, 3)),  # the ordinary instance
        ("i", 0, 0.8, strip(4, 6)),  # both in the group: one hit at 0.8
        ("i", 0, 0.7, strip(6, 8)),
        ("i", 0, 0.6, strip(0, 3)),  # a duplicate of the ordinary instance stays a miss
    )
    report = mean_average_precision(truth, predictions)
    assert report.per_class[0] == 1
    assert (report.truths[0], report.detections[0]) == (2, 3)
    half_outside = prediction_table(("i", 0, 0.9, strip(2, 6)))
    assert mean_average_precision(truth, half_outside).per_class[0] == 0


def test_a_class_that_has_only_groups():
    truth = truth_table(("i", 5, strip(0, 6), True))
    assert mean_average_precision(truth, prediction_table(("i", 5, 0.4, strip(1, 3)))).mean == 1


def test_detections_without_pixels_do_not_count():
    truth = truth_table(("i", 0, strip(0, 4), 0))
    empty = fallback_string(H, W).split()[2]
    predictions = prediction_table(("i", 0, 1.0, empty), ("i", 0, 0.5, strip(0, 4)))
    assert mean_average_precision(truth, predictions).per_class[0] == 1


def test_no_detections_score_zero_and_no_truth_scores_nothing():
    truth = truth_table(("i", 0, strip(0, 4), 0))
    assert mean_average_precision(truth, prediction_table()).mean == 0
    assert np.isnan(mean_average_precision(truth_table(), prediction_table(("i", 0, 1.0, strip(0, 4)))).mean)


def test_tables_that_cannot_be_scored_are_refused():
    truth, found = truth_table(("i", 0, strip(0, 4), 0)), prediction_table(("i", 0, 0.5, strip(0, 4)))
    for wrong_truth, wrong_found, reason in (
        (truth.drop(columns="mask"), found, "ground truth: no column mask"),
        (truth, found.drop(columns="score"), "predictions: no column score"),
        (truth, found.assign(score=np.inf), "not finite"),
        (truth, found.assign(score="high"), "not a number"),
        (truth.assign(label=19), found, "label 19"),
        (truth, found.assign(label=-1), "label -1"),
        (truth, found.assign(mask=None), "row 0 has no mask"),
        (truth, found.assign(height=W, width=H), "image i: different sizes"),
    ):
        with pytest.raises(InputError, match=reason):
            mean_average_precision(wrong_truth, wrong_found)
    with pytest.raises(InputError, match="verified"):
        mean_average_precision(truth, found, verified="some")
    with pytest.raises(SubmissionError, match="image i: mask .* not a zlib stream"):
        mean_average_precision(truth, found.assign(mask="nonsense"))


def test_submissions_and_long_tables_read_the_same(tmp_path):
    prob = np.random.default_rng(0).random((2, 19)).round(4)
    masks = [strip(0, 4), strip(5, 9)]
    submission = tmp_path / "submission.csv"
    rows = [
        SubmissionRow("007", W, H, prediction_string(masks, prob)),
        SubmissionRow("i", W, H, fallback_string(H, W)),
    ]
    write_rows(submission, rows)
    table = read_submission(submission)
    assert len(table) == 39
    np.testing.assert_array_equal(table["score"][:38], prob.ravel())
    long = tmp_path / "long.csv"
    table.to_csv(long, index=False)
    pd.testing.assert_frame_equal(read_predictions(long), table)
    pd.testing.assert_frame_equal(read_predictions(submission), table)

    truth = truth_table(("007", 0, strip(0, 4), True), ("i", 1, strip(0, 4), False))
    truth.to_csv(tmp_path / "truth.csv", index=False)
    report = mean_average_precision(read_truth(tmp_path / "truth.csv"), read_predictions(submission))
    np.testing.assert_array_equal(report.per_class, mean_average_precision(truth, table).per_class)
    text = format_score(report)
    assert "Nucleoplasm" in text and "Negative" in text
    assert text.endswith(f"mAP@0.6 (all classes verified): {report.mean:.4f}")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_truth(tmp_path / "absent.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no column image"):
        read_predictions(tmp_path / "other.csv")
    header = "ID,ImageWidth,ImageHeight,PredictionString\n"
    for row, reason in (("i,8,8,0 1", "line 2: 2 parts"), ("i,8,8,0 x y", "line 2: could not"), ("i,8", "line 2: not")):
        (tmp_path / "broken.csv").write_text(header + row + "\n")
        with pytest.raises(SubmissionError, match=reason):
            read_predictions(tmp_path / "broken.csv")


def real_mask_tables(folder, count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hand-checked masks with their labels, and predicted masks with seeded scores in every class."""
    labels = pd.read_csv(folder / "cell_labels.csv", dtype={"ID": str, "Label": str})
    rng = np.random.default_rng(0)
    truth, found = [], []
    for field_id, cells in list(labels.groupby("ID", sort=True))[:count]:
        true_map = cv2.imread(str(folder / f"{field_id}_cells.png"), cv2.IMREAD_UNCHANGED)
        masks = encode_labels(true_map)
        for cell, text in zip(cells["cell"], cells["Label"], strict=True):
            truth += [(field_id, *true_map.shape, int(k), masks[cell]) for k in text.split("|")]
        predicted = cv2.imread(str(folder / f"{field_id}_predicted.png"), cv2.IMREAD_UNCHANGED)
        for mask in encode_labels(predicted).values():
            found += [(field_id, *predicted.shape, k, score, mask) for k, score in enumerate(rng.random(19))]
    columns = ["image", "height", "width", "label"]
    return pd.DataFrame(truth, columns=[*columns, "mask"]), pd.DataFrame(found, columns=[*columns, "score", "mask"])


def test_real_mask_sets(hpa_data):
    truth, found = real_mask_tables(hpa_data / "cell_masks", 10)
    report = mean_average_precision(truth, found)
    assert 0 < report.mean < 0.5  # seeded scores do not rank
    own = mean_average_precision(truth, truth.assign(score=1.0))
    assert own.mean == 1
    present = truth.groupby("label").size()
    assert [report.truths[k] for k in present.index] == present.tolist()
