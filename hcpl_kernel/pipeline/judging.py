"""What a run says of its own result: the weights that it used, what is missing, what does not hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hcpl_kernel.errors import InputError
from hcpl_kernel.models.ensemble import Ensemble, read_ensemble
from hcpl_kernel.models.weights import resolve_sha256
from hcpl_kernel.pipeline.parts import Finished
from hcpl_kernel.pipeline.plan import Shard, fields_in
from hcpl_kernel.pipeline.report import RunReport
from hcpl_kernel.pipeline.setup import some
from hcpl_kernel.pipeline.workspace import Workspace
from hcpl_kernel.settings import PredictSettings


def describe_weights(settings: PredictSettings, ensemble: Ensemble, report: RunReport) -> None:
    """Name the weights that are in use, and say which of them are untrained."""
    parts = ensemble.parts_in_use(settings.labels is None)
    untrained = [part.file for part in parts if not part.trained]
    report.weights = {
        "name": ensemble.name,
        "trained": not untrained,
        "caution": ensemble.caution,
        "sha256": {part.file: resolve_sha256(ensemble.folder, part) for part in parts},
    }
    if untrained:
        which = "all" if len(untrained) == len(parts) else ", ".join(untrained)
        report.degrade(f"untrained weights in {ensemble.name!r}, whose output means nothing: {which}")


def as_it_ran(ensemble: Ensemble, report: RunReport) -> Ensemble:
    """The ensemble with the calibration that holds for the networks that ran."""
    states = report.networks
    ran = [spec for spec in ensemble.networks if states.get(spec.name, {"state": "done"})["state"] == "done"]
    return dataclasses.replace(ensemble, calibration=ensemble.calibration_of(ran))


def judge_result(
    settings: PredictSettings, finished: Finished, mine: Sequence[Shard], ensemble: Ensemble, report: RunReport
) -> None:
    """Say what is missing from the result.

    Raises:
        InputError: if no field at all could be used.
    """
    done = [spec for spec in ensemble.networks if report.networks.get(spec.name, {}).get("state") == "done"]
    if mine and not finished.places:
        raise InputError(
            f"no network predicted anything ({'; '.join(report.degradations[-2:])}); "
            f"{settings.output} holds fallback rows only"
        )
    if not any(spec.declared.image_stream for spec in done):
        report.degrade("no network with an image stream ran: probabilities have no image factor")
    judge_networks(ensemble, report)
    if finished.places and report.counts["readable"] == 0:
        first = report.problems[0]
        raise InputError(
            f"none of the {report.counts['fields']} fields in {settings.fields_dir} could be used; "
            f"{settings.output} holds fallback rows only. First: {first['ID']}: {first['reason']}"
        )


def judge_networks(ensemble: Ensemble, report: RunReport) -> None:
    """Say what does not hold, or was not done, because other networks ran than those of the whole ensemble."""
    _judge_calibration(ensemble, report)
    novelty = read_ensemble(ensemble.folder).novelty
    if novelty is not None and report.networks.get(novelty.network, {}).get("state") != "done":
        report.warn(
            None,
            f"fields unlike those of the training were not looked for, or not among all fields: {novelty.network}, whose "
            "descriptors tell them, did not predict every field",
        )


def _judge_calibration(ensemble: Ensemble, report: RunReport) -> None:
    """Say where probabilities come from other networks than those that the calibration was fitted with."""
    if ensemble.calibration is None:
        if read_ensemble(ensemble.folder).calibration is not None:
            report.warn(
                None,
                f"values are not calibrated and cells have no names: the calibration of {ensemble.name!r} was fitted "
                "with an image factor, which these networks do not have. `python -m tools.calibrate` fits one for them",
            )
        return
    states = report.networks
    ran = {name for name in ensemble.joined if states.get(name, {"state": "done"})["state"] == "done"}
    fitted = set(ensemble.calibration.fitted_with or ensemble.joined)
    if ran != fitted:
        without, beside = sorted(fitted - ran), sorted(ran - fitted)
        other = [f"{word} {', '.join(names)}" for word, names in (("without", without), ("with", beside)) if names]
        report.warn(
            None,
            f"probabilities and names are approximate: the calibration of {ensemble.name!r} was fitted with other "
            f"networks, and this run is {' and '.join(other)}; the order of the cells within a class is not affected. "
            "`python -m tools.calibrate` fits one for these networks",
        )


def name_foreign_label_maps(workspace: Workspace, shards: Sequence[Shard], report: RunReport) -> None:
    """Say which label maps are not of this run's fields; they stay, since another run of the folder made them."""
    foreign = workspace.foreign_label_maps(files.id for files in fields_in(shards))
    if foreign:
        report.warn(
            None,
            f"{workspace.labels} also holds the label maps of {len(foreign)} fields that are not in this run "
            f"({some(foreign)}); remove them, or give each folder of fields a --work of its own",
        )
