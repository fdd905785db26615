"""What a validator has to find, and what it has to let pass."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest

from hcpl_kernel.submission import encode_mask, fallback_string, prediction_string, validate_submission, validation

HEADER = ["ID", "ImageWidth", "ImageHeight", "PredictionString"]
TALL = encode_mask(np.arange(10 * 6).reshape(10, 6) % 7 == 0)


@pytest.fixture
def write(tmp_path):
    def write(rows, header=HEADER, name="submission.csv"):
        path = tmp_path / name
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        return path

    return write


def good_rows():
    prob = np.random.default_rng(0).random((3, 19))
    return [
        ["a", "6", "10", prediction_string([TALL, TALL, encode_mask(np.ones((10, 6)))], prob)],
        ["b", "2048", "2048", fallback_string(2048, 2048)],
        ["c", "8", "8", "18 0 " + encode_mask(np.ones((8, 8))) + " 0 1e-7 " + encode_mask(np.eye(8))],
    ]


def test_a_good_submission_is_valid_and_repeated_masks_are_decoded_once(write):
    report = validate_submission(write(good_rows()), write(good_rows(), name="sample.csv"))
    assert report.ok
    assert (report.rows, report.predictions, report.masks) == (3, 3 * 19 + 1 + 2, 2 + 1 + 2)
    assert str(report).startswith("valid: 3 fields, 60 predictions")


def test_both_names_of_the_id_column_are_accepted(write):
    assert validate_submission(write(good_rows(), ["ImageID", *HEADER[1:]])).ok


@pytest.mark.parametrize(
    ("string", "reason"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("0 1", "2 parts"),
        (f"0 1 {TALL} 3", "4 parts"),
        (f"19 1 {TALL}", "label '19'"),
        (f"-1 1 {TALL}", "label '-1'"),
        (f"1.0 1 {TALL}", "label '1.0'"),
        (f"0 nan {TALL}", "confidences .* 'nan'"),
        (f"0 inf {TALL}", "confidences .* 'inf'"),
        (f"0 1.01 {TALL}", "confidences .* '1.01'"),
        (f"0 -0.1 {TALL}", "confidences .* '-0.1'"),
        (f"0 high {TALL}", "confidences .* 'high'"),
        ("0 1 nonsense", "not a zlib stream"),
        ("0 1 non-sense", "not base64"),
        (f"0 1 {encode_mask(np.ones((6, 11)))}", "more than height x width = 10 x 6"),
        (f"0 1 {encode_mask(np.ones((10, 5)))}", "cover 50 pixels, expected height x width = 10 x 6 = 60"),
    ],
)
def test_a_bad_row_is_named_with_its_reason(write, string, reason):
    report = validate_submission(write([*good_rows(), ["bad", "6", "10", string]]))
    assert not report.ok
    assert [problem.id for problem in report.problems] == ["bad"]
    assert re.search(reason, report.problems[0].reason)


def test_every_id_must_be_there_once_and_be_the_samples(write):
    sample = write(good_rows(), name="sample.csv")
    a, b, c = good_rows()
    report = validate_submission(write([a, b, b, ["d", *c[1:]]]), sample)
    assert [(problem.id, problem.reason) for problem in report.problems] == [
        ("b", "the ID is there twice"),
        ("d", "the ID is not in the sample"),
        ("c", "the ID is in the sample and not in the file"),
    ]


def test_sizes_must_be_the_samples(write):
    a, b, c = good_rows()
    report = validate_submission(write([[a[0], "10", "6", a[3]], b, c]), write(good_rows(), name="sample.csv"))
    assert str(report.problems[0]) == "field a: height x width are 6 x 10, the sample's 10 x 6"


@pytest.mark.parametrize("size", [["6", ""], ["six", "10"], ["0", "10"], ["1000000000", "1000000000"], ["-6", "-10"]])
def test_impossible_sizes_are_problems(write, size):
    report = validate_submission(write([["a", *size, good_rows()[0][3]]]))
    assert not report.ok and report.problems[0].id == "a"


def test_a_header_unlike_the_samples_is_a_problem(write):
    sample = write(good_rows(), ["ImageID", *HEADER[1:]], name="sample.csv")
    assert "the sample's is ImageID" in str(validate_submission(write(good_rows()), sample))


def test_files_that_are_not_a_submission_are_reported_not_raised(write, tmp_path):
    for content in (b"", b"ID,Label\na,3\n", b"\x89PNG\r\n\x1a\n\xff\xfe", b"ID,ImageWidth,ImageHeight,PredictionString\n"):
        path = tmp_path / "other.csv"
        path.write_bytes(content)
        assert not validate_submission(path).ok
    assert "cannot be read" in str(validate_submission(tmp_path / "absent.csv"))
    assert "line 2" in str(validate_submission(write([["a", "6", "10"]])))


def test_a_line_without_end_is_refused_before_it_fills_the_memory(write, monkeypatch):
    monkeypatch.setattr("hcpl_kernel.submission.reading._LONGEST_FIELD", 1000)
    limit = csv.field_size_limit()
    report = validate_submission(write([["a", "6", "10", "x" * 100_000]]))
    assert "field larger than field limit" in str(report)
    assert csv.field_size_limit() == limit


def test_many_problems_are_counted_and_the_first_kept(write, monkeypatch):
    monkeypatch.setattr(validation, "KEPT_PROBLEMS", 25)
    report = validate_submission(write([[str(k), "6", "10", ""] for k in range(40)]))
    assert (report.problem_count, len(report.problems)) == (40, 25)
    assert str(report).endswith("... and 20 more")
