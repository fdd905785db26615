"""`geojson`: cells as objects of QuPath, a FeatureCollection per field, which QuPath imports into the open image."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from hcpl_kernel.classes import ClassList
from hcpl_kernel.export.base import Output, Writer, file_or_folder
from hcpl_kernel.export.cell_columns import CellForm, cell_columns, further_columns
from hcpl_kernel.export.outlines import Polygon, cell_outlines
from hcpl_kernel.fusion.fused_field import FusedField

SUFFIX = ".geojson"
_NAMESPACE = uuid.UUID("7d1c0a52-5d3c-4c5e-9d0e-0a8f6a4b6a11")
"""Of the objects' ids: the same cell of the same field has the same id in every export."""


def geojson(path: Path, classes: ClassList, report: Mapping[str, Any], form: CellForm) -> Writer:
    """A writer (see :mod:`hcpl_kernel.export.base`) of outlines in input pixels, with measurements.

    Args:
        path: a folder for a file per field, as QuPath imports them; or one `.geojson` file with all cells, whose property
            `image` is the field's ID.
        classes: names of the classifications.
        report: not used; the format has no place for it.
        form: what the further columns depend on.
    """

    @contextmanager
    def content(file: IO[str]) -> Iterator[Callable[[FusedField], None]]:
        separator = "\n"
        file.write('{"type": "FeatureCollection", "features": [')

        def add(field: FusedField) -> None:
            nonlocal separator
            for feature in _features(field, classes, form):
                file.write(separator + json.dumps(feature, ensure_ascii=False, allow_nan=False))
                separator = ",\n"

        yield add
        file.write("\n]}\n")

    return file_or_folder(path, SUFFIX, "w", content)


OUTPUT = Output(geojson, per_field=SUFFIX)


def _features(field: FusedField, classes: ClassList, form: CellForm) -> Iterator[dict[str, Any]]:
    columns = {**cell_columns(field, classes), **further_columns(field, classes, form)}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for row, prob, polygons in zip(rows, field.prob.tolist(), cell_outlines(field), strict=True):
        measurements = {
            "Area px": row["area"],
            "Nucleus area px": row["nucleus_area"],
            "Area um^2": row["area_um2"],
            "Nucleus area um^2": row["nucleus_area_um2"],
            "Protein mean": row["protein_mean"],
            "Margin": row["margin"],
            "Integrity": round(row["integrity"], 6),
            **{f"Probability {name}": round(p, 6) for name, p in zip(classes.names, prob, strict=True)},
        }
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(_NAMESPACE, f"{row['cell']} {row['ID']}")),
            "geometry": _geometry(polygons),
            "properties": {
                "objectType": "cell",
                "name": f"{row['ID']} {row['cell']}",
                "image": row["ID"],
                "cell": row["cell"],
                "labels": row["labels"],
                **{shown: row[shown] for shown in form.extra.values()},
                "classification": {"name": row["best_class"]},
                "measurements": {name: value for name, value in measurements.items() if value is not None},
            },
        }


def _geometry(polygons: list[Polygon]) -> dict[str, Any]:
    """A ring of GeoJSON ends where it begins."""
    rings = [[[*ring.tolist(), ring[0].tolist()] for ring in polygon] for polygon in polygons]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings[0]}
    return {"type": "MultiPolygon", "coordinates": rings}
