"""Stage `candidates`: networks beside those of a finished `mini`, to choose an ensemble from and to compare labels.

They share its cells, labels and settings; each is named with the network that it is trained like. `<work>/candidates`
becomes a weights folder with the whole ensemble and all of them:

    hcpl predict FIELDS --weights WORK/candidates --output RUN/submission.csv --work RUN/work --pixel-size 0.32
    python -m tools.select_ensemble --work RUN/work --weights WORK/candidates --truth FIELDS/groundtruth.csv --output OUT
    python -m tools.evaluate --fields FIELDS --work RUN/work --weights WORK/candidates --output OUT
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path

from hcpl_kernel.ensemble import SCHEMA, read_ensemble, write_ensemble
from hcpl_kernel.errors import SettingsError
from hcpl_kernel.settings import from_mapping, read_json
from tools.train.plan import CONFIG_SCHEMA, Candidate, MiniTraining, Plan, one_thread_each


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
    weights = work / "candidates"
    prepare(settings.candidates, work / "weights", weights)
    with one_thread_each(processes) as pool:
        plan = Plan(mini, work, mini.scale(budget_minutes), pool)
        plan.begin()
        plan.run([plan.candidate(candidate, weights) for candidate in settings.candidates])


def prepare(candidates: tuple[Candidate, ...], finished: Path, weights: Path) -> None:
    """Copy a trained ensemble and add the candidates that are not there yet, untrained.

    Args:
        candidates: the networks.
        finished: weights folder of the ensemble.
        weights: becomes the folder of both.

    Raises:
        SettingsError: if the ensemble is not trained throughout, or a candidate is like none of its networks.
    """
    ensemble = read_ensemble(finished)
    if not ensemble.trained:
        raise SettingsError(f"{finished} is not trained throughout; finish `python -m tools.train mini` first")
    if not (weights / "ensemble.json").is_file():
        shutil.copytree(finished, weights, dirs_exist_ok=True)
    values = read_json(weights / "ensemble.json", SCHEMA)
    entries = {entry["name"]: entry for entry in values["networks"]}
    known = {network.name for network in ensemble.networks}
    for candidate in candidates:
        if candidate.like not in known:
            raise SettingsError(
                f"candidate {candidate.name!r} is like {candidate.like!r}; expected one of {', '.join(sorted(known))}"
            )
        if candidate.name not in entries:
            model = entries[candidate.like]
            kept = {k: v for k, v in model["provenance"].items() if k in ("parameters", "family")}
            added = {"like": candidate.like, "labels": f"after {candidate.round} rounds of relabelling"}
            file = f"{candidate.name}.safetensors"
            changes = {"name": candidate.name, "file": file, "sha256": None, "trained": False}
            values["networks"].append({**model, **changes, "provenance": {**kept, **added}})
    write_ensemble(weights / "ensemble.json", values)
