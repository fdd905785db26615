"""The part `calibration` of `ensemble.json`, and what a run does with it and with the ensemble's caution."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, cast

import pytest

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.fields.bit_depth import BitDepth
from hcpl_kernel.fields.stamps import ContentStamps
from hcpl_kernel.models.calibration_spec import CalibrationSpec, ClassCalibration
from hcpl_kernel.models.ensemble import Ensemble, read_ensemble
from hcpl_kernel.pipeline.plan import Keys
from hcpl_kernel.report.overlay import cell_text
from hcpl_kernel.report.text import format_report
from hcpl_kernel.settings import PredictSettings

MINI = Path(__file__).parents[2] / "weights" / "mini"


def changed(folder: Path, **parts: Any) -> Path:
    values = json.loads((MINI / "ensemble.json").read_text()) | parts
    (folder / "ensemble.json").write_text(json.dumps(values))
    return folder


def test_the_embedded_weights_are_calibrated_and_say_what_they_learned_from() -> None:
    ensemble = read_ensemble(MINI)
    assert ensemble.calibration is not None and len(ensemble.calibration.classes) == 19
    assert ensemble.caution is not None and "simulated fields only" in ensemble.caution


def test_without_the_part_values_stay_as_they_are(tmp_path: Path) -> None:
    assert read_ensemble(changed(tmp_path, calibration=None)).calibration is None


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"classes": [{"fused": [0.5], "calibrated": [0.5]}]}, r"calibration.classes: found 1 curves, expected 19"),
        ({"classes": [{"fused": [0.5], "calibrated": [2]}] * 19}, r"calibration.classes\[0\].calibrated\[0\]: found 2"),
        ({"classes": [{"fused": [0.5, 0.4], "calibrated": [0.1, 0.2]}] * 19}, r"classes\[0\].fused: found 0.4 at place 1"),
        ({"classes": [{"fused": [0.5], "calibrated": [0.5], "treshold": 1}] * 19}, "did you mean 'threshold'"),
    ],
)
def test_a_wrong_part_is_refused_with_its_place(tmp_path: Path, part: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_ensemble(changed(tmp_path, calibration=part))


def test_a_part_of_a_run_depends_on_the_curves_and_thresholds_but_not_on_their_provenance(tmp_path: Path) -> None:
    mini = read_ensemble(MINI)
    settings = PredictSettings(tmp_path, MINI, tmp_path / "s.csv")

    def key(calibration: CalibrationSpec | None) -> str:
        ensemble = cast(Ensemble, dataclasses.replace(mini, calibration=calibration))
        keys = Keys(settings, BitDepth(16), ensemble, (), cast(Any, None), "", ContentStamps(tmp_path))
        return keys.of_outcome({}, 96)

    def spec(threshold: float, knot: float, **provenance: str) -> CalibrationSpec:
        return CalibrationSpec((ClassCalibration((0.5,), (knot,), threshold),) * 19, provenance)

    found = {key(None), key(spec(0.5, 0.5)), key(spec(0.4, 0.5)), key(spec(0.5, 0.4))}
    assert len(found) == 4
    assert key(spec(0.5, 0.5)) == key(spec(0.5, 0.5, data="other words"))


def test_the_screen_shows_the_caution(tmp_path: Path) -> None:
    (tmp_path / "run_report.json").write_text(json.dumps({"weights": {"name": "w", "trained": True, "caution": "made up"}}))
    assert "caution   made up" in format_report(tmp_path).splitlines()


def test_an_unsure_cell_is_written_with_a_question_mark() -> None:
    classes = read_ensemble(MINI).classes
    assert cell_text("", "Golgi apparatus", classes) == "Golgi?"
    assert cell_text("Cytosol|Golgi apparatus", "Cytosol", classes) == "Cytosol + Golgi"
