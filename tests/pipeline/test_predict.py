"""A whole run: what it writes, what it survives, and how it resumes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

import hcpl_kernel
from hcpl_kernel.cli import main
from hcpl_kernel.engines.compiled_engine import CompiledEngine
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.pipeline import field_work, network_passes, plan
from hcpl_kernel.pipeline.device_group import DeviceGroup
from hcpl_kernel.pipeline.inference import Predictor
from hcpl_kernel.runtime.process_tuning import torch_threads
from hcpl_kernel.submission import decode_mask, validate_submission
from tests.toy_ensemble import write_toy_ensemble

from .conftest import PIXEL_SIZE

Predict = Callable[..., int]


@pytest.fixture
def predict(small_ensemble: Path, tmp_path: Path) -> Predict:
    """`hcpl predict` into tmp_path, given the fields and further options."""

    def call(fields_dir: Path, *options: str) -> int:
        base = ["predict", str(fields_dir), "--weights", str(small_ensemble), "--output", str(tmp_path / "submission.csv")]
        return main([*base, "--work", str(tmp_path / "work"), "--pixel-size", str(PIXEL_SIZE), "--device", "cpu", *options])

    return call


def given_labels(fields: Path) -> list[str]:
    return ["--labels", str(fields / "masks")]


def report(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "work" / "run_report.json").read_text())


def test_a_run_writes_everything_that_the_contract_names(predict: Predict, fields: Path, tmp_path: Path) -> None:
    assert predict(fields) == 0
    assert validate_submission(tmp_path / "submission.csv").ok
    submission = pd.read_csv(tmp_path / "submission.csv")
    assert list(submission.columns) == ["ID", "ImageWidth", "ImageHeight", "PredictionString"]
    assert submission["ID"].tolist() == ["a", "b", "c"]
    assert submission[["ImageWidth", "ImageHeight"]].to_numpy().tolist() == [[256, 256], [256, 256], [320, 224]]
    work = tmp_path / "work"
    for field_id, shape in (("a", (256, 256)), ("c", (224, 320))):
        for kind in ("cells", "nuclei"):
            labels = cv2.imread(str(work / "labels" / f"{field_id}_{kind}.png"), cv2.IMREAD_UNCHANGED)
            assert labels.dtype == np.uint16 and labels.shape == shape
    assert report(tmp_path)["networks"]["clh_efficientnet"]["state"] == "done"


def test_given_labels_become_masks_rows_and_probabilities(predict: Predict, fields: Path, tmp_path: Path) -> None:
    assert predict(fields, *given_labels(fields)) == 0
    cells = pd.read_csv(tmp_path / "work" / "cells.csv")
    expected = ["ID", "cell", "x", "y", "width", "height", "area", "nucleus_area", "integrity", "best_class"]
    further = ["labels", "second_class", "third_class", "margin", "area_um2", "nucleus_area_um2", "centroid_x", "centroid_y"]
    further += ["protein_mean", "touches_edge"]
    assert list(cells.columns) == expected + [f"prob_{k}" for k in range(19)] + further
    prob = cells[[f"prob_{k}" for k in range(19)]].to_numpy()
    assert ((prob >= 0) & (prob <= 1)).all() and cells["integrity"].between(0, 1).all()
    rows = pd.read_csv(tmp_path / "submission.csv").set_index("ID")["PredictionString"]
    for field_id in "abc":
        truth = cv2.imread(str(fields / "masks" / f"{field_id}_cells.png"), cv2.IMREAD_UNCHANGED)
        own = cells[cells["ID"] == field_id]
        assert sorted(own["cell"]) == [c for c in np.unique(truth) if c]
        parts = rows[field_id].split(" ")
        assert len(parts) == 3 * 19 * len(own)
        first = decode_mask(parts[2], *truth.shape)
        assert (first == (truth == own["cell"].iloc[0])).all()
        confidences = np.array(parts[1::3], float).reshape(len(own), 19)
        by_label = np.take_along_axis(confidences, np.array(parts[0::3], int).reshape(len(own), 19).argsort(1), 1)
        np.testing.assert_allclose(by_label, own[[f"prob_{k}" for k in range(19)]], rtol=1e-5)


def test_header_order_and_missing_images_follow_the_sample(predict: Predict, fields: Path, tmp_path: Path) -> None:
    zero = "eNoLCAgIMAEABJkBdQ=="
    sample = tmp_path / "sample.csv"
    sample.write_text(
        f"ImageID,ImageWidth,ImageHeight,PredictionString\nc,320,224,0 1 x\nmissing,2048,2048,0 1 {zero}\nb,256,256,0 1 x\n"
    )
    assert predict(fields, *given_labels(fields), "--sample", str(sample)) == 0
    submission = pd.read_csv(tmp_path / "submission.csv")
    assert submission.columns[0] == "ImageID"
    assert submission["ImageID"].tolist() == ["c", "missing", "b"]
    assert submission["PredictionString"][1] == f"0 1 {zero}"
    assert len(submission["PredictionString"][0]) > 100
    assert any("not in the sample" in text for text in report(tmp_path)["degradations"])


def test_with_nothing_readable_the_fallback_is_written_and_the_exit_code_is_2(
    predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad").mkdir()
    for channel in ("red", "green", "blue", "yellow"):
        (tmp_path / "bad" / f"x_{channel}.png").write_text("no image")
    assert predict(tmp_path / "bad") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("hcpl: none of the 1 fields")
    assert validate_submission(tmp_path / "submission.csv").ok


def test_an_empty_folder_is_bad_use(predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nothing").mkdir()
    assert predict(tmp_path / "nothing") == 2
    assert "hcpl:" in capsys.readouterr().err


def test_missing_weights_leave_a_fallback(fields: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "w").mkdir()
    output = tmp_path / "submission.csv"
    assert main(["predict", str(fields), "--weights", str(tmp_path / "w"), "--output", str(output)]) == 2
    assert "ensemble.json" in capsys.readouterr().err
    assert validate_submission(output).ok


def test_a_damaged_weights_file_is_refused(
    fields: Path, small_ensemble: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = shutil.copytree(small_ensemble, tmp_path / "w")
    path = damaged / "cla_efficientnet.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert main(["predict", str(fields), "--weights", str(damaged), "--output", str(tmp_path / "s.csv")]) == 2
    assert "cla_efficientnet" in capsys.readouterr().err


def test_strict_turns_a_degradation_into_exit_code_1(predict: Predict, fields: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fields, tmp_path / "fields")
    (folder / "b_red.png").unlink()
    assert predict(folder, "--strict") == 1


def test_a_second_run_computes_nothing(
    predict: Predict, fields: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert predict(fields, *given_labels(fields)) == 0
    first = (tmp_path / "submission.csv").read_bytes()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(Predictor, "predict", never)
    monkeypatch.setattr(field_work, "crop_cells", never)
    assert predict(fields, *given_labels(fields)) == 0
    assert (tmp_path / "submission.csv").read_bytes() == first
    assert report(tmp_path)["stages"]["looking for finished parts"]["finished"] == 1


def test_a_killed_run_resumes_and_ends_like_an_undisturbed_one(
    predict: Predict, fields: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "MOST_FIELDS", 1)
    assert predict(fields, *given_labels(fields)) == 0
    undisturbed = (tmp_path / "submission.csv").read_bytes()
    original, calls = network_passes.predict_shard, []

    def killed(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 5:  # in the middle of the second network
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(network_passes, "predict_shard", killed)
    assert predict(fields, *given_labels(fields), "--fresh") == 130
    assert validate_submission(tmp_path / "submission.csv").ok
    assert predict(fields, *given_labels(fields)) == 0
    assert len(calls) == 5 + 12 - 4  # four networks on three shards, four of them done before the kill
    assert (tmp_path / "submission.csv").read_bytes() == undisturbed


def test_another_input_is_not_taken_for_a_finished_one(predict: Predict, fields: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(fields, tmp_path / "fields")
    assert predict(folder, *given_labels(fields)) == 0
    before = pd.read_csv(tmp_path / "work" / "cells.csv")
    other = cv2.imread(str(folder / "a_green.png"), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(folder / "a_green.png"), 255 - other)
    assert predict(folder, *given_labels(fields)) == 0
    after = pd.read_csv(tmp_path / "work" / "cells.csv")
    changed = (before["prob_0"] != after["prob_0"]).groupby(before["ID"]).any()
    assert changed["a"] and not changed["c"]


def test_a_passed_time_limit_costs_networks_and_never_images(
    predict: Predict, fields: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HCPL_STARTED_AT", str(time.time() - 995))
    assert predict(fields, *given_labels(fields), "--time-limit", "1000s") == 2  # nothing was predicted
    assert pd.read_csv(tmp_path / "submission.csv")["ID"].tolist() == ["a", "b", "c"]
    assert validate_submission(tmp_path / "submission.csv").ok
    values = report(tmp_path)
    assert all(n["state"] == "left out" for n in values["networks"].values())
    assert any("time limit" in text for text in values["degradations"])
    monkeypatch.delenv("HCPL_STARTED_AT")
    assert predict(fields, *given_labels(fields)) == 0  # with time, the same folder is finished
    assert all(n["state"] == "done" for n in report(tmp_path)["networks"].values())


def test_the_slow_network_is_left_out_and_the_others_stay(
    predict: Predict, fields: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = network_passes.predict_shard

    def slow(group: DeviceGroup, *arguments: Any) -> Any:
        if group.spec.name == "cla_efficientnet":
            time.sleep(1.5)
        return original(group, *arguments)

    monkeypatch.setattr(network_passes, "predict_shard", slow)
    monkeypatch.setattr(plan, "MOST_FIELDS", 1)

    class Clock:
        limit, elapsed, for_fields, for_networks = 100.0, 50.0, float("inf"), 2.5

        def begin(self) -> None: ...

        def wrote(self, seconds: float) -> None: ...

    monkeypatch.setattr("hcpl_kernel.pipeline.run.TimeBudget", lambda limit, started: Clock())
    assert predict(fields, *given_labels(fields)) == 0
    networks = report(tmp_path)["networks"]
    assert networks["cla_efficientnet"]["state"] == "left out"
    assert networks["dsa_efficientnet"]["state"] == networks["clh_efficientnet"]["state"] == "done"
    assert len(pd.read_csv(tmp_path / "submission.csv")["PredictionString"][0]) > 100


def test_views_go_before_networks(predict: Predict, fields: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_passes.NetworkPasses, "views_in_time", lambda *_: 2)
    assert predict(fields, *given_labels(fields), "--views", "4", "--time-limit", "1h") == 0
    values = report(tmp_path)
    assert all(network["state"] == "done" for network in values["networks"].values())
    assert any("2 of 4 test-time views" in text for text in values["degradations"])
    hurried = (tmp_path / "submission.csv").read_bytes()
    monkeypatch.undo()
    assert predict(fields, *given_labels(fields), "--views", "4") == 0  # with time, all views are seen
    assert not any("views" in text for text in report(tmp_path)["degradations"])
    assert (tmp_path / "submission.csv").read_bytes() != hurried


def test_of_the_first_network_counts_what_it_has_seen(
    predict: Predict, fields: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = network_passes.predict_shard

    def slow(group: DeviceGroup, *arguments: Any) -> Any:
        if group.spec.name != "vid_completeness":
            time.sleep(1.0)
        return original(group, *arguments)

    monkeypatch.setattr(network_passes, "predict_shard", slow)
    monkeypatch.setattr(plan, "MOST_FIELDS", 1)

    class Clock:
        limit, elapsed, for_fields, for_networks = 100.0, 50.0, float("inf"), 1.1

        def begin(self) -> None: ...

        def wrote(self, seconds: float) -> None: ...

    monkeypatch.setattr("hcpl_kernel.pipeline.run.TimeBudget", lambda limit, started: Clock())
    assert predict(fields, *given_labels(fields)) == 0
    lengths = pd.read_csv(tmp_path / "submission.csv")["PredictionString"].str.len()
    assert (lengths > 100).tolist() == [True, False, False]
    assert any("had the time to see" in text for text in report(tmp_path)["degradations"])


def test_another_engine_segments_again_but_takes_given_labels(
    predict: Predict, fields: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    original = field_work.FieldWork.finish
    cut: list[str] = []

    def counted(self: field_work.FieldWork, files: Any, *arguments: Any) -> Any:
        cut.append(files.id)
        return original(self, files, *arguments)

    monkeypatch.setattr(field_work.FieldWork, "finish", counted)
    predicting = network_passes.predict_shard
    for options, again in (([], 3), (given_labels(fields), 0)):
        monkeypatch.setattr(network_passes, "predict_shard", killed)
        assert predict(fields, *options, "--fresh") == 130
        monkeypatch.setattr(network_passes, "predict_shard", predicting)
        cut.clear()
        assert predict(fields, *options, "--engine", "openvino", "--networks", "dsa_efficientnet") == 0
        assert len(cut) == again


def test_two_workers_give_the_same_submission_as_one(
    predict: Predict, fields: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "MOST_FIELDS", 1)
    monkeypatch.setattr(
        "hcpl_kernel.engines.torch_engine.native_precision", lambda device: "float32"
    )  # float32: the comparison is of numbers
    assert predict(fields, *given_labels(fields)) == 0
    one = pd.read_csv(tmp_path / "work" / "cells.csv")
    assert predict(fields, *given_labels(fields), "--device", "cpu:2", "--fresh") == 0
    two = pd.read_csv(tmp_path / "work" / "cells.csv")
    pd.testing.assert_frame_equal(one, two, rtol=1e-4, atol=1e-6)


def test_limit_predicts_the_first_fields(predict: Predict, fields: Path, tmp_path: Path) -> None:
    assert predict(fields, *given_labels(fields), "--limit", "1") == 0
    assert pd.read_csv(tmp_path / "submission.csv")["ID"].tolist() == ["a"]


def test_the_python_function_is_the_command(small_ensemble: Path, fields: Path, tmp_path: Path) -> None:
    result = hcpl_kernel.predict(
        fields, small_ensemble, tmp_path / "s.csv", labels=fields / "masks", pixel_size=PIXEL_SIZE, device="cpu"
    )
    assert (result.fields, result.readable) == (3, 3)
    assert result.cells == len(pd.read_csv(result.work / "cells.csv"))
    assert result.output.is_file()


def test_an_ensemble_of_seven_classes_is_a_whole_run(fields: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    write_toy_ensemble(weights)
    ensemble = read_ensemble(weights)
    result = hcpl_kernel.predict(
        fields, weights, tmp_path / "s.csv", labels=fields / "masks", pixel_size=PIXEL_SIZE, device="cpu"
    )
    cells = pd.read_csv(result.work / "cells.csv")
    assert [name for name in cells if name.startswith("prob_")] == [f"prob_{k}" for k in range(7)]
    assert set(cells["best_class"]) <= set(ensemble.classes.names)
    assert validate_submission(result.output, classes=ensemble.classes).ok
    text = pd.read_csv(result.output).set_index("ID")["PredictionString"]["a"]
    assert {int(label) for label in text.split(" ")[0::3]} == set(range(7))


def test_a_finished_run_is_recognised_without_torch(small_ensemble: Path, fields: Path, tmp_path: Path) -> None:
    given = ["predict", str(fields), "--weights", str(small_ensemble), "--output", str(tmp_path / "s.csv"), "--quiet"]
    given += ["--pixel-size", str(PIXEL_SIZE), "--device", "cpu"]
    assert main(given) == 0
    before = (tmp_path / "s.csv").stat()
    program = f"import sys; from hcpl_kernel.cli import main; assert main({given!r}) == 0; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")
    after = (tmp_path / "s.csv").stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)  # it was not even written again


@pytest.mark.parametrize("engine", ["auto", "compiled"])
def test_a_scattering_that_triton_fails_runs_in_torch_and_the_report_says_so(
    predict: Predict, fields: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """It is less than what was asked for only where the user chose an engine that has it."""
    monkeypatch.setattr(CompiledEngine, "check", lambda self, device: None)
    monkeypatch.setattr(torch, "compile", lambda function: function)
    options = (*given_labels(fields), "--networks", "clh_efficientnet", "--engine", engine)
    with torch_threads(1):
        assert predict(fields, *options) == 0
    usual = (tmp_path / "submission.csv").read_bytes()

    def fail(device: object) -> None:
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr("hcpl_kernel.networks.scattering.fast_way", fail)
    with torch_threads(1), pytest.warns(RuntimeWarning, match="C compiler"):
        assert predict(fields, *options, "--fresh") == 0
    assert (tmp_path / "submission.csv").read_bytes() == usual
    facts = report(tmp_path)["networks"]["clh_efficientnet"]
    assert facts["state"] == "done" and facts["engine"] == "torch"
    assert facts["scattering"] == "not in Triton: Triton failed on cpu (RuntimeError: Failed to find C compiler)"
    assert any("Triton" in text for text in report(tmp_path)["degradations"]) == (engine == "compiled")
