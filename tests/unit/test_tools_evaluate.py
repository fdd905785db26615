"""Evaluation: matching with the truth, the resampled metric, the compared variants, and the whole tool once."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
from conftest import TinyRun

from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.cells.table import measure_cells
from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.errors import InputError
from hcpl_kernel.fusion.log_odds import add_log_odds
from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.models.fusion_spec import FusionSpec
from hcpl_kernel.models.log_odds_spec import ClassLogOdds, LogOddsSpec
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.scoring import mean_average_precision as official
from hcpl_kernel.scoring.resampling import interval, mean_of_classes, resample
from hcpl_kernel.submission import encode_labels
from tools.evaluate import paper, variants
from tools.evaluate.__main__ import main
from tools.evaluate.average_precision import average_precisions, score
from tools.evaluate.cut_cells import by_cut_share
from tools.evaluate.truth import Matched, match_cells
from tools.finished_run import FinishedRun, open_run
from tools.train.calibration import countable


def record(name: str, labels: np.ndarray) -> FieldRecord:
    table = measure_cells(labels)
    masks = list(encode_labels(labels).values())
    return FieldRecord(name, *labels.shape, None, (), table, masks, np.zeros((len(table), 8), np.float32))


def truth_table(name: str, labels: np.ndarray, classes: dict[int, list[int]]) -> pd.DataFrame:
    masks = encode_labels(labels)
    rows = [(name, *labels.shape, k, masks[cell]) for cell, ks in classes.items() for k in ks]
    return pd.DataFrame(rows, columns=["image", "height", "width", "label", "mask"])


def four_cells() -> np.ndarray:
    labels = np.zeros((40, 40), np.int32)
    for cell in range(4):
        labels[10 * cell : 10 * cell + 8, :20] = cell + 1
    return labels


def test_a_cell_hits_the_classes_of_the_instance_that_it_covers() -> None:
    true = four_cells()
    found = true.copy()
    found[10:14, :20] = 0  # half of the second cell: IoU 0.5
    found[20:23, :20] = 0  # 5 of 8 rows of the third: IoU 0.625
    matched = match_cells([record("a", found)], truth_table("a", true, {1: [0, 16], 2: [3], 3: [5]}), HPA_CLASSES)
    expected = np.zeros((4, 19), bool)
    expected[0, [0, 16]] = expected[2, 5] = True
    np.testing.assert_array_equal(matched.hits, expected)
    assert matched.truths[0, [0, 3, 5, 16]].tolist() == [1, 1, 1, 1] and matched.truths.sum() == 4


def test_truth_that_does_not_fit_is_refused() -> None:
    labels = four_cells()
    truth = truth_table("b", labels, {1: [0]})
    with pytest.raises(InputError, match="not predicted, for instance b"):
        match_cells([record("a", labels)], truth, HPA_CLASSES)
    with pytest.raises(InputError, match="is_group_of"):
        match_cells([record("b", labels)], truth.assign(is_group_of=True), HPA_CLASSES)
    twice = truth_table("b", np.where(labels == 1, 1, 0), {1: [0]})
    overlapping = labels.copy()
    overlapping[7, :20] = 0
    both = pd.concat([twice, truth_table("b", np.where(overlapping == 1, 1, 0), {1: [0]})])
    with pytest.raises(InputError, match="overlap each other"):
        match_cells([record("b", labels)], both, HPA_CLASSES)


def test_cells_that_are_not_ground_truth_count_neither_way() -> None:
    cells = four_cells()
    found = np.where(cells == 4, 7, cells)
    found[0:8, 20:30] = 9  # found where nothing is
    true, left = countable(cells, np.array([1, 2, 3]), found)
    assert np.unique(true).tolist() == [0, 1, 2, 3]
    assert np.unique(left).tolist() == [0, 1, 2, 3, 9]


def test_average_precision_of_a_hand_computed_case() -> None:
    """Scores 0.9 hit, 0.8 miss, 0.7 hit of three true instances: (1 + 2/3) / 3."""
    hits = np.zeros((3, 19), bool)
    hits[[0, 2], 4] = True
    truths = np.zeros((2, 19), int)
    truths[:, 4] = 2, 1
    matched = Matched(hits, np.array([0, 0, 1]), truths)
    scores = np.zeros((3, 19))
    scores[:, 4] = 0.9, 0.8, 0.7
    once, twice = average_precisions(scores, matched, np.array([[1, 1], [2, 0]]))
    assert once[4] == pytest.approx((1 + 2 / 3) / 3)
    assert twice[4] == pytest.approx(2 / 4)  # two copies of the first image: two hits of four, before the misses
    assert np.isnan(np.delete(once, 4)).all()
    assert mean_of_classes(np.stack([once, twice])) == pytest.approx([(1 + 2 / 3) / 3, 0.5])


@pytest.mark.parametrize("seed", range(5))
def test_resampled_metric_is_the_scorers_on_copied_images(seed: int) -> None:
    """Each copy of an image under a name of its own, scored by the competition's metric."""
    rng = np.random.default_rng(seed)
    labels = four_cells()
    masks = list(encode_labels(labels).values())
    names = ["a", "b", "c"]
    truth = pd.concat(
        truth_table(n, labels, {c: rng.choice(4, 2, replace=False).tolist() for c in rng.choice(4, 3, False) + 1})
        for n in names
    )
    matched = match_cells([record(n, labels) for n in names], truth, HPA_CLASSES)
    scores = rng.random((12, 19))
    copies = rng.multinomial(3, [1 / 3] * 3, size=3)
    found = average_precisions(scores, matched, copies)
    for row, counts in zip(found, copies, strict=True):
        true_rows, predicted = [], []
        for position, (name, count) in enumerate(zip(names, counts, strict=True)):
            for copy in range(count):
                true_rows.append(truth[truth["image"] == name].assign(image=f"{name}{copy}"))
                predicted += [
                    (f"{name}{copy}", 40, 40, k, scores[4 * position + cell, k], masks[cell])
                    for cell in range(4)
                    for k in range(19)
                ]
        table = pd.DataFrame(predicted, columns=["image", "height", "width", "label", "score", "mask"])
        np.testing.assert_allclose(row, official(pd.concat(true_rows), table).per_class, atol=1e-12)


def test_bootstrap_is_paired_and_seeded() -> None:
    copies = resample(5, 20, seed=1)
    assert (copies.sum(1) == 5).all() and (copies != copies[0]).any()
    np.testing.assert_array_equal(copies, resample(5, 20, seed=1))
    hits = np.zeros((10, 19), bool)
    hits[::2, 0] = True
    truths = np.zeros((5, 19), int)
    truths[:, 0] = 1
    matched = Matched(hits, np.repeat(np.arange(5), 2), truths)
    perfect, inverted = score(hits.astype(float), matched, copies), score(1 - hits.astype(float), matched, copies)
    assert perfect.value == 1 and perfect.interval == (1, 1)
    assert inverted.value == pytest.approx(0.5)  # five misses first: the last of five hits has precision 1/2
    assert all(math.isnan(x) for x in interval(np.zeros(0)))


def test_fields_are_grouped_by_their_cut_cells() -> None:
    """Three fields with no, one and two of four cells at the frame; a weight helps in the last one alone."""
    names = ["a", "b", "c"]
    maps = []
    for at_the_frame in range(3):
        labels = np.zeros((40, 40), np.int32)
        for cell in range(4):
            labels[10 * cell + 2 : 10 * cell + 8, 0 if cell < at_the_frame else 5 : 20] = cell + 1
        maps.append(labels)
    truth = pd.concat(truth_table(n, labels, {4: [0]}) for n, labels in zip(names, maps, strict=True))
    records = [record(n, labels) for n, labels in zip(names, maps, strict=True)]
    matched = match_cells(records, truth, HPA_CLASSES)
    bare = np.zeros((12, 19), np.float32)
    bare[:, 0] = [0.1, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.9, 0.9, 0.1, 0.1, 0.5]
    weighted = bare.copy()
    weighted[8] *= 0.1
    groups = by_cut_share(records, weighted, bare, matched, bootstrap=10, seed=0)
    assert [(g.lowest, g.highest, g.fields) for g in groups] == [(0, 0, 1), (0.25, 0.25, 1), (0.5, 0.5, 1)]
    assert [(g.with_weight, g.without) for g in groups] == [(1, 1), (1, 1), (1, 0.5)]
    assert groups[2].interval == (0.5, 0.5) and groups[0].interval == (0, 0)


def test_the_papers_differences() -> None:
    assert paper.difference(variants.ENSEMBLE, variants.NO_INTEGRITY, False) == pytest.approx(0.008)
    assert paper.difference(variants.ENSEMBLE, "dsa_nfnet", True) == pytest.approx(0.571 - 0.558)
    assert paper.difference(variants.DSA_GROUP, variants.IMAGE_STREAM, False) == pytest.approx(0.13)
    assert paper.difference(variants.ENSEMBLE, variants.PRODUCT, False) is None


def as_in_the_paper(run: FinishedRun) -> FinishedRun:
    """The run with the paper's product of image and cell for all classes but two, and its integrity weight."""
    fusion = FusionSpec(cell_only=(11, 15), dsa_weight=1.5)
    return dataclasses.replace(run, ensemble=dataclasses.replace(run.ensemble, fusion=fusion))


def test_with_sums_of_log_odds_groups_and_networks_are_joined_as_the_ensemble_is(tiny_run: TinyRun) -> None:
    sums = LogOddsSpec((ClassLogOdds(0.5, 1, 2, -1),) * 19)
    run = open_run(tiny_run.work, tiny_run.weights)
    fusion = FusionSpec(order="log-odds", log_odds=sums, integrity_power=0.5)
    run = dataclasses.replace(run, ensemble=dataclasses.replace(run.ensemble, fusion=fusion))
    by_name = {variant.name: variant.prob for variant in variants.variants(run)}
    ((_, dsa),), cla = run.of_group("dsa"), run.of_group("cell")
    mean_cla = np.average([p.prob_cell for _, p in cla], axis=0, weights=[spec.weight for spec, _ in cla])

    def total(of_dsas: np.ndarray, of_others: np.ndarray) -> np.ndarray:
        return add_log_odds(of_dsas, of_others, dsa.prob_image, run.field_of_cell, sums)

    joined, weight = total(dsa.prob_cell, mean_cla), run.integrity[:, None]
    np.testing.assert_allclose(by_name[variants.ENSEMBLE], joined * weight**0.5, rtol=1e-5)
    np.testing.assert_allclose(by_name[variants.NO_INTEGRITY], joined, rtol=1e-5)
    np.testing.assert_allclose(by_name[variants.WHOLE_INTEGRITY], joined * weight, rtol=1e-5)
    np.testing.assert_allclose(by_name[variants.CELL_GROUP], total(mean_cla, mean_cla) * weight**0.5, rtol=1e-5)
    one = cla[0][1].prob_cell
    np.testing.assert_allclose(by_name[cla[0][0].name], total(one, one) * weight**0.5, rtol=1e-5)
    np.testing.assert_allclose(by_name[variants.CELL_STREAM], dsa.prob_cell * weight**0.5, rtol=1e-5)


def test_variants_are_what_their_names_say(tiny_run: TinyRun) -> None:
    run = as_in_the_paper(open_run(tiny_run.work, tiny_run.weights))
    by_name = {variant.name: variant.prob for variant in variants.variants(run)}
    assert variants.WHOLE_INTEGRITY not in by_name
    ((_, dsa),), cla = run.of_group("dsa"), run.of_group("cell")
    weight, field = run.integrity[:, None], run.field_of_cell
    image = dsa.prob_image[field]
    routed = image.copy()
    routed[:, list(run.ensemble.fusion.cell_only)] = 1

    def same(name: str, expected: np.ndarray) -> None:
        np.testing.assert_allclose(by_name[name], expected, rtol=1e-5)

    mean_cla = np.average([p.prob_cell for _, p in cla], axis=0, weights=[spec.weight for spec, _ in cla])
    fusion = run.ensemble.fusion
    total = fusion.dsa_weight + fusion.cell_weight
    joined = (fusion.dsa_weight * dsa.prob_cell + fusion.cell_weight * mean_cla) / total
    same(variants.IMAGE_STREAM, image * weight)
    same(variants.CELL_STREAM, dsa.prob_cell * weight)
    same(variants.DSA_PRODUCT, dsa.prob_cell * image * weight)
    same(variants.DSA_GROUP, dsa.prob_cell * routed * weight)
    same("dsa_efficientnet", dsa.prob_cell * routed * weight)
    same(cla[0][0].name, cla[0][1].prob_cell * routed * weight)
    same(variants.CELL_GROUP, mean_cla * routed * weight)
    same(variants.NO_INTEGRITY, joined * routed)
    same(variants.CELL_ONLY, joined * weight)
    same(variants.PRODUCT, joined * image * weight)


def test_a_whole_image_classifier_says_the_same_of_every_cell(tiny_run: TinyRun) -> None:
    run = as_in_the_paper(open_run(tiny_run.work, tiny_run.weights))
    frame = np.ones((run.records[0].height, run.records[0].width), np.int32)
    prob = np.random.default_rng(0).random((len(run.ids), 19), np.float32)
    spec = NetworkSpec(name="whole_image", kind="cla", base="test_resnet", input_size=32, file="whole_image.safetensors")
    whole = dataclasses.replace(
        run,
        records=tuple(record(name, frame) for name in run.ids),
        predictions=((spec, Prediction(prob, None)),),
    )
    first = next(variants.variants(run, whole))
    assert first.name == variants.WHOLE_IMAGE
    np.testing.assert_allclose(first.prob, prob[run.field_of_cell] * run.integrity[:, None], rtol=1e-6)
    with pytest.raises(InputError, match="expected one network and one cell"):
        next(variants.variants(run, run))


def test_whole_evaluation(tiny_run: TinyRun, tmp_path, capsys) -> None:
    given = ["--fields", tiny_run.fields, "--work", tiny_run.work, "--weights", tiny_run.weights]
    given += ["--submission", tiny_run.submission, "--output", tmp_path, "--bootstrap", "20"]
    assert main(list(map(str, given))) == 0
    values = json.loads((tmp_path / "evaluation.json").read_text())
    assert values["segmentation"]["agreement"] == 1  # the run was given the true label maps
    found = {entry["name"]: entry for entry in values["variants"]}
    assert len(found) == 13
    # the file has enough digits for every rank, and calibration changes none
    assert found[variants.ENSEMBLE]["map"] == pytest.approx(values["submission"], abs=1e-9)
    assert found["cla_resnet_deep"]["paper"] == 0.558
    truth = pd.read_csv(tiny_run.fields / "groundtruth.csv")
    assert sum(entry["positive_cells"] for entry in values["classes"]) == len(truth)
    text = capsys.readouterr().out
    assert text.strip() == (tmp_path / "evaluation.md").read_text().strip()
    assert "paper, real HPA images" in text and "| 11 Mitotic spindle |" in text


def test_truth_of_label_maps_and_a_table_is_that_of_the_simulation(tiny_run: TinyRun, tmp_path, capsys) -> None:
    """The same cells in the two forms; and of a subset of the images."""
    cells = pd.read_csv(tiny_run.fields / "cells.csv", dtype=str)
    table = cells.rename(columns={"classes": "Label"})[["ID", "cell", "Label"]]
    given = ["--work", tiny_run.work, "--weights", tiny_run.weights, "--masks", tiny_run.fields / "masks"]
    given += ["--submission", tiny_run.submission, "--output", tmp_path, "--bootstrap", "0", "--labels", tmp_path / "t.csv"]

    def evaluate(rows: pd.DataFrame) -> int:
        rows.to_csv(tmp_path / "t.csv", index=False)
        return main(list(map(str, given)))

    assert evaluate(table) == 0
    values = json.loads((tmp_path / "evaluation.json").read_text())
    assert values["images"] == 3 and values["segmentation"]["agreement"] == 1
    ensemble = next(entry for entry in values["variants"] if entry["name"] == variants.ENSEMBLE)
    assert ensemble["map"] == pytest.approx(values["submission"], abs=1e-9)
    assert evaluate(table[table["ID"] == table["ID"].iloc[0]]) == 0
    assert json.loads((tmp_path / "evaluation.json").read_text())["images"] == 1
    assert evaluate(table.iloc[1:]) == 2
    assert "has no row for 1 cells of 1 label maps" in capsys.readouterr().err
    assert main([*map(str, given), "--fields", str(tiny_run.fields)]) == 2


def test_a_run_of_other_weights_is_refused(tiny_run: TinyRun, tmp_path, capsys) -> None:
    values = json.loads((tiny_run.weights / "ensemble.json").read_text())
    values["networks"][0]["sha256"] = "0" * 64
    (tmp_path / "ensemble.json").write_text(json.dumps(values))
    for path in tiny_run.weights.glob("*.ubj"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="another dsa_efficientnet.safetensors"):
        open_run(tiny_run.work, tmp_path)
    with pytest.raises(InputError, match="not a readable run report"):
        open_run(tmp_path, tiny_run.weights)
