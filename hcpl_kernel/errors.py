"""The errors that this package raises on purpose: what, where, expected against found, and what to do."""

from __future__ import annotations


class HcplError(Exception):
    """Base of every error that a user of this package is expected to meet."""


class SettingsError(HcplError):
    """A setting, option or settings file is unknown, missing or out of range."""


class InputError(HcplError):
    """Input files or arguments do not have the expected form."""


class FieldError(InputError):
    """One field of view cannot be used; the run goes on and the field gets its fallback row.

    Attributes:
        field_id: the ID of the field.
        reason: one line that says what is wrong, without the ID.
    """

    def __init__(self, field_id: str, reason: str) -> None:
        super().__init__(f"field {field_id}: {reason}")
        self.field_id = field_id
        self.reason = reason


class WeightsError(HcplError):
    """A weights file or manifest is missing, damaged, or does not fit the network that it is meant for."""


class UnsafePickleError(WeightsError):
    """A pickle names something that the converter refuses to call or create."""


class SubmissionError(HcplError):
    """A submission, a sample file or a mask string is not valid."""


class DeviceError(HcplError):
    """A requested device is absent or cannot run a real operation."""


class DiskSpaceError(HcplError):
    """A folder has too little free space for what has to be written."""


def one_line(text: str) -> str:
    """A text for one line of a terminal: lines are joined by "; ", control characters are written as escapes."""
    lines = "; ".join(line.strip() for line in text.splitlines() if line.strip())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in lines)


def describe(error: BaseException) -> str:
    """An exception of foreign code in one line: its type, and its text or what it means where it has none."""
    text = one_line(str(error))
    if not text:
        text = "memory ran out" if isinstance(error, MemoryError) else "no further text"
    return f"{type(error).__name__}: {text}"
