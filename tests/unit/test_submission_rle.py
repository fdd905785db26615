"""Mask strings against pycocotools, round trips, and strings made to do harm."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from hcpl_kernel.errors import InputError, SubmissionError
from hcpl_kernel.submission import decode_mask, empty_mask, encode_labels, encode_mask
from hcpl_kernel.submission.rle import decode_counts

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=140)


def coco_string(mask: np.ndarray) -> str:
    counts = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    return base64.b64encode(zlib.compress(counts, 9)).decode()


def packed(counts: bytes) -> str:
    return base64.b64encode(zlib.compress(counts, 9)).decode()


@st.composite
def label_maps(draw, dtypes=(np.uint8, np.uint16, np.int32, np.int64)) -> np.ndarray:
    """Blobs, stripes and noise: pieces of the same id in one column, runs that go on in the next column, full maps."""
    height, width = draw(SHAPES)
    labels = np.zeros((height, width), draw(st.sampled_from(dtypes)))
    for _ in range(draw(st.integers(0, 8))):
        label = draw(st.integers(0, 100))
        y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        labels[y : y + draw(st.integers(1, height)), x : x + draw(st.integers(1, width))] = label
    noise = np.random.default_rng(draw(st.integers(0, 9))).random((height, width)) < draw(st.sampled_from([0, 0.02, 0.5]))
    labels[noise] = draw(st.integers(0, 100))
    return labels


@pytest.mark.parametrize(
    ("side", "text"),
    [(1728, "eNoLCAjJNgIABNkBkg=="), (2048, "eNoLCAgIMAEABJkBdQ=="), (3072, "eNoLCAgIsAQABJ4Beg==")],
)
def test_empty_masks_are_those_of_the_sample(side, text):
    assert empty_mask(side, side) == text
    assert encode_mask(np.zeros((side, side), bool)) == text


@given(label_maps())
def test_label_maps_encode_as_pycocotools_encodes_each_mask(labels):
    expected = {int(i): coco_string(labels == i) for i in np.unique(labels) if i}
    assert encode_labels(labels) == expected
    assert list(encode_labels(labels)) == sorted(expected)


@given(label_maps(), st.integers(2, 5))
@settings(max_examples=60)
def test_a_scaled_map_encodes_as_its_replicated_masks(labels, scale):
    replicated = labels.repeat(scale, axis=0).repeat(scale, axis=1)
    assert encode_labels(labels, scale) == {int(i): coco_string(replicated == i) for i in np.unique(labels) if i}


@given(hnp.arrays(bool, SHAPES))
def test_masks_encode_as_pycocotools_and_come_back(mask):
    text = encode_mask(mask)
    assert text == coco_string(mask)
    decoded = decode_mask(text, *mask.shape)
    assert decoded.dtype == bool
    np.testing.assert_array_equal(decoded, mask)


def test_a_full_size_field_encodes_as_pycocotools():
    rng = np.random.default_rng(0)
    labels = np.zeros((2048, 1000), np.uint16)
    for label in range(1, 40):
        centre, axes = rng.integers(0, (1000, 2048)), rng.integers(20, 150, 2)
        cv2.ellipse(labels, centre.tolist(), axes.tolist(), float(rng.integers(180)), 0, 360, label * 7, -1)
    for array in (labels, labels.astype(np.int32), np.asfortranarray(labels)):
        assert encode_labels(array) == {int(i): coco_string(labels == i) for i in np.unique(labels) if i}


def test_ids_of_any_size_and_gaps_are_kept():
    labels = np.array([[70_000, 0, 3], [2**31 - 1, 0, 3]], np.int64)
    assert encode_labels(labels) == {i: coco_string(labels == i) for i in (3, 70_000, 2**31 - 1)}


def test_what_is_not_a_label_map_is_refused():
    for labels, message in (
        (np.ones((3, 4, 1), np.uint8), "shape"),
        (np.ones((0, 4), np.uint8), "shape"),
        (np.ones((3, 4), np.float32), "integers"),
        (np.full((3, 4), -1, np.int32), "negative id -1"),
        (np.full((3, 4), 2**31, np.int64), "2147483648"),
    ):
        with pytest.raises(InputError, match=message):
            encode_labels(labels)
    with pytest.raises(InputError, match="scale"):
        encode_labels(np.ones((3, 4), np.uint8), 0)
    with pytest.raises(InputError, match="pixels"):
        encode_labels(np.ones((3, 4), np.uint8), 2**14)


def test_strings_of_a_real_submission_decode_as_pycocotools_decodes_them(hpa_data):
    records = json.loads((hpa_data / "tables" / "real_mask_strings.json").read_text())
    strings = [(record["rle"], int(record["size"])) for record in records if record.get("rle")]
    assert strings
    for text, side in strings:
        counts = zlib.decompress(base64.b64decode(text))
        expected = coco.decode({"size": [side, side], "counts": counts}).astype(bool)
        decoded = decode_mask(text, side, side)
        np.testing.assert_array_equal(decoded, expected)
        assert decode_mask(encode_mask(decoded), side, side).sum() == expected.sum()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not base64!", "not base64"),
        ("eNoLCAgIMAEABJkBdQ=", "not base64"),
        ("\u00e9NoLCAgI", "not base64"),
        (base64.b64encode(b"no stream").decode(), "not a zlib stream"),
        ("", "no end"),
        (base64.b64encode(zlib.compress(b"P3")[:-2]).decode(), "no end"),
        (base64.b64encode(zlib.compress(b"PS3") + b"more").decode(), "bytes after"),
        (packed(b"P"), "encoding does not have"),  # a group that promises another
        (packed(b"/"), "encoding does not have"),
        (packed(b"p"), "encoding does not have"),
        (packed(b"\xff"), "encoding does not have"),
        (packed(b"P" * 40), "encoding does not have"),  # a number that does not end
        (packed(b"O"), "negative"),  # -1
        (packed(b"111M"), "negative"),  # 1 1 1 and 3 less than the second
        (packed(b"22"), "cover 4 pixels"),
        (packed(b""), "cover 0 pixels"),
        (packed(b"T]X1"), "more than height x width"),
    ],
)
def test_damaged_strings_are_refused_with_their_reason(text, reason):
    with pytest.raises(SubmissionError, match=reason):
        decode_mask(text, 10, 12)


@given(st.one_of(st.binary(max_size=40), st.lists(st.integers(46, 60), max_size=7).map(bytes)))
@settings(max_examples=400)
def test_any_counts_are_refused_or_read_as_pycocotools_reads_them(counts):
    try:
        mask = decode_mask(packed(counts), 2, 5)
    except SubmissionError:
        return
    np.testing.assert_array_equal(mask, coco.decode({"size": [2, 5], "counts": counts}))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 3))
def test_runs_of_length_zero_are_read_as_pycocotools_reads_them(lengths, width):
    """Encoders other than COCO's may write them; the last run fills the mask up."""
    lengths.append(-sum(lengths) % width)
    size = [sum(lengths) // width, width]
    if not size[0]:
        return
    counts = coco.frPyObjects({"size": size, "counts": lengths}, *size)["counts"]
    expected = coco.decode({"size": size, "counts": counts})
    np.testing.assert_array_equal(decode_mask(packed(counts), *size), expected)


def test_a_zlib_bomb_costs_no_more_memory_than_a_mask():
    bomb = packed(b"0" * 50_000_000)
    tracemalloc.start()
    with pytest.raises(SubmissionError, match="unpacks to more than"):
        decode_counts(bomb, 2048, 2048)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_the_longest_counts_of_a_size_are_accepted():
    checkerboard = np.indices((31, 33)).sum(axis=0) % 2 == 0
    np.testing.assert_array_equal(decode_mask(encode_mask(checkerboard), 31, 33), checkerboard)
    one = np.ones((1, 1), bool)
    np.testing.assert_array_equal(decode_mask(encode_mask(one), 1, 1), one)


def test_impossible_sizes_are_refused():
    for size in ((0, 5), (5, -1), (2**15, 2**15)):
        with pytest.raises(InputError, match="pixels"):
            decode_mask(empty_mask(2, 2), *size)


def test_importing_submissions_needs_neither_torch_nor_opencv():
    code = (
        "import sys, hcpl_kernel.submission; "
        "print([m for m in ('torch', 'timm', 'cv2', 'pandas', 'pycocotools') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_kernels_work_where_no_folder_for_compiled_code_can_be_written(tmp_path):
    """Numba finds no cache when neither the package's folder nor the user's can be written."""
    code = (
        "import numba.core.caching as caching\n"
        "getattr(caching, 'CacheImpl', getattr(caching, '_CacheImpl', None))._locator_classes = []\n"
        "import numpy as np\n"
        "from hcpl_kernel.submission import _runs\n"
        "assert type(_runs.column_runs._cache).__name__ == 'NullCache'\n"
        "from hcpl_kernel.submission import encode_labels, decode_mask\n"
        "labels = np.zeros((70, 80), np.uint8); labels[3:60, 5:70] = 2\n"
        "assert (decode_mask(encode_labels(labels)[2], 70, 80) == (labels == 2)).all()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
