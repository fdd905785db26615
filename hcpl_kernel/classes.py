"""The classes that an ensemble tells apart, as data; `HPA_CLASSES` are the competition's nineteen."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Mapping

from hcpl_kernel.errors import SettingsError

MOST_CLASSES = 200
_NAME = re.compile(r"\w(?:[\w .()+&'-]{0,78}[\w)])?")
"""What a class may be called: it becomes a value of `cells.csv`, where `|` and `,` separate, and a part of file names."""


@dataclasses.dataclass(frozen=True)
class ClassList:
    """K classes in their order; the index of a class is its id in label maps of classes, submissions and columns.

    Attributes:
        names: (K,) the full names, as `cells.csv` writes them: 1 to 80 letters, digits, blanks and `_-.()+&'`, names
            that differ only in case count as equal.
        short_names: (K,) what fits into a cell of a picture; empty stands for `names`.
        negative: id of the class that a cell has when it has no other, None where there is no such class.

    Raises:
        SettingsError: for a name that is not of that form or comes twice, no or more than 200 classes, or a negative
            class outside of the list.
    """

    names: tuple[str, ...]
    short_names: tuple[str, ...] = ()
    negative: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "short_names", tuple(self.short_names) or self.names)
        if not 1 <= len(self.names) <= MOST_CLASSES:
            raise SettingsError(f"classes.names: found {len(self.names)} names, expected 1 to {MOST_CLASSES}")
        if len(self.short_names) != len(self.names):
            raise SettingsError(
                f"classes.short_names: found {len(self.short_names)}, expected one for each of {len(self.names)} names"
            )
        _check_names("names", self.names)
        _check_names("short_names", self.short_names)
        if self.negative is not None and not 0 <= self.negative < len(self.names):
            raise SettingsError(f"classes.negative: found {self.negative}, expected {self.range} or null")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def range(self) -> str:
        """The ids, for messages: `0 to 18`."""
        return f"0 to {len(self.names) - 1}"

    def index(self, name: str) -> int:
        """The id of a class by its full name.

        Raises:
            SettingsError: if there is no such class.
        """
        if name not in self.names:
            raise SettingsError(f"class {name!r} is unknown, expected one of {', '.join(self.names)}")
        return self.names.index(name)

    def short(self, name: str) -> str:
        """The short name of a class by its full name.

        Raises:
            SettingsError: if there is no such class.
        """
        return self.short_names[self.index(name)]

    @classmethod
    def with_short_names(cls, names: tuple[str, ...], short: Mapping[str, str], negative: int | None) -> ClassList:
        """A list in which only some classes have a short name of their own.

        Raises:
            SettingsError: see the class; also for a short name of a class that is not in `names`.
        """
        unknown = [name for name in short if name not in names]
        if unknown:
            raise SettingsError(f"classes.short_names: found {unknown[0]!r}, expected names of the list")
        return cls(names, tuple(short.get(name, name) for name in names), negative)


def _check_names(key: str, names: tuple[str, ...]) -> None:
    seen: dict[str, int] = {}
    for place, name in enumerate(names):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise SettingsError(
                f"classes.{key}[{place}]: found {name!r:.90}, expected 1 to 80 letters, digits, blanks and _-.()+&'"
            )
        first = seen.setdefault(unicodedata.normalize("NFKC", name).casefold(), place)
        if first != place:
            raise SettingsError(f"classes.{key}[{place}]: found {name!r}, expected another name than classes.{key}[{first}]")


HPA_CLASSES = ClassList.with_short_names(
    (
        "Nucleoplasm",
        "Nuclear membrane",
        "Nucleoli",
        "Nucleoli fibrillar center",
        "Nuclear speckles",
        "Nuclear bodies",
        "Endoplasmic reticulum",
        "Golgi apparatus",
        "Intermediate filaments",
        "Actin filaments",
        "Microtubules",
        "Mitotic spindle",
        "Centrosome",
        "Plasma membrane",
        "Mitochondria",
        "Aggresome",
        "Cytosol",
        "Vesicles and punctate cytosolic patterns",
        "Negative",
    ),
    {
        "Nucleoli fibrillar center": "Fibrillar center",
        "Endoplasmic reticulum": "ER",
        "Golgi apparatus": "Golgi",
        "Intermediate filaments": "Int. filaments",
        "Actin filaments": "Actin",
        "Vesicles and punctate cytosolic patterns": "Vesicles",
    },
    negative=18,
)
"""The classes of the Human Protein Atlas single-cell competition, in its order."""
