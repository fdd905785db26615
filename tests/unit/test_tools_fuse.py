"""tools.fuse: sums of log-odds that find what was put into made-up streams."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TinyRun

from hcpl_kernel.models.ensemble import read_ensemble
from tools.finished_run import open_run
from tools.fuse.__main__ import main
from tools.fuse.fitting import Streams, fit_sums

CELLS, FIELDS = 6000, 300


def made_streams(weights: tuple[float, float, float], seed: int = 0) -> tuple[Streams, np.ndarray]:
    """Log-odds of three classes, and a truth drawn from their weighted sum; the last class counts relative to the field."""
    rng = np.random.default_rng(seed)
    field = np.arange(CELLS) % FIELDS
    dsa, cell = rng.normal(-2, 2, (2, CELLS, 3))
    image = rng.normal(-1, 2, (FIELDS, 3))[field]
    cell[:, 2] += rng.normal(0, 5, FIELDS)[field]  # what all cells of a field share, which says nothing of the last class
    above = np.stack([s - np.stack([s[field == f].mean(0) for f in range(FIELDS)])[field] for s in (dsa, cell)])
    total = weights[0] * dsa + weights[1] * cell + weights[2] * image
    total[:, 2] = weights[0] * above[0, :, 2] + weights[1] * above[1, :, 2] - 1
    return Streams(dsa, cell, image, above), rng.random(total.shape) < 1 / (1 + np.exp(-total))


@pytest.mark.parametrize("weights", [(0.5, 1.0, 1.5), (0.0, 2.0, 0.4)])
def test_weights_are_found_again(weights: tuple[float, float, float]) -> None:
    streams, truth = made_streams(weights)
    first, second, last = fit_sums(streams, np.arange(CELLS), truth, relative=[2])
    for own in (first, second):
        assert (own.dsa, own.cell, own.image) == pytest.approx(weights, abs=0.15) and not own.relative
    assert last.relative and last.image == 0
    assert (last.dsa, last.cell, last.constant) == pytest.approx((*weights[:2], -1), abs=0.15)


def test_no_weight_is_negative_and_rare_classes_stay_near_the_common_weights() -> None:
    streams, truth = made_streams((0.5, 1.0, 1.5))
    truth[:, 0] = ~truth[:, 0]
    truth[:, 1] &= np.arange(CELLS) < 60
    rows = np.arange(CELLS)
    opposite, rare, _ = fit_sums(streams, rows, truth, relative=[2])
    assert opposite.dsa == opposite.cell == opposite.image == 0
    plain = fit_sums(*made_streams((0.5, 1.0, 1.5))[:1], rows, made_streams((0.5, 1.0, 1.5))[1], relative=[2])[1]
    assert 0 <= rare.image < plain.image + 0.5


def test_only_known_cells_count() -> None:
    streams, truth = made_streams((0.5, 1.0, 1.5))
    rows = np.flatnonzero(np.arange(CELLS) % 3)
    spoilt = truth.copy()
    spoilt[::3] = ~spoilt[::3]
    assert fit_sums(streams, rows, spoilt[rows], [2]) == fit_sums(streams, rows, truth[rows], [2])


def test_the_command_writes_sums_and_drops_the_calibration(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(tiny_run.weights, weights)
    given = [str(tiny_run.work), "--weights", str(weights), "--fields", str(tiny_run.fields), "--output", str(tmp_path)]
    before = (weights / "ensemble.json").read_text()
    assert main(given) == 0
    assert (weights / "ensemble.json").read_text() == before
    assert "relative to the field" in capsys.readouterr().out
    assert main([*given, "--relative", "--write"]) == 0
    fusion = read_ensemble(weights).fusion
    assert fusion.order == "log-odds" and fusion.log_odds is not None and fusion.cell_only == ()
    assert not any(own.relative for own in fusion.log_odds.classes)
    assert read_ensemble(weights).calibration is None
    assert open_run(tiny_run.work, weights).ensemble.fusion == fusion  # the run can be joined again
    assert main([*given, "--relative", "19"]) == 2
    assert "--relative is 19, expected classes 0 to 18" in capsys.readouterr().err
