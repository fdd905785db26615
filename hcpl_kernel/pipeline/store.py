"""The store of finished shards: a part is put under the key of its content, and there only once."""

from __future__ import annotations

import os
from pathlib import Path

from hcpl_kernel.pipeline import part as part_file
from hcpl_kernel.pipeline.part import Part
from hcpl_kernel.pipeline.sealed import DamagedFile
from hcpl_kernel.runtime.atomic import put_if_absent, remove_any

_SUFFIX = ".safetensors"


class Store:
    """Parts in a folder of a file system.

    The name of a part is `<shard key>-<outcome key>`: what its fields depend on, and what was made of them (which
    networks ran, how they were fused). Two runs may make the same part; one of them puts it there.

    Args:
        folder: must exist; may be shared by several machines.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._outcomes: dict[str, list[str]] = {}
        with os.scandir(folder) as entries:
            for entry in entries:
                shard, dash, outcome = entry.name.removesuffix(_SUFFIX).partition("-")
                if dash and entry.name.endswith(_SUFFIX) and not entry.name.startswith("."):
                    self._outcomes.setdefault(shard, []).append(outcome)

    def __len__(self) -> int:
        """How many parts there are."""
        return sum(map(len, self._outcomes.values()))

    def path(self, shard: str, outcome: str) -> Path:
        """Where a part is kept."""
        return self._folder / f"{shard}-{outcome}{_SUFFIX}"

    def outcomes(self, shard: str) -> list[str]:
        """The outcomes that are kept of a shard."""
        return sorted(self._outcomes.get(shard, ()))

    def get(self, shard: str, outcome: str) -> Part:
        """A part.

        Raises:
            DamagedFile: if it is absent or not whole.
        """
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
