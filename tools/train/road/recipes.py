"""Recipes: how much of the paper's training is done. They are data, `tools/train/configs/recipes.json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.models.ensemble import read_ensemble
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.settings import from_mapping, read_json
from tools.relabel import RelabelSettings
from tools.train.cells import CellTraining
from tools.train.integrity import IntegrityTraining
from tools.train.plan import MiniTraining

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RECIPES = CONFIGS / "recipes.json"
SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is trained, and for how long.

    Attributes:
        about: in words.
        networks: by name of the ensemble, the networks that are trained.
        relabelling: by name of the ensemble, the DSAs that relabel the cells.
        rounds: of relabelling; 0 trains on the images' labels.
        folds: of the relabelling networks' predictions.
        relabelling_passes: how often such a network sees each cell that it learns from.
        passes: by kind of network, how often it sees each cell.
        integrity_steps: of the completeness network.
        fewest_steps: of any training, however few cells there are. Our choice.
        parts: shares that the fields are dealt into; one is for validation, one is held out. Our choice.
        validations: times that each network is measured on the validation fields while it is trained.
        relabel: as in :class:`tools.relabel.RelabelSettings`.
        settings: further settings of the trainings (`cells`, `integrity`, `run`), over those of the configs.
    """

    about: str
    networks: Mapping[str, list[str]]
    relabelling: Mapping[str, list[str]]
    rounds: int
    folds: int
    relabelling_passes: float
    passes: Mapping[str, float]
    integrity_steps: int
    fewest_steps: int = 2000
    parts: int = 20
    validations: int = 10
    relabel: RelabelSettings = RelabelSettings()
    settings: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.relabel, Mapping):
            object.__setattr__(self, "relabel", from_mapping(RelabelSettings, self.relabel, "relabel"))
        if self.parts < 3 or self.rounds < 0 or self.folds < 2 or min(self.fewest_steps, self.integrity_steps) < 1:
            raise SettingsError("recipe: expected parts of at least 3, folds of at least 2, and positive steps")
        if unknown := set(self.settings) - {"cells", "integrity", "run"}:
            raise SettingsError(f"recipe: settings of {', '.join(sorted(unknown))}, expected cells, integrity and run")


def read_recipe(name: str) -> Recipe:
    """A recipe by its name, or from a JSON file of its own, which has the fields of one recipe.

    Raises:
        SettingsError: for an unknown name or key.
    """
    if name.endswith(".json"):
        values, where = read_json(Path(name), SCHEMA), name
        values.pop("schema")
    else:
        recipes = read_json(RECIPES, SCHEMA)
        recipes.pop("schema")
        if name not in recipes:
            raise SettingsError(f"--recipe {name!r}, expected one of {', '.join(recipes)} or a .json file")
        values, where = recipes[name], f"{RECIPES.name}: {name}"
    return from_mapping(Recipe, values, where)


class Trainings:
    """The settings of every training of an ensemble: `tools/train/configs/<ensemble>/`, with the recipe's over them.

    Args:
        ensemble: the weights folder that describes the networks.
        recipe: what is changed.
        on_gpu: whether it is trained on a GPU; else without worker processes, one thread each.
    """

    def __init__(self, ensemble: Path, recipe: Recipe, on_gpu: bool) -> None:
        self._ensemble = read_ensemble(ensemble)
        self._specs = {spec.name: spec for spec in self._ensemble.networks}
        self._folder = CONFIGS / self._ensemble.name
        self._recipe, self._on_gpu = recipe, on_gpu
        shared = self._folder / f"{self._ensemble.name}.json"
        self._shared = from_mapping(MiniTraining, _values(shared), str(shared)) if shared.is_file() else None

    def networks(self, wanted: list[str] | None) -> list[str]:
        """The networks to train: those wanted, else the recipe's for this ensemble, else all of it.

        Raises:
            SettingsError: if the ensemble has no network of a name.
        """
        names = wanted or list(self._recipe.networks.get(self._ensemble.name, self._specs))
        for name in names:
            if name not in self._specs:
                raise SettingsError(
                    f"{self._ensemble.folder}/ensemble.json has no network {name!r}; it has {', '.join(self._specs)}"
                )
        if len(set(names)) < len(names):
            raise SettingsError(f"networks {', '.join(names)}: expected each once")
        return names

    def relabelling(self) -> list[str]:
        """The networks that relabel, none where there is no round.

        Raises:
            SettingsError: if the recipe names none for this ensemble.
        """
        if not self._recipe.rounds:
            return []
        names = self._recipe.relabelling.get(self._ensemble.name, [])
        if not names:
            raise SettingsError(f"recipe: relabelling names no network of the ensemble {self._ensemble.name!r}")
        return list(names)

    def spec(self, name: str) -> NetworkSpec:
        """What a network is."""
        return self._specs[name] if name in self._specs else self._training(self._cells(name)).spec(self._ensemble.folder)

    def classifier(self, name: str, cells: int) -> dict[str, Any]:
        """Settings of a network's training on so many cells."""
        passes = self._recipe.passes.get(self.spec(name).kind)
        if passes is None:
            raise SettingsError(f"recipe: passes has no kind {self.spec(name).kind!r}, which {name} is of")
        return self._with_run(self._cells(name), self._steps(name, self._cells(name), passes * cells))

    def relabeller(self, name: str, cells: int) -> dict[str, Any]:
        """Settings of one fold of a relabelling network, of a set of so many cells."""
        values = self._cells(name, relabelling=True) | {"folds": self._recipe.folds}
        seen = self._recipe.relabelling_passes * cells * (self._recipe.folds - 1) / self._recipe.folds
        return self._with_run(values, self._steps(name, values, seen))

    def integrity(self) -> dict[str, Any]:
        """Settings of the integrity modules' training."""
        own = self._folder / "integrity.json"
        shared = dict(self._shared.integrity) if self._shared else {}
        values = {**(_values(own) if own.is_file() else shared), **self._recipe.settings.get("integrity", {})}
        return self._with_run(values, self._recipe.integrity_steps)

    def cells_per_step(self, name: str, values: Mapping[str, Any]) -> int:
        """Cells that a step takes, at most."""
        training = self._training(values)
        return training.images * training.cells if self.spec(name).declared.image_stream else training.batch

    def side(self) -> int:
        """Of the stored crops, px: the largest input of a network that may be trained."""
        others = [self.spec(name) for name in self.relabelling()]
        completeness = self._ensemble.completeness
        specs = [*self._specs.values(), *others, *([] if completeness is None else [completeness])]
        return max(spec.input_size for spec in specs)

    def _steps(self, name: str, values: Mapping[str, Any], seen: float) -> int:
        return max(self._recipe.fewest_steps, round(seen / self.cells_per_step(name, values)))

    def _cells(self, name: str, relabelling: bool = False) -> dict[str, Any]:
        own = self._folder / f"{name}.json"
        if own.is_file():
            values = _values(own)
        elif self._shared is not None and name in self._specs:
            found = self._shared.relabelling if relabelling else self._shared.classifier(self._specs[name])
            values = {**found, "network": name}
        else:
            raise SettingsError(f"no training settings for {name}: expected {own}")
        return {**values, **self._recipe.settings.get("cells", {})}

    def _with_run(self, values: dict[str, Any], steps: int) -> dict[str, Any]:
        device: dict[str, Any] = {"accelerator": "cuda"}
        if not self._on_gpu:
            device = {"accelerator": "cpu", "workers": 0, "threads": 1, "precision": "auto"}
        run = {**values["run"], **device, "steps": steps, "validations": self._recipe.validations}
        often = max(1, min(values["run"].get("checkpoint_every", 2000), steps // 4))
        log = max(1, min(values["run"].get("log_every", 50), steps // 20))
        run |= {"checkpoint_every": often, "log_every": log, **self._recipe.settings.get("run", {})}
        return {**values, "run": run}

    def _training(self, values: Mapping[str, Any]) -> CellTraining:
        return from_mapping(CellTraining, values, "training")

    def check(self, names: list[str], relabelling: list[str]) -> None:
        """Build every setting once, so that a fault shows before the first step.

        Raises:
            SettingsError: see there.
        """
        for name in names:
            self._training(self.classifier(name, 1))
        for name in relabelling:
            self._training(self.relabeller(name, 1))
        from_mapping(IntegrityTraining, self.integrity(), "integrity")


def _values(path: Path) -> dict[str, Any]:
    values = read_json(path, SCHEMA)
    values.pop("schema")
    return values
