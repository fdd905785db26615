# %% [markdown]
# # A tour of the HCPL kernel kit
#
# From images to named cells, groups and exports, in a minute on a laptop: on **simulated** fields that the notebook makes
# itself, with the small networks of `weights/mini`. Start it from a checkout (`make test` sets it up). Nothing needs the
# internet.

# %% tags=["parameters"]
CHECKOUT = ".."  # the folder with hcpl_kernel/ and weights/
OUTPUT = "tour"  # gets images and results
FIELDS = 6
NETWORKS = ["dsa_efficientnet", "cla_resnet", "cla_resnet_deep"]  # None: all nine

# %% [markdown]
# ## Fields of view
# Four channels each: microtubules, protein of interest, nucleus, endoplasmic reticulum. The protein of the first half is in
# the nucleus, of the second half in the cytosol: two "treatments" of which the kit knows nothing.

# %%
import sys
from pathlib import Path

sys.path.insert(0, str(Path(CHECKOUT).resolve()))
import cv2
import matplotlib.pyplot as plt
import pandas as pd

import hcpl_kernel
from hcpl_kernel.classes import HPA_CLASSES
from hcpl_kernel.fields.channels import CHANNELS
from hcpl_kernel.simulation import simulate_field

output = Path(OUTPUT)
(output / "fields").mkdir(parents=True, exist_ok=True)
listing = []
for number in range(FIELDS):
    treated = number >= FIELDS // 2
    protein = HPA_CLASSES.index("Cytosol" if treated else "Nucleoplasm")
    field = simulate_field(500 + number, shape=(320, 320), pixel_size=0.32, bits=8, classes=[protein])
    row = {"ID": f"f{number}"}
    for channel, pixels in zip(CHANNELS, field.image):
        row[channel] = f"f{number}_{channel}.png"
        cv2.imwrite(str(output / "fields" / row[channel]), pixels)
    listing.append({**row, "condition": "drug" if treated else "control"})
pd.DataFrame(listing).to_csv(output / "fields.csv", index=False)

figure, panels = plt.subplots(1, 4, figsize=(12, 3))
for panel, channel, pixels in zip(panels, ("microtubules", "protein", "nucleus", "ER"), field.image):
    panel.imshow(pixels, cmap="gray")
    panel.set_title(channel)
    panel.axis("off")

# %% [markdown]
# ## Predict
# The same as `hcpl predict tour/fields --weights weights/mini --output tour/submission.csv --listing tour/fields.csv
# --pixel-size 0.32`. Every option of the command is a parameter.

# %%
result = hcpl_kernel.predict(
    output / "fields",
    Path(CHECKOUT) / "weights" / "mini",
    output / "submission.csv",
    listing=output / "fields.csv",
    pixel_size=0.32,
    networks=NETWORKS,
    descriptors=NETWORKS and NETWORKS[:1],
    device="cpu",
    quiet=True,
)
print(f"{result.cells} cells, problems: {len(result.problems)}, warnings: {len(result.warnings)}")
print("look at", result.work / "index.html")

# %% [markdown]
# ## Cells
# One row per cell. `labels` are the names that hold (empty: unsure), `prob_0`, ... probabilities of the classes.

# %%
cells = pd.read_csv(result.work / "cells.csv", keep_default_na=False)
cells[["ID", "cell", "area_um2", "integrity", "labels", "best_class", "margin", "condition"]].head()

# %% [markdown]
# Names on a field:

# %%
from hcpl_kernel.report.overlay import cell_text, overlay

own = cells[cells["ID"] == listing[-1]["ID"]]
names = {row.cell: cell_text(row.labels, row.best_class, HPA_CLASSES) for row in own.itertuples()}
labels = cv2.imread(str(result.work / "labels" / f"{listing[-1]['ID']}_cells.png"), cv2.IMREAD_UNCHANGED)
plt.figure(figsize=(6, 6))
plt.imshow(overlay(field.image, labels, names))
plt.axis("off");

# %% [markdown]
# ## Groups
# Fields are the replicates, not their cells. The difference with its 95 % interval:

# %%
from hcpl_kernel.cli import main as hcpl

hcpl(["groups", str(result.work), "--by", "condition", "--reference", "control", "--output", str(output / "groups.csv")])
groups = pd.read_csv(output / "groups.csv")
shown = groups[(groups["measure"] == "probability") & groups["class"].isin(["Nucleoplasm", "Cytosol"])]
shown[["class", "group", "fields", "mean", "difference", "difference_low", "difference_high"]].round(3)

# %% [markdown]
# ## Into other tools
# QuPath (`geojson`), ImageJ (`imagej-rois`), scanpy (`anndata`), `parquet`, `xlsx`, and pictures of the cells:

# %%
import shutil

for form, name in (("geojson", "cells.geojson"), ("label-colours", "colours")):
    shutil.rmtree(output / name, ignore_errors=True)
    hcpl(["export", str(result.work), "--to", form, "--output", str(output / name)])
plt.figure(figsize=(4, 4))
plt.imshow(plt.imread(output / "colours" / f"{listing[-1]['ID']}.png"))
plt.axis("off");

# %% [markdown]
# Next: your own images, `docs/own-images.md`.
