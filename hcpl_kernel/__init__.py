"""HCPL: single-cell protein localisation in four-channel Human Protein Atlas images, offline.

Importing this package is cheap: torch, timm and OpenCV are imported only by the modules that use them, so that the
doctor runs in a broken environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from hcpl_kernel.pipeline.run import RunResult

__version__ = "0.1.0"
__all__ = ["__version__", "predict"]


def predict(fields_dir: str | Path, weights: str | Path, output: str | Path, **settings: Any) -> RunResult:
    """Predict every field of a folder and write the submission; the Python form of `hcpl predict`.

    Args:
        fields_dir: folder of `<ID>_{red,green,blue,yellow}` images.
        weights: folder with an `ensemble.json`.
        output: where the submission CSV is written.
        **settings: fields of :class:`hcpl_kernel.settings.PredictSettings` (`pixel_size=0.32`, `device="cpu"`, ...).

    Returns:
        The counts, degradations and paths of the run (:class:`hcpl_kernel.pipeline.run.RunResult`).

    Raises:
        SettingsError: for an unknown or invalid setting.
        InputError: if nothing readable was found (a fallback submission is written where IDs are known).
        WeightsError: if weights are missing or damaged.
    """
    from hcpl_kernel.runtime.process_tuning import sleep_while_waiting

    sleep_while_waiting()
    from hcpl_kernel.pipeline.run import run
    from hcpl_kernel.settings import PredictSettings, from_mapping

    given = {"fields_dir": fields_dir, "weights": weights, "output": output, **settings}
    return run(from_mapping(PredictSettings, given, where="predict()"))
