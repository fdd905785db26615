"""Samples, prediction strings and the submission file."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.errors import InputError, SubmissionError
from hcpl_kernel.export.base import write_fields
from hcpl_kernel.export.submission_csv import submission_csv
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.submission import (
    SubmissionRow,
    encode_mask,
    fallback_string,
    prediction_string,
    read_sample,
    validate_submission,
)
from tests.submissions import write_rows

MASKS = [encode_mask(np.eye(8, dtype=bool)), encode_mask(np.ones((8, 8), bool))]
DUMMY = "0 1 eNoLCAgIMAEABJkBdQ=="


def test_the_fallback_is_the_dummy_row_of_the_sample():
    assert fallback_string(2048, 2048) == DUMMY
    assert fallback_string(1728, 1728) == "0 1 eNoLCAjJNgIABNkBkg=="


def test_every_class_of_every_cell_is_in_the_string():
    prob = np.random.default_rng(0).random((2, 19)).astype(np.float32)
    tokens = prediction_string(MASKS, prob).split(" ")
    assert tokens[0::3] == [str(k) for k in range(19)] * 2
    assert tokens[2::3] == [MASKS[0]] * 19 + [MASKS[1]] * 19
    np.testing.assert_array_equal(np.array(tokens[1::3], np.float32), prob.ravel())


def test_confidences_keep_their_ranks():
    prob = np.sort(np.random.default_rng(1).random(50 * 19) ** 8).reshape(50, 19)
    values = np.array(prediction_string([MASKS[0]] * 50, prob).split(" ")[1::3], float)
    np.testing.assert_array_equal(values, prob.ravel())


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1e-3, 1.001])
def test_impossible_probabilities_are_refused(wrong):
    prob = np.full((2, 19), 0.5)
    prob[1, 4] = wrong
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        prediction_string(MASKS, prob)


def test_shapes_that_do_not_fit_are_refused():
    for masks, shape in ((MASKS, (1, 19)), (MASKS, (2, 18)), ([], (0, 19))):
        with pytest.raises(InputError, match="expected"):
            prediction_string(masks, np.zeros(shape))


def test_a_submission_is_written_as_the_sample_has_it(tmp_path):
    sample_csv = tmp_path / "sample.csv"
    sample_csv.write_text(f"ImageID,ImageWidth,ImageHeight,PredictionString\nb,2048,2048,{DUMMY}\na,8,6,\n")
    sample = read_sample(sample_csv)
    assert [row.id for row in sample.rows] == ["b", "a"]
    assert sample.by_id["a"] == SubmissionRow("a", 8, 6, fallback_string(6, 8))

    output = tmp_path / "submission.csv"
    write_rows(output, sample.rows, sample.header)
    assert output.read_text().splitlines()[:2] == sample_csv.read_text().splitlines()[:2]
    assert validate_submission(output, sample_csv).ok


def test_the_real_sample_comes_back_byte_for_byte(hpa_data, tmp_path):
    path = hpa_data / "tables" / "sample_submission.csv"
    sample = read_sample(path)
    assert len(sample.rows) == 559
    write_rows(tmp_path / "copy.csv", sample.rows, sample.header)
    assert (tmp_path / "copy.csv").read_bytes() == path.read_bytes().replace(b"\r\n", b"\n")
    assert all(row.prediction_string == fallback_string(row.height, row.width) for row in sample.rows)


def test_ids_with_commas_and_quotes_survive(tmp_path):
    rows = [SubmissionRow('well A,1 "x"\r\n\u00b5', 8, 8, fallback_string(8, 8))]
    write_rows(tmp_path / "s.csv", rows)
    with open(tmp_path / "s.csv", newline="", encoding="utf-8") as file:
        assert list(csv.reader(file))[1][0] == rows[0].id
    assert read_sample(tmp_path / "s.csv").rows == tuple(rows)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "no rows"),
        ([SubmissionRow("a", 8, 8, fallback_string(8, 8))] * 2, "twice"),
        ([SubmissionRow("a", 8, 8, "")], "empty"),
        ([SubmissionRow("a", 8, 8, f"{fallback_string(8, 8)}\nb,8,8,0 1 x")], "line end"),
    ],
)
def test_an_unusable_submission_never_replaces_a_finished_one(tmp_path, rows, reason):
    output = tmp_path / "submission.csv"
    output.write_text("finished")
    with pytest.raises(SubmissionError, match=reason):
        write_rows(output, rows)
    assert output.read_text() == "finished"
    assert [path.name for path in tmp_path.iterdir()] == ["submission.csv"]


def test_an_interrupted_stream_of_fields_leaves_the_earlier_file(tmp_path):
    output = tmp_path / "submission.csv"
    output.write_text("finished")

    def fields():
        yield FusedField(FieldRecord.unusable("a", (8, 8), None), np.zeros(0, np.float32), np.zeros((0, 0), np.float32))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_fields(fields(), [submission_csv(output, None, None, ["a"])])
    assert output.read_text() == "finished"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "header"),
        ("ID,ImageHeight,ImageWidth,PredictionString\n", "header"),
        ("ID,ImageWidth,ImageHeight,PredictionString\n", "no rows"),
        ("ID,ImageWidth,ImageHeight,PredictionString\na,8,8\n", "line 2: 3 columns"),
        ("ID,ImageWidth,ImageHeight,PredictionString\na,8,big,\n", "line 2: width and height"),
        ("ID,ImageWidth,ImageHeight,PredictionString\na,8,0,\n", "line 2: width and height"),
        ("ID,ImageWidth,ImageHeight,PredictionString\na,8,8,\na,8,8,\n", "line 3: the ID 'a' is there twice"),
    ],
)
def test_an_unusable_sample_is_refused_with_its_place(tmp_path, text, reason):
    path = tmp_path / "sample.csv"
    path.write_text(text)
    with pytest.raises(SubmissionError, match=reason):
        read_sample(path)


def test_an_absent_sample_is_refused(tmp_path):
    with pytest.raises(SubmissionError, match="cannot be read"):
        read_sample(tmp_path / "sample.csv")
