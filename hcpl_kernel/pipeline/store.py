"""The store of finished shards: a part is put under the key of its content, and there only once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import SettingsError, describe
from hcpl_kernel.export.cell_columns import CellForm
from hcpl_kernel.pipeline import part as part_file
from hcpl_kernel.pipeline import sealed
from hcpl_kernel.pipeline.part import Part
from hcpl_kernel.pipeline.sealed import DamagedFile
from hcpl_kernel.runtime.atomic import put_if_absent, remove_any

_SUFFIX = ".safetensors"


def part_name(shard: str, outcome: str) -> str:
    """The name of a part: what its fields depend on, and what was made of them (which networks ran, how they were fused)."""
    return f"{shard}-{outcome}{_SUFFIX}"


def keys_of_name(name: str) -> tuple[str, str] | None:
    """The keys of the shard and of the outcome in the name of a part; None for the name of anything else."""
    shard, dash, outcome = name.removesuffix(_SUFFIX).partition("-")
    is_part = bool(dash) and name.endswith(_SUFFIX) and not name.startswith(".")
    return (shard, outcome) if is_part else None


class Store(Protocol):
    """Finished parts, wherever they are kept. Two runs may make the same part; one of them puts it there."""

    def __len__(self) -> int:
        """How many parts there are."""
        ...

    def reload(self) -> None:
        """See what others have put since."""
        ...

    def outcomes(self, shard: str) -> list[str]:
        """The outcomes that are kept of a shard."""
        ...

    def header(self, shard: str, outcome: str) -> dict[str, Any]:
        """The header of a part alone.

        Raises:
            DamagedFile: if it is absent or not readable.
        """
        ...

    def get(self, shard: str, outcome: str) -> Part:
        """A part.

        Raises:
            DamagedFile: if it is absent or not whole.
        """
        ...

    def put(self, shard: str, outcome: str, part: Part) -> None:
        """Keep a part, unless it is there already and whole."""
        ...


class FolderStore:
    """Parts in a folder of a file system, see :class:`Store`.

    Args:
        folder: must exist; may be shared by several machines.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._outcomes: dict[str, list[str]] = {}
        self.reload()

    def reload(self) -> None:
        """Read the names in the folder."""
        self._outcomes.clear()
        with os.scandir(self._folder) as entries:
            for entry in entries:
                keys = keys_of_name(entry.name)
                if keys is not None:
                    self._outcomes.setdefault(keys[0], []).append(keys[1])

    def __len__(self) -> int:
        """How many parts there are."""
        return sum(map(len, self._outcomes.values()))

    def path(self, shard: str, outcome: str) -> Path:
        """Where a part is kept."""
        return self._folder / part_name(shard, outcome)

    def outcomes(self, shard: str) -> list[str]:
        """The outcomes that are kept of a shard."""
        return sorted(self._outcomes.get(shard, ()))

    def header(self, shard: str, outcome: str) -> dict[str, Any]:
        """The header of a part alone."""
        return sealed.read_header(self.path(shard, outcome))

    def get(self, shard: str, outcome: str) -> Part:
        """A part."""
        return part_file.load_part(self.path(shard, outcome))

    def put(self, shard: str, outcome: str, part: Part) -> None:
        """Keep a part, unless it is there already and whole."""
        path = self.path(shard, outcome)
        if not put_if_absent(path, lambda temporary: part_file.save_part(temporary, part)):
            try:
                part_file.load_part(path)
            except DamagedFile:
                remove_any(path)
                put_if_absent(path, lambda temporary: part_file.save_part(temporary, part))
        if outcome not in self._outcomes.setdefault(shard, []):
            self._outcomes[shard].append(outcome)


def open_store(url: str | None, folder: Path, labels: Path, classes: ClassList, form: CellForm) -> Store:
    """The store of a run.

    Args:
        url: of an object store; None for the folder.
        folder: of parts in the work folder.
        labels: where label maps are written before they are put into an object store.
        classes: of the probabilities' columns.
        form: what the further columns of an object store's rows depend on.

    Raises:
        SettingsError: if the library of object stores is not installed.
        InputError: if the URL is not one of a store that can be used.
    """
    if url is None:
        return FolderStore(folder)
    try:
        from hcpl_kernel.pipeline.object_store import ObjectStore
    except ImportError as error:
        raise SettingsError(
            f"a store by URL cannot be used here ({describe(error)}); try: pip install 'hcpl-kernel[cloud]'"
        ) from error
    return ObjectStore(url, labels, classes, form)
