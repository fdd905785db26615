"""One network over the crops of all shards, on one or several devices, within the time that is left."""

from __future__ import annotations

import copy
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

import numpy as np
import torch
from tqdm import tqdm

from hcpl_kernel.cells.store import read_crops
from hcpl_kernel.models.network_spec import NetworkSpec
from hcpl_kernel.networks.base import CellNetwork
from hcpl_kernel.pipeline.budget import TimeBudget
from hcpl_kernel.pipeline.inference import Prediction, Predictor
from hcpl_kernel.pipeline.ledger import Ledger
from hcpl_kernel.pipeline.shards import Shard, field_of_cell
from hcpl_kernel.runtime.atomic import atomic_path


@dataclasses.dataclass(frozen=True)
class NetworkOutcome:
    """How a network's pass over all shards ended.

    Attributes:
        reason: None when every shard is predicted, else why the network was left out.
        seconds: of this run.
        cells: predicted in this run (not those taken over from an earlier one).
        precision: what the descriptors were computed in; "" if nothing was computed.
        batch: the batch size at the end.
    """

    reason: str | None
    seconds: float
    cells: int
    precision: str
    batch: int


class _Stop(Exception):
    """A worker found that the network cannot be finished; the text says why."""


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where and how networks are computed.

    Attributes:
        devices: one worker each; workers on the CPU share its cores.
        engine: one of :data:`hcpl_kernel.engines.ENGINES`.
        views: test-time views, None for each network's own.
    """

    devices: Sequence[torch.device]
    engine: str
    views: int | None


def run_network(
    spec: NetworkSpec,
    load: Callable[[], CellNetwork],
    shards: Sequence[Shard],
    fingerprints: Sequence[str],
    placement: Placement,
    ledger: Ledger,
    budget: TimeBudget,
) -> NetworkOutcome:
    """Predict every shard that the ledger does not have yet.

    Args:
        spec: the network.
        load: makes its module, in evaluation mode; called when a shard is missing.
        shards: all shards of the run.
        fingerprints: one a shard, of everything that this network's prediction of it depends on.
        placement: the devices that share the shards.
        ledger: where finished shards are recorded.
        budget: the pass is given up as soon as its projection exceeds the time left.
    """
    devices = placement.devices
    todo: SimpleQueue[int] = SimpleQueue()
    missing = [i for i, f in enumerate(fingerprints) if ledger.find(f"{spec.name}/{i}", f) is None]
    for index in missing:
        todo.put(index)
    if not missing:
        return NetworkOutcome(None, 0.0, 0, "", 0)
    network = load()
    networks = [network, *(copy.deepcopy(network) for _ in devices[1:])]  # engines change theirs in place
    start = time.perf_counter()
    shards[0].prediction_path(spec.name).parent.mkdir(parents=True, exist_ok=True)
    lock = threading.Lock()
    done = cells = 0
    failures: list[BaseException] = []
    workers: list[Predictor] = []
    bar = tqdm(total=len(missing), desc=spec.name, unit="shard", leave=False)

    def work(rank: int) -> None:
        nonlocal done, cells
        device = devices[rank]
        if device.type == "cpu" and len(devices) > 1:
            _share_cores(rank, len(devices))
        predictor = Predictor(networks[rank], spec, device, placement.engine, placement.views)
        workers.append(predictor)
        while not failures:
            try:
                index = todo.get_nowait()
            except Empty:
                return
            prediction, count = _predict_shard(predictor, shards[index])
            path = shards[index].prediction_path(spec.name)
            _write(path, prediction)
            with lock:
                ledger.record(f"{spec.name}/{index}", fingerprints[index], [path])
                done, cells = done + 1, cells + count
                bar.update()
                seconds = time.perf_counter() - start
                left = seconds / done * (len(missing) - done)
                if left > budget.for_networks:
                    raise _Stop(f"it would need {left:.0f} s more, {max(0.0, budget.for_networks):.0f} s are left")

    def guarded(rank: int) -> None:
        try:
            work(rank)
        except (_Stop, RuntimeError, ValueError, OSError, MemoryError) as error:
            failures.append(error)

    if len(devices) == 1:
        guarded(0)
    else:
        threads = [threading.Thread(target=guarded, args=(rank,)) for rank in range(len(devices))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    bar.close()
    reason = None
    if failures:
        error = failures[0]
        if isinstance(error, OSError):  # the disk, not the network
            raise error
        reason = str(error) if isinstance(error, _Stop) else f"{type(error).__name__}: {str(error).splitlines()[0]}"
    first = workers[0] if workers else None
    return NetworkOutcome(
        reason,
        time.perf_counter() - start,
        cells,
        first.precision if first else "",
        min((w.batch for w in workers), default=0),
    )


def _predict_shard(predictor: Predictor, shard: Shard) -> tuple[Prediction, int]:
    records = shard.read_records()
    crops = read_crops(shard.crops_path)
    prediction = predictor.predict(crops, field_of_cell(records), len(records))
    finite = np.isfinite(prediction.prob_cell).all() and (
        prediction.prob_image is None or np.isfinite(prediction.prob_image).all()
    )
    if not finite:
        raise _Stop("its output is not finite")
    return prediction, len(crops)


def _write(path: str | os.PathLike[str], prediction: Prediction) -> None:
    arrays = {"prob_cell": prediction.prob_cell}
    if prediction.prob_image is not None:
        arrays["prob_image"] = prediction.prob_image
    with atomic_path(path) as temporary:  # type: ignore[arg-type]
        np.savez(temporary, **arrays)  # type: ignore[arg-type]


def read_prediction(shard: Shard, network: str) -> Prediction:
    """A network's finished prediction of a shard."""
    with np.load(shard.prediction_path(network)) as arrays:
        return Prediction(arrays["prob_cell"], arrays.get("prob_image"))


def _share_cores(rank: int, workers: int) -> None:
    """Pin one of several CPU workers to its share of the cores."""
    cores = sorted(os.sched_getaffinity(0))
    share = cores[rank::workers] or cores
    os.sched_setaffinity(0, share)
    torch.set_num_threads(len(share))
