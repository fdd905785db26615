"""Fields unlike those of the training: distances, who is warned of, and what happens where its network is not there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from scipy.spatial.distance import mahalanobis

from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.cells.table import CellTable
from hcpl_kernel.errors import SettingsError, WeightsError
from hcpl_kernel.fields.bit_depth import BitDepth
from hcpl_kernel.fields.stamps import ContentStamps
from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.integrity.novelty import LEAST_CELLS, Gaussian, NoveltyModel
from hcpl_kernel.models.ensemble import Ensemble, read_ensemble, read_values, write_ensemble
from hcpl_kernel.models.integrity_spec import NoveltySpec
from hcpl_kernel.models.manifest import record, verify
from hcpl_kernel.models.subset import choose, copy_into, without_orphans
from hcpl_kernel.models.weights import verified_path, verify_parts
from hcpl_kernel.networks import build
from hcpl_kernel.pipeline.inference import Predictor
from hcpl_kernel.pipeline.judging import judge_networks
from hcpl_kernel.pipeline.keeping import Kept
from hcpl_kernel.pipeline.part import CutShard, load_prediction, save_prediction
from hcpl_kernel.pipeline.plan import Keys
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.pipeline.shard_work import join
from hcpl_kernel.settings import PredictSettings
from tests.toy_ensemble import write_toy_ensemble
from tools.novelty.fitting import RIDGE, fit_gaussian, save_gaussian
from tools.train.publish import untrained

SPEC = NoveltySpec(network="toy_cla", file="novelty.safetensors", limit=2.0, share=0.975)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    """The toy ensemble; not to be written to."""
    return write_toy_ensemble(tmp_path_factory.mktemp("toy"))


def means(fields: int = 300, size: int = 6, seed: int = 0) -> np.ndarray:
    """(fields, size) correlated values of very different scales."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(size, size)) * np.logspace(-1, 1, size)
    return (rng.normal(size=(fields, size)) @ mixing + 3).astype(np.float32)


def model(size: int = 6, limit: float = 2.0) -> NoveltyModel:
    return NoveltyModel(dataclasses.replace(SPEC, limit=limit), fit_gaussian(means(size=size)))


def test_distances_are_those_of_mahalanobis() -> None:
    known, fresh = means().astype(np.float64), means(50, seed=1)
    covariance = np.cov(known.T)
    covariance += RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    inverse = np.linalg.inv(covariance)
    expected = [mahalanobis(row, known.mean(0), inverse) / np.sqrt(known.shape[1]) for row in fresh]
    found = fit_gaussian(known).distances(fresh)
    assert found.dtype == np.float64 and found.shape == (50,)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert 0.5 < found.mean() < 1.2


def test_descriptors_without_any_variance_have_a_distance_too() -> None:
    dead = np.concatenate([means(), np.zeros((300, 1), np.float32)], 1)
    assert np.isfinite(fit_gaussian(dead).distances(dead)).all()


def test_a_field_far_away_is_named_unless_it_has_too_few_cells() -> None:
    given = np.stack([means(1)[0], *[means(1)[0] + 1000] * 3])
    near, far, few, empty = model().warnings(given, [9, LEAST_CELLS, LEAST_CELLS - 1, 0])
    assert near is None and few is None and empty is None and far is not None
    assert "of toy_cla's" not in far and "in toy_cla's descriptors" in far
    assert "of 100 fields like those of the training, 97.5 are below 2.00" in far and "pixel size" in far and "\n" not in far


def test_nothing_is_said_of_fields_without_cells() -> None:
    assert model().warnings(np.zeros((3, 0), np.float32), [0, 0, 0]) == [None] * 3
    assert model().warnings(np.zeros((0, 0), np.float32), []) == []


def test_a_gaussian_of_other_descriptors_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"novelty\.safetensors is of 6 descriptors, toy_cla has 5: fit it again"):
        model().warnings(np.zeros((1, 5), np.float32), [9])


def test_what_was_written_is_read(tmp_path: Path) -> None:
    gaussian = fit_gaussian(means())
    save_gaussian(gaussian, tmp_path / "novelty.safetensors")
    found = NoveltyModel.load(tmp_path / "novelty.safetensors", SPEC)
    far = np.full((1, 6), 1000, np.float32)
    assert found.warnings(far, [5]) == NoveltyModel(SPEC, gaussian).warnings(far, [5]) != [None]


SQUARE = np.eye(4, dtype=np.float32)
WRONG_FILES: dict[str, dict[str, np.ndarray]] = {
    "nothing": {},
    "no mean": {"whitening": SQUARE},
    "no whitening": {"mean": SQUARE[0]},
    "something else too": {"mean": SQUARE[0], "whitening": SQUARE, "limit": SQUARE[0]},
    "another size": {"mean": SQUARE[0, :3], "whitening": SQUARE},
    "not square": {"mean": SQUARE[0], "whitening": SQUARE[:3]},
    "no descriptor": {"mean": SQUARE[0, :0], "whitening": SQUARE[:0, :0]},
    "a number as mean": {"mean": np.float32(4).reshape(()), "whitening": SQUARE},
    "float64": {"mean": SQUARE[0].astype(np.float64), "whitening": SQUARE},
    "not finite": {"mean": SQUARE[0] * np.nan, "whitening": SQUARE},
}


@pytest.mark.parametrize("fault", WRONG_FILES)
def test_another_file_is_refused(tmp_path: Path, fault: str) -> None:
    save_file(WRONG_FILES[fault], tmp_path / "n.safetensors")
    with pytest.raises(WeightsError, match=r"n\.safetensors: (expected mean \(D,\) and whitening|tensor mean has 4 of 4)"):
        Gaussian.read(tmp_path / "n.safetensors")


def test_an_absent_or_damaged_file_is_refused(tmp_path: Path, toy: Ensemble) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        Gaussian.read(tmp_path / "n.safetensors")
    (tmp_path / "n.safetensors").write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="not an intact safetensors file"):
        Gaussian.read(tmp_path / "n.safetensors")
    copy_into(choose(toy.folder), tmp_path / "toy")
    copied = read_ensemble(tmp_path / "toy")
    assert copied.novelty is not None
    path = verified_path(copied, copied.novelty)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match=r"novelty\.safetensors: sha256 expected"):
        verify_parts(copied)
    path.unlink()
    with pytest.raises(WeightsError, match=r"novelty\.safetensors is missing: `python -m tools\.novelty fit --write`"):
        verify_parts(copied)


# ---- the part of an ensemble


def test_it_is_a_part_as_long_as_its_network_is_there(toy: Ensemble, tmp_path: Path) -> None:
    assert toy.novelty is not None and toy.novelty in toy.parts_in_use(segmentation=False)
    assert "novelty" not in toy.joined
    others = [spec for spec in toy.networks if spec.name != "toy_cla"]
    assert toy.with_networks(others).novelty is None
    assert toy.with_networks(toy.networks[1:]).novelty == toy.novelty

    subset = choose(toy.folder, ["toy_dsa"])
    assert "novelty (of toy_cla, which is left out)" in subset.left_out and "novelty.safetensors" not in subset.files
    copy_into(subset, tmp_path / "without")
    assert read_ensemble(tmp_path / "without").novelty is None
    copy_into(choose(toy.folder, ["toy_cla"]), tmp_path / "with")
    assert read_ensemble(tmp_path / "with").novelty == toy.novelty
    assert all(status.good for folder in ("with", "without") for status in verify(tmp_path / folder))

    (tmp_path / "with" / "novelty.safetensors").unlink()
    subset = choose(tmp_path / "with")
    assert "novelty (missing)" in subset.left_out and "novelty" not in subset.values["integrity"]


def test_values_lose_it_with_its_network_and_when_a_training_begins(toy: Ensemble) -> None:
    values = read_values(toy.folder)
    assert without_orphans(values) == values
    values["networks"] = [entry for entry in values["networks"] if entry["name"] != "toy_cla"]
    assert set(without_orphans(values)["integrity"]) == {"geometry", "completeness"}
    assert "novelty" in values["integrity"] and "novelty" not in untrained(values)["integrity"]
    del values["integrity"]
    assert without_orphans(values) == values


def test_its_network_is_a_classifier(toy: Ensemble, tmp_path: Path) -> None:
    values = read_values(toy.folder)
    values["integrity"]["novelty"]["network"] = "toy_completeness"
    write_ensemble(tmp_path / "ensemble.json", values)
    with pytest.raises(SettingsError, match="expected one of the networks toy_dsa, toy_cla, toy_clh"):
        read_ensemble(tmp_path)


# ---- the pipeline


def test_the_means_of_fields_are_those_of_their_cells(toy: Ensemble, tmp_path: Path) -> None:
    (spec,) = [spec for spec in toy.networks if spec.name == "toy_cla"]
    torch.manual_seed(0)
    predictor = Predictor(build(spec).eval(), spec, CPU, "torch", 2, Kept(of_cells=True, of_fields=True))
    crops = np.random.default_rng(0).integers(0, 256, (7, 64, 64, 4), dtype=np.uint8)
    bag = np.array([0, 0, 2, 2, 2, 2, 2])
    found = predictor.predict(crops, bag, 4)
    assert found.descriptors is not None and found.field_means is not None and found.field_means.dtype == np.float32
    expected = np.stack([found.descriptors[bag == k].astype(np.float32).sum(0) / max(1, (bag == k).sum()) for k in range(4)])
    np.testing.assert_allclose(found.field_means, expected, rtol=2e-3, atol=1e-4)
    assert (found.field_means[[1, 3]] == 0).all() and (found.field_means[[0, 2]] != 0).any(1).all()

    save_prediction(tmp_path / "p", found)
    loaded = load_prediction(tmp_path / "p")
    for name in ("prob_cell", "descriptors", "field_means"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(found, name))
    none = predictor.predict(crops[:0], bag[:0], 4)
    assert none.field_means is not None and none.field_means.shape == (4, 0)
    assert Predictor(build(spec).eval(), spec, CPU, "torch", 1).predict(crops, bag, 4).field_means is None


def shard(*cells: int) -> CutShard:
    def field(index: int, count: int) -> FieldRecord:
        table = CellTable.from_rows(np.ones((count, len(dataclasses.fields(CellTable))), np.int64))
        features = np.zeros((count, 8), np.float32)
        return FieldRecord(f"f{index}", 64, 64, None, ("an earlier one",), table, [""] * count, features)

    return CutShard(tuple(field(*each) for each in enumerate(cells)), 64, {})


def test_joining_adds_the_warning_to_the_fields_far_away(toy: Ensemble) -> None:
    cut = shard(4, 5, 0)
    (spec,) = [spec for spec in toy.networks if spec.name == "toy_cla"]
    far = np.stack([means(1)[0], means(1)[0] + 1000, np.zeros(6, np.float32)])
    said = Prediction(np.full((9, spec.outputs), 0.5, np.float32), None, field_means=far)
    part = join(cut, {spec.name: said}, {spec.name: "key"}, [spec], toy, None, model())
    assert [len(record.warnings) for record in part.cut.records] == [1, 2, 1]
    assert part.cut.records[1].warnings[0] == "an earlier one" and cut.records[1].warnings == ("an earlier one",)
    for predictions in ({}, {spec.name: dataclasses.replace(said, field_means=None)}):
        assert join(cut, predictions, {}, [], toy, None, model()).cut is cut
    assert join(cut, {spec.name: said}, {}, [], toy, None, None).cut is cut


def test_keys_depend_on_it(toy: Ensemble, tmp_path: Path) -> None:
    settings = PredictSettings(tmp_path, toy.folder, tmp_path / "s.csv")

    def keys(ensemble: Ensemble) -> Keys:
        return Keys(settings, BitDepth(16), ensemble, ensemble.networks, cast(Any, None), "", ContentStamps(tmp_path))

    assert toy.novelty is not None
    one, none = keys(toy), keys(dataclasses.replace(toy, novelty=None))
    changed = {name for name, key in one.predictions.items() if none.predictions[name] != key}
    assert changed == {"toy_cla"}
    others = [dataclasses.replace(toy.novelty, limit=2.5), dataclasses.replace(toy.novelty, share=0.5)]
    outcomes = [keys(dataclasses.replace(toy, novelty=other)).of_outcome({}, 64) for other in (toy.novelty, None, *others)]
    copy_into(choose(toy.folder), tmp_path / "toy")
    save_gaussian(fit_gaussian(means(seed=5)), tmp_path / "toy" / "novelty.safetensors")
    values = read_values(tmp_path / "toy")
    values["integrity"]["novelty"]["sha256"] = record(tmp_path / "toy" / "novelty.safetensors", {}).sha256
    write_ensemble(tmp_path / "toy" / "ensemble.json", values)
    outcomes.append(keys(read_ensemble(tmp_path / "toy")).of_outcome({}, 64))
    assert len(set(outcomes)) == len(outcomes)
    assert one.of_outcome({}, 64) == outcomes[0]


@pytest.mark.parametrize("states", [{"toy_dsa": "done"}, {"toy_cla": "left out"}, {"toy_cla": "done"}], ids=str)
def test_a_run_without_its_network_says_so_once(toy: Ensemble, states: dict[str, str]) -> None:
    report = RunReport(networks={name: {"state": state} for name, state in states.items()})
    judge_networks(toy.with_networks([spec for spec in toy.networks if spec.name in states]), report)
    told = [each["reason"] for each in report.warnings if "unlike those of the training" in each["reason"]]
    assert len(told) == (states.get("toy_cla") != "done")
    assert all("toy_cla" in text for text in told)
