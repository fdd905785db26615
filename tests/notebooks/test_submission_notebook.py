"""The submission notebook as Kaggle runs it: from the bundle alone, no network, inputs that cannot be written."""

from __future__ import annotations

import csv
import html
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbclient.exceptions import CellExecutionError

from hcpl_kernel.submission import validate_submission
from tools.build_dataset import ROOT, build_bundle

from .kaggle_mount import Field, KaggleMount, htmls, pictures

LEFT = {"submission.csv", "hcpl_report.json"}
PAGE = "hcpl_report.html"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bundle(tmp_path_factory.mktemp("dist"), ROOT / "weights" / "mini", "someone").folder


def rows(mount: KaggleMount) -> Iterator[dict[str, str]]:
    with open(mount.working / "submission.csv", newline="") as file:
        yield from csv.DictReader(file)


def check_what_is_left(mount: KaggleMount) -> dict[str, object]:
    """Only the submission, which is valid, the report, which is returned, and the page of a run that somebody looks at."""
    assert {path.name for path in mount.working.iterdir()} - {PAGE} == LEFT
    assert not list(mount.temp.iterdir()), "scratch files stayed"
    validation = validate_submission(mount.working / "submission.csv", mount.sample)
    assert validation.ok, str(validation)
    return json.loads((mount.working / "hcpl_report.json").read_text())


def test_visible_run(tmp_path: Path, bundle: Path) -> None:
    fields = [Field("a", 1, (256, 256)), Field("b", 2, (256, 320))]
    mount = KaggleMount(tmp_path, "flat", bundle, fields)
    text = mount.run(OVERLAYS=1, OPTIONS=mount.on_labels)
    assert ": fit to run" in text
    report = check_what_is_left(mount)
    assert report["problem"] is None
    cells = report["run"]["counts"]["cells"]
    predicted = {row["ID"]: len(row["PredictionString"].split()) // 3 for row in rows(mount)}
    assert list(predicted) == ["a", "b"] and min(predicted.values()) > 0
    assert sum(predicted.values()) == 19 * cells
    ((height, *rest),) = (picture.shape for picture in pictures(mount.executed))
    assert rest == [1024, 3] and height > 1024  # a caution is written under it
    assert "mean probability" in text and "Nucleoplasm" in text
    (frame,) = [shown for shown in htmls(mount.executed) if "<iframe" in shown]
    page = (mount.working / PAGE).read_text()
    assert html.unescape(frame.split('srcdoc="')[1].split('"')[0]) == page and "<title>" in page


def test_hidden_rerun_has_other_images_and_draws_nothing(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    fields = [Field(f"hidden-{i}", 10 + i, (224 + 32 * i, 224), bits=16) for i in range(3)]
    mount = KaggleMount(tmp_path, "by kind", bundle, fields)
    mount.run()
    report = check_what_is_left(mount)
    assert report["problem"] is None and report["run"]["counts"]["readable"] == 3
    assert [row["ID"] for row in rows(mount)] == [field.id for field in fields]
    assert not pictures(mount.executed) and not (mount.working / PAGE).exists()


def test_one_field_unpacked_wheels_and_a_path_with_spaces(tmp_path: Path, bundle: Path) -> None:
    root = tmp_path / "a path with spaces"
    root.mkdir()
    mount = KaggleMount(root, "mixed", bundle, [Field("only", 3, (256, 256))], unpacked=True)
    mount.run(OPTIONS=mount.on_labels)
    assert check_what_is_left(mount)["problem"] is None
    assert len(pictures(mount.executed)) == 1


def test_no_image_at_all_gives_the_samples_rows(tmp_path: Path, bundle: Path) -> None:
    mount = KaggleMount(tmp_path, "flat", bundle, [])
    sample = mount.sample.read_text() + "x,2048,2048,0 1 eNoLCAgIMAEABJkBdQ==\n"
    mount.sample.write_text(sample)
    text = mount.run()
    assert "NOT AS ASKED" in text and "No cell was predicted" in text
    assert "no field" in str(check_what_is_left(mount)["problem"])
    assert (mount.working / "submission.csv").read_text() == sample


def test_damaged_weights_cost_the_prediction_only(tmp_path: Path, bundle: Path) -> None:
    mount = KaggleMount(tmp_path, "by kind", bundle, [Field("a", 1, (128, 128))])
    (mount.dataset / "clh_efficientnet.safetensors").write_bytes(b"damaged on the way")
    text = mount.run()
    assert ": NOT fit to run" in text and "NOT AS ASKED" in text
    assert "clh_efficientnet.safetensors" in str(check_what_is_left(mount)["problem"])


def test_without_the_dataset_the_notebook_says_what_to_attach(tmp_path: Path, bundle: Path) -> None:
    mount = KaggleMount(tmp_path, "by kind", bundle, [])
    (mount.dataset / "hcpl_bundle.json").unlink()
    with pytest.raises(CellExecutionError, match="add the dataset hcpl-kernel to this notebook"):
        mount.run()
