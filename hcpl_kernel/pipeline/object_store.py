"""Finished parts in an object store (S3, Google Cloud Storage, Azure), or in a folder by its `file:///` URL.

Under the URL are

| name | content |
|---|---|
| `parts/<shard key>/<outcome key>.safetensors` | a part |
| `labels/<shard key>/<ID>_cells.png`, `<ID>_nuclei.png` | its label maps |
| `rows/<shard key>/<outcome key>.parquet` | its table of cells with their masks |
| `reports/` | reports of runs and the state of the last one |

Every object but a report is created only if it is absent. Label maps and rows come first and the part last, so that a part
that is there is complete. The library is obstore: one package without dependencies, whose `put` creates conditionally in
every store that it knows; fsspec would need a package of its own for each store.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, from_url

from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import InputError, describe
from hcpl_kernel.export.cell_columns import CellForm
from hcpl_kernel.export.parquet import parquet
from hcpl_kernel.pipeline import part as part_file
from hcpl_kernel.pipeline import sealed
from hcpl_kernel.pipeline.part import Part
from hcpl_kernel.pipeline.sealed import AbsentFile, DamagedFile

_PART, _ROWS = ".safetensors", ".parquet"


class Objects:
    """The objects under a URL.

    Args:
        url: such as `s3://bucket/run1`; credentials and endpoint come from the environment (`AWS_...`, `GOOGLE_...`,
            `AZURE_...`), see the documentation of obstore.

    Raises:
        InputError: if the URL is not one of a store.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        with self._named():
            if url.startswith("file://"):
                self._store: Any = LocalStore(url.removeprefix("file://"), mkdir=True)
            else:
                self._store = from_url(url)

    def create(self, name: str, data: bytes) -> bool:
        """Make an object unless it is there; of several at the same time exactly one does. Whether this call made it."""
        try:
            with self._named():
                obstore.put(self._store, name, data, mode="create")
        except AlreadyExistsError:
            return False
        return True

    def replace(self, name: str, data: bytes) -> None:
        """Make an object, whether it is there or not."""
        with self._named():
            obstore.put(self._store, name, data)

    def read(self, name: str) -> bytes | None:
        """The content of an object; None where it is absent."""
        try:
            with self._named():
                return bytes(obstore.get(self._store, name).bytes())
        except (FileNotFoundError, NotFoundError):
            return None

    def remove(self, name: str) -> None:
        """Remove an object."""
        with self._named():
            obstore.delete(self._store, name)

    def names(self, folder: str) -> Iterator[str]:
        """Names of the objects in a folder."""
        with self._named():
            for page in obstore.list(self._store, folder):
                yield from (entry["path"] for entry in page)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the store where it refuses."""
        try:
            yield
        except (AlreadyExistsError, FileNotFoundError, NotFoundError):
            raise
        except (BaseError, OSError) as error:
            first = str(error).splitlines()[0] if str(error) else describe(error)
            raise InputError(f"the store {self.url} cannot be used: {first}") from error


class ObjectStore:
    """Parts under a URL, with their label maps and rows; see `hcpl_kernel.pipeline.store.Store`.

    Args:
        url: see :class:`Objects`.
        labels: the folder in which this machine writes label maps before they are put into the store.
        classes: of the probabilities' columns.
        form: what the further columns of rows depend on.
    """

    def __init__(self, url: str, labels: Path, classes: ClassList, form: CellForm) -> None:
        self._objects = Objects(url)
        self._labels = labels
        self._classes, self._form = classes, form
        self._any = next(self._objects.names("parts"), None) is not None

    def __len__(self) -> int:
        """1 where there is any part, else 0: nothing counts objects, and a listing of all takes long."""
        return int(self._any)

    def reload(self) -> None:
        """See whether there is any part by now; which ones is asked when it matters."""
        self._any = self._any or next(self._objects.names("parts"), None) is not None

    def outcomes(self, shard: str) -> list[str]:
        """The outcomes that are kept of a shard, one request."""
        names = (Path(name) for name in self._objects.names(f"parts/{shard}"))
        return sorted(name.stem for name in names if name.suffix == _PART)

    def header(self, shard: str, outcome: str) -> dict[str, Any]:
        """The header of a part; the whole object is fetched, since requests cost more than bytes."""
        with self._fetched(shard, outcome) as path:
            return sealed.read_header(path)

    def get(self, shard: str, outcome: str) -> Part:
        """A part."""
        with self._fetched(shard, outcome) as path:
            return part_file.load_part(path)

    def put(self, shard: str, outcome: str, part: Part) -> None:
        """Keep label maps, rows and part, unless they are there already and whole."""
        name = f"parts/{shard}/{outcome}{_PART}"
        for file in part.cut.label_maps:
            self._objects.create(f"labels/{shard}/{file}", (self._labels / file).read_bytes())
        with tempfile.TemporaryDirectory(prefix="hcpl-") as folder:
            rows, whole = Path(folder, "rows"), Path(folder, "part")
            write_rows(rows, part, self._classes, self._form, {"shard": shard, "outcome": outcome})
            self._objects.create(f"rows/{shard}/{outcome}{_ROWS}", rows.read_bytes())
            part_file.save_part(whole, part)
            if not self._objects.create(name, whole.read_bytes()):
                try:
                    self.get(shard, outcome)
                except DamagedFile:
                    self._objects.remove(name)
                    self._objects.create(name, whole.read_bytes())
        self._any = True

    @contextmanager
    def _fetched(self, shard: str, outcome: str) -> Iterator[Path]:
        name = f"parts/{shard}/{outcome}{_PART}"
        data = self._objects.read(name)
        if data is None:
            raise AbsentFile(f"{name} is not in {self._objects.url}")
        with tempfile.TemporaryDirectory(prefix="hcpl-") as folder:
            path = Path(folder, f"{shard}-{outcome}{_PART}")
            path.write_bytes(data)
            yield path


def write_rows(path: Path, part: Part, classes: ClassList, form: CellForm, about: Mapping[str, Any]) -> None:
    """The cells of a part as Parquet: the columns of `hcpl export --to parquet`; `about` is the metadata `run`."""
    with parquet(path, classes, about, form) as add:
        for field in part.fields():
            add(field)
