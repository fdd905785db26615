"""An ensemble of seven classes, and a tenth network of a new kind with a head of its own: built, run and fused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import torch
from pydantic import Field

from hcpl_kernel.classes import HPA_CLASSES, ClassList
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.fusion.averaging import Predicted, fuse
from hcpl_kernel.fusion.prediction import Prediction
from hcpl_kernel.models import network_kinds
from hcpl_kernel.models.ensemble import Ensemble, read_ensemble
from hcpl_kernel.models.network_kinds import NetworkKind, kind, register
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.models.schema import Integer, specification
from hcpl_kernel.networks.base import LABEL_PRIOR, CellNetwork, Classifier
from hcpl_kernel.networks.loading import load_network
from hcpl_kernel.submission import fallback_string, prediction_string
from hcpl_kernel.submission.rle import encode_mask
from tests.toy_ensemble import SEVEN, SIDE, network, write_toy_ensemble

FIELD_OF_CELL = np.array([0, 0, 0, 1, 1])


@torch.inference_mode()
def predict(ensemble: Ensemble, spec: NetworkSpec) -> Prediction:
    """What a network of a weights folder says of five cells in two fields, by its kind's declaration alone."""
    module = load_network(ensemble, spec)
    cells = torch.rand(len(FIELD_OF_CELL), 4, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    descriptors = module.descriptors(cells)
    prob_cell = module.probabilities(module.cell_logits(descriptors)).numpy()
    if not spec.declared.image_stream:
        return Prediction(prob_cell, None)
    image = module.image_logits(descriptors, torch.from_numpy(FIELD_OF_CELL), 2)
    return Prediction(prob_cell, module.probabilities(image).numpy())


def predictions(ensemble: Ensemble) -> list[Predicted]:
    return [(spec, predict(ensemble, spec)) for spec in ensemble.networks]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    return write_toy_ensemble(tmp_path_factory.mktemp("toy"))


def test_seven_classes_from_the_file_to_the_prediction_string(toy: Ensemble) -> None:
    assert toy.classes == SEVEN
    assert [spec.outputs for spec in toy.networks] == [7, 7, 7] and toy.completeness.outputs == 4
    found = predictions(toy)
    assert [p.prob_cell.shape for _, p in found] == [(5, 7)] * 3
    assert [None if p.prob_image is None else p.prob_image.shape for _, p in found] == [(2, 7), None, None]
    prob = fuse(found, FIELD_OF_CELL, toy.fusion, toy.classes)
    assert prob.shape == (5, 7) and prob.dtype == np.float32 and ((prob >= 0) & (prob <= 1)).all()

    # By hand for the class that is not fused, and for the negative one.
    dsa, cla, clh = (p.prob_cell for _, p in found)
    np.testing.assert_allclose(prob[:, 5], (dsa[:, 5] + (cla[:, 5] + clh[:, 5]) / 2) / 2, rtol=1e-5)
    own = dataclasses.replace(toy.fusion, negative="network")
    complement = 1 - prob[:, :6].max(1)
    np.testing.assert_allclose(prob[:, 6], (fuse(found, FIELD_OF_CELL, own, toy.classes)[:, 6] + complement) / 2, rtol=1e-5)

    mask = encode_mask(np.eye(8, dtype=bool))
    triples = prediction_string([mask] * 5, prob, toy.classes).split()
    assert triples[0::3] == [str(label) for label in range(7)] * 5
    assert fallback_string(8, 8)


def test_the_completeness_network_gives_four_bands_whatever_the_classes_are(toy: Ensemble) -> None:
    bands = predict(toy, toy.completeness).prob_cell
    assert bands.shape == (5, 4)
    np.testing.assert_allclose(bands.sum(1), 1, rtol=1e-5)


@specification
class GatedSettings:
    """The head of the new kind."""

    hidden: Annotated[Integer, Field(ge=1, le=64)] = 8


class GatedNet(CellNetwork):
    """A new kind of classifier: two layers, a softmax over all classes, and an image stream of its own."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        settings: GatedSettings = spec.head()
        self.hidden = torch.nn.Linear(self.features, settings.hidden)
        self.classifier = Classifier(settings.hidden, spec.outputs, LABEL_PRIOR)

    def pool(self, feature_map: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.hidden(super().pool(feature_map)))

    def cell_logits(self, descriptors: torch.Tensor) -> torch.Tensor:
        return self.classifier(descriptors)

    def image_logits(self, descriptors: torch.Tensor, bag: torch.Tensor, bag_count: int) -> torch.Tensor:
        means = [descriptors[bag == image].mean(0) for image in range(bag_count)]
        return self.classifier(torch.stack(means))


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> Iterator[NetworkKind]:
    monkeypatch.setattr(network_kinds, "_KINDS", dict(network_kinds._KINDS))
    yield register(
        NetworkKind(
            "gated",
            f"{__name__}:GatedNet",
            activation="softmax",
            group="cell",
            image_stream=True,
            head=GatedSettings,
        )
    )


def test_a_network_of_a_new_kind_needs_its_module_its_registration_and_an_entry(gated: NetworkKind, tmp_path: Path) -> None:
    ensemble = write_toy_ensemble(tmp_path, network("tenth", "gated", head_kwargs={"hidden": 16}))
    tenth = ensemble.networks[-1]
    assert tenth.declared is gated and tenth.outputs == 7
    found = predictions(ensemble)
    own = found[-1][1]
    np.testing.assert_allclose(own.prob_cell.sum(1), 1, rtol=1e-5)
    assert own.prob_image is not None and own.prob_image.shape == (2, 7)
    with_it = fuse(found, FIELD_OF_CELL, ensemble.fusion, ensemble.classes)
    without = fuse(found[:-1], FIELD_OF_CELL, ensemble.fusion, ensemble.classes)
    assert with_it.shape == without.shape and (with_it != without).any()
    alone = fuse(found[-1:], FIELD_OF_CELL, dataclasses.replace(ensemble.fusion, negative="network"), ensemble.classes)
    np.testing.assert_allclose(alone[:, 0], own.prob_cell[:, 0] * own.prob_image[FIELD_OF_CELL, 0], rtol=1e-5)

    for wrong, message in (({"hiden": 8}, "did you mean 'hidden'"), ({"hidden": 0}, "hidden: found 0")):
        with pytest.raises(SettingsError, match=message):
            dataclasses.replace(tenth, head_kwargs=wrong)


def test_kinds_are_found_by_name(gated: NetworkKind) -> None:
    assert kind("gated") is gated
    with pytest.raises(SettingsError, match="did you mean 'gated'"):
        kind("gatd")
    with pytest.raises(SettingsError, match="registered twice"):
        register(gated)


def test_a_list_of_classes() -> None:
    assert len(HPA_CLASSES) == 19 and HPA_CLASSES.negative == HPA_CLASSES.index("Negative") == 18
    assert HPA_CLASSES.short("Endoplasmic reticulum") == "ER" and HPA_CLASSES.short("Cytosol") == "Cytosol"
    assert ClassList(("a",)).short_names == ("a",)
    with pytest.raises(SettingsError, match="class 'Nucleus' is unknown"):
        HPA_CLASSES.index("Nucleus")


@pytest.mark.parametrize("name", ["mini", "full"])
def test_an_ensemble_that_names_no_classes_has_the_competitions(name: str) -> None:
    ensemble = read_ensemble(Path(__file__).resolve().parents[2] / "weights" / name)
    assert ensemble.classes is not SEVEN and ensemble.classes == HPA_CLASSES
    assert {spec.outputs for spec in ensemble.networks} == {19}
