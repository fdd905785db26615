"""Where the fields of a run are, from its settings: for the run, its first submission, its page, and tools."""

from __future__ import annotations

from hcpl_kernel.fields.locate import LocatedFields, locate_fields
from hcpl_kernel.settings import PredictSettings


def located_fields(settings: PredictSettings) -> LocatedFields:
    """Every field of the run's folder or listing, with its channels as the settings name them; see `locate_fields`."""
    return locate_fields(settings.fields_dir, settings.suffixes or None, settings.listing, settings.channels or None)
