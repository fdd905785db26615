"""The first submission of a run: complete, without any cell, made with the standard library only.

It is written before anything is imported that takes long or may be broken, so that whatever happens later a valid
submission is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from hcpl_kernel.errors import HcplError
from hcpl_kernel.export.base import write_fields
from hcpl_kernel.export.submission_csv import fallback_row, submission_csv
from hcpl_kernel.fields.files import FieldFiles
from hcpl_kernel.fields.headers import header_size
from hcpl_kernel.pipeline.locating import located_fields
from hcpl_kernel.pipeline.note import read_note, signature
from hcpl_kernel.settings import PredictSettings
from hcpl_kernel.submission.reading import HEADER
from hcpl_kernel.submission.writing import SampleSubmission, read_sample

MOST_TABLE_FIELDS = 100_000
"""The largest run with a store that writes tables by itself: they take about 9 kB for each cell (our choice)."""


def has_tables(settings: PredictSettings, fields: int) -> bool:
    """Whether a run of so many fields writes `submission.csv`, `cells.csv` and the page that is made of them.

    Not one with a store and more than `MOST_TABLE_FIELDS` fields, whose rows are in the store as Parquet, unless a sample
    says what the submission has to be; `hcpl assemble` writes the tables of any run.
    """
    return settings.store is None or settings.sample is not None or fields <= MOST_TABLE_FIELDS


def write_fallback(
    output: Path,
    fields: Iterable[FieldFiles],
    sample: SampleSubmission | None,
    size_of: Callable[[FieldFiles], tuple[int, int] | None],
) -> None:
    """Write a submission without any cell: the sample's own rows, or without a sample a dummy row for every field.

    Args:
        output: the submission.
        fields: sorted by ID.
        sample: has the header, the IDs and their order.
        size_of: gives height and width of a field in px, None where they are not known.
    """
    if sample is None:
        sample = SampleSubmission(HEADER, tuple(fallback_row(files.id, size_of(files)) for files in fields))
    write_fields((), [submission_csv(output, None, sample, ())])


def leave_first_submission(settings: PredictSettings) -> None:
    """Write the fallback submission, unless what stands there is a run's own.

    What is wrong with the input is not told here: the run itself names it.
    """
    try:
        if settings.cluster is not None:  # its driver loads nothing that takes long, and writes the fallback at once
            return
        if settings.output.exists() and (settings.part is not None or _is_a_runs_own(settings)):
            return
        if settings.sample is not None:
            sample: SampleSubmission | None = read_sample(settings.sample)
            fields: Sequence[FieldFiles] = ()
        else:
            sample, fields = None, located_fields(settings).fields[: settings.limit]
            if not has_tables(settings, len(fields)):
                return
        settings.output.parent.mkdir(parents=True, exist_ok=True)
        write_fallback(settings.output, fields, sample, header_size)
    except (HcplError, OSError):
        return


def _is_a_runs_own(settings: PredictSettings) -> bool:
    """Whether the output is as a run of this work folder left it; whether it is of the same images, the run finds out."""
    found = signature(settings.output)
    return found is not None and read_note(settings.work_dir).get("output") == found
