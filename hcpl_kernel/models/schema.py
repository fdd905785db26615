"""Specifications: frozen dataclasses that pydantic checks strictly, from a file or in code, each fault one line.

A dataclass of `@specification` names the range of every field once, by the types below. `specified` makes one from parsed
JSON; a fault is then told with its place in the document.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import re
import types
import typing
from collections.abc import Collection, Mapping
from typing import Annotated, Any, TypeVar

import pydantic.dataclasses
from pydantic import AfterValidator, ConfigDict, Field, Strict, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs
from typing_extensions import dataclass_transform

from hcpl_kernel.errors import HcplError, SettingsError
from hcpl_kernel.models.strict_json import place, shown

T = TypeVar("T")

MOST_ARGUMENTS = 100
LARGEST_ARGUMENT = 4096
LONGEST_ARGUMENT_LIST = 64
MOST_LAYERS = 256
_COUNTS_LAYERS = re.compile(r"(.*_)?(layers?|depths?|blocks?|block_config|repeats?|stages?)")
"""Arguments that say how often something is repeated in a network."""
_RESERVED = re.compile(r"(?i:con|prn|aux|nul|com\d|lpt\d)(\..*)?")
"""Names that stand for devices on Windows, with any suffix."""
_TAKEN_ARGUMENTS = frozenset(
    ("in_chans", "num_classes", "checkpoint_path", "features_only", "cache_dir", "scriptable", "exportable", "no_jit")
)
"""Arguments of `timm.create_model` that the networks set themselves, or that would read, fetch or change what is built;
so would all whose names begin with `pretrained`."""


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", text) or text.endswith(".") or _RESERVED.fullmatch(text):
        raise ValueError(
            "expected a name of 1 to 100 letters, digits and _-. that begins with a letter or digit, does not end with a "
            "period and is not a device of Windows"
        )
    return text


def check_file_name(text: str) -> str:
    """A file's name relative to its weights folder, with forward slashes.

    Raises:
        ValueError: if it leaves the folder, or not every system could have such a file.
    """
    parts = text.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in text or ":" in text:
        raise ValueError("points outside the weights folder or is not a plain name, expected a file below ensemble.json")
    for part in parts:
        if not part.isprintable() or len(part.encode(errors="replace")) > 200 or re.search(r'[*?"<>|]|^\s|[\s.]$', part):
            raise ValueError('expected file names of up to 200 bytes without control characters and *?"<>|')
        if _RESERVED.fullmatch(part):
            raise ValueError("expected a file name that is not a device of Windows")
    if len(parts) > 8:
        raise ValueError("expected at most 8 folders")
    return text


def _base(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_]{1,100}(\.[A-Za-z0-9_]{1,100})?", text):
        raise ValueError("expected the name of a timm model (letters, digits and _), not a place to fetch or read one from")
    return text


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        raise ValueError("expected a sha256 of 64 hex digits")
    return text.lower()


def _arguments(values: Mapping[str, Any]) -> Mapping[str, Any]:
    taken = [key for key in values if key in _TAKEN_ARGUMENTS or key.startswith("pretrained")]
    if taken:
        raise ValueError(f"{shown(taken[0])} is set by the network itself, expected other arguments")
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((key,), value) for key, value in values.items()]
    count = 0
    while waiting:
        where, value = waiting.pop()
        count += 1
        fault = None
        if count > MOST_ARGUMENTS:
            fault = f"at most {MOST_ARGUMENTS} values"
        elif len(where) > 4:
            fault = "at most 3 levels of lists and objects"
        elif any(isinstance(step, str) and not (step.isidentifier() and len(step) <= 60) for step in where):
            fault = "names of arguments"
        elif isinstance(value, Mapping):
            waiting += [((*where, key), below) for key, below in value.items()]
        elif isinstance(value, (list, tuple)):
            waiting += [((*where, index), below) for index, below in enumerate(value)]
            fault = None if len(value) <= LONGEST_ARGUMENT_LIST else f"at most {LONGEST_ARGUMENT_LIST} values in a list"
        elif isinstance(value, str):
            if not re.fullmatch(r"[A-Za-z0-9_.,+-]{0,64}", value):
                fault = "a word of up to 64 letters, digits and _.,+-, not a file or an address"
        elif isinstance(value, (int, float)):
            most = MOST_LAYERS if _COUNTS_LAYERS.fullmatch(str(where[0])) else LARGEST_ARGUMENT
            if not (math.isfinite(value) and abs(value) <= most):
                fault = f"a number from {-most} to {most}"
        elif value is not None:
            fault = "JSON values"
        if fault:
            raise ValueError(f"{place(where)} is {shown(value)}, expected {fault}")
    return values


Integer = Annotated[int, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
"""Also from an integer; never from text or a truth value."""
Positive = Annotated[Number, Field(gt=0, le=1e6)]
Share = Annotated[Number, Field(ge=0, le=1)]
Flag = Annotated[bool, Strict()]
Text = Annotated[str, Strict(), StringConstraints(max_length=10_000)]
Name = Annotated[Text, AfterValidator(_name)]
"""What may become a part of a file's or folder's name on any system."""
FileName = Annotated[Text, AfterValidator(check_file_name)]
"""A file in or below the weights folder, with forward slashes."""
BaseName = Annotated[Text, AfterValidator(_base)]
Sha256 = Annotated[Text, AfterValidator(_sha256)]
"""64 hex digits, made lower case."""
Arguments = Annotated[Mapping[Text, Any], AfterValidator(_arguments)]
"""Keyword arguments of an architecture: few, small, and nothing that reads a file or fetches anything."""
FreeForm = Mapping[Text, Any]
"""Facts for people, bounded by what :mod:`hcpl_kernel.models.strict_json` reads."""

_CONFIG = ConfigDict(extra="forbid")
_PLAIN = {
    "Input should be": "expected",
    "expected greater": "expected a number greater",
    "expected less": "expected a number less",
    "a valid dictionary": "an object",
    "a valid mapping": "an object",
    "a valid tuple": "a list",
    "a valid string": "text",
    "a valid integer": "a whole number",
    "a valid boolean": "true or false",
    "a dictionary or an instance of": "an object for",
    "Tuple should have": "expected",
    "String should have": "expected",
}
"""pydantic's words -> ours."""
_FIELD = re.compile(r"[a-z_]+: ")


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, Field))
def specification(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass whose fields are checked by their types; a fault is a :class:`SettingsError`."""
    made = pydantic.dataclasses.dataclass(frozen=True, config=_CONFIG)(cls)
    checked = made.__init__

    @functools.wraps(checked)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            checked(self, *args, **kwargs)
        except ValidationError as error:
            name = kwargs.get("name")
            where = cls.__name__.lstrip("_") + (f" {name!r}" if isinstance(name, str) else "")
            raise SettingsError(_line(error, made, where)) from None

    made.__init__ = init  # type: ignore[method-assign]
    return made  # type: ignore[return-value]


def specified(kind: type[T], values: Any, where: str, error: type[HcplError] = SettingsError) -> T:
    """Make a specification from parsed JSON.

    Args:
        kind: a class of :func:`specification`.
        values: what the JSON has.
        where: the file, and the place in it; named in the message.
        error: the kind of error that a fault becomes.

    Raises:
        SettingsError: or `error`: one line with the place, what was found and what was expected; of an unknown key the
            nearest known one.
    """
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as fault:
        raise error(_line(fault, kind, where)) from None


def unknown_key(key: str, known: Collection[str]) -> str:
    """`unknown key "input_sise"; did you mean 'input_size'?`"""
    near = difflib.get_close_matches(key[:100], known, n=1, cutoff=0.5)
    return f"unknown key {shown(key)}; " + (
        f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
    )


def _line(error: ValidationError, root: Any, where: str) -> str:
    """The first fault of a validation in one line; unknown keys come first, since they explain missing ones."""
    faults = error.errors(include_url=False)
    unknown = [f for f in faults if f["type"] in ("unexpected_keyword_argument", "extra_forbidden")]
    first = (unknown or faults)[0]
    path = tuple(step for step in first["loc"] if isinstance(step, (str, int)))
    others = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    if unknown:
        text = unknown_key(str(path[-1]), _keys_at(root, path[:-1]))
        path = path[:-1]
    elif first["type"] in ("missing", "missing_argument"):
        text = "is missing"
    else:
        text = first["msg"].removeprefix("Value error, ")
        for library, plain in _PLAIN.items():
            text = text.replace(library, plain)
        if first["type"] == "value_error" and isinstance(first["input"], (Mapping, ArgsKwargs)) and _FIELD.match(text):
            path += (text.partition(": ")[0],)  # told by the specification as a whole, of one of its fields
            text = text.partition(": ")[2]
        else:
            text = f"found {shown(first['input'])}, {text}"
    at = place(path)
    separator = " " if text == "is missing" else ": "
    return f"{where}: {at}{separator}{text}{others}" if at else f"{where}: {text}{others}"


def _keys_at(kind: Any, path: tuple[str | int, ...]) -> list[str]:
    """The keys that a specification takes at a place below it."""
    for step in path:
        kind = _fields(kind)[step].annotation if isinstance(step, str) else typing.get_args(kind)[0]
        while typing.get_origin(kind) in (Annotated, typing.Union, types.UnionType):
            kind = typing.get_args(kind)[0]
    return list(_fields(kind))


def _fields(kind: Any) -> Mapping[str, Any]:
    return kind.__pydantic_fields__
