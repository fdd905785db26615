"""Every output is opened by a reader of its format that is not ours, and holds what went in."""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hcpl_kernel.cells.record import FieldRecord
from hcpl_kernel.cells.table import measure_cells
from hcpl_kernel.classes import ClassList
from hcpl_kernel.errors import InputError, SettingsError
from hcpl_kernel.export import NAMES, find_output
from hcpl_kernel.export.base import write_fields
from hcpl_kernel.export.cell_columns import COLUMNS, CellForm
from hcpl_kernel.export.cells_csv import cells_csv
from hcpl_kernel.fusion.fused_field import FusedField
from hcpl_kernel.submission.rle import decode_mask, encode_labels

CLASSES = ClassList(("Nucleoplasm", "Golgi (cis)", "Negative"), ("N", "Golgi", "Neg"), 2)
REPORT = {"versions": {"hcpl_kernel": "1"}, "settings": {"views": None, "fields_dir": "Äpfel"}, "weights": {"name": "mini"}}
FORM = CellForm(None, 0.08, {"condition": "condition", "area": "listing_area"})
ODD_ID = '=HYPERLINK("x") Zellkörper 😀'


def field_of(field_id: str, labels: np.ndarray, nuclei: np.ndarray | None, seed: int) -> FusedField:
    table = measure_cells(labels, nuclei)
    random = np.random.default_rng(seed)
    n = len(table)
    masks = list(encode_labels(labels).values()) if n else []
    record = FieldRecord(field_id, *labels.shape, None, (), table, masks, np.zeros((n, 8), np.float32))
    return FusedField(
        record, random.random(n, np.float32), random.random((n, len(CLASSES)), np.float32), {"condition": "=drug"}
    )


def sample_fields() -> list[FusedField]:
    """A cell with a hole and one in two parts under an odd ID, plain cells, no cells, and a field that is unreadable."""
    odd = np.zeros((20, 30), np.uint16)
    odd[2:9, 3:12] = 1
    odd[4:6, 5:8] = 0
    odd[12:15, 2:5] = odd[15:19, 5:9] = odd[2:5, 20:24] = 7
    plain = np.zeros((40, 25), np.uint16)
    plain[:10, :12], plain[30:40, 20:25] = 1, 2
    nuclei = np.where(np.indices(plain.shape)[0] < 5, plain, 0)
    unreadable = FusedField(
        FieldRecord.unusable("broken", None, "red: is truncated"), np.zeros(0, np.float32), np.zeros((0, 3), np.float32)
    )
    return [
        field_of(ODD_ID, odd, None, 1),
        unreadable,
        field_of("empty", np.zeros((8, 8), np.uint16), None, 2),
        field_of("plain", plain, nuclei, 3),
    ]


def write(name: str, path: Path, fields: Iterable[FusedField] | None = None) -> Path:
    """Write an output; the library that it needs may be absent where the package is tested with other pins."""
    library = {
        "geojson": "cv2",
        "anndata": "anndata",
        "imagej-rois": "roifile",
        "parquet": "pyarrow",
        "xlsx": "openpyxl",
        "label-colours": "PIL",
    }
    pytest.importorskip(library[name], reason="the extra 'export' is not installed")
    write_fields(sample_fields() if fields is None else fields, [find_output(name).writer(path, CLASSES, REPORT, FORM)])
    return path


def cells() -> list[tuple[FusedField, int]]:
    return [(field, row) for field in sample_fields() for row in range(len(field.record.table))]


def mask(field: FusedField, row: int) -> np.ndarray:
    return decode_mask(field.record.masks[row], field.record.height, field.record.width)


def assert_same_table(table: pd.DataFrame, folder: Path) -> None:
    """A table has the columns of `cells.csv` with the same values."""
    write_fields(sample_fields(), [cells_csv(folder / "cells.csv", CLASSES, FORM)])
    expected = pd.read_csv(folder / "cells.csv")[list(COLUMNS)]
    found = table[list(COLUMNS)].reset_index(drop=True).astype({"ID": str, "best_class": str, "nucleus_area": float})
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-5)


# --- geojson


def polygon_mask(geometry: dict[str, Any], shape: tuple[int, int]) -> np.ndarray:
    shapely = pytest.importorskip("shapely")
    from shapely.geometry import shape as read

    polygon = read(geometry)
    assert polygon.is_valid
    y, x = np.indices(shape)
    return shapely.contains_xy(polygon, x + 0.5, y + 0.5)


def test_geojson_has_a_collection_per_readable_field(tmp_path: Path) -> None:
    folder = write("geojson", tmp_path / "qupath")
    assert {path.name for path in folder.iterdir()} == {f"{ODD_ID}.geojson", "empty.geojson", "plain.geojson"}
    assert json.loads((folder / "empty.geojson").read_text())["features"] == []
    features = [f for i in (ODD_ID, "plain") for f in json.loads((folder / f"{i}.geojson").read_text())["features"]]
    assert [feature["geometry"]["type"] for feature in features] == ["Polygon", "MultiPolygon", "Polygon", "Polygon"]
    for (field, row), feature in zip(cells(), features, strict=True):
        record, properties = field.record, feature["properties"]
        assert (polygon_mask(feature["geometry"], (record.height, record.width)) == mask(field, row)).all()
        assert properties["objectType"] == "cell"
        assert properties["classification"] == {"name": CLASSES.names[field.prob[row].argmax()]}
        measured = properties["measurements"]
        assert measured["Area px"] == mask(field, row).sum()
        assert measured["Integrity"] == pytest.approx(field.integrity[row], abs=1e-6)
        assert [measured[f"Probability {name}"] for name in CLASSES.names] == pytest.approx(field.prob[row], abs=1e-6)
        assert ("Nucleus area px" in measured) == (record.id == "plain")
    assert len({feature["id"] for feature in features}) == 4


def test_geojson_in_one_file_names_the_image(tmp_path: Path) -> None:
    path = write("geojson", tmp_path / "all.geojson")
    features = json.loads(path.read_text(encoding="utf-8"))["features"]
    assert [(f["properties"]["image"], f["properties"]["cell"]) for f in features] == [
        (ODD_ID, 1),
        (ODD_ID, 7),
        ("plain", 1),
        ("plain", 2),
    ]


# --- imagej-rois


def region_area(region: Any) -> float:
    """Area of a region with ImageJ's even-odd rule, from the coordinates that roifile gives."""
    shapely = pytest.importorskip("shapely")
    shape = shapely.Polygon()
    for ring in region.coordinates(multi=True):
        shape = shape.symmetric_difference(shapely.Polygon(ring))
    return shape.area


@pytest.mark.parametrize("name", ["rois", "rois.zip"])
def test_imagej_rois_have_the_area_and_box_of_the_mask(tmp_path: Path, name: str) -> None:
    path = write("imagej-rois", tmp_path / name)
    import roifile

    archives = [path] if path.is_file() else [path / f"{ODD_ID}.zip", path / "empty.zip", path / "plain.zip"]
    assert path.is_file() or sorted(archives) == sorted(path.iterdir())
    found = []
    for archive in archives:
        with zipfile.ZipFile(archive) as file:
            found += [(entry, roifile.ImagejRoi.frombytes(file.read(entry))) for entry in file.namelist()]
    for (field, row), (entry, region) in zip(cells(), found, strict=True):
        best = int(field.prob[row].argmax())
        assert entry == f"{field.record.id}_{field.record.table.cell[row]}_{CLASSES.names[best]}.roi"
        assert region.group == best + 1
        assert region_area(region) == mask(field, row).sum()
        y, x = np.nonzero(mask(field, row))
        assert (region.left, region.top, region.right, region.bottom) == (x.min(), y.min(), x.max() + 1, y.max() + 1)
        assert region.composite == (field.record.id == ODD_ID)


# --- anndata


def test_anndata_has_cells_by_classes(tmp_path: Path) -> None:
    path = write("anndata", tmp_path / "cells.h5ad")
    import anndata

    data = anndata.read_h5ad(path)
    assert list(data.var_names) == list(CLASSES.names)
    assert list(data.obs_names) == [f"{ODD_ID}_1", f"{ODD_ID}_7", "plain_1", "plain_2"]
    np.testing.assert_array_equal(data.X, np.concatenate([field.prob for field in sample_fields()]))
    assert_same_table(data.obs, tmp_path)
    for (field, row), (x, y) in zip(cells(), data.obsm["spatial"], strict=True):
        rows, columns = np.nonzero(mask(field, row))
        assert (x, y) == pytest.approx((columns.mean() + 0.5, rows.mean() + 0.5))
    assert data.uns["fields"]["ID"].tolist() == [ODD_ID, "broken", "empty", "plain"]
    assert data.uns["fields"]["problem"].tolist() == ["", "red: is truncated", "", ""]
    assert data.uns["versions"] == REPORT["versions"]
    assert json.loads(data.uns["settings"]) == REPORT["settings"]


# --- parquet


def test_parquet_has_masks(tmp_path: Path) -> None:
    path = write("parquet", tmp_path / "cells.parquet")
    import pyarrow.parquet as pq

    table = pd.read_parquet(path)
    assert_same_table(table, tmp_path)
    for (field, row), found in zip(cells(), table.itertuples(), strict=True):
        assert (decode_mask(found.mask, found.image_height, found.image_width) == mask(field, row)).all()
        assert [found.prob_0, found.prob_1, found.prob_2] == field.prob[row].tolist()
    metadata = pq.read_schema(path).metadata
    assert json.loads(metadata[b"classes"]) == list(CLASSES.names)
    assert json.loads(metadata[b"run"]) == REPORT


def test_parquet_is_written_group_by_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("hcpl_kernel.export.parquet.GROUP_ROWS", 3)
    path = write("parquet", tmp_path / "cells.parquet", [sample_fields()[-1]] * 4)
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)] == [4, 4]


# --- xlsx


def test_xlsx_has_three_sheets(tmp_path: Path) -> None:
    path = write("xlsx", tmp_path / "cells.xlsx")
    sheets = pd.read_excel(path, sheet_name=None)
    assert list(sheets) == ["cells", "fields", "classes"]
    assert_same_table(sheets["cells"], tmp_path)
    prob = np.concatenate([field.prob for field in sample_fields()])
    np.testing.assert_allclose(sheets["cells"][list(CLASSES.names)], prob, rtol=1e-5)
    assert sheets["fields"]["ID"].tolist() == [ODD_ID, "broken", "empty", "plain"]
    assert sheets["fields"]["cells"].tolist() == [2, 0, 0, 2]
    assert sheets["fields"]["problem"].tolist()[1] == "red: is truncated"
    assert sheets["classes"]["name"].tolist() == list(CLASSES.names)


@pytest.mark.parametrize("field_id", ["=1+1", "+1", "-1", "@SUM(A1)", "#N/A", "1e5", "TRUE", ODD_ID])
def test_xlsx_takes_no_text_for_a_formula(tmp_path: Path, field_id: str) -> None:
    labels = np.ones((4, 4), np.uint16)
    path = write("xlsx", tmp_path / "cells.xlsx", [field_of(field_id, labels, None, 0)])
    openpyxl = importlib.import_module("openpyxl")
    workbook = openpyxl.load_workbook(path)
    for sheet in ("cells", "fields"):
        cell = workbook[sheet]["A2"]
        assert (cell.value, cell.data_type) == (field_id, "s")


def test_xlsx_refuses_more_cells_than_a_sheet_has_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openpyxl")
    monkeypatch.setattr("hcpl_kernel.export.xlsx.MOST_ROWS", 3)
    with pytest.raises(InputError, match=r"more than 3 cells.*parquet"):
        write("xlsx", tmp_path / "cells.xlsx", [sample_fields()[-1]] * 2)
    assert not list(tmp_path.iterdir())


# --- all of them


@pytest.mark.parametrize("name", NAMES)
def test_a_run_without_any_cell_is_written(tmp_path: Path, name: str) -> None:
    assert write(name, tmp_path / "output", sample_fields()[1:3]).exists()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_of_an_output_that_broke_off(tmp_path: Path, name: str) -> None:
    class Full(Exception):
        pass

    def fields() -> Iterator[FusedField]:
        yield sample_fields()[0]
        raise Full

    with pytest.raises(Full):
        write(name, tmp_path / "output", fields())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("given", "near"), [("geo-json", "geojson"), ("AnnData", "anndata"), ("imagej", "imagej-rois")])
def test_a_misspelt_output_is_named_with_the_nearest(given: str, near: str) -> None:
    with pytest.raises(SettingsError, match=f"{given}.*did you mean {near}?"):
        find_output(given)


def test_an_absent_library_is_named_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "roifile", None)
    monkeypatch.delitem(sys.modules, "hcpl_kernel.export.imagej_rois", raising=False)
    with pytest.raises(SettingsError, match=r"roifile.*pip install 'hcpl-kernel\[export\]'") as caught:
        find_output("imagej-rois")
    assert "\n" not in str(caught.value)


def test_label_colours_show_every_cell(tmp_path: Path) -> None:
    """Opened by OpenCV: the cells' pixels have a colour, neighbours another one, and the rest is black."""
    cv2 = pytest.importorskip("cv2")
    fields = sample_fields()
    write_fields(fields, [find_output("label-colours").writer(tmp_path / "out", CLASSES, REPORT, FORM)])
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {ODD_ID, "empty", "plain"}
    plain = cv2.imdecode(np.fromfile(tmp_path / "out" / "plain.png", np.uint8), cv2.IMREAD_COLOR)
    assert plain.shape == (40, 25, 3)
    first, second = plain[5, 5], plain[35, 22]
    assert (plain[:10, :12] == first).all() and (plain[30:40, 20:25] == second).all()
    assert np.abs(first.astype(int) - second).max() > 60 and max(first) > 120
    assert int(plain.any(2).sum()) == 10 * 12 + 10 * 5


def test_label_colours_are_never_one_file(tmp_path: Path) -> None:
    output = find_output("label-colours")
    output.check(tmp_path / "new.png")  # the name of a folder
    (tmp_path / "taken.png").write_text("mine")
    with pytest.raises(SettingsError, match="is a file"):
        output.check(tmp_path / "taken.png")
