"""`--descriptors`: rows of cells.csv, made once, kept in the parts, removed and asked for later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hcpl_kernel.cli import main

from .conftest import PIXEL_SIZE

NAME = "dsa_efficientnet"


def test_descriptors_follow_cells_csv(
    fields: Path, small_ensemble: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["predict", str(fields), "--weights", str(small_ensemble), "--output", str(tmp_path / "s.csv")]
    arguments += ["--work", str(tmp_path / "w"), "--pixel-size", str(PIXEL_SIZE), "--device", "cpu", "--quiet"]
    arguments += ["--networks", f"{NAME},cla_efficientnet"]
    path = tmp_path / "w" / "descriptors" / f"{NAME}.npz"
    assert main(arguments) == 0 and not path.exists()
    plain = (tmp_path / "w" / "cells.csv").read_bytes()

    assert main([*arguments, "--descriptors", NAME]) == 0
    assert (tmp_path / "w" / "cells.csv").read_bytes() == plain
    cells, found = pd.read_csv(tmp_path / "w" / "cells.csv"), np.load(path)
    assert found["ID"].tolist() == cells["ID"].tolist() and found["cell"].tolist() == cells["cell"].tolist()
    described = found["descriptors"]
    assert described.dtype == np.float16 and described.shape[0] == len(cells) and described.shape[1] > 16
    assert np.isfinite(described).all() and len(np.unique(described, axis=0)) == len(cells)

    path.unlink()  # written again from the parts
    assert main([*arguments, "--descriptors", NAME]) == 0
    np.testing.assert_array_equal(np.load(path)["descriptors"], described)

    pytest.importorskip("anndata")
    import anndata

    assert main(["export", str(tmp_path / "w"), "--to", "anndata", "--output", str(tmp_path / "c.h5ad")]) == 0
    np.testing.assert_array_equal(anndata.read_h5ad(tmp_path / "c.h5ad").obsm[f"X_{NAME}"], described)

    assert main([*arguments, "--descriptors", "dsa_eficientnet"]) == 2
    assert f"did you mean {NAME}?" in capsys.readouterr().err
    assert main([*arguments, "--descriptors", "clh_efficientnet"]) == 2
    assert "leaves out" in capsys.readouterr().err
