"""HCPL: single-cell protein localisation in four-channel Human Protein Atlas images, offline.

Importing this package is cheap: torch, timm and OpenCV are imported only by the modules that use them, so that the
doctor runs in a broken environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hcpl_kernel.pipeline.run import RunResult
    from hcpl_kernel.settings import Part

__version__ = "0.1.0"
__all__ = ["__version__", "predict"]


def predict(
    fields_dir: str | Path,
    weights: str | Path,
    output: str | Path,
    *,
    work: str | Path | None = None,
    sample: str | Path | None = None,
    listing: str | Path | None = None,
    suffixes: Mapping[str, str] | None = None,
    channels: Mapping[str, str] | None = None,
    pixel_size: float = 0.08,
    bit_depth: str | int = "auto",
    labels: str | Path | None = None,
    resolution: str = "quarter",
    time_limit: float | str | None = None,
    limit: int | None = None,
    device: str = "auto",
    engine: str = "auto",
    views: int | None = None,
    part: Part | str | None = None,
    cluster: str | None = None,
    store: str | None = None,
    networks: Sequence[str] | None = None,
    descriptors: Sequence[str] | None = None,
    strict: bool = False,
    fresh: bool = False,
    report: bool = True,
    quiet: bool = False,
) -> RunResult:
    """Predict every field of a folder and write the submission; the Python form of `hcpl predict`.

    The calling process stays as it was: threads, cores, environment and memory settings are put back where they were.

    Args:
        fields_dir: folder of `<ID>_{red,green,blue,yellow}` images.
        weights: folder with an `ensemble.json`.
        output: where the submission CSV is written.
        work: folder for label maps, cells and report; default: `<output stem>_work` next to the output. A later call with
            the same folder goes on where an earlier one stopped.
        sample: a sample submission whose header, IDs and row order are followed.
        listing: CSV with the columns ID, red, green, blue, yellow (one path per channel), instead of scanning the folder.
        suffixes: file name suffix of each channel, for instance `{"red": "_r"}`; absent channels keep `_<channel>`.
        channels: which channel of a file with several is which, by number from 1 or name, for instance
            `{"red": "3", "green": "GFP"}`; or the name of a channel's folder; `none` for red or yellow: not stained.
        pixel_size: micrometres per pixel of the input images, 0.005 to 5; the networks work at 0.08.
        bit_depth: bits that 16-bit images use: 8, 10, 12, 14, 16, or "auto" to recognise it over the run.
        labels: folder with `<ID>_cells.png` (and, where present, `<ID>_nuclei.png`) maps, used instead of segmenting.
        resolution: where the labelling works: "quarter", "paper-half" or "exact".
        time_limit: seconds from the call, or a text such as "8h30m"; None for no limit.
        limit: only the first so many fields, None for all.
        device: "auto", "cpu", "cpu:2", "cuda" or "cuda:0,1".
        engine: what computes the networks, one of :data:`hcpl_kernel.settings.ENGINES`.
        views: test-time views of each cell (1, 2, 4 or 8), None for what each network's spec says.
        part: only this share of the fields, for instance "2/3", None for all.
        cluster: address of a Ray cluster that computes: "auto", "local" or "HOST:PORT"; None for this machine.
        store: URL under which parts, label maps and rows are kept, such as "s3://bucket/run"; None for the work folder.
        networks: names of the networks of the ensemble that run, None for all.
        descriptors: names of the networks whose descriptors are kept, as `descriptors/<name>.npz` in the work folder.
        strict: kept in the settings that the report shows; the result's `degraded` says what it would have led to.
        fresh: forget what an earlier run left in the work folder.
        report: write `index.html` into the work folder.
        quiet: no progress on standard error.

    Returns:
        The counts, degradations and paths of the run (:class:`hcpl_kernel.pipeline.run.RunResult`).

    Raises:
        SettingsError: for an invalid setting, or an output or work folder that cannot be written.
        InputError: if nothing readable was found (a fallback submission is written where IDs are known).
        WeightsError: if weights are missing or damaged.
    """
    import time

    started = time.monotonic()
    from hcpl_kernel.runtime.process_tuning import kept_environment
    from hcpl_kernel.settings import PredictSettings

    settings = PredictSettings(
        fields_dir=fields_dir,  # type: ignore[arg-type]
        weights=weights,  # type: ignore[arg-type]
        output=output,  # type: ignore[arg-type]
        work=work,  # type: ignore[arg-type]
        sample=sample,  # type: ignore[arg-type]
        listing=listing,  # type: ignore[arg-type]
        suffixes=suffixes or {},
        channels=channels or {},
        pixel_size=pixel_size,
        bit_depth=bit_depth,
        labels=labels,  # type: ignore[arg-type]
        resolution=resolution,
        time_limit=time_limit,  # type: ignore[arg-type]
        limit=limit,
        device=device,
        engine=engine,
        views=views,
        part=part,  # type: ignore[arg-type]
        cluster=cluster,
        store=store,
        networks=networks,  # type: ignore[arg-type]
        descriptors=descriptors,  # type: ignore[arg-type]
        strict=strict,
        fresh=fresh,
        report=report,
        quiet=quiet,
    )
    settings.check_places()
    with kept_environment():
        from hcpl_kernel.pipeline.first_submission import leave_first_submission

        leave_first_submission(settings)  # before anything is imported that takes long
        from hcpl_kernel.pipeline.run import run
        from hcpl_kernel.report.leaving import leave_page

    return leave_page(settings, run(settings, started=started), started)
