"""The inner geography of the cells that all four channels share: distances, nucleoli, centrosomes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hcpl_kernel.simulation.layout import Layout
from hcpl_kernel.simulation.look import Look
from hcpl_kernel.simulation.texture import blur, noise, points_in_each, spots


@dataclass(frozen=True)
class Anatomy:
    """Maps (H, W) on the field's grid, and one row per cell (index = id - 1).

    Attributes:
        pixel: um per pixel.
        cells, nuclei: int32 instance maps.
        territory: int32, the id of the nearest cell, also on the background (0 where a field has no cell).
        cell_soft, nucleus_soft: float32 in [0, 1], the masks with soft edges.
        edge: float32, um inside a cell to its edge.
        outside_nucleus, inside_nucleus: float32, um to the nuclear edge from outside and from inside.
        radial: float32, 0 at a cell's centre to 1 at its outline.
        nucleoli: float32 in [0, 1].
        chromatin: float32, mean 0 and standard deviation 1: how dense the chromatin is; proteins of the nucleus keep to
            its gaps.
        cytoplasm: bool, in a cell, out of the nucleus.
        mitotic, dying: (n,) bool.
        centrosome: (n, 2) float64, y and x in px, next to the nucleus (may be outside of the frame).
        angle: (n,) float64, direction of the cell's long axis, of the chromosome plate in a dividing cell.
    """

    pixel: float
    cells: np.ndarray
    nuclei: np.ndarray
    territory: np.ndarray
    cell_soft: np.ndarray
    nucleus_soft: np.ndarray
    edge: np.ndarray
    outside_nucleus: np.ndarray
    inside_nucleus: np.ndarray
    radial: np.ndarray
    nucleoli: np.ndarray
    chromatin: np.ndarray
    cytoplasm: np.ndarray
    mitotic: np.ndarray
    dying: np.ndarray
    centrosome: np.ndarray
    angle: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.cells.shape[0], self.cells.shape[1]

    @property
    def count(self) -> int:
        return len(self.mitotic)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """(H, W) float32: each cell's value (n,) over its territory, so that soft edges keep their cell's value."""
        return np.concatenate([[0], values]).astype(np.float32)[self.territory]

    def nuclear_depth(self) -> np.ndarray:
        """(H, W) float32: um inside the nucleus of cells in interphase, 0 elsewhere."""
        return self.inside_nucleus * self.spread(~self.mitotic)

    def near_nucleus(self, reach: float) -> np.ndarray:
        """(H, W) float32: falls from 1 at the nucleus to 1/e at `reach` um; 0 in the nucleus and out of cells."""
        return np.exp(-self.outside_nucleus / np.float32(reach)) * self.cytoplasm


def nuclear_dome(rng: np.random.Generator, anatomy: Anatomy, look: Look) -> np.ndarray:
    """(H, W) float32 in [0, 1]: how much of the light's way is nucleus: a dome, thin at its edge, where the look has one."""
    if not look.dome:
        return anatomy.nucleus_soft
    thin = rng.uniform(0, look.dome) * np.exp(-anatomy.inside_nucleus / np.float32(rng.uniform(0.5, 1.8)))
    return anatomy.nucleus_soft * (1 - thin)


def make_anatomy(rng: np.random.Generator, layout: Layout, pixel: float) -> Anatomy:
    """Derive the shared geography of a layout."""
    cells, nuclei = layout.cells, layout.nuclei
    in_nucleus = nuclei > 0
    inside_nucleus = _distance(in_nucleus & ~_edges(nuclei), pixel)
    mitotic = np.array([cell.phase == "mitotic" for cell in layout.placed], bool)
    dying = np.array([cell.phase == "dying" for cell in layout.placed], bool)
    outside_nucleus = _distance(~in_nucleus, pixel)
    still = np.concatenate([[False], ~mitotic & ~dying])[nuclei]
    return Anatomy(
        pixel=pixel,
        cells=cells,
        nuclei=nuclei,
        territory=_territory(cells),
        cell_soft=blur((cells > 0).astype(np.float32), 0.25, pixel),
        nucleus_soft=blur(in_nucleus.astype(np.float32), 0.18, pixel),
        edge=_distance((cells > 0) & ~_edges(cells), pixel),
        outside_nucleus=outside_nucleus,
        inside_nucleus=inside_nucleus,
        radial=layout.radial,
        nucleoli=_nucleoli(rng, nuclei, np.where(still, inside_nucleus, 0), pixel),
        chromatin=_chromatin(rng, nuclei.shape, pixel),
        cytoplasm=(cells > 0) & ~in_nucleus,
        mitotic=mitotic,
        dying=dying,
        centrosome=_centrosomes(rng, layout, outside_nucleus, pixel),
        angle=np.array([cell.angle for cell in layout.placed]),
    )


def _territory(cells: np.ndarray) -> np.ndarray:
    """(H, W) int32: the id of the nearest cell."""
    if not cells.any():
        return cells
    _, nearest = cv2.distanceTransformWithLabels(
        (cells == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    inside = cells > 0
    owner = np.zeros(int(nearest.max()) + 1, np.int32)
    owner[nearest[inside]] = cells[inside]
    return owner[nearest]


def _centrosomes(rng: np.random.Generator, layout: Layout, outside_nucleus: np.ndarray, pixel: float) -> np.ndarray:
    """(n, 2) float64: for each cell a place (y, x in px) in its cytoplasm close to the nucleus.

    A cell whose nucleus is cut away keeps a place outside the frame.
    """
    tries = 48
    shape = np.array(layout.cells.shape)
    places = np.zeros((len(layout.placed), 2))
    for index, cell in enumerate(layout.placed):
        nucleus = cell.nuclei[0]
        direction = rng.integers(0, len(nucleus.radius), tries)
        theta = direction * 2 * np.pi / len(nucleus.radius)
        distance = nucleus.radius[direction] + rng.uniform(0.6, 3.5, tries)
        tried = np.stack([nucleus.centre[0] + distance * np.sin(theta), nucleus.centre[1] + distance * np.cos(theta)], 1)
        tried = tried / pixel - 0.5
        row, column = np.clip(np.round(tried), 0, shape - 1).astype(int).T
        framed = ((tried >= 0) & (tried <= shape - 1)).all(axis=1)
        gap = outside_nucleus[row, column]
        fits = framed & (layout.cells[row, column] == index + 1) & (gap > 0.4) & (gap < 3.0)
        places[index] = tried[np.argmax(fits)] if fits.any() else [-1e4, -1e4]
    return places


def _edges(labels: np.ndarray) -> np.ndarray:
    """Pixels whose left or upper neighbour has another id."""
    edges = np.zeros(labels.shape, bool)
    edges[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edges[1:] |= labels[1:] != labels[:-1]
    return edges


def _distance(mask: np.ndarray, pixel: float) -> np.ndarray:
    """um from each pixel of the mask to the nearest pixel outside it (a mask that fills the frame: very far)."""
    if mask.all():
        return np.full(mask.shape, 1e3, np.float32)
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5) * np.float32(pixel)


def _chromatin(rng: np.random.Generator, shape: tuple[int, int], pixel: float) -> np.ndarray:
    """Smooth noise of several sizes: dense and loose chromatin."""
    scales = ((0.35, 0.8), (0.8, 1.0), (1.8, 0.7))
    total = sum((weight * noise(rng, shape, sigma, pixel) for sigma, weight in scales), np.zeros(shape, np.float32))
    return total / np.float32(np.sqrt(sum(weight**2 for _, weight in scales)))


def _nucleoli(rng: np.random.Generator, nuclei: np.ndarray, depth: np.ndarray, pixel: float) -> np.ndarray:
    """Irregular blobs, one at least in each nucleus; few large or many small ones, a habit of the field."""
    area = np.bincount(nuclei.ravel())[1:] * pixel**2
    size = np.exp(rng.normal(np.log(1.15), 0.25))
    counts = np.maximum(1, rng.poisson(area / (38 * size**1.5)))
    y, x = points_in_each(rng, nuclei, np.clip(depth - 0.8, 0, 2), counts)
    radius = size * np.exp(rng.normal(0, 0.35, len(y)))
    blobs = spots(depth.shape, pixel, y, x, radius, np.ones(len(y)))
    blobs += 0.12 * noise(rng, depth.shape, 0.45, pixel) * (blobs > 0.05)
    return 1 / (1 + np.exp(-(blobs - 0.45) * 14)) * np.clip(depth / 0.4, 0, 1)
