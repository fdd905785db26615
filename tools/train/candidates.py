"""Stage `candidates`: networks in addition to those of a finished `mini`, to choose an ensemble from and to compare labels.

They share its cells, labels and settings; each is named with the network that it is trained like. `<work>/candidates`
becomes a weights folder with the whole ensemble and all of them:

    hcpl predict FIELDS --weights WORK/candidates --output RUN/submission.csv --work RUN/work --pixel-size 0.32
    python -m tools.select_ensemble --work RUN/work --weights WORK/candidates --truth FIELDS/groundtruth.csv --output OUT
    python -m tools.evaluate --fields FIELDS --work RUN/work --weights WORK/candidates --output OUT

The candidate with `whole_fields`, the whole-image classifier to compare with, gets the folder `<work>/whole_image` for
itself, as it predicts other cells: label maps of one cell per field, which `tools.train crops` writes into `labels/` of the
set that it makes with `"whole_fields": true`.

    hcpl predict FIELDS --weights WORK/whole_image --labels SET/labels --output WHOLE/submission.csv --work WHOLE/work
    python -m tools.evaluate ... --whole-image WHOLE/work --whole-image-weights WORK/whole_image
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from hcpl_kernel.errors import SettingsError
from hcpl_kernel.models.ensemble import read_ensemble, read_values, write_ensemble
from hcpl_kernel.models.subset import without_orphans
from hcpl_kernel.settings import from_mapping, read_json
from tools.train.jobs import pool_of
from tools.train.plan import CONFIG_SCHEMA, Candidate, MiniTraining, Plan


@dataclasses.dataclass(frozen=True)
class CandidateTraining:
    """Settings of the stage.

    Attributes:
        mini: config file of the stage `mini` that made the work folder.
        candidates: the networks.
    """

    mini: str
    candidates: tuple[Candidate, ...]

    def __post_init__(self) -> None:
        made = [from_mapping(Candidate, c, "candidates") if isinstance(c, Mapping) else c for c in self.candidates]
        object.__setattr__(self, "candidates", tuple(made))


def train_candidates(settings: CandidateTraining, work: Path, budget_minutes: float | None, processes: int) -> None:
    """Train the candidates, going on where an earlier run stopped.

    Args:
        settings: of the stage.
        work: of a finished `mini` (with the same budget, so that everything has had the same number of steps).
        budget_minutes, processes: as in :func:`tools.train.mini.train_mini`.

    Raises:
        SettingsError: if `mini` has not finished there, or a candidate is like no network of the ensemble.
        TrainingError: if a job failed; its output is in `<work>/logs`.
    """
    values = read_json(Path(settings.mini), CONFIG_SCHEMA)
    values.pop("schema")
    mini = from_mapping(MiniTraining, values, settings.mini)
    cells = [candidate for candidate in settings.candidates if not candidate.whole_fields]
    whole = [candidate for candidate in settings.candidates if candidate.whole_fields]
    add_candidates(cells, work / "weights", work / "candidates")
    add_candidates(whole, work / "weights", work / "whole_image", alone=True)
    with pool_of(processes) as pool:
        plan = Plan(mini, work, mini.scale(budget_minutes), pool)
        plan.begin()
        plan.run([plan.crops(whole_fields=True)] if whole else [])
        jobs = [plan.candidate(candidate, work / "candidates") for candidate in cells]
        plan.run([*jobs, *(plan.candidate(candidate, work / "whole_image") for candidate in whole)])


def add_candidates(candidates: Sequence[Candidate], finished: Path, weights: Path, alone: bool = False) -> None:
    """Copy a trained ensemble and add the candidates that are not there yet, untrained.

    Args:
        candidates: the networks.
        finished: weights folder of the ensemble.
        weights: becomes the folder of both.
        alone: leaves the ensemble's own networks out.

    Raises:
        SettingsError: if the ensemble is not trained throughout, or a candidate is like none of its networks.
    """
    ensemble = read_ensemble(finished)
    if not ensemble.trained:
        raise SettingsError(f"{finished} is not trained throughout; finish `python -m tools.train mini` first")
    if not (weights / "ensemble.json").is_file():
        shutil.copytree(finished, weights, dirs_exist_ok=True)
    models = {entry["name"]: entry for entry in read_values(finished)["networks"]}
    values = read_values(weights)
    values["networks"] = [entry for entry in values["networks"] if not (alone and entry["name"] in models)]
    present = {entry["name"] for entry in values["networks"]}
    for candidate in candidates:
        if candidate.like not in models:
            raise SettingsError(
                f"candidate {candidate.name!r} is like {candidate.like!r}; expected one of {', '.join(models)}"
            )
        if candidate.name not in present:
            model = models[candidate.like]
            kept = {k: v for k, v in model["provenance"].items() if k in ("parameters", "family")}
            added = {"like": candidate.like, "labels": f"after {candidate.round} rounds of relabelling"}
            file = f"{candidate.name}.safetensors"
            changes = {"name": candidate.name, "file": file, "sha256": None, "trained": False}
            values["networks"].append({**model, **changes, "provenance": {**kept, **added}})
    write_ensemble(weights / "ensemble.json", without_orphans(values))
