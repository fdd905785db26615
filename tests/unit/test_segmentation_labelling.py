"""Labels from class maps: against scikit-image, against the published vectors, and what must hold for any maps."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import hcpl_kernel
from hcpl_kernel.errors import InputError
from hcpl_kernel.segmentation import _heap_watershed, _watershed, label_cells, label_cells_paper_half
from hcpl_kernel.segmentation._components import connected_components, drop_small, split_labels
from hcpl_kernel.segmentation._hole_filling import fill_enclosed
from hcpl_kernel.segmentation._limits import cell_threshold
from hcpl_kernel.segmentation._maps import frame
from tests.near_limit_maps import near_limit_maps

ROOT = Path(__file__).resolve().parents[2]
WAYS = {
    "quarter": label_cells,
    "exact": lambda *args: label_cells(*args, exact=True),
    "paper-half": label_cells_paper_half,
}


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The published post-processing in plain scikit-image."""
    skimage = pytest.importorskip("skimage")
    if tuple(int(part) for part in skimage.__version__.split(".")[:2]) < (0, 26):
        pytest.skip("the reference is written for scikit-image 0.26")
    spec = importlib.util.spec_from_file_location("labelling_reference", ROOT / "benchmarks" / "labelling_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw_maps(shape: tuple[int, int], cells: int, seed: int, radius: float = 11) -> tuple[np.ndarray, np.ndarray]:
    """Class maps of a made-up field: cells are Voronoi regions cut at a distance, soft towards their borders."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, shape, (cells, 2))
    y, x = np.mgrid[: shape[0], : shape[1]]
    distances = np.sqrt((y[..., None] - centres[:, 0]) ** 2 + (x[..., None] - centres[:, 1]) ** 2)
    distances = distances + 0.2 * cv2.GaussianBlur(rng.normal(0, 30, shape), (0, 0), 4)[..., None]
    nearest, second = np.sort(distances, axis=-1)[..., :2].transpose(2, 0, 1)
    edge = np.minimum((second - nearest) / 2, 2.2 * radius - nearest)
    nuclei_map, cell_map = np.zeros((*shape, 3), np.uint8), np.zeros((*shape, 3), np.uint8)
    cell_map[..., 1] = 230 * np.exp(-(((edge - 0.5) / 1.5) ** 2))
    cell_map[..., 2] = 255 / (1 + np.exp(-2.5 * (edge - 1.5)))
    nuclei_map[..., 1] = 230 * np.exp(-(((nearest - radius) / 1.2) ** 2))
    nuclei_map[..., 2] = 255 / (1 + np.exp(1.5 * (nearest - radius)))
    return nuclei_map, cell_map


def check_labels(nuclei: np.ndarray, cells: np.ndarray, shape: tuple[int, int]) -> None:
    """What `label_cells` promises for any maps."""
    assert nuclei.shape == cells.shape == shape
    assert nuclei.dtype == cells.dtype == np.int32
    present = np.unique(cells)
    assert np.array_equal(present[present > 0], np.arange(1, cells.max() + 1))
    assert ((nuclei == 0) | (nuclei == cells)).all()


def best_ious(reference: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The best IoU of each reference label."""
    width = int(found.max()) + 1
    pairs = reference.astype(np.int64) * width + found
    shared = np.bincount(pairs.ravel(), minlength=(int(reference.max()) + 1) * width).reshape(-1, width)
    unions = shared.sum(1)[:, None] + shared.sum(0)[None] - shared
    return (shared / unions)[1:, 1:].max(axis=1, initial=0)


maps = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)),
    elements=st.sampled_from([0, 10, 39, 60, 103, 200, 255]),
)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=30)
@given(nuclei_map=maps, scale=st.sampled_from([1, 2, 3, 4]), seed=st.integers(0, 9))
def test_any_maps_give_proper_labels(way: str, nuclei_map: np.ndarray, scale: int, seed: int) -> None:
    cell_map = np.random.default_rng(seed).permutation(nuclei_map.reshape(-1, 3)).reshape(nuclei_map.shape)
    shape = (scale * nuclei_map.shape[0], scale * nuclei_map.shape[1])
    check_labels(*WAYS[way](nuclei_map, cell_map, shape), shape)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=8)
@given(
    shape=st.tuples(st.integers(40, 110), st.integers(40, 110)),
    cells=st.integers(2, 12),
    seed=st.integers(0, 10**6),
)
def test_cells_are_found_alike_in_any_shape(way: str, shape: tuple[int, int], cells: int, seed: int) -> None:
    nuclei_map, cell_map = draw_maps(shape, cells, seed)
    nuclei, labels = WAYS[way](nuclei_map, cell_map)
    check_labels(nuclei, labels, (4 * shape[0], 4 * shape[1]))
    again = WAYS[way](nuclei_map, cell_map)
    assert np.array_equal(again[0], nuclei) and np.array_equal(again[1], labels)


@pytest.mark.parametrize("way", WAYS)
def test_empty_full_and_single_pixel_maps(way: str) -> None:
    for shape in ((1, 1), (1, 50), (30, 20)):
        empty, full = np.zeros((*shape, 3), np.uint8), np.zeros((*shape, 3), np.uint8)
        full[..., 2] = 255
        for nuclei_map, cell_map in ((empty, empty), (empty, full), (full, empty), (full, full)):
            nuclei, cells = WAYS[way](nuclei_map, cell_map)
            check_labels(nuclei, cells, (4 * shape[0], 4 * shape[1]))
            if nuclei_map is empty:
                assert not cells.any()


def test_a_cell_that_fills_the_field_is_one_cell() -> None:
    full = np.zeros((40, 60, 3), np.uint8)
    full[..., 2] = 255
    for way in ("quarter", "paper-half"):
        nuclei, cells = WAYS[way](full, full)
        assert (cells == 1).all() and (nuclei == 1).all()


def test_the_transposed_field_has_the_transposed_cells() -> None:
    nuclei_map, cell_map = draw_maps((90, 150), 12, seed=4)
    _, cells = label_cells(nuclei_map, cell_map)
    _, turned = label_cells(np.ascontiguousarray(nuclei_map.swapaxes(0, 1)), np.ascontiguousarray(cell_map.swapaxes(0, 1)))
    assert cells.max() == turned.max() > 3
    assert best_ious(cells, turned.T).min() > 0.95


def test_strided_maps_are_taken() -> None:
    nuclei_map, cell_map = draw_maps((80, 100), 8, seed=1)
    expected = label_cells(nuclei_map, cell_map)
    for way in (lambda m: m[..., ::-1].copy()[..., ::-1], np.asfortranarray):
        found = label_cells(way(nuclei_map), way(cell_map))
        assert np.array_equal(found[0], expected[0]) and np.array_equal(found[1], expected[1])


def test_more_than_255_cells_are_kept() -> None:
    side, per_row = 34, 18
    y, x = np.mgrid[: side * per_row, : side * per_row]
    distance = np.hypot(y % side - side / 2 + 0.5, x % side - side / 2 + 0.5)
    nuclei_map, cell_map = (np.zeros((*y.shape, 3), np.uint8) for _ in range(2))
    nuclei_map[..., 2] = np.where(distance < 8.5, 255, 0)
    cell_map[..., 2] = np.where(distance < 14, 255, 0)
    for label in (label_cells, label_cells_paper_half):
        nuclei, cells = label(nuclei_map, cell_map)
        assert cells.max() == per_row**2 > 255
        assert len(np.unique(nuclei)) == per_row**2 + 1


@pytest.mark.parametrize("shape", [(160, 200), (320, 400), (640, 800), (333, 517)])
def test_the_output_shape_is_free(shape: tuple[int, int]) -> None:
    nuclei_map, cell_map = draw_maps((160, 200), 20, seed=2)
    _, expected = label_cells(nuclei_map, cell_map)
    nuclei, cells = label_cells(nuclei_map, cell_map, shape)
    check_labels(nuclei, cells, shape)
    assert cells.max() == expected.max() > 8
    nearest = cv2.resize(expected, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    assert best_ious(nearest, cells).mean() > 0.93


@pytest.mark.parametrize("seed", range(6))
def test_exact_equals_the_published_steps(reference: ModuleType, seed: int) -> None:
    nuclei_map, cell_map = draw_maps((100, 130), 14, seed)
    large = [m.repeat(4, axis=0).repeat(4, axis=1) for m in (nuclei_map, cell_map)]
    expected = reference.label_cells_reference(*large)
    assert expected[1].max() > 3
    for given_maps, shape in (((nuclei_map, cell_map), None), (large, (400, 520))):
        found = label_cells(*given_maps, shape, exact=True)
        assert np.array_equal(found[0], expected[0])
        assert np.array_equal(found[1], expected[1])


def test_quarter_resolution_stays_close_to_exact() -> None:
    ious: list[float] = []
    for seed in range(8):
        nuclei_map, cell_map = draw_maps((150, 130), 16, seed)
        _, expected = label_cells(nuclei_map, cell_map, exact=True)
        _, found = label_cells(nuclei_map, cell_map)
        assert abs(int(found.max()) - int(expected.max())) <= 1
        ious += list(best_ious(expected, found))
    assert len(ious) > 50
    assert np.mean(ious) > 0.97


@pytest.mark.parametrize("seed", [*range(8), 244, 251, 439, 464])
def test_near_a_limit_full_resolution_decides(seed: int) -> None:
    nuclei_map, cell_map = near_limit_maps(seed, label_cells)
    for expected, found in zip(
        label_cells(nuclei_map, cell_map, exact=True), label_cells(nuclei_map, cell_map), strict=True
    ):
        present = np.unique(expected)[1:] - 1
        assert best_ious(expected, found)[present].min() >= 0.6
        assert len(np.unique(found)) == len(np.unique(expected))


def test_a_cell_that_is_too_small_goes_to_the_one_around_it() -> None:
    y, x = np.mgrid[:100, :100] - 50
    distance = np.hypot(y, x)
    nuclei_map, cell_map = np.zeros((100, 100, 3), np.uint8), np.zeros((100, 100, 3), np.uint8)
    nuclei_map[..., 2] = np.where((distance < 7.5) | (np.hypot(y - 27, x) < 9), 255, 0)
    cell_map[..., 1] = np.where((distance > 10) & (distance < 12), 255, 0)
    cell_map[..., 2] = np.where((distance < 10) | (distance > 12) & (distance < 44), 255, 0)
    for cells in (label_cells(nuclei_map, cell_map, exact=exact)[1] for exact in (True, False)):
        assert cells.max() == 1 and cells[200, 200] == 1


@pytest.mark.parametrize("way", WAYS)
def test_no_cell_is_smaller_than_the_limit(way: str) -> None:
    for seed in (24, 39):
        _, cells = WAYS[way](*draw_maps((150, 130), 16, seed))
        assert np.bincount(cells.ravel())[1:].min() >= 5500


@pytest.mark.parametrize("line", [False, True])
@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 10**6),
    levels=st.sampled_from([1, 2, 5, 256]),
    seeds=st.sampled_from([2, 9, 60]),
)
def test_heap_watershed_floods_in_scikit_images_order(
    line: bool, shape: tuple[int, int], seed: int, levels: int, seeds: int
) -> None:
    segmentation = pytest.importorskip("skimage.segmentation")
    rng = np.random.default_rng(seed)
    image = rng.integers(0, levels, shape, dtype=np.uint8)
    mask = cv2.blur(rng.random(shape), (3, 3)) > 0.4
    markers, _ = connected_components((cv2.blur(rng.random(shape), (3, 3)) > 1 - seeds / 100).astype(np.uint8), 1)
    markers = np.where(mask, markers, 0).astype(np.int32)
    # A separating line is only asked for on a flat image.
    image = np.zeros_like(image) if line else image
    expected = segmentation.watershed(image, markers, mask=mask, watershed_line=line)

    labels = frame(np.where(mask, markers, -1).astype(np.int32))
    labels[0], labels[-1], labels[:, 0], labels[:, -1] = -1, -1, -1, -1
    _heap_watershed.flood(frame(image), labels, line)
    assert np.array_equal(np.maximum(labels[1:-1, 1:-1], 0), expected)


@settings(max_examples=60)
@given(shape=st.tuples(st.integers(1, 30), st.integers(1, 30)), seed=st.integers(0, 10**6))
def test_bucket_watershed_floods_what_the_heap_floods(shape: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = frame(rng.integers(0, 256, shape, dtype=np.uint8))
    start = np.full(image.shape, -1, np.int32)
    start[1:-1, 1:-1] = rng.choice([-1, 0, 0, 0, 0, 1, 2], shape)
    by_bucket, by_heap = start.copy(), start.copy()
    _watershed.flood(image, by_bucket)
    _heap_watershed.flood(image, by_heap, False)
    assert np.array_equal(by_bucket > 0, by_heap > 0)
    assert np.array_equal(by_bucket[start != 0], start[start != 0])


def test_bucket_watershed_meets_halfway_and_at_ridges() -> None:
    labels = frame(np.array([[1, 0, 0, 0, 0, 2]], np.int32))
    labels[labels == 0] = -1
    labels[1, 2:6] = 0
    flat, ridge = np.zeros((3, 8), np.uint8), np.zeros((3, 8), np.uint8)
    ridge[1, 2] = 9
    # The ridge, column 2 of the row, is reached first from the left; beyond it the right side floods.
    for image, expected in ((flat, [1, 1, 1, 2, 2, 2]), (ridge, [1, 1, 2, 2, 2, 2])):
        found = labels.copy()
        _watershed.flood(image, found)
        assert found[1, 1:-1].tolist() == expected


def test_enclosed_labels_merge_and_holes_fill() -> None:
    labels = np.zeros((9, 9), np.int32)
    labels[1:8, 1:8] = 1
    labels[3:5, 3:5] = 2  # wholly inside 1
    labels[6, 6] = 0  # a hole
    labels[1, 7] = 3  # at the outer boundary: stays
    assert fill_enclosed(labels, 3) == 2
    assert set(np.unique(labels[1:8, 1:8])) == {1, 2}
    assert (labels[1:8, 1:8] == 2).sum() == 1 and labels[1, 7] == 2


def test_two_labels_side_by_side_do_not_merge() -> None:
    labels = np.zeros((6, 8), np.int32)
    labels[1:5, 1:4], labels[1:5, 4:7] = 1, 2
    assert fill_enclosed(labels, 2) == 2


@settings(max_examples=60)
@given(
    labels=hnp.arrays(np.int32, st.tuples(st.integers(1, 16), st.integers(1, 16)), elements=st.integers(-1, 3)),
    diagonal=st.booleans(),
    least_area=st.integers(0, 6),
)
def test_split_labels_numbers_as_scikit_image_does(labels: np.ndarray, diagonal: bool, least_area: int) -> None:
    measure = pytest.importorskip("skimage.measure")
    expected = measure.label(np.maximum(labels, 0), connectivity=2 if diagonal else 1)
    expected[np.bincount(expected.ravel())[expected] < least_area] = 0
    _, places = np.unique(expected, return_inverse=True)
    expected = places.reshape(labels.shape) + (expected != 0).all()
    found = labels.copy()
    assert split_labels(found, diagonal, least_area) == expected.max()
    assert np.array_equal(found, expected)


@settings(max_examples=60)
@given(
    labels=hnp.arrays(np.int32, st.tuples(st.integers(1, 16), st.integers(1, 16)), elements=st.integers(-1, 5)),
    least_area=st.integers(0, 6),
)
def test_small_labels_are_dropped_and_the_others_numbered_in_order(labels: np.ndarray, least_area: int) -> None:
    areas = {label: int((labels == label).sum()) for label in np.unique(labels)}
    kept = [label for label in dict.fromkeys(labels.ravel().tolist()) if label > 0 and areas[label] >= least_area]
    expected = np.zeros_like(labels)
    for number, label in enumerate(kept, start=1):
        expected[labels == label] = number
    found = labels.copy()
    assert drop_small(found, 5, least_area) == len(kept)
    assert np.array_equal(found, expected)


@settings(max_examples=40)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(2, 12))))
def test_threshold_is_half_of_otsus(interior: np.ndarray) -> None:
    filters = pytest.importorskip("skimage.filters")
    assert cell_threshold(interior) == max(0.22, filters.threshold_otsu(interior / 255) / 2)


@pytest.mark.parametrize(
    ("nuclei_shape", "cell_shape", "dtype", "output"),
    [
        ((8, 8, 3), (8, 9, 3), np.uint8, None),
        ((8, 8), (8, 8), np.uint8, None),
        ((8, 8, 3), (8, 8, 3), np.float32, None),
        ((0, 8, 3), (0, 8, 3), np.uint8, None),
        ((8, 8, 3), (8, 8, 3), np.uint8, (0, 32)),
    ],
)
def test_other_maps_are_refused(nuclei_shape, cell_shape, dtype, output) -> None:
    with pytest.raises(InputError):
        label_cells(np.zeros(nuclei_shape, dtype), np.zeros(cell_shape, dtype), output)


def read_vector(folder: Path) -> list[np.ndarray]:
    """Nuclei map, cell map, nucleus labels and cell labels."""
    names = ("nuclei_map.png", "cell_map.png", "nucleus_labels.png", "cell_labels.png")
    images = [cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED) for name in names]
    return [np.ascontiguousarray(image[..., ::-1]) if image.ndim == 3 else image for image in images]


def test_vectors_at_quarter_resolution(hpa_data: Path) -> None:
    cell_ious: list[float] = []
    for folder in sorted((hpa_data / "labelling_vectors").iterdir()):
        nuclei_map, cell_map, _, expected = read_vector(folder)
        _, found = label_cells(nuclei_map, cell_map, expected.shape)
        assert found.max() == expected.max(), folder.name
        cell_ious += list(best_ious(expected.astype(np.int32), found))
    ious = np.array(cell_ious)
    assert ious.mean() > 0.99
    assert (ious >= 0.9).mean() >= 0.995


@pytest.mark.parametrize("name", ["hpa_68_A6_1", "hpa_1773_A2_7", "hpa_b6a469d8"])
def test_vectors_to_the_pixel(hpa_data: Path, name: str) -> None:
    nuclei_map, cell_map, nuclei, cells = read_vector(hpa_data / "labelling_vectors" / name)
    found = label_cells(nuclei_map, cell_map, cells.shape, exact=True)
    assert np.array_equal(found[0], nuclei)
    assert np.array_equal(found[1], cells)


@pytest.mark.slow
def test_kernels_work_where_nothing_is_writable(tmp_path: Path) -> None:
    package = tmp_path / "hcpl_kernel"
    source = Path(hcpl_kernel.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    # A file in the place of each folder that a cache could take: nobody, root included, can write there.
    taken = package / "segmentation" / "__pycache__"
    taken.touch()
    code = (
        "import numpy as np; import hcpl_kernel.segmentation as s; maps = np.zeros((8, 9, 3), np.uint8);"
        "assert s.label_cells(maps, maps)[1].shape == (32, 36); print(s.__file__)"
    )
    environment = {**os.environ, "HOME": str(taken), "XDG_CACHE_HOME": str(taken), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("NUMBA_CACHE_DIR", None)
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith(str(tmp_path))
