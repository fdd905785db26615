"""Whatever stops or damages a run, the same command ends like an undisturbed one, and says what it made again."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import hcpl_kernel
from hcpl_kernel.cli import main
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.pipeline import cutting, loading, local, network_passes, plan
from hcpl_kernel.pipeline.budget import TimeBudget
from hcpl_kernel.pipeline.field_work import FieldWork
from hcpl_kernel.pipeline.store import FolderStore
from hcpl_kernel.pipeline.workspace import Workspace
from hcpl_kernel.settings import Part
from hcpl_kernel.submission import validate_submission
from tools.endurance.__main__ import differences, results, temporaries
from tools.endurance.child import Fault, finish, start
from tools.endurance.material import Material, make_material, write_field

FIELDS = 3
NETWORKS = 3
"""With the completeness network."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Three fields and two networks; tests that change any of it take a copy (`Runs.own_copy`)."""
    return make_material(tmp_path_factory.mktemp("material"), FIELDS)


@pytest.fixture(scope="module")
def whole(shared: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run."""
    place = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "MOST_FIELDS", 1)
        assert main(shared.arguments(place)) == 0
    return place


@dataclasses.dataclass
class Runs:
    """Runs in one folder, counted.

    Attributes:
        place: of `submission.csv` and `work`.
        material: what the runs are given.
        expected: outputs of an undisturbed run.
        cut: IDs of the fields that were segmented and cropped.
        predicted: names of the networks, once per shard that they predicted.
    """

    place: Path
    material: Material
    expected: dict[str, bytes]
    cut: list[str] = dataclasses.field(default_factory=list)
    predicted: list[str] = dataclasses.field(default_factory=list)

    @property
    def work(self) -> Path:
        return self.place / "work"

    @property
    def output(self) -> Path:
        return self.place / "submission.csv"

    def predict(self, *options: str) -> int:
        """Run the command in this process."""
        self.cut.clear()
        self.predicted.clear()
        return main(self.material.arguments(self.place, *options))

    def start_finished(self, whole: Path) -> None:
        """Begin with a copy of a finished run."""
        shutil.copytree(whole, self.place, dirs_exist_ok=True)

    def own_copy(self) -> Material:
        """Take a copy of the material, to be changed."""
        folder = self.place.parent / "own"
        shutil.copytree(self.material.fields.parent, folder)
        self.material = Material(folder / "fields", folder / "labels", folder / "weights")
        return self.material

    def same(self) -> bool:
        """Whether the outputs are those of an undisturbed run, and no temporary file is left."""
        assert validate_submission(self.output).ok
        return not differences(self.expected, results(self.place)) and not temporaries(self.place)

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.work / "run_report.json").read_text())

    @property
    def told(self) -> str:
        """All warnings and degradations."""
        return json.dumps([self.report["warnings"], self.report["degradations"]])


@pytest.fixture
def runs(shared: Material, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    """Runs with one field in each shard."""
    monkeypatch.setattr(plan, "MOST_FIELDS", 1)
    place = tmp_path / "place"
    place.mkdir()
    runs = Runs(place, shared, results(whole))
    finishing, predicting = FieldWork.finish, network_passes.predict_shard

    def finish_field(self: FieldWork, files: Any, *arguments: Any) -> Any:
        runs.cut.append(files.id)
        return finishing(self, files, *arguments)

    def predict_shard(group: Any, *arguments: Any) -> Any:
        runs.predicted.append(group.spec.name)
        return predicting(group, *arguments)

    monkeypatch.setattr(FieldWork, "finish", finish_field)
    monkeypatch.setattr(network_passes, "predict_shard", predict_shard)
    yield runs


# ---- ended at every stage


def interrupt(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at: int, error: BaseException) -> None:
    """Raise instead of the `at`-th call of a function."""
    original, calls = getattr(owner, name), []

    def call(*arguments: Any, **keywords: Any) -> Any:
        calls.append(name)
        if len(calls) == at:
            raise error
        return original(*arguments, **keywords)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize(
    ("owner", "name", "at"),
    [
        (FieldWork, "finish", 2),
        (cutting.Pieces, "put_cut", 2),
        (loading, "load_network", 2),
        (local.Pieces, "put_prediction", 4),
        (FolderStore, "put", 2),
        (local.Pieces, "remove", 2),
        ("hcpl_kernel.pipeline.results.Outputs", "write", 1),
    ],
)
def test_ctrl_c_at_any_stage(runs: Runs, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at: int) -> None:
    if isinstance(owner, str):
        from hcpl_kernel.pipeline.results import Outputs as owner
    with monkeypatch.context() as patch:
        interrupt(patch, owner, name, at, KeyboardInterrupt())
        assert runs.predict() in (130, 3)  # raised in a worker's thread it is not Ctrl-C, and unexpected
    assert validate_submission(runs.output).ok and not temporaries(runs.place)
    assert runs.predict() == 0
    assert runs.same()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_kill_9_at_any_write(runs: Runs, share: float) -> None:
    process = start(runs.material.arguments(runs.place), runs.place.parent / "log", Fault(runs.place, int(70 * share)))
    assert finish(process) in (-signal.SIGKILL, 0)
    assert runs.predict() == 0
    assert runs.same()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("number", [1, 9, 25, 40])
def test_a_refused_write_is_one_line_and_nothing_is_lost(runs: Runs, number: int, code: int) -> None:
    log = runs.place.parent / "log"
    assert finish(start(runs.material.arguments(runs.place), log, Fault(runs.place, number, code))) == 2
    said = log.read_text()
    assert said.count("hcpl: ") == 1 and "Traceback" not in said and os.strerror(code) in said
    assert not temporaries(runs.place)
    assert runs.predict() == 0
    assert runs.same()


@pytest.mark.parametrize("devices", ["cpu", "cpu:2"])
@pytest.mark.parametrize("error", [KeyError("lost"), SystemExit(0), type("Odd", (BaseException,), {})("lost")], ids=repr)
def test_a_worker_that_raises_anything_is_never_taken_for_done(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, devices: str, error: BaseException
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, network_passes, "predict_shard", NETWORKS * FIELDS - 1, error)  # in the last network
        assert runs.predict("--device", devices, "--strict") == 1
    states = {name: facts["state"] for name, facts in runs.report["networks"].items()}
    assert sorted(states.values()) == ["done", "done", "left out"]
    assert type(error).__name__ in runs.told
    assert runs.predict("--device", devices) == 0
    assert runs.same()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(0), MemoryError()], ids=repr)
def test_what_ends_a_run_in_segmentation_is_no_success(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, FieldWork, "finish", 2, error)
        assert runs.predict() in (3, 130)
    assert "ended" in runs.told or "interrupted" in runs.told
    assert runs.predict() == 0
    assert runs.same()


@pytest.mark.parametrize("removed", ["output", "output folder", "work", "pieces"])
def test_what_is_removed_in_mid_run(runs: Runs, monkeypatch: pytest.MonkeyPatch, removed: str) -> None:
    path = {"output": runs.output, "output folder": runs.place, "work": runs.work, "pieces": runs.work / "pieces"}[removed]
    original, calls = network_passes.predict_shard, []

    def remove(*arguments: Any) -> Any:
        calls.append(removed)
        if len(calls) == 5:
            path.unlink() if path.is_file() else shutil.rmtree(path)
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(network_passes, "predict_shard", remove)
        assert runs.predict() == (0 if removed == "output" else 2)
    runs.place.mkdir(exist_ok=True)
    assert runs.predict() == 0
    assert runs.same()


# ---- damaged

DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "garbage": lambda path: void(path.write_bytes(os.urandom(500))),
    "flipped early": lambda path: flip(path, 0.05),
    "flipped late": lambda path: flip(path, 0.99),
    "a folder": lambda path: void((path.unlink(), path.mkdir(), (path / "x").touch())),
    "removed": lambda path: path.unlink(),
}


def void(_: object) -> None:
    """Nothing."""


def flip(path: Path, where: float) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    data[int(where * (len(data) - 1))] ^= 1
    path.write_bytes(bytes(data))


def unfinished(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pieces of a run whose last network was interrupted."""
    with monkeypatch.context() as patch:
        interrupt(patch, network_passes, "predict_shard", NETWORKS * FIELDS, KeyboardInterrupt())
        assert runs.predict() == 130


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["cut.safetensors", "crops.raw", "dsa_*.safetensors", "*"])
def test_damaged_pieces_are_made_again(runs: Runs, monkeypatch: pytest.MonkeyPatch, kind: str, damage: str) -> None:
    unfinished(runs, monkeypatch)
    pieces = runs.work / "pieces"
    if kind == "*":  # the folder of a shard
        path = next(path for path in sorted(pieces.iterdir()) if path.is_dir())
        shutil.rmtree(path)
        if damage != "removed":
            path.write_bytes(b"no folder")
    else:
        path = sorted(pieces.glob(f"*/{kind}"))[0]
        DAMAGES[damage](path)
    assert runs.predict() == 0
    assert runs.same()
    assert len(set(runs.cut)) <= 1  # one shard at the most
    if damage != "removed" and kind != "*":
        assert "again" in runs.told


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("output", ["stands", "was removed"])
def test_damaged_parts_are_made_again(runs: Runs, whole: Path, damage: str, output: str) -> None:
    runs.start_finished(whole)
    path = sorted((runs.work / "parts").glob("*.safetensors"))[0]
    DAMAGES[damage](path)
    if output == "was removed":
        runs.output.unlink()
    assert runs.predict() == 0
    assert runs.same()
    assert len(set(runs.cut)) <= 1
    if runs.cut and damage != "removed":
        assert "made again" in runs.told


def test_a_damaged_part_does_not_stop_a_run_with_one_more_field(runs: Runs, whole: Path) -> None:
    runs.own_copy()
    assert runs.predict() == 0
    flip(sorted((runs.work / "parts").glob("*.safetensors"))[0], 0.99)
    write_field(runs.material, "new", 9)
    assert runs.predict() == 0
    assert len(runs.cut) == 2  # the new one and the damaged one
    assert validate_submission(runs.output).ok


@pytest.mark.parametrize("change", ["deleted", "emptied", "edited", "a folder"])
def test_label_maps_that_were_changed_are_made_again(runs: Runs, whole: Path, change: str) -> None:
    runs.start_finished(whole)
    path = runs.work / "labels" / "field1_cells.png"
    if change == "deleted":
        path.unlink()
    elif change == "emptied":
        path.write_bytes(b"")
    elif change == "edited":
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), labels[::-1])
    else:
        DAMAGES["a folder"](path)
    assert runs.predict() == 0
    assert runs.same()
    assert runs.cut == ["field1"]
    assert "label maps of field1" in runs.told


@pytest.mark.parametrize("name", ["plan.json", "results.json", "run_report.json", "cells.csv"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "removed"])
def test_the_other_files_of_the_work_folder_heal(runs: Runs, whole: Path, name: str, damage: str) -> None:
    runs.start_finished(whole)
    DAMAGES[damage](runs.work / name)
    assert runs.predict() == 0
    assert runs.same() and not runs.cut and not runs.predicted
    assert runs.report


# ---- other inputs


def test_an_image_of_the_same_size_and_time_is_another_image(runs: Runs) -> None:
    material = runs.own_copy()
    assert runs.predict() == 0
    path = material.fields / "field1_green.png"
    status, pixels = path.stat(), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    raw = cv2.imencode(".png", pixels[::-1], [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes()
    path.write_bytes(raw[: status.st_size].ljust(status.st_size, b"\0"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert runs.predict() == 0
    assert runs.cut == ["field1"]


def test_another_folder_of_the_same_name_is_another_input(runs: Runs) -> None:
    material = runs.own_copy()
    assert runs.predict() == 0
    shutil.rmtree(material.fields)
    shutil.rmtree(material.labels)
    for folder in (material.fields, material.labels):
        folder.mkdir()
    for index in range(FIELDS):
        write_field(material, f"field{index}", 10 + index)
    assert runs.predict() == 0
    assert sorted(runs.cut) == ["field0", "field1", "field2"] and not runs.same()


def test_label_maps_of_removed_fields_stay_and_are_named(runs: Runs) -> None:
    material = runs.own_copy()
    assert runs.predict() == 0
    for channel in CHANNELS:
        (material.fields / f"field1_{channel}.png").unlink()
    assert runs.predict() == 0
    assert "field1" in runs.told and (runs.work / "labels" / "field1_cells.png").exists()
    assert not runs.cut


def test_the_order_of_a_listing_changes_nothing(runs: Runs) -> None:
    lines = []
    for index in (2, 0, 1):
        names = [f"field{index}_{channel}.png" for channel in ("red", "green", "blue", "yellow")]
        lines.append(",".join([f"field{index}", *names]))
    listing = runs.place.parent / "listing.csv"
    listing.write_text("\n".join(["ID,red,green,blue,yellow", *lines]) + "\n")
    assert runs.predict("--listing", str(listing)) == 0
    assert runs.same()


# ---- other circumstances


def test_another_version_computes_again(runs: Runs, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.start_finished(whole)
    monkeypatch.setattr(hcpl_kernel, "__version__", "99.0")
    assert runs.predict() == 0
    assert len(runs.cut) == FIELDS and len(runs.predicted) == NETWORKS * FIELDS
    assert runs.same()


@pytest.mark.parametrize("fields", [0, 1, 2])
def test_a_run_whose_limit_cut_its_fields_goes_on_with_more_time(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, fields: int
) -> None:
    """Only so many fields were segmented when the time for that was over; networks ran over what there was."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: set())  # one thread
        patch.setattr(TimeBudget, "for_fields", property(lambda _: 1.0 if len(runs.cut) < fields else -1.0))
        assert runs.predict("--time-limit", "1h") == (0 if fields else 2)
    assert validate_submission(runs.output).ok
    assert runs.predict("--time-limit", "1h") == 0
    assert runs.same()


def test_a_shard_that_was_cut_in_part_is_made_whole(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """What networks said of some of its fields is not taken for what they say of all."""
    monkeypatch.setattr(plan, "MOST_FIELDS", FIELDS)
    monkeypatch.setattr(plan, "MEAN_FIELDS", 1 << 40)
    with monkeypatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: set())
        patch.setattr(TimeBudget, "for_fields", property(lambda _: 1.0 if len(runs.cut) < 1 else -1.0))
        assert runs.predict("--time-limit", "1h") == 0
    assert len(runs.report["problems"]) == FIELDS - 1
    assert runs.predict() == 0
    assert not runs.report["problems"]
    cut = results(runs.place)
    assert runs.predict("--fresh") == 0
    assert not differences(cut, results(runs.place))


@pytest.mark.parametrize("networks", [1, 2])
def test_a_run_whose_limit_cut_its_networks_goes_on_with_more_time(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, networks: int
) -> None:
    most = networks * FIELDS
    with monkeypatch.context() as patch:
        patch.setattr(TimeBudget, "for_networks", property(lambda _: 1e6 if len(runs.predicted) <= most else -1.0))
        assert runs.predict("--time-limit", "1h") == (2 if networks == 1 else 0)
    assert runs.predict() == 0
    assert not runs.cut and len(runs.predicted) == NETWORKS * FIELDS - most
    assert runs.same()


def test_small_crops_of_a_small_disk_are_made_again_once_it_is_large(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(local, "free_bytes", lambda _: 1 << 20)
        assert runs.predict() == 0
    assert "small" in runs.told
    assert runs.predict() == 0
    assert runs.cut and "small" not in runs.told
    assert runs.same()


def test_a_finished_run_under_another_output_path(runs: Runs, whole: Path) -> None:
    runs.start_finished(whole)
    for other in (runs.place / "work" / ".." / "submission.csv", runs.place / "other.csv"):
        runs.output.unlink(missing_ok=True)
        assert main([*runs.material.arguments(runs.place), "--output", str(other), "--time-limit", "0.001s"]) == 0
        assert other.read_bytes() == runs.expected["submission.csv"]
    assert not runs.cut and not runs.predicted


def test_settings_a_then_b_then_a_again_computes_nothing_twice(runs: Runs, whole: Path) -> None:
    runs.start_finished(whole)
    assert runs.predict("--networks", "dsa_efficientnet") == 0
    assert not runs.predicted and not runs.same()
    assert runs.predict("--views", "2", "--networks", "dsa_efficientnet") == 0
    assert runs.predict() == 0
    assert not runs.cut and not runs.predicted
    assert runs.same()


@pytest.mark.parametrize("devices", ["cpu:2", "cpu:3"])
def test_the_number_of_workers_changes_no_byte(runs: Runs, devices: str) -> None:
    """With as many threads in each worker (here one): sums of several threads differ by 1e-8."""
    assert runs.predict("--device", devices) == 0
    assert runs.same()


# ---- several runs


def assemble(runs: Runs) -> int:
    return main(["assemble", str(runs.work), "--output", str(runs.output)])


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2, 1)])
def test_parts_in_any_order_make_the_whole(runs: Runs, order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for index in order:
        assert runs.predict("--part", f"{index}/3") == 0
    monkeypatch.chdir(runs.place)  # the plan does not depend on where it was made
    for _ in range(2):
        assert assemble(runs) == 0
        assert runs.same()


def test_a_part_that_is_missing_is_named_and_has_fallback_rows(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    for index in (1, 3):
        assert runs.predict("--part", f"{index}/3") == 0
    capsys.readouterr()
    assert assemble(runs) == 2
    assert "1 of 3 fields" in (error := capsys.readouterr().err) and "field1" in error
    assert validate_submission(runs.output).ok
    assert len(runs.output.read_text().splitlines()) == 1 + FIELDS
    assert runs.predict("--part", "2/3") == 0
    assert assemble(runs) == 0
    assert runs.same()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_not_assembled(runs: Runs, damage: str) -> None:
    for index in (1, 2, 3):
        assert runs.predict("--part", f"{index}/3") == 0
    DAMAGES[damage](sorted((runs.work / "parts").glob("*.safetensors"))[0])
    assert assemble(runs) == 2
    assert validate_submission(runs.output).ok
    for index in (1, 2, 3):
        assert runs.predict("--part", f"{index}/3") == 0
    assert assemble(runs) == 0
    assert runs.same()


def test_the_fullest_part_is_assembled(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(local, "free_bytes", lambda _: 1 << 20)
        assert runs.predict("--part", "1/1") == 0
    assert runs.predict("--part", "1/1") == 0
    assert assemble(runs) == 0
    assert runs.same()


def test_fresh_is_not_for_parts(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs.predict("--part", "1/3", "--fresh") == 2
    assert "fresh" in capsys.readouterr().err


@pytest.mark.parametrize("part", [Part(1, 2), None])
def test_two_equal_runs_at_once(runs: Runs, part: Part | None) -> None:
    """The second is refused while the first is at work, and changes nothing."""
    options = () if part is None else ("--part", f"{part.index}/{part.count}")
    log = runs.place.parent / "log"
    with Workspace(runs.work, part).opened(shared=part is not None):
        assert finish(start(runs.material.arguments(runs.place, *options), log)) == 2
    assert "another run" in log.read_text()
    assert not list((runs.work / "pieces").rglob("cut.safetensors"))
    assert runs.predict() == 0
    assert runs.same()


def test_parts_at_the_same_time_make_the_whole(runs: Runs) -> None:
    """Also those that share shards: 1/2 and 1/3 both make the first one."""
    log = runs.place.parent / "log"
    parts = ("1/3", "2/3", "3/3", "1/2")
    running = [
        start(runs.material.arguments(runs.place, "--part", part), log.with_name(part[0] + part[2])) for part in parts
    ]
    assert [finish(process) for process in running] == [0] * len(parts)
    assert assemble(runs) == 0
    assert runs.same()


def test_ctrl_c_joins_every_thread(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    with monkeypatch.context() as patch:
        interrupt(patch, FolderStore, "put", 1, KeyboardInterrupt())
        assert runs.predict("--device", "cpu:2") == 130
    left = [thread for thread in threading.enumerate() if thread not in before and thread.name.startswith("hcpl")]
    assert not left


def test_temporary_files_of_a_killed_run_go(runs: Runs, whole: Path) -> None:
    runs.start_finished(whole)
    dead = 4_000_000  # above the largest process number
    from hcpl_kernel.runtime.atomic import _host

    name = f".hcpl-{_host()}-{dead}-1-0.csv"
    for folder in (runs.place, runs.work, runs.work / "labels", runs.work / "parts", runs.work / "pieces"):
        (folder / name).write_text("half")
    own = f".hcpl-{_host()}-{os.getpid()}-1-0.csv"  # of a dead process that had this one's number
    (runs.place / own).write_text("half")
    os.utime(runs.place / own, (1e9, 1e9))
    assert runs.predict() == 0
    assert runs.same()


def test_the_crops_of_finished_shards_do_not_stay(runs: Runs) -> None:
    for index in (1, 2, 3):
        assert runs.predict("--part", f"{index}/3") == 0
    assert not list((runs.work / "pieces").rglob("crops.raw"))
    np.testing.assert_equal(len(list((runs.work / "parts").glob("*.safetensors"))), FIELDS)
