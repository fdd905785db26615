"""tools.novelty: spoilt fields keep their shape, and what is fitted on some fields finds others that are spoilt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from hcpl_kernel.errors import InputError
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.fields.locate import locate_fields
from hcpl_kernel.integrity.novelty import Gaussian, NoveltyModel
from hcpl_kernel.models.ensemble import read_ensemble, read_values, write_ensemble
from hcpl_kernel.models.manifest import verify
from hcpl_kernel.models.weights import verified_path
from tests.toy_ensemble import write_toy_ensemble
from tools.novelty.__main__ import main
from tools.novelty.fitting import FieldMeans, fit, read_means
from tools.novelty.spoiling import KINDS, SEPARATOR, kind_of, spoil_fields

GOOD, OTHER = "toy_cla", "toy_dsa"
"""A network that sees what is spoilt, and one that does not."""


@pytest.mark.parametrize("shape", [(4, 64, 96), (4, 63, 71)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_spoilt_field_is_a_field(kind: str, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 200, shape, dtype=np.uint8)
    before = image.copy()
    spoilt, again = (KINDS[kind](image, np.random.default_rng(1)) for _ in range(2))
    assert spoilt.shape == shape and spoilt.dtype == np.uint8
    assert not np.array_equal(spoilt, image) and np.array_equal(spoilt, again) and np.array_equal(image, before)


def test_every_kind_of_the_first_fields_is_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index in range(3):
        for channel in CHANNELS:
            cv2.imwrite(str(tmp_path / f"f{index}_{channel}.png"), rng.integers(0, 256, (32, 32), dtype=np.uint8))
    arguments = ["spoil", str(tmp_path), "--output", str(tmp_path / "spoilt"), "--limit"]
    assert main([*arguments, "2"]) == 0
    ids = [files.id for files in locate_fields(tmp_path / "spoilt").fields]
    assert len(ids) == 2 * len(KINDS) and {kind_of(field_id) for field_id in ids} == set(KINDS)
    assert kind_of("f0") is None and kind_of(f"other{SEPARATOR}f0") is None
    assert main([*arguments, "0"]) == 2
    cv2.imwrite(str(tmp_path / "f0_red.png"), np.zeros((32, 32), np.uint16))
    with pytest.raises(InputError, match="f0 is of uint16, expected uint8"):
        spoil_fields(tmp_path, tmp_path / "spoilt", 1)


def write_run(work: Path, ids: list[str], shift: float, seed: int) -> Path:
    """A work folder with descriptors of two networks, and a report; of the first network those of spoilt fields differ."""
    rng = np.random.default_rng(seed)
    (work / "descriptors").mkdir(parents=True)
    cells = rng.integers(1, 9, len(ids))
    named = np.repeat(np.array(ids), cells)
    spoilt = np.array([kind_of(each) is not None for each in named])
    for name in (GOOD, OTHER):
        descriptors = rng.normal(size=(len(named), 8)) + (shift * spoilt[:, None] if name == GOOD else 0)
        np.savez(
            work / "descriptors" / f"{name}.npz",
            ID=named,
            cell=np.arange(len(named)),
            descriptors=descriptors.astype(np.float16),
        )
    (work / "run_report.json").write_text(json.dumps({"settings": {"fields_dir": f"/somewhere/{work.name}"}}))
    return work


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Work folders of fields to fit, held-out and spoilt ones, and a weights folder; copy it before you change it."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "known", [f"f{i}" for i in range(200)], 0, 1)
    write_run(folder / "held_out", [f"g{i}" for i in range(100)], 0, 2)
    write_run(folder / "spoilt", [f"{kind}{SEPARATOR}f{i}" for kind in list(KINDS)[:3] for i in range(12)], 5, 3)
    write_toy_ensemble(folder / "weights")
    return folder


def arguments(runs: Path, *more: str) -> list[str]:
    given = ["fit", str(runs / "known"), "--weights", str(runs / "weights"), "--held-out", str(runs / "held_out")]
    return [*given, "--output", str(runs / "found"), *more]


def test_the_network_that_finds_most_is_entered(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = Path(shutil.copytree(runs, tmp_path / "runs"))
    values = read_values(runs / "weights")
    del values["integrity"]["novelty"]
    write_ensemble(runs / "weights" / "ensemble.json", values)
    assert main(arguments(runs, "--spoilt", str(runs / "spoilt"))) == 0
    assert read_ensemble(runs / "weights").novelty is None
    assert f"chosen: {GOOD}, 99 of 100 held-out fields are below" in capsys.readouterr().out
    found = json.loads((runs / "found" / "novelty.json").read_text())
    own, other = (found["networks"][name] for name in (GOOD, OTHER))
    assert found["chosen"] == GOOD and set(found["networks"]) == {GOOD, OTHER}
    assert set(own["found"].values()) == {1.0} and own["mean_found"] == 1.0 and other["mean_found"] < 0.2
    assert list(own["found"]) == list(KINDS)[:3] and own["held_out_above_limit"] <= 0.02
    assert 100 < own["fields"] < 200 and 0 < own["held_out"] < 100 and sum(own["spoilt"].values()) < 36

    assert main(arguments(runs, "--spoilt", str(runs / "spoilt"), "--write")) == 0
    ensemble = read_ensemble(runs / "weights")
    novelty = ensemble.novelty
    assert novelty is not None and (novelty.network, novelty.limit, novelty.share) == (GOOD, own["limit"], 0.99)
    assert (
        novelty.trained and "of spoilt fields 1.000, mean over 3 kinds (out-of-focus 1.00" in novelty.provenance["figures"]
    )
    assert novelty.provenance["data"].startswith("fields of known; limit: fields of held_out;")
    assert all(status.good for status in verify(runs / "weights") if status.name == novelty.file)
    model = NoveltyModel.load(verified_path(ensemble, novelty), novelty)
    spoilt = read_means(runs / "spoilt" / "descriptors" / f"{GOOD}.npz")
    assert None not in model.warnings(spoilt.means, [5] * len(spoilt.ids))
    read = Gaussian.read(runs / "found" / "novelty.safetensors")
    np.testing.assert_array_equal(read.mean, Gaussian.read(runs / "weights" / "novelty.safetensors").mean)

    assert main(arguments(runs, "--network", OTHER, "--write")) == 0  # in the place of the other
    novelty = read_ensemble(runs / "weights").novelty
    assert novelty is not None and novelty.network == OTHER and "spoilt" not in novelty.provenance["figures"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "name one of toy_dsa, toy_cla with --network, or give --spoilt"),
        (["--network", "toy_clh"], "hcpl predict --descriptors toy_clh"),
        (["--network", "toy"], "has no network 'toy'; it has toy_dsa, toy_cla, toy_clh"),
        (["--held-out", "nowhere", "--spoilt", "nowhere"], "descriptors of no network in common"),
        (["--network", GOOD, "--spoilt", "{runs}/known"], "no spoilt field's ID begins with a kind"),
        (["--network", GOOD, "--held-out", "{runs}/few"], "fields held out have 3 cells or more, expected at least 20"),
    ],
)  # fmt: skip
def test_bad_use_is_told(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    runs = Path(shutil.copytree(runs, tmp_path / "runs"))
    write_run(runs / "few", [f"g{i}" for i in range(9)], 0, 2)
    assert main(arguments(runs, *(each.format(runs=runs) for each in more))) == 2
    assert message in capsys.readouterr().err
    assert not (runs / "found").exists()


def test_the_means_of_fields_are_exact_and_small_fields_are_left_out(tmp_path: Path) -> None:
    ids = np.array(["b", "a", "b", "a", "b", "c", "c"])
    rows = np.arange(14, dtype=np.float16).reshape(7, 2)
    np.savez(tmp_path / "n.npz", ID=ids, cell=np.arange(7), descriptors=rows)
    found = read_means(tmp_path / "n.npz")
    assert found.ids == ("b",) and found.means.tolist() == [[4.0, 5.0]]
    (tmp_path / "n.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"n\.npz is not readable"):
        read_means(tmp_path / "n.npz")


def test_the_limit_is_exceeded_by_one_held_out_field_of_a_hundred() -> None:
    rng = np.random.default_rng(0)
    known, held_out = (
        FieldMeans(tuple(map(str, range(n))), rng.normal(size=(n, 5)).astype(np.float32)) for n in (400, 1000)
    )
    fitted = fit("n", known, held_out, None)
    assert fitted.held_out_above == pytest.approx(0.01, abs=0.002) and np.isnan(fitted.mean_found)
