"""Stage `mini`: a whole ensemble from nothing, on simulated fields, in resumable jobs of one thread each.

simulate -> segmentation -> crops -> three DSAs on inherited labels -> relabelling -> three DSAs on the new labels ->
relabelling (the second round replaces the first) -> all networks on the labels of round two -> VID.
"""

from __future__ import annotations

import time
from pathlib import Path

from hcpl_kernel.models.ensemble import read_ensemble
from tools.train.jobs import pool_of
from tools.train.plan import MiniTraining, Plan

ROUNDS = 2


def train_mini(settings: MiniTraining, work: Path, budget_minutes: float | None, processes: int) -> None:
    """Make `<work>/weights` from nothing; run it again to go on where it stopped.

    Args:
        settings: of the stage.
        work: folder for everything.
        budget_minutes: scales the steps of every training by its ratio to `nominal_minutes`; None keeps them.
        processes: jobs at a time, each of one thread on CPUs; on a GPU they share it.

    Raises:
        SettingsError: if the folder was begun with other settings.
        TrainingError: if a job failed; its output is in `<work>/logs`.
    """
    start = time.time()
    with pool_of(processes) as pool:
        plan = Plan(settings, work, settings.scale(budget_minutes), pool)
        plan.begin()
        plan.run([plan.simulate(processes)])
        plan.run([plan.segmentation("--only", which) for which in ("cell", "nuclei")])
        plan.run([plan.segmentation(), plan.crops()])
        for number in range(ROUNDS):
            labels = plan.labels(number)
            plan.run([plan.relabelling(network, number, labels) for network in settings.relabelling_networks])
            plan.run([plan.relabel(number)])
        names = [network.name for network in read_ensemble(work / "weights").networks]
        plan.run([*(plan.classifier(name, plan.labels(ROUNDS)) for name in names), plan.integrity()])
        plan.finish(time.time() - start, processes)
