"""Settings: unknown keys, durations, ranges, and the ensemble file."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path

import pytest

import hcpl_kernel
from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.cli import _parser
from hcpl_kernel.errors import SettingsError, WeightsError
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.models.fusion_spec import FusionSpec
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.settings import Part, PredictSettings, from_mapping, parse_duration, read_json

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("8h30m", 30600),
        ("8h 30m", 30600),
        (" 90m ", 5400),
        ("90s", 90),
        ("3600s", 3600),
        ("600", 600),
        ("1h1m1s", 3661),
        ("0.5h", 1800),
        ("8:30:00", 30600),
        ("100:00:59", 360059),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "h",
        "fast",
        "abc",
        "8h30",
        "1h30",
        "-5s",
        "nan",
        "inf",
        "1e400",
        "8:30",
        "8:60:00",
        "1:2:3",
        "30m8h",
        "0",
        "0s",
        "9" * 400,
    ],
)
def test_what_is_not_a_duration_is_refused(text: str) -> None:
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
    [
        {"pixel_size": 0},
        {"pixel_size": float("nan")},
        {"pixel_size": "0.3"},
        {"pixel_size": True},
        {"resolution": "half"},
        {"views": 3},
        {"views": True},
        {"limit": 0},
        {"limit": "3"},
        {"limit": 1.5},
        {"engine": "magic"},
        {"device": None},
        {"time_limit": -1.0},
        {"time_limit": float("nan")},
        {"time_limit": float("inf")},
        {"time_limit": [1]},
        {"suffixes": "red=_r"},
        {"work": ""},
        {"sample": 5},
        {"part": "0/3"},
        {"part": "4/3"},
        {"part": "a/b"},
        {"part": "1"},
        {"part": "1/0"},
        {"part": (1, 2)},
        {"networks": ()},
        {"networks": "a,,b"},
        {"networks": ["a", "a"]},
        {"networks": [1]},
        {"networks": 5},
        {"strict": 1},
        {"fresh": "no"},
        {"quiet": None},
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="expected"):
        PredictSettings(Path("."), Path("."), Path("a.csv"), **wrong)  # type: ignore[arg-type]


def test_parts_and_networks_are_read_from_text() -> None:
    settings = PredictSettings(Path("."), Path("."), Path("a.csv"), part="2/3", networks="a, b")  # type: ignore[arg-type]
    assert settings.part == Part(2, 3) and str(settings.part) == "2/3"
    assert settings.networks == ("a", "b")


def test_the_python_function_has_every_setting_with_its_default() -> None:
    given = inspect.signature(hcpl_kernel.predict).parameters
    fields = dataclasses.fields(PredictSettings)
    assert list(given) == [field.name for field in fields]
    for field in fields:
        default = given[field.name].default
        if field.name in ("suffixes", "channels"):
            assert default is None
        else:
            assert default == (inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default)
        assert f"        {field.name}: " in (hcpl_kernel.predict.__doc__ or "")
        assert f"        {field.name}: " in (PredictSettings.__doc__ or "")


def test_the_command_line_has_every_setting_with_its_default() -> None:
    options = vars(_parser().parse(["predict", "fields", "--weights", "w", "--output", "o.csv"]))
    for field in dataclasses.fields(PredictSettings):
        if field.default is not dataclasses.MISSING:
            assert options[field.name] == field.default, field.name


def test_the_work_folder_is_next_to_the_output() -> None:
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


def test_a_folder_without_an_ensemble_is_not_a_weights_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no ensemble.json"):
        read_ensemble(tmp_path)


def test_specs_refuse_impossible_values() -> None:
    with pytest.raises(SettingsError, match="kind 'dsb'"):
        NetworkSpec(name="a", kind="dsb", base="x", input_size=96, file="f")
    with pytest.raises(SettingsError, match="class ids 0 to 18"):
        FusionSpec(cell_only=(19,)).check_classes(HPA_CLASSES)
