"""Writers over one stream of fused fields: each makes one output, and all of them read the stream once.

`submission.csv` and `cells.csv` come from every run; the others, by name, from `hcpl export`. A further one is a module
with an `OUTPUT` (see `base.Output`) and its line in `_MODULES`. Modules are imported when they are first used: each
needs a library of its own, and none of them is needed for a run.
"""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING

from hcpl_kernel.errors import SettingsError, describe

if TYPE_CHECKING:
    from hcpl_kernel.export.base import Output

_MODULES = {
    "geojson": "hcpl_kernel.export.geojson",
    "anndata": "hcpl_kernel.export.anndata_file",
    "imagej-rois": "hcpl_kernel.export.imagej_rois",
    "parquet": "hcpl_kernel.export.parquet",
    "xlsx": "hcpl_kernel.export.xlsx",
    "label-colours": "hcpl_kernel.export.label_colours",
}
NAMES = tuple(_MODULES)


def check_name(name: str) -> str:
    """The name of an output, if there is one of this name.

    Raises:
        SettingsError: if there is none; the nearest one is named.
    """
    if name in _MODULES:
        return name
    near = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise SettingsError(f"unknown output {name!r}, expected one of {', '.join(NAMES)}{hint}")


def find_output(name: str) -> Output:
    """The output of this name.

    Raises:
        SettingsError: if there is none, or the library that writes it is not installed or does not work.
    """
    try:
        output: Output = importlib.import_module(_MODULES[check_name(name)]).OUTPUT
    except ImportError as error:
        if (error.name or "").partition(".")[0] == __name__.partition(".")[0]:
            raise
        raise SettingsError(
            f"{name} cannot be written here ({describe(error)}); install its library: pip install 'hcpl-kernel[export]'"
        ) from error
    return output
