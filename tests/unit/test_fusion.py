"""Fusion against cases computed by hand, and the properties that every fusion must have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcpl_kernel.classes import CLASS_COUNT, NEGATIVE
from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.fusion.averaging import (
    CellPrediction,
    DsaPrediction,
    apply_integrity,
    ensemble_probabilities,
    mean_image_stream,
    weighted_mean,
)
from hcpl_kernel.fusion.image_by_cell import fuse_image_and_cell
from hcpl_kernel.fusion.negative import apply_negative_rule
from hcpl_kernel.models.ensemble import FUSION_ORDERS, NEGATIVE_RULES, FusionSpec

FIELD_OF_CELL = np.array([0, 0, 1])
FUSED, ROUTED = 0, 11


def rows(*values: float) -> np.ndarray:
    """One row a value, the same in all classes."""
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
    DsaPrediction("d1", rows(0.5, 1.0), rows(0.8, 0.4, 0.6), 1.0),
    DsaPrediction("d2", rows(0.9, 0.2), rows(0.4, 0.8, 0.2), 3.0),
)
CELL_LEVEL = (CellPrediction("c1", rows(0.5, 0.5, 1.0), 1.0), CellPrediction("c2", rows(0.1, 0.9, 0.4), 1.0))


def test_fuse_then_average_by_hand() -> None:
    # Each DSA by its own streams: d1 .40 .20 .60, d2 .36 .72 .04; weights 1 : 3      -> .37  .59  .18
    # The mean image stream: field 0 (.5 + 3 x .9) / 4 = .8, field 1 (1 + 3 x .2) / 4 = .4
    # Cell level: mean .3 .7 .7, x the mean image stream                                -> .24  .56  .28
    # Groups 1 : 2                                                       -> .85/3  1.71/3  .74/3
    spec = FusionSpec(cell_only=(ROUTED,), dsa_weight=1, cell_weight=2)
    prob = ensemble_probabilities(DSAS, CELL_LEVEL, FIELD_OF_CELL, spec)
    np.testing.assert_allclose(prob[:, FUSED], np.array([0.85, 1.71, 0.74]) / 3, rtol=1e-5)
    # Routed: DSAs .5 .7 .3, cell level .3 .7 .7, groups 1 : 2
    np.testing.assert_allclose(prob[:, ROUTED], np.array([1.1, 2.1, 1.7]) / 3, rtol=1e-5)
    assert prob.dtype == np.float32


def test_average_then_fuse_by_hand() -> None:
    # DSA cell streams .5 .7 .3, cell level .3 .7 .7, groups 1 : 1 -> .4 .7 .5; x image .8 .8 .4
    spec = FusionSpec(cell_only=(ROUTED,), order="average-then-fuse")
    prob = ensemble_probabilities(DSAS, CELL_LEVEL, FIELD_OF_CELL, spec)
    np.testing.assert_allclose(prob[:, FUSED], [0.32, 0.56, 0.2], rtol=1e-5)
    np.testing.assert_allclose(prob[:, ROUTED], [0.4, 0.7, 0.5], rtol=1e-5)


@pytest.mark.parametrize("order", FUSION_ORDERS)
def test_without_dsas_the_cell_level_networks_stand_alone(order: str) -> None:
    assert mean_image_stream([]) is None
    prob = ensemble_probabilities([], CELL_LEVEL, FIELD_OF_CELL, FusionSpec(order=order))
    np.testing.assert_allclose(prob, rows(0.3, 0.7, 0.7), rtol=1e-6)


def test_without_cell_level_networks_the_dsas_stand_alone() -> None:
    prob = ensemble_probabilities(DSAS[:1], [], FIELD_OF_CELL, FusionSpec(cell_only=()))
    np.testing.assert_allclose(prob, rows(0.4, 0.2, 0.6), rtol=1e-6)


def test_negative_rules_by_hand() -> None:
    prob = rows(0.1, 0.2)
    prob[0, 7], prob[:, NEGATIVE] = 0.7, (0.5, 0.9)
    assert apply_negative_rule(prob, "network") is prob
    np.testing.assert_allclose(apply_negative_rule(prob, "complement")[:, NEGATIVE], [0.3, 0.8], rtol=1e-6)
    np.testing.assert_allclose(apply_negative_rule(prob, "mean")[:, NEGATIVE], [0.4, 0.85], rtol=1e-6)
    np.testing.assert_array_equal(apply_negative_rule(prob, "mean")[:, :NEGATIVE], prob[:, :NEGATIVE])
    np.testing.assert_array_equal(prob[:, NEGATIVE], np.float32([0.5, 0.9]))
    with pytest.raises(SettingsError, match="'none'"):
        apply_negative_rule(prob, "none")


def test_negative_rule_acts_on_the_joined_probabilities() -> None:
    spec = FusionSpec(cell_only=(), negative="complement")
    prob = ensemble_probabilities([], CELL_LEVEL, FIELD_OF_CELL, spec)
    np.testing.assert_allclose(prob[:, NEGATIVE], [0.7, 0.3, 0.3], rtol=1e-6)


def test_integrity_multiplies_every_class() -> None:
    weighted = apply_integrity(rows(0.5, 0.8), np.array([1.0, 0.25], np.float32))
    np.testing.assert_allclose(weighted, rows(0.5, 0.2), rtol=1e-6)
    with pytest.raises(InputError, match="each of 2 cells"):
        apply_integrity(rows(0.5, 0.8), np.ones(3, np.float32))


def test_what_is_no_probability_is_refused_by_the_networks_name() -> None:
    broken = rows(0.5, 0.5, 0.5)
    broken[1, 4] = np.nan
    with pytest.raises(InputError, match="c9 gave values"):
        ensemble_probabilities([], [CellPrediction("c9", broken)], FIELD_OF_CELL, FusionSpec())
    with pytest.raises(InputError, match=r"d9 gave an array \(1, 19\), expected \(2, 19\)"):
        odd = DsaPrediction("d9", rows(0.5), rows(0.5, 0.5, 0.5))
        ensemble_probabilities([DSAS[0], odd], [], FIELD_OF_CELL, FusionSpec())
    with pytest.raises(InputError, match="no network"):
        ensemble_probabilities([], [], FIELD_OF_CELL, FusionSpec())


def test_no_cells_at_all() -> None:
    nothing = np.zeros((0, CLASS_COUNT), np.float32)
    dsa = [DsaPrediction("d", rows(0.5), nothing)]
    for negative in NEGATIVE_RULES:
        spec = FusionSpec(negative=negative)
        prob = ensemble_probabilities(dsa, [CellPrediction("c", nothing)], np.zeros(0, int), spec)
        assert prob.shape == (0, CLASS_COUNT)


Ensemble = tuple[list[DsaPrediction], list[CellPrediction], np.ndarray, FusionSpec]


@st.composite
def ensembles(draw: st.DrawFn) -> Ensemble:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    fields, cells = draw(st.integers(1, 4)), draw(st.integers(0, 6))
    dsa_count, cell_count = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(any))

    def probabilities(n: int) -> np.ndarray:
        # Rounded, so that exact zeros and ones occur.
        return np.clip(rng.uniform(-0.3, 1.3, (n, CLASS_COUNT)), 0, 1).astype(np.float32)

    dsa = [DsaPrediction(f"d{k}", probabilities(fields), probabilities(cells), rng.uniform(0.1, 5))
           for k in range(dsa_count)]  # fmt: skip
    cell_level = [CellPrediction(f"c{k}", probabilities(cells), rng.uniform(0.1, 5)) for k in range(cell_count)]
    spec = FusionSpec(
        cell_only=tuple(draw(st.sets(st.integers(0, 18)))),
        order=draw(st.sampled_from(FUSION_ORDERS)),
        negative=draw(st.sampled_from(NEGATIVE_RULES)),
        dsa_weight=draw(st.floats(0.1, 10)),
        cell_weight=draw(st.floats(0.1, 10)),
    )
    return dsa, cell_level, rng.integers(0, fields, cells), spec


@settings(max_examples=60)
@given(ensembles())
def test_result_is_a_probability_and_does_not_depend_on_the_networks_order(ensemble: Ensemble) -> None:
    dsa, cell_level, field_of_cell, spec = ensemble
    prob = ensemble_probabilities(dsa, cell_level, field_of_cell, spec)
    assert prob.shape == (len(field_of_cell), CLASS_COUNT)
    assert ((prob >= 0) & (prob <= 1)).all()
    again = ensemble_probabilities(dsa[::-1], cell_level[::-1], field_of_cell, spec)
    np.testing.assert_allclose(prob, again, atol=1e-6)


@settings(max_examples=60)
@given(ensembles(), st.integers(0, 17), st.floats(0, 1))
def test_a_network_that_is_surer_of_a_class_never_lowers_it(ensemble: Ensemble, label: int, level: float) -> None:
    dsa, cell_level, field_of_cell, spec = ensemble
    before = ensemble_probabilities(dsa, cell_level, field_of_cell, spec)[:, label]
    for network in (*dsa, *cell_level):
        network.prob_cell[:, label] = np.maximum(network.prob_cell[:, label], np.float32(level))
    for network in dsa:
        network.prob_image[:, label] = np.maximum(network.prob_image[:, label], np.float32(level))
    after = ensemble_probabilities(dsa, cell_level, field_of_cell, spec)[:, label]
    assert (after >= before - 1e-6).all()


@settings(max_examples=40)
@given(ensembles())
def test_one_network_a_group_makes_both_orders_equal(ensemble: Ensemble) -> None:
    dsa, cell_level, field_of_cell, spec = ensemble
    values = {"cell_only": spec.cell_only, "dsa_weight": spec.dsa_weight, "cell_weight": spec.cell_weight}
    first, second = (
        ensemble_probabilities(dsa[:1], cell_level[:1] or [CellPrediction("c", np.zeros((len(field_of_cell), 19)))],
                               field_of_cell, FusionSpec(order=order, **values))
        for order in FUSION_ORDERS
    )  # fmt: skip
    np.testing.assert_allclose(first, second, atol=1e-6)
