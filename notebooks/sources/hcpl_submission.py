# %% [markdown]
# # Human Protein Atlas - Single Cell Classification: HCPL submission
#
# Segments every cell of the test images, predicts its protein localisation with the networks of the attached weights, and
# writes `submission.csv`. Internet stays off. To be attached: the competition's data and the dataset `hcpl-kernel` (for
# other weights than `mini` also theirs, such as `hcpl-weights-full`). The page of the run is shown at the end, and stays as
# `hcpl_report.html`.
#
# A valid `submission.csv` is in place from the first minute and improves after every network. If the prediction fails, the
# notebook says so and leaves what was ready.

# %% tags=["parameters"]
INPUT = "/kaggle/input"
SCRATCH = "/kaggle/temp/hcpl"
WEIGHTS = "mini"  # the name of the attached weights, or their folder
TIME_LIMIT = "8h30m"  # of the whole notebook; Kaggle ends it after 9 h
OPTIONS = ""  # further options of `hcpl predict`, for instance "--views 4"
OVERLAYS = 3  # fields to show

# %%
import os, sys, time, zipfile
from pathlib import Path

os.environ["HCPL_STARTED_AT"] = f"monotonic:{time.monotonic()}"
bundle = next((m.parent for depth in range(1, 5) for m in Path(INPUT).glob("*/" * depth + "hcpl_bundle.json")), None)
if bundle is None:
    raise FileNotFoundError(f"{INPUT} has no hcpl_bundle.json: add the dataset hcpl-kernel to this notebook")
for wheel in filter(Path.is_file, bundle.glob("*.whl")):
    zipfile.ZipFile(wheel).extractall(f"{SCRATCH}/package")
sys.path[:0] = [f"{SCRATCH}/package", *(str(path) for path in [bundle, *bundle.iterdir()] if path.is_dir())]
from hcpl_kernel import kaggle

# %%
kaggle.doctor(INPUT, SCRATCH)

# %%
outcome = kaggle.predict_competition(INPUT, WEIGHTS, SCRATCH, TIME_LIMIT, OPTIONS)

# %%
kaggle.show(outcome, OVERLAYS)

# %%
kaggle.clean(SCRATCH)
