"""The road before its first step: recipes, findings about the data, the split, weights folders that are not overwritten."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.models.ensemble import read_ensemble, read_values, write_ensemble
from hcpl_kernel.models.subset import without_orphans
from hcpl_kernel.settings import read_json
from tools.train.__main__ import main
from tools.train.publish import untrained
from tools.train.road.checking import check_data
from tools.train.road.joining import choose_weights, publish
from tools.train.road.projecting import GPUS, project_recipe
from tools.train.road.recipes import RECIPES, Trainings, read_recipe
from tools.train.road.splitting import split_data

ROOT = Path(__file__).resolve().parents[2]
MINI, FULL = ROOT / "weights" / "mini", ROOT / "weights" / "full"
NAMES = [name for name in read_json(RECIPES, 1) if name != "schema"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve fields of four antibodies: random pixels, two classes."""
    folder = tmp_path / "data"
    (folder / "train").mkdir(parents=True)
    rng = np.random.default_rng(0)
    with open(folder / "train.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ID", "Label", "Antibody"])
        for number in range(12):
            for channel in CHANNELS:
                pixels = rng.integers(0, 60000, (64, 80), dtype=np.uint16)
                cv2.imwrite(str(folder / "train" / f"f{number:02}_{channel}.png"), pixels)
            writer.writerow([f"f{number:02}", "0|16" if number % 2 else "16", f"HPA{number // 3}"])
    return folder


def kinds(data: Path, **changes: object) -> dict[str, list[str]]:
    """The findings, without those about rare classes, by kind."""
    options = {"classes": HPA_CLASSES, "fewest": 3, "group_column": None, "threads": 2, **changes}
    found: dict[str, list[str]] = {}
    for finding in check_data(data, **options).findings:  # type: ignore[arg-type]
        if finding.kind != "rare class":
            found.setdefault(finding.kind, []).append(finding.where)
    return found


def append_row(data: Path, row: str) -> None:
    with open(data / "train.csv", "a") as file:
        file.write(row + "\n")


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_has_settings_for_every_network(name: str) -> None:
    recipe = read_recipe(name)
    for folder in (FULL, MINI):
        if read_ensemble(folder).name not in recipe.networks:
            continue
        trainings = Trainings(folder, recipe, on_gpu=False)
        trainings.check(trainings.networks(None), trainings.relabelling())
        assert trainings.classifier(trainings.networks(None)[0], 10)["run"]["steps"] == recipe.fewest_steps


def test_steps_follow_the_number_of_cells() -> None:
    trainings = Trainings(FULL, read_recipe("paper"), on_gpu=True)
    assert (
        trainings.classifier("dsa_densenet161", 1_200_000)["run"]["steps"] == 60_000
    )  # as the config, for the paper's cells
    assert trainings.classifier("cla_swin_base", 1_200_000)["run"]["steps"] == 90_000
    assert trainings.relabeller("dsa_resnest50d", 1_200_000)["run"]["steps"] == 48_000  # four of five folds


def test_a_recipe_may_be_a_file_and_faults_are_named(tmp_path: Path) -> None:
    values = {"schema": 1, **read_json(RECIPES, 1)["day"], "rounds": 0}
    path = tmp_path / "own.json"
    path.write_text(json.dumps(values))
    assert Trainings(MINI, read_recipe(str(path)), False).relabelling() == []
    path.write_text(json.dumps({**values, "pases": {}}))
    with pytest.raises(SettingsError, match="passes"):
        read_recipe(str(path))
    with pytest.raises(SettingsError, match="expected one of day, week, paper"):
        read_recipe("hour")
    with pytest.raises(SettingsError, match="no network 'dsa_b4'"):
        Trainings(MINI, read_recipe("day"), False).networks(["dsa_b4"])
    values["networks"], values["relabelling"], values["rounds"] = {}, {}, 1
    path.write_text(json.dumps(values))
    with pytest.raises(SettingsError, match="relabelling names no network of the ensemble 'mini'"):
        Trainings(MINI, read_recipe(str(path)), False).relabelling()


def test_a_recipe_costs_by_its_steps() -> None:
    recipe = read_recipe("trial")
    trainings = Trainings(MINI, recipe, on_gpu=False)
    networks = trainings.networks(None)
    few, many = (project_recipe(trainings, recipe, read_ensemble(MINI), networks, n, None, GPUS) for n in (100, 100_000))
    assert many.hours("h100") > 5 * few.hours("h100") > 0
    assert "PROJECTED" in few.text(None) and "at 2.5 per hour" in few.text(2.5)
    assert [part.name for part in few.parts] == ["relabelling, dsa_efficientnet", *networks, "integrity"]


def test_a_good_data_set_has_no_findings(data: Path) -> None:
    assert kinds(data) == {}
    checked = check_data(data, HPA_CLASSES, 3, None, 2)
    assert checked.group_column == "Antibody" and len(checked.files) == 12 and not checked.stopped
    assert checked.labels.sum(0)[[0, 16]].tolist() == [6, 12]


def test_every_fault_of_a_field_is_named_and_costs_that_field(data: Path) -> None:
    images = data / "train"
    (images / "f00_green.png").unlink()
    whole = (images / "f01_red.png").read_bytes()
    (images / "f01_red.png").write_bytes(whole[:-200])
    cv2.imwrite(str(images / "f02_blue.png"), np.zeros((64, 64), np.uint16))
    (images / "f03_yellow.png").write_text("not an image")
    cv2.imwrite(str(images / "f04_green.png"), np.full((64, 80), 7, np.uint16))
    for channel in CHANNELS:
        (images / f"extra_{channel}.png").write_bytes(whole)
    append_row(data, "gone,16,HPA9")
    append_row(data, "f05,16|0,HPA1")  # the same labels as its first row
    append_row(data, "f06,,HPA2")
    assert kinds(data) == {
        "no image": ["gone"],
        "no label": ["extra"],
        "channel missing": ["f00"],
        "unreadable": ["f01", "f03"],
        "channels of different sizes": ["f02"],
        "empty channel": ["f04"],
        "empty label": ["f06"],
        "too few fields": ["train.csv"],  # six of thirteen are lost
        "uneven groups": ["Antibody"],
    }


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("f00,19,HPA0", "unknown label"),
        ("f00,Nucleoli,HPA0", "unknown label"),
        ("f00,3,HPA0", "contradiction"),
        (",3,x", "no ID"),
    ],
)
def test_a_fault_of_the_table_stops(data: Path, row: str, kind: str) -> None:
    append_row(data, row)
    checked = check_data(data, HPA_CLASSES, 3, None, 2)
    assert checked.stopped and [finding.kind for finding in checked.findings if finding.stops] == [kind]


def test_what_is_not_a_data_set_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no train.csv"):
        check_data(tmp_path, HPA_CLASSES, 3, None, 2)
    with pytest.raises(InputError, match="no column 'Gene'"):
        check_data(data, HPA_CLASSES, 3, "Gene", 2)
    assert "too few groups" in kinds(data, fewest=5)
    (data / "train.csv").write_text("Image,Label\n")
    with pytest.raises(InputError, match="no column 'ID'"):
        check_data(data, HPA_CLASSES, 3, None, 2)


def test_no_antibody_is_on_two_sides(data: Path, tmp_path: Path) -> None:
    split = split_data(check_data(data, HPA_CLASSES, 3, None, 2), 4, tmp_path / "split")
    sides = []
    for path in (split.training, split.validation, split.held_out):
        with open(path, newline="") as file:
            sides.append({(row["ID"], row["group"]) for row in csv.DictReader(file)})
    assert sum(map(len, sides)) == 12 and split.fields == (6, 3, 3)
    groups = [{group for _, group in side} for side in sides]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert "split by Antibody: none is on two sides" in split.text
    with open(split.listing, newline="") as file:
        listed = list(csv.DictReader(file))
    assert {row["ID"] for row in listed} == {name for name, _ in sides[2]}
    assert all(Path(row[channel]).is_file() for row in listed for channel in CHANNELS)


def test_a_publication_is_never_lost(tmp_path: Path) -> None:
    made, target = tmp_path / "made", tmp_path / "weights"
    choose_weights(MINI, MINI / "ensemble.json", made)
    publish(made, target, "a" * 24)
    publish(made, target, "a" * 24)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made", "weights"]
    publish(made, target, "b" * 24)
    assert read_ensemble(tmp_path / "weights-aaaaaaaa").name == read_ensemble(target).name == "mini"
    own = tmp_path / "own"
    own.mkdir()
    (own / "ensemble.json").write_text("{}")
    with pytest.raises(SettingsError, match="was not published by this command"):
        publish(made, own, "c" * 24)


def test_a_chosen_ensemble_has_only_its_files(tmp_path: Path) -> None:
    values = read_values(MINI)
    values["networks"] = values["networks"][:1]
    write_ensemble(tmp_path / "ensemble.json", without_orphans(values))
    choose_weights(MINI, tmp_path / "ensemble.json", tmp_path / "one")
    files = {path.name for path in (tmp_path / "one").glob("*.safetensors")}
    assert values["networks"][0]["file"] in files and len(files) == 4  # and the segmentation, and completeness


def test_what_a_training_begins_with_says_nothing_of_weights() -> None:
    begun = untrained(read_values(MINI))
    parts = [*begun["segmentation"].values(), *begun["integrity"].values(), *begun["networks"]]
    assert not any(part["trained"] or part["sha256"] for part in parts) and "calibration" not in begun
    assert begun["networks"][0]["provenance"].keys() <= {"stands_for", "parameters", "family"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--recipe", "trial", "--ensemble", str(FULL)], "recipe: relabelling names no network of the ensemble 'full'"),
        (["--recipe", "day"], "dpn_unet_nuclei_v1.safetensors is missing"),
        (["--recipe", "day", "--masks", "nowhere"], "--masks nowhere is not a folder"),
        (
            ["--recipe", "trial", "--ensemble", str(MINI)],
            "cannot be trained on: error: too few groups: Antibody: 4 different",
        ),
    ],
)
def test_bad_use_is_told_before_anything_is_computed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert main(["full", "--data", str(data), "--work", str(tmp_path / "work"), *more]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "work" / "steps").exists()
