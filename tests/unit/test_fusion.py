"""Fusion against cases computed by hand, and the properties that every fusion must have."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcpl_kernel.classes import HPA_CLASSES, ClassList
from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.fields.bit_depth import BitDepth
from hcpl_kernel.fields.stamps import ContentStamps
from hcpl_kernel.fusion.averaging import Predicted, apply_integrity, fuse, mean_image_stream, weighted_mean
from hcpl_kernel.fusion.image_by_cell import fuse_image_and_cell
from hcpl_kernel.fusion.log_odds import LEAST, add_log_odds
from hcpl_kernel.fusion.negative import apply_negative_rule
from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.models.ensemble import read_ensemble, without_fits
from hcpl_kernel.models.fusion_spec import FUSION_ORDERS, NEGATIVE_RULES, FusionSpec
from hcpl_kernel.models.log_odds_spec import ClassLogOdds, LogOddsSpec
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.pipeline.plan import Keys
from hcpl_kernel.settings import PredictSettings

GOLDEN = Path(__file__).parent / "fusion_golden.json"
MINI = Path(__file__).parents[2] / "weights" / "mini"
FIELD_OF_CELL = np.array([0, 0, 1])
FUSED, ROUTED = 0, 11
CLASS_COUNT, NEGATIVE = len(HPA_CLASSES), 18
PRODUCTS = tuple(order for order in FUSION_ORDERS if order != "log-odds")
SUMS = LogOddsSpec((ClassLogOdds(0.5, 1, 2, -1),) * 18 + (ClassLogOdds(1, 1, 0, -2, relative=True),))


def fusion_of(order: str, **rest: Any) -> FusionSpec:
    """A fusion of this order, with the sums that it needs."""
    return FusionSpec(order=order, log_odds=SUMS if order == "log-odds" else None, **rest)


def dsa(name: str, prob_image: np.ndarray, prob_cell: np.ndarray, weight: float = 1.0) -> Predicted:
    """A dual-stream network and what it says."""
    spec = NetworkSpec(name=name, kind="dsa", base="resnet10t", input_size=32, file="x", weight=weight)
    return spec, Prediction(prob_cell, prob_image)


def cell_level(name: str, prob_cell: np.ndarray, weight: float = 1.0) -> Predicted:
    """A cell-level network and what it says."""
    spec = NetworkSpec(name=name, kind="cla", base="resnet10t", input_size=32, file="x", weight=weight)
    return spec, Prediction(prob_cell, None)


def rows(*values: float) -> np.ndarray:
    """One row per value, the same in all classes."""
    return np.repeat(np.array(values, np.float32)[:, None], CLASS_COUNT, axis=1)


def test_product_of_image_and_cell_but_cell_alone_where_routed() -> None:
    image, cell = rows(0.5, 0.1), rows(0.8, 0.4, 0.6)
    image[:, 3] = (1.0, 0.0)
    fused = fuse_image_and_cell(image, cell, FIELD_OF_CELL, cell_only=(11, 12, 15))
    np.testing.assert_allclose(fused[:, 0], [0.4, 0.2, 0.06], rtol=1e-6)
    np.testing.assert_allclose(fused[:, 3], [0.8, 0.4, 0.0], rtol=1e-6)
    for routed in (11, 12, 15):
        np.testing.assert_array_equal(fused[:, routed], cell[:, routed])
    np.testing.assert_array_equal(image[:, 11], np.float32([0.5, 0.1]))
    assert fused.dtype == np.float32


def test_fusion_refuses_shapes_and_fields_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="found \\(2, 18\\)"):
        fuse_image_and_cell(rows(0.5, 0.5)[:, :18], rows(1, 1, 1), FIELD_OF_CELL, ())
    with pytest.raises(InputError, match="for 3 cells"):
        fuse_image_and_cell(rows(0.5, 0.5), rows(1, 1), FIELD_OF_CELL, ())
    with pytest.raises(InputError, match="fields 0 to 1, but 1 fields"):
        fuse_image_and_cell(rows(0.5), rows(1, 1, 1), FIELD_OF_CELL, ())


def test_weighted_mean() -> None:
    np.testing.assert_allclose(weighted_mean([rows(0.2), rows(0.8)], [3, 1]), rows(0.35), rtol=1e-6)
    with pytest.raises(InputError, match="0 arrays"):
        weighted_mean([], [])


DSAS = (
    dsa("d1", rows(0.5, 1.0), rows(0.8, 0.4, 0.6), 1.0),
    dsa("d2", rows(0.9, 0.2), rows(0.4, 0.8, 0.2), 3.0),
)
CELL_LEVEL = (cell_level("c1", rows(0.5, 0.5, 1.0), 1.0), cell_level("c2", rows(0.1, 0.9, 0.4), 1.0))


def test_fuse_then_average_by_hand() -> None:
    # Each DSA by its own streams: d1 .40 .20 .60, d2 .36 .72 .04; weights 1 : 3      -> .37  .59  .18
    # The mean image stream: field 0 (.5 + 3 x .9) / 4 = .8, field 1 (1 + 3 x .2) / 4 = .4
    # Cell level: mean .3 .7 .7, x the mean image stream                                -> .24  .56  .28
    # Groups 1 : 2                                                       -> .85/3  1.71/3  .74/3
    spec = FusionSpec(cell_only=(ROUTED,), dsa_weight=1, cell_weight=2)
    prob = fuse(DSAS + CELL_LEVEL, FIELD_OF_CELL, spec, HPA_CLASSES)
    np.testing.assert_allclose(prob[:, FUSED], np.array([0.85, 1.71, 0.74]) / 3, rtol=1e-5)
    # Routed: DSAs .5 .7 .3, cell level .3 .7 .7, groups 1 : 2
    np.testing.assert_allclose(prob[:, ROUTED], np.array([1.1, 2.1, 1.7]) / 3, rtol=1e-5)
    assert prob.dtype == np.float32


def test_average_then_fuse_by_hand() -> None:
    # DSA cell streams .5 .7 .3, cell level .3 .7 .7, groups 1 : 1 -> .4 .7 .5; x image .8 .8 .4
    spec = FusionSpec(cell_only=(ROUTED,), order="average-then-fuse")
    prob = fuse(DSAS + CELL_LEVEL, FIELD_OF_CELL, spec, HPA_CLASSES)
    np.testing.assert_allclose(prob[:, FUSED], [0.32, 0.56, 0.2], rtol=1e-5)
    np.testing.assert_allclose(prob[:, ROUTED], [0.4, 0.7, 0.5], rtol=1e-5)


def test_sum_of_log_odds_by_hand() -> None:
    # DSA cell streams .5 .7 .3, cell level .3 .7 .7, image .8 .8 .4; log-odds .5 d + c + 2 i - 1
    def logit(p: float) -> float:
        return float(np.log(p / (1 - p)))

    prob = fuse(DSAS + CELL_LEVEL, FIELD_OF_CELL, fusion_of("log-odds", cell_only=(ROUTED,)), HPA_CLASSES)
    cells = np.array([0.5 * logit(d) + logit(c) - 1 for d, c in ((0.5, 0.3), (0.7, 0.7), (0.3, 0.7))])
    images = np.array([2 * logit(p) for p in (0.8, 0.8, 0.4)])
    np.testing.assert_allclose(prob[:, FUSED], 1 / (1 + np.exp(-cells - images)), rtol=1e-5)
    np.testing.assert_allclose(prob[:, ROUTED], 1 / (1 + np.exp(-cells)), rtol=1e-5)
    # Relative: d + c less its mean in the field - 2; the third cell is alone in its field
    sums = np.array([logit(d) + logit(c) for d, c in ((0.5, 0.3), (0.7, 0.7), (0.3, 0.7))])
    sums -= np.array([sums[:2].mean(), sums[:2].mean(), sums[2]])
    np.testing.assert_allclose(prob[:, NEGATIVE], 1 / (1 + np.exp(2 - sums)), rtol=1e-5)
    assert prob.dtype == np.float32


def test_in_a_sum_of_log_odds_one_group_stands_for_the_other() -> None:
    alone = fuse(DSAS, FIELD_OF_CELL, fusion_of("log-odds"), HPA_CLASSES)
    mean = weighted_mean([p.prob_cell for _, p in DSAS], [1, 3])
    both = fuse((*DSAS, cell_level("c", mean)), FIELD_OF_CELL, fusion_of("log-odds"), HPA_CLASSES)
    np.testing.assert_allclose(alone, both, rtol=1e-6)


def test_no_stream_decides_a_sum_of_log_odds_alone() -> None:
    sure, prob = rows(0, 1, LEAST), rows(0.5, 0.5, 0.5)
    total = add_log_odds(sure, prob, rows(0.5, 0.5), FIELD_OF_CELL, SUMS)
    assert total[0, 0] == total[2, 0] > 0 and total[1, 0] < 1
    with pytest.raises(InputError, match="expected two cell streams \\(3, 19\\)"):
        add_log_odds(sure[:2], prob, rows(0.5, 0.5), FIELD_OF_CELL, SUMS)


def test_sums_come_with_their_order_and_one_for_each_class() -> None:
    with pytest.raises(SettingsError, match="log_odds: found none, expected sums"):
        FusionSpec(order="log-odds")
    with pytest.raises(SettingsError, match="log_odds: found some, expected none with order"):
        FusionSpec(log_odds=SUMS)
    with pytest.raises(SettingsError, match="found 19 sums, expected one for each of 2 classes"):
        fusion_of("log-odds").check_classes(ClassList(("a", "b"), (), None))
    with pytest.raises(SettingsError, match="dsa"):
        ClassLogOdds(dsa=-1, cell=1, image=1, constant=0)


def test_what_was_fitted_to_networks_goes_with_them() -> None:
    sums = {"order": "log-odds", "log_odds": {"classes": []}, "cell_only": [3]}
    begun = without_fits({"name": "x", "calibration": {}, "fusion": sums})
    assert begun == {"name": "x", "fusion": {"order": "fuse-then-average", "log_odds": None, "cell_only": [3]}}
    assert without_fits({"fusion": {"order": "average-then-fuse"}}) == {"fusion": {"order": "average-then-fuse"}}


def test_parts_depend_on_the_sums_and_the_integrity_power_but_not_on_words(tmp_path: Path) -> None:
    mini = read_ensemble(MINI)

    def key(fusion: FusionSpec) -> str:
        ensemble = dataclasses.replace(mini, fusion=fusion)
        settings = PredictSettings(tmp_path, MINI, tmp_path / "s.csv")
        return Keys(settings, BitDepth(16), ensemble, (), None, "", ContentStamps(tmp_path)).of_outcome({}, 96)

    words = dataclasses.replace(SUMS, provenance={"data": "other words"})
    other = dataclasses.replace(SUMS, classes=(ClassLogOdds(1, 1, 1, 1), *SUMS.classes[1:]))
    fusions = [FusionSpec(), FusionSpec(integrity_power=0.5), fusion_of("log-odds")]
    fusions += [FusionSpec(order="log-odds", log_odds=sums) for sums in (words, other)]
    keys = [key(fusion) for fusion in fusions]
    assert len(set(keys)) == 4 and keys[2] == keys[3]


@pytest.mark.parametrize("order", FUSION_ORDERS)
def test_without_dsas_the_cell_level_networks_are_used_alone(order: str) -> None:
    assert mean_image_stream([]) is None
    prob = fuse(CELL_LEVEL, FIELD_OF_CELL, fusion_of(order), HPA_CLASSES)
    np.testing.assert_allclose(prob, rows(0.3, 0.7, 0.7), rtol=1e-6)


def test_without_cell_level_networks_the_dsas_are_used_alone() -> None:
    prob = fuse(DSAS[:1], FIELD_OF_CELL, FusionSpec(), HPA_CLASSES)
    np.testing.assert_allclose(prob, rows(0.4, 0.2, 0.6), rtol=1e-6)


def test_negative_rules_by_hand() -> None:
    prob = rows(0.1, 0.2)
    prob[0, 7], prob[:, NEGATIVE] = 0.7, (0.5, 0.9)
    assert apply_negative_rule(prob, "network", NEGATIVE) is prob
    np.testing.assert_allclose(apply_negative_rule(prob, "complement", NEGATIVE)[:, NEGATIVE], [0.3, 0.8], rtol=1e-6)
    np.testing.assert_allclose(apply_negative_rule(prob, "mean", NEGATIVE)[:, NEGATIVE], [0.4, 0.85], rtol=1e-6)
    np.testing.assert_array_equal(apply_negative_rule(prob, "mean", NEGATIVE)[:, :NEGATIVE], prob[:, :NEGATIVE])
    np.testing.assert_array_equal(prob[:, NEGATIVE], np.float32([0.5, 0.9]))
    with pytest.raises(SettingsError, match="'none'"):
        apply_negative_rule(prob, "none", NEGATIVE)


def test_negative_rule_acts_on_the_joined_probabilities() -> None:
    spec = FusionSpec(cell_only=(), negative="complement")
    prob = fuse(CELL_LEVEL, FIELD_OF_CELL, spec, HPA_CLASSES)
    np.testing.assert_allclose(prob[:, NEGATIVE], [0.7, 0.3, 0.3], rtol=1e-6)


def test_integrity_multiplies_every_class() -> None:
    weighted = apply_integrity(rows(0.5, 0.8), np.array([1.0, 0.25], np.float32))
    np.testing.assert_allclose(weighted, rows(0.5, 0.2), rtol=1e-6)
    halfway = apply_integrity(rows(0.5, 0.8), np.array([1.0, 0.25], np.float32), power=0.5)
    np.testing.assert_allclose(halfway, rows(0.5, 0.4), rtol=1e-6)
    with pytest.raises(InputError, match="each of 2 cells"):
        apply_integrity(rows(0.5, 0.8), np.ones(3, np.float32))


def test_what_is_not_a_probability_is_refused_by_the_networks_name() -> None:
    broken = rows(0.5, 0.5, 0.5)
    broken[1, 4] = np.nan
    with pytest.raises(InputError, match="c9 gave values"):
        fuse([cell_level("c9", broken)], FIELD_OF_CELL, FusionSpec(), HPA_CLASSES)
    with pytest.raises(InputError, match=r"d9 gave an array \(1, 19\), expected \(2, 19\)"):
        odd = dsa("d9", rows(0.5), rows(0.5, 0.5, 0.5))
        fuse([DSAS[0], odd], FIELD_OF_CELL, FusionSpec(), HPA_CLASSES)
    with pytest.raises(InputError, match="no network"):
        fuse([], FIELD_OF_CELL, FusionSpec(), HPA_CLASSES)


def test_no_cells_at_all() -> None:
    nothing = np.zeros((0, CLASS_COUNT), np.float32)
    networks = [dsa("d", rows(0.5), nothing), cell_level("c", nothing)]
    for negative in NEGATIVE_RULES:
        spec = FusionSpec(negative=negative)
        prob = fuse(networks, np.zeros(0, int), spec, HPA_CLASSES)
        assert prob.shape == (0, CLASS_COUNT)


@pytest.mark.parametrize("golden", json.loads(GOLDEN.read_text()), ids=lambda g: f"{g['order']}-{g['negative']}-{g['seed']}")
def test_the_nineteen_classes_fuse_to_the_recorded_bytes(golden: dict[str, Any]) -> None:
    """Recorded before networks had kinds and ensembles had classes; a changed order of sums would change the last bits."""
    rng = np.random.default_rng(golden["seed"])

    def probabilities(n: int) -> np.ndarray:
        return rng.random((n, CLASS_COUNT), np.float32)

    networks = []
    for k in range(golden["dsas"]):
        networks.append(dsa(f"d{k}", probabilities(5), probabilities(37), float(rng.uniform(0.1, 3))))
    for k in range(golden["cell_level"]):
        networks.append(cell_level(f"c{k}", probabilities(37), float(rng.uniform(0.1, 3))))
    field_of_cell = np.sort(rng.integers(0, 5, 37))
    spec = FusionSpec((11, 12, 15), golden["order"], golden["negative"], dsa_weight=0.7147, cell_weight=1.2853)
    prob = fuse(networks, field_of_cell, spec, HPA_CLASSES)
    assert hashlib.sha256(prob.tobytes()).hexdigest() == golden["sha256"]


def test_another_list_of_classes() -> None:
    classes = ClassList(("Nothing", "Nucleus", "Rim"), negative=0)
    networks = [dsa("d", np.float32([[0.5, 0.5, 0.5]]), np.float32([[0.2, 0.4, 0.8]]))]
    spec = FusionSpec(cell_only=(2,), negative="complement")
    prob = fuse(networks, np.zeros(1, int), spec, classes)
    np.testing.assert_allclose(prob, [[0.2, 0.2, 0.8]], rtol=1e-6)
    with pytest.raises(SettingsError, match=r"cell_only\[0\]: found 3, expected class ids 0 to 2"):
        fuse(networks, np.zeros(1, int), FusionSpec(cell_only=(3,)), classes)
    with pytest.raises(SettingsError, match="classes.negative is null"):
        fuse(networks, np.zeros(1, int), spec, ClassList(classes.names))
    with pytest.raises(InputError, match=r"d gave an array \(1, 3\), expected \(1, 19\)"):
        fuse(networks, np.zeros(1, int), FusionSpec(), HPA_CLASSES)


def test_a_prediction_must_be_of_the_kind_that_the_network_declares() -> None:
    spec, prediction = DSAS[0]
    with pytest.raises(InputError, match="d1 is a dsa, expected an image stream"):
        fuse([(spec, Prediction(prediction.prob_cell, None))], FIELD_OF_CELL, FusionSpec(), HPA_CLASSES)
    with pytest.raises(InputError, match="d1 is a completeness, expected classifiers"):
        fuse(
            [(dataclasses.replace(spec, kind="completeness", outputs=4), prediction)],
            FIELD_OF_CELL,
            FusionSpec(),
            HPA_CLASSES,
        )


Ensemble = tuple[list[Predicted], np.ndarray, FusionSpec]


@st.composite
def ensembles(draw: st.DrawFn) -> Ensemble:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    fields, cells = draw(st.integers(1, 4)), draw(st.integers(0, 6))
    dsa_count, cell_count = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(any))

    def probabilities(n: int) -> np.ndarray:
        # Rounded, so that exact zeros and ones occur.
        return np.clip(rng.uniform(-0.3, 1.3, (n, CLASS_COUNT)), 0, 1).astype(np.float32)

    networks = [dsa(f"d{k}", probabilities(fields), probabilities(cells), rng.uniform(0.1, 5)) for k in range(dsa_count)]
    networks += [cell_level(f"c{k}", probabilities(cells), rng.uniform(0.1, 5)) for k in range(cell_count)]
    spec = fusion_of(
        draw(st.sampled_from(FUSION_ORDERS)),
        cell_only=tuple(draw(st.sets(st.integers(0, 18)))),
        negative=draw(st.sampled_from(NEGATIVE_RULES)),
        dsa_weight=draw(st.floats(0.1, 10)),
        cell_weight=draw(st.floats(0.1, 10)),
    )
    return networks, rng.integers(0, fields, cells), spec


@settings(max_examples=60)
@given(ensembles())
def test_result_is_a_probability_and_does_not_depend_on_the_networks_order(ensemble: Ensemble) -> None:
    networks, field_of_cell, spec = ensemble
    prob = fuse(networks, field_of_cell, spec, HPA_CLASSES)
    assert prob.shape == (len(field_of_cell), CLASS_COUNT)
    assert ((prob >= 0) & (prob <= 1)).all()
    np.testing.assert_allclose(prob, fuse(networks[::-1], field_of_cell, spec, HPA_CLASSES), atol=1e-6)


@settings(max_examples=60)
@given(ensembles(), st.integers(0, 17), st.floats(0, 1))
def test_a_network_that_is_surer_of_a_class_never_lowers_it(ensemble: Ensemble, label: int, level: float) -> None:
    networks, field_of_cell, spec = ensemble
    before = fuse(networks, field_of_cell, spec, HPA_CLASSES)[:, label]
    for _, prediction in networks:
        for prob in (prediction.prob_cell, prediction.prob_image):
            if prob is not None:
                prob[:, label] = np.maximum(prob[:, label], np.float32(level))
    after = fuse(networks, field_of_cell, spec, HPA_CLASSES)[:, label]
    assert (after >= before - 1e-6).all()


@settings(max_examples=40)
@given(ensembles())
def test_one_network_per_group_makes_both_products_equal(ensemble: Ensemble) -> None:
    networks, field_of_cell, spec = ensemble
    one_each = list({spec.declared.group: (spec, prediction) for spec, prediction in networks}.values())
    first, second = (
        fuse(one_each, field_of_cell, dataclasses.replace(spec, order=order, log_odds=None), HPA_CLASSES)
        for order in PRODUCTS
    )
    np.testing.assert_allclose(first, second, atol=1e-6)
