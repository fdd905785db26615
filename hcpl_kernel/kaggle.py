"""The steps of the Kaggle notebook: doctor, prediction, validation, pictures, cleaning.

Everything heavy runs in a process of its own, through the `hcpl` command. A crash, a hang or a process that the system
kills for its memory then costs the prediction, never the notebook: a valid `submission.csv` is there from the start.
"""

from __future__ import annotations

import dataclasses
import html
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

from hcpl_kernel import __version__
from hcpl_kernel.doctor.examination import examine
from hcpl_kernel.errors import HcplError
from hcpl_kernel.fields.kaggle import INPUT_ROOT, find_competition, find_dataset
from hcpl_kernel.pipeline.budget import TimeBudget, command_started
from hcpl_kernel.pipeline.report import FILE_NAME as RUN_REPORT_NAME
from hcpl_kernel.report.state import FILE_NAME as PAGE
from hcpl_kernel.runtime.atomic import atomic_open, atomic_path
from hcpl_kernel.settings import parse_duration

BUNDLE_MARKER = "hcpl_bundle.json"
"""A file of the dataset that holds the package."""
WEIGHTS_MARKER = "hcpl_weights_{}.json"
"""A file of a dataset that holds weights; the ensemble's name fills the gap."""
DEFAULT_SCRATCH = Path("/kaggle/temp/hcpl")
REPORT_NAME = "hcpl_report.json"
PAGE_NAME = "hcpl_report.html"
"""Where the run's page stays, next to the submission."""
SHOWN_BYTES = 20_000_000
"""A larger page is not shown inside of the notebook, whose viewer would be slow (our choice)."""
GRACE = 600.0
"""Seconds past the time limit after which a prediction that hangs is ended (our choice; Kaggle's limit is 9 h)."""
PROGRESS_INTERVAL = 30.0
"""Seconds between two lines of a progress bar, each of which stays in the notebook (our choice)."""
LAST_LINES = 3
"""So many of a failed command's last lines are repeated in the problem."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the prediction left.

    Attributes:
        submission: a valid submission, whatever happened.
        fields_dir: folder of the predicted images.
        work: the run's work folder, with `labels/` and `cells.csv` where it came so far.
        problem: what went wrong, None where nothing did.
    """

    submission: Path
    fields_dir: Path
    work: Path
    problem: str | None


def doctor(root: str | Path = INPUT_ROOT, scratch: str | Path = DEFAULT_SCRATCH) -> None:
    """Print what `hcpl doctor` finds. It stops nothing: the prediction itself says what it cannot do."""
    Path(scratch).mkdir(parents=True, exist_ok=True)
    print(examine(Path.cwd(), Path(scratch), Path(root)).as_table())


def predict_competition(
    root: str | Path = INPUT_ROOT,
    weights: str = "mini",
    scratch: str | Path = DEFAULT_SCRATCH,
    time_limit: str = "8h30m",
    options: str = "",
    output: str | Path = "submission.csv",
) -> Outcome:
    """Predict the competition's test images and leave a valid submission.

    The sample submission is the fallback: it is put in place first, and again if what the prediction wrote is not valid.

    Args:
        root: where the inputs are mounted.
        weights: name of the weights ("mini" is in the bundle, others in datasets of their own), or a folder.
        scratch: where the work folder is made.
        time_limit: of the whole notebook, counted from `HCPL_STARTED_AT`.
        options: further options of `hcpl predict`, as on a command line.
        output: the submission; the report :data:`REPORT_NAME` is written next to it.

    Raises:
        InputError: if the competition's data is not mounted, so that not even the IDs are known.
    """
    given = find_competition(Path(root))
    output, work = Path(output).resolve(), Path(scratch, "work").resolve()
    _put(given.sample, output)
    budget = TimeBudget(parse_duration(time_limit), command_started())
    try:
        folder = Path(weights) if Path(weights).is_dir() else find_dataset(WEIGHTS_MARKER.format(weights), Path(root))
    except HcplError as error:
        problem: str | None = str(error)
    else:
        problem = _command(
            "predict", given.fields_dir, "--weights", folder, "--output", output, "--work", work,
            "--sample", given.sample, "--time-limit", time_limit, *shlex.split(options),
            seconds=parse_duration(time_limit) + GRACE - budget.elapsed,
        )  # fmt: skip
    invalid = _command("validate", output, "--sample", given.sample)
    if invalid is not None:
        _put(given.sample, output)
        problem = f"{problem or 'the prediction ended well'}; but the submission was not valid: {invalid}"
    outcome = Outcome(output, given.fields_dir, work, problem)
    _write_report(outcome, budget.elapsed)
    if problem is not None:
        print(
            f"\nNOT AS ASKED: {problem}\n{output.name} is valid, and holds what was ready by then: "
            "the sample's own rows where nothing was."
        )
    return outcome


def show(outcome: Outcome, overlays: int = 3) -> None:
    """Display the classes of all cells as a table, the first fields with their cells, and the page of the run.

    Does nothing in the competition's rerun, where nobody looks and a failure would cost the submission.
    """
    if os.environ.get("KAGGLE_IS_COMPETITION_RERUN"):
        return
    import numpy as np
    import pandas as pd
    from IPython.display import display
    from PIL import Image

    from hcpl_kernel.classes import HPA_CLASSES
    from hcpl_kernel.fields.locate import locate_fields
    from hcpl_kernel.fields.readers import read_field
    from hcpl_kernel.report.overlay import cell_text, overlay

    cells_csv = outcome.work / "cells.csv"
    cells = pd.read_csv(cells_csv, dtype={"ID": str, "labels": str}) if cells_csv.is_file() else pd.DataFrame()
    if cells.empty:
        print("No cell was predicted, so there is nothing to show.")
        return
    caution = _caution(outcome.work)
    if caution is not None:
        print(f"Caution: {caution}")
    cells = cells.fillna({"labels": ""})
    prob = cells[[f"prob_{k}" for k in range(len(HPA_CLASSES))]].set_axis(list(HPA_CLASSES.names), axis=1)
    best = cells["best_class"].value_counts().reindex(HPA_CLASSES.names, fill_value=0)
    named = cells["labels"].str.split("|").explode().value_counts().reindex(HPA_CLASSES.names, fill_value=0)
    display(
        pd.DataFrame(
            {"cells named": named, "cells led": best, "mean probability": prob.mean(), "highest": prob.max()}
        ).round(3)
    )
    shown = list(dict.fromkeys(cells["ID"]))[:overlays]
    for files in locate_fields(outcome.fields_dir).fields:
        if files.id in shown:
            own = cells[cells["ID"] == files.id]
            labels = np.asarray(Image.open(outcome.work / "labels" / f"{files.id}_cells.png"))
            said = zip(own["cell"], own["labels"], own["best_class"], strict=True)
            names = {int(cell): cell_text(names, best, HPA_CLASSES) for cell, names, best in said}
            picture = overlay(read_field(files), labels, names, caution)
            print(f"{files.id}: {len(own)} cells")
            display(Image.fromarray(picture))
    _show_page(outcome)


def _show_page(outcome: Outcome) -> None:
    """Keep the page of the run next to the submission, and show it in a frame of its own."""
    page = outcome.work / PAGE
    if not page.is_file():
        return
    from IPython.display import HTML, display

    kept = outcome.submission.with_name(PAGE_NAME)
    shutil.copyfile(page, kept)
    print(f"{kept.name}: the page of the run, with every field and cell; download it from the notebook's output.")
    if kept.stat().st_size <= SHOWN_BYTES:
        content = html.escape(kept.read_text(encoding="utf-8"))
        frame = f'<iframe srcdoc="{content}" sandbox="allow-scripts" style="width: 100%; height: 900px; border: 0"></iframe>'
        display(HTML(f"<div>{frame}</div>"))


def _caution(work: Path) -> str | None:
    """What the weights' maker says of them, from the run's report."""
    try:
        text = json.loads((work / RUN_REPORT_NAME).read_text(encoding="utf-8"))["weights"]["caution"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return text if isinstance(text, str) else None


def clean(scratch: str | Path) -> None:
    """Remove the scratch folder; what stays is the submission, the report and the page."""
    shutil.rmtree(scratch)


def _command(*arguments: str | Path, seconds: float | None = None) -> str | None:
    """Run `hcpl` in a process of its own and print what it says as it comes.

    Args:
        arguments: of the command.
        seconds: after so long the process is ended; None for never.

    Returns:
        None where it exited with 0, else why it did not, with its last lines.
    """
    # The child must find what this process finds: the bundle's package is on sys.path only.
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "TQDM_MININTERVAL": str(PROGRESS_INTERVAL),
    }
    last: deque[str] = deque(maxlen=LAST_LINES)
    timed_out = threading.Event()
    with subprocess.Popen(
        [sys.executable, "-m", "hcpl_kernel", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as child:

        def end_group() -> None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

        def wait() -> None:
            try:
                child.wait(seconds)
            except subprocess.TimeoutExpired:
                timed_out.set()
            # Workers that outlive their parent would hold the pipe open, and the reading below would never end.
            end_group()

        threading.Thread(target=wait, daemon=True).start()
        try:
            for line in child.stdout or ():
                if line.strip():
                    print(line.rstrip())
                    last.append(line.strip())
        finally:
            end_group()
        code = child.wait()
    if code == 0:
        return None
    if timed_out.is_set():
        why = f"was ended {GRACE:.0f} s past the time limit"
    elif code < 0:
        why = f"was killed by {signal.Signals(-code).name}"
        why += " (memory ran out?)" if code == -signal.SIGKILL else ""
    else:
        why = f"exited with {code}"
    return f"`hcpl {arguments[0]}` {why}: " + " / ".join(last)


def _put(sample: Path, output: Path) -> None:
    with atomic_path(output) as temporary:
        shutil.copyfile(sample, temporary)


def _write_report(outcome: Outcome, seconds: float) -> None:
    run_report = outcome.work / RUN_REPORT_NAME
    values = {
        "schema": 1,
        "hcpl_kernel": __version__,
        "problem": outcome.problem,
        "seconds": round(seconds, 1),
        "run": json.loads(run_report.read_text(encoding="utf-8")) if run_report.is_file() else None,
    }
    with atomic_open(outcome.submission.with_name(REPORT_NAME)) as file:
        json.dump(values, file, indent=1)
