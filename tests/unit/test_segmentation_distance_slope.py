"""The slope away from the nuclei, which parts cells where the cell network sees no border."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.segmentation import Segmentator, label_cells
from hcpl_kernel.segmentation.distance_slope import REACH, with_distance_slope

MINI = Path(__file__).resolve().parents[2] / "weights" / "mini" / "ensemble.json"


def class_map(interior: np.ndarray) -> np.ndarray:
    return np.stack([0 * interior, 0 * interior, interior], axis=-1).astype(np.uint8)


def test_the_interior_falls_with_the_distance_from_the_nearest_nucleus() -> None:
    nuclei = class_map(np.zeros((3, 201)))
    nuclei[:, 0] = 255
    sloping = with_distance_slope(nuclei, class_map(np.full((3, 201), 200)), 0.5)
    row = sloping[1, :, 2].astype(int)
    assert row[0] == 200
    assert row[REACH // 2] == pytest.approx(150, abs=2)
    assert (row[REACH + 5 :] == 100).all(), "beyond the reach it stays"
    assert (np.diff(row) <= 0).all()
    assert not sloping[..., :2].any()


def test_without_nuclei_and_without_slope_a_map_stays() -> None:
    cells = class_map(np.full((8, 8), 200))
    assert np.array_equal(with_distance_slope(class_map(np.zeros((8, 8))), cells, 0.5), cells)
    assert np.array_equal(with_distance_slope(cells, cells, 0.0), cells)


def test_single_doubts_are_smoothed_and_no_cell_grows() -> None:
    cells = class_map(np.full((20, 40), 200))
    cells[10, 10, 2] = 60
    cells[:, 30:, 2] = 0
    smooth = with_distance_slope(class_map(np.full((20, 40), 255)), cells, 0.1)[..., 2]
    assert 150 < smooth[10, 10] < 200 and smooth[10, 12] < 200 and smooth[10, 20] == 200
    assert not smooth[:, 30:].any()


def two_cells_without_a_border() -> tuple[np.ndarray, np.ndarray]:
    """A nucleus at the upper left and a wide one at the lower right in one even patch of cytoplasm, all at 0.32 um."""
    nuclei = np.zeros((96, 160))
    nuclei[20:40, 20:40] = nuclei[60:80, 110:130] = 255
    return class_map(nuclei), class_map(np.full((96, 160), 255))


def test_touching_cells_meet_halfway_between_their_nuclei() -> None:
    nuclei, cells = two_cells_without_a_border()
    y, x = np.mgrid[:96, :160]
    first = np.hypot(np.maximum(abs(y - 29.5) - 10, 0), np.maximum(abs(x - 29.5) - 10, 0))
    second = np.hypot(np.maximum(abs(y - 69.5) - 10, 0), np.maximum(abs(x - 119.5) - 10, 0))
    nearest = np.where(first < second, 1, 2)

    def wrong(cell_map: np.ndarray) -> float:
        found = label_cells(nuclei, cell_map, output_shape=(96, 160))[1]
        return float(np.mean(found[found > 0] != nearest[found > 0]))

    assert wrong(with_distance_slope(nuclei, cells, 0.3)) < 0.02 < wrong(cells)


@pytest.mark.parametrize(("slope", "beside"), [(0.1, 2), (0.6, 4)])
def test_a_visible_border_stays_where_it_is(slope: float, beside: int) -> None:
    nuclei, cells = two_cells_without_a_border()
    cells[:, 60:63] = (0, 255, 0)
    found = label_cells(nuclei, with_distance_slope(nuclei, cells, slope), output_shape=(96, 160))[1]
    assert (found[5:-5, 5 : 60 - beside] == 1).all() and (found[5:-5, 63 + beside : -5] == 2).all()
    assert (found[5:-5, :60] != 2).all() and (found[5:-5, 63:] != 1).all()


class Passing(nn.Module):
    """Logits that say "interior" where its input is bright."""

    def forward(self, x):  # type: ignore[no-untyped-def]
        return 10 * x[:, [0, 0, 0]] * x.new_tensor([-1, -2, 1]).view(1, 3, 1, 1)


def test_a_segmentator_applies_it_to_the_cells_of_every_field() -> None:
    image = np.full((4, 64, 64), 40, np.uint8)
    image[2, :, :32] = 255
    image[[0, 3]] = 255
    plain = Segmentator(Passing(), Passing()).maps([image, image], 0.32)
    sloping = Segmentator(Passing(), Passing(), distance_slope=0.4).maps([image, image], 0.32)
    for before, after in zip(plain, sloping, strict=True):
        assert np.array_equal(before[0], after[0])
        assert np.array_equal(after[1][:, :28], before[1][:, :28])
        assert (after[1][:, 40:, 2] < before[1][:, 40:, 2]).all()


def test_what_padding_mirrors_is_no_nucleus() -> None:
    """The nearest nucleus is looked for in the field, as where the slope is calibrated, not in its mirrored margin."""
    image = np.zeros((4, 64, 64), np.uint8)
    image[2, 8:16, 8:16] = 255
    image[[0, 3]] = 255
    nuclei, plain = Segmentator(Passing(), Passing()).maps([image], 0.32)[0]
    sloping = Segmentator(Passing(), Passing(), distance_slope=0.4).maps([image], 0.32)[0][1]
    assert np.array_equal(sloping, with_distance_slope(nuclei, plain, 0.4))


def test_only_the_cell_network_has_one(tmp_path: Path) -> None:
    values = json.loads(MINI.read_text())
    values["segmentation"]["cell"]["distance_slope"] = 0.25
    (tmp_path / "ensemble.json").write_text(json.dumps(values))
    assert read_ensemble(tmp_path).segmentation()[1].distance_slope == 0.25
    values["segmentation"]["nuclei"]["distance_slope"] = 0.25
    (tmp_path / "ensemble.json").write_text(json.dumps(values))
    with pytest.raises(SettingsError, match=r"segmentation\.nuclei\.distance_slope: found 0\.25, expected none"):
        read_ensemble(tmp_path)
