"""Where the tests find real material; tests that need it are skipped, with the reason, where it is absent.

The networks of the tests are tiny: threads cost them more than they give, above all on a busy machine. No example of a
property has a deadline: the first one compiles kernels.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
# Whoever starts the tests may ignore these (`nohup`, a job in the background); children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

CHECKOUT = Path(__file__).resolve().parent.parent


def _data_folder() -> Path:
    return Path(os.environ.get("HCPL_DATA", CHECKOUT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def hpa_data() -> Path:
    """The folder of real HPA material (`fields_512`, `fields_full`, ...)."""
    folder = _data_folder()
    if not folder.is_dir():
        pytest.skip(f"no real HPA material at {folder}; set HCPL_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """The folder of reference material next to the real data (network names and vectors)."""
    folder = _data_folder().parent / "reference"
    if not folder.is_dir():
        pytest.skip(f"no reference material at {folder}; set HCPL_DATA to the data folder next to it")
    return folder
