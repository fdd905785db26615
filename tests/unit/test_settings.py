"""Settings: unknown keys, durations, ranges, and the ensemble file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.errors import SettingsError, WeightsError
from hcpl_kernel.models.ensemble import FusionSpec, read_ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.settings import PredictSettings, from_mapping, parse_duration, read_json

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "seconds"), [("8h30m", 30600), ("45m", 2700), ("90s", 90), ("600", 600), ("1h1m1s", 3661), ("0.5h", 1800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "8 h", "fast", "8h30", "-3s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="8h30m"):
        parse_duration(text)


def test_an_unknown_setting_names_the_nearest_known_one() -> None:
    with pytest.raises(SettingsError, match="did you mean 'pixel_size'"):
        from_mapping(PredictSettings, {"fields_dir": ".", "weights": ".", "output": "a.csv", "pixelsize": 1}, "here")


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(SettingsError, match="here: missing output"):
        from_mapping(PredictSettings, {"fields_dir": ".", "weights": "."}, "here")


@pytest.mark.parametrize(
    "wrong",
    [{"pixel_size": 0}, {"resolution": "half"}, {"views": 3}, {"limit": 0}, {"engine": "magic"}, {"time_limit": -1.0}],
)
def test_values_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="expected"):
        PredictSettings(Path("."), Path("."), Path("a.csv"), **wrong)  # type: ignore[arg-type]


def test_the_work_folder_lies_beside_the_output() -> None:
    assert PredictSettings(Path("."), Path("."), Path("out/sub.csv")).work_dir == Path("out/sub_work")


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"schema": 2}')
    with pytest.raises(SettingsError, match="schema 1, found 2"):
        read_json(path, 1)


@pytest.mark.parametrize("name", ["mini", "full"])
def test_both_ensembles_have_the_nine_roles_of_the_paper(name: str) -> None:
    ensemble = read_ensemble(CHECKOUT / "weights" / name)
    kinds = [network.kind for network in ensemble.networks]
    assert (kinds.count("dsa"), kinds.count("cla"), kinds.count("clh")) == (4, 4, 1)
    assert ensemble.completeness.kind == "completeness"


def test_a_misspelt_key_in_the_ensemble_file_is_named(tmp_path: Path) -> None:
    values = json.loads((CHECKOUT / "weights" / "mini" / "ensemble.json").read_text())
    values["networks"][0]["input_sise"] = values["networks"][0].pop("input_size")
    (tmp_path / "ensemble.json").write_text(json.dumps(values))
    with pytest.raises(SettingsError, match=r"networks\[0\].*input_sise.*did you mean 'input_size'"):
        read_ensemble(tmp_path)


def test_a_folder_without_an_ensemble_is_no_weights_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no ensemble.json"):
        read_ensemble(tmp_path)


def test_specs_refuse_impossible_values() -> None:
    with pytest.raises(SettingsError, match="kind 'dsb'"):
        NetworkSpec(name="a", kind="dsb", base="x", input_size=96, file="f")
    with pytest.raises(SettingsError, match="class ids 0 to 18"):
        FusionSpec(cell_only=(19,)).check_classes(HPA_CLASSES)
