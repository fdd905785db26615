"""Where the cells of a field are: outlines in micrometres, then instance maps on a pixel grid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from hcpl_kernel.simulation.crowding import crowd_nuclei
from hcpl_kernel.simulation.culture import NUCLEUS_EXPONENT, Culture
from hcpl_kernel.simulation.shapes import Outline, dents, ellipse_radius, spikes, undulation
from hcpl_kernel.simulation.texture import smooth_waves

MARGIN = 55.0  # um around the frame in which there are cells, so that cut cells are cut from whole ones
COARSE_PIXEL = 0.64  # um, grid on which whole cells are measured
TRIES = 40
TOUCHING_SHARE = 0.78  # of the cells with two nuclei; our choice, somewhat below the real share
SECOND_NUCLEUS_SHARE = 0.06  # of lobed nuclei that have a small second nucleus next to them; our choice


@dataclass(frozen=True)
class PlacedCell:
    """One cell before it is drawn: outline of the cell, outlines of its nuclei, and the state of its cell cycle.

    `phase` is "interphase", "mitotic" (condensed chromosomes) or "dying" (shrunken, bright). `angle` in radians.
    """

    outline: Outline
    nuclei: tuple[Outline, ...]
    phase: str
    angle: float


@dataclass(frozen=True)
class Layout:
    """The cells of a field on its pixel grid.

    Attributes:
        cells: (H, W) int32, 0 = background, 1..n without gaps.
        nuclei: (H, W) int32, the id of the cell to which the nucleus belongs.
        radial: (H, W) float32, 0 at a cell's centre, 1 at its own outline (cut by neighbours: ends below 1).
        placed: the n cells behind the ids, in their order.
        visible: (n,) float32, share of the cell's area inside the frame.
    """

    cells: np.ndarray
    nuclei: np.ndarray
    radial: np.ndarray
    placed: tuple[PlacedCell, ...]
    visible: np.ndarray


def make_layout(
    rng: np.random.Generator, culture: Culture, shape: tuple[int, int], pixel_size: float, mitotic_at_least: int = 0
) -> Layout:
    """Settle cells of `culture` in a frame of `shape` px with some ground around it, and draw them.

    Args:
        mitotic_at_least: so many cells near the middle of the frame divide, whatever the culture's share.
    """
    height, width = shape[0] * pixel_size, shape[1] * pixel_size
    placed = _settle(rng, culture, height, width, mitotic_at_least)
    warp = _Warp(rng, culture)
    cells, nuclei, radial = _draw(placed, culture, warp, (0.0, 0.0), shape, pixel_size)

    coarse = (int((height + 2 * MARGIN) / COARSE_PIXEL), int((width + 2 * MARGIN) / COARSE_PIXEL))
    whole, _, _ = _draw(placed, culture, warp, (-MARGIN, -MARGIN), coarse, COARSE_PIXEL)
    inner = int(MARGIN / COARSE_PIXEL)
    frame = whole[inner : inner + round(height / COARSE_PIXEL), inner : inner + round(width / COARSE_PIXEL)]
    count = len(placed) + 1
    total, inside = np.bincount(whole.ravel(), minlength=count), np.bincount(frame.ravel(), minlength=count)

    kept = [i for i in np.unique(cells) if i]
    lookup = np.zeros(count, np.int32)
    lookup[kept] = np.arange(1, len(kept) + 1)
    visible = np.clip(inside[kept] / np.maximum(total[kept], 1), 0, 1).astype(np.float32)
    return Layout(lookup[cells], lookup[nuclei], radial, tuple(placed[i - 1] for i in kept), visible)


class _Warp:
    """A smooth displacement of the ground (um), so that no cell is a textbook shape."""

    def __init__(self, rng: np.random.Generator, culture: Culture) -> None:
        amplitude = 0.05 * np.sqrt(culture.area) * (1 if culture.line != "suspension" else 0.3)
        self._waves = [smooth_waves(rng, wavelength=(22.0, 70.0), amplitude=amplitude) for _ in range(2)]
        self._gap = smooth_waves(rng, wavelength=(6.0, 40.0), amplitude=0.6)

    def at(self, y: float, x: float) -> tuple[np.float32, np.float32]:
        """The displacement (um) of one place."""
        place = np.array([[y]], np.float32), np.array([[x]], np.float32)
        return self._waves[0](*place)[0, 0], self._waves[1](*place)[0, 0]

    def grid(self, origin: tuple[float, float], shape: tuple[int, int], pixel: float) -> tuple[np.ndarray, np.ndarray]:
        """The displaced coordinates (y, x in um, float32) of a pixel grid."""
        y, x = _axes(origin, shape, pixel)
        return y + self._waves[0](y, x), x + self._waves[1](y, x)

    def gap_factor(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """How wide the gap between touching cells is at a place, around 1 and at least 0."""
        return np.maximum(1 + self._gap(y, x), 0)


def _settle(
    rng: np.random.Generator, culture: Culture, height: float, width: float, mitotic_at_least: int
) -> list[PlacedCell]:
    """Place cells one after the other, each where its ellipse does not overlap the others' too much."""
    ground = (height + 2 * MARGIN) * (width + 2 * MARGIN)
    mean_area = culture.area * np.exp(culture.spread**2 / 2)
    wanted = max(1, rng.poisson(culture.coverage * ground / mean_area))
    packing = 0.84 if culture.reach > 1 else 0.9
    direction = smooth_waves(rng, wavelength=(60.0, 160.0), amplitude=1.2)
    base_angle = rng.uniform(0, np.pi)

    centres = np.zeros((0, 2))
    inverse = np.zeros((0, 2, 2))  # maps um to a cell's own ellipse, where the outline is the unit circle
    sizes: list[tuple[float, float, float]] = []
    for _ in range(wanted):
        area = float(culture.area * np.exp(rng.normal(0, culture.spread)))
        elongation = max(1.0, 1 + (culture.elongation - 1) * rng.gamma(4, 0.25))
        for _ in range(TRIES):
            if len(centres) and rng.random() < culture.clustering:
                parent = rng.integers(len(centres))
                bearing = rng.uniform(0, 2 * np.pi)
                touching = np.linalg.solve(inverse[parent], [np.sin(bearing), np.cos(bearing)])
                centre = centres[parent] + touching * rng.uniform(1.75, 2.3)
            else:
                centre = rng.uniform((-MARGIN, -MARGIN), (height + MARGIN, width + MARGIN))
            if not (-MARGIN <= centre[0] <= height + MARGIN and -MARGIN <= centre[1] <= width + MARGIN):
                continue
            common = base_angle + float(direction(np.array([[centre[0]]]), np.array([[centre[1]]]))[0, 0])
            angle = common + (1 - culture.alignment) * rng.uniform(-np.pi / 2, np.pi / 2)
            own = _to_unit_circle(area, elongation, angle)
            offset = centres - centre
            in_theirs = np.einsum("nij,nj->ni", inverse, offset)
            apart = np.linalg.norm(offset @ own.T, axis=1) + np.linalg.norm(in_theirs, axis=1)
            if len(apart) and apart.min() < 4 * packing * 0.94:
                continue
            centres = np.vstack([centres, centre])
            inverse = np.concatenate([inverse, own[None]])
            sizes.append((area, elongation, angle))
            break

    middle = np.abs(centres - [height / 2, width / 2]) / [height / 2, width / 2]
    nearest = set(np.argsort(middle.max(axis=1))[:mitotic_at_least].tolist())
    cells = [
        _make_cell(rng, culture, tuple(centre), *size, divides=index in nearest)
        for index, (centre, size) in enumerate(zip(centres, sizes, strict=True))
    ]
    movable = [cell.nuclei if cell.phase == "interphase" else () for cell in cells]
    crowded = crowd_nuclei(rng, [cell.outline for cell in cells], movable, culture.crowding)
    return [replace(cell, nuclei=moved or cell.nuclei) for cell, moved in zip(cells, crowded, strict=True)]


def _to_unit_circle(area: float, elongation: float, angle: float) -> np.ndarray:
    """The matrix that maps (y, x) offsets in um to a frame in which the ellipse is the unit circle."""
    long = np.sqrt(area * elongation / np.pi)
    along, across = [np.sin(angle), np.cos(angle)], [np.cos(angle), -np.sin(angle)]
    return np.array([np.divide(along, long), np.divide(across, long / elongation)])


def _make_cell(
    rng: np.random.Generator,
    culture: Culture,
    centre: tuple[float, float],
    area: float,
    elongation: float,
    angle: float,
    divides: bool,
) -> PlacedCell:
    draw = rng.random()
    phase = "mitotic" if divides or draw < culture.mitotic else "dying" if draw > 0.99 else "interphase"
    nucleus_area = (
        culture.nucleus_area * culture.nucleus_scale * (area / 400) ** NUCLEUS_EXPONENT * np.exp(rng.normal(0, 0.26))
    )
    nucleus_area = min(nucleus_area, 0.62 * area)
    if phase != "interphase":  # a dividing cell rounds up, a dying one shrinks
        area *= 0.55 if phase == "mitotic" else 0.3
        elongation = rng.uniform(1.0, 1.25)
        radius = ellipse_radius(area, elongation, angle) * undulation(rng, 0.02, range(2, 6))
    else:
        radius = ellipse_radius(area, elongation, angle) * undulation(rng, culture.roughness, range(2, 8))
        radius = radius + spikes(rng, rng.poisson(culture.spikes), 0.75 * np.sqrt(area / np.pi), angle)
    outline = Outline(centre, radius, _blebs(rng, centre, radius) if rng.random() < culture.blebs else np.zeros((0, 3)))
    if phase == "mitotic":
        nuclei = _chromosomes(rng, centre, nucleus_area, angle)
    elif phase == "dying":
        nuclei = (Outline(centre, ellipse_radius(0.3 * area, 1.2, angle) * undulation(rng, 0.08, range(2, 6))),)
    else:
        nuclei = _interphase_nuclei(rng, culture, centre, radius, nucleus_area, angle)
    return PlacedCell(outline, nuclei, phase, angle)


def _blebs(rng: np.random.Generator, centre: tuple[float, float], radius: np.ndarray) -> np.ndarray:
    count = rng.integers(3, 16)
    index = rng.integers(0, len(radius), count)
    theta = index * 2 * np.pi / len(radius)
    size = rng.uniform(0.6, 2.2, count)
    distance = radius[index] + 0.4 * size
    return np.stack([centre[0] + distance * np.sin(theta), centre[1] + distance * np.cos(theta), size], axis=1)


def _interphase_nuclei(
    rng: np.random.Generator,
    culture: Culture,
    centre: tuple[float, float],
    radius: np.ndarray,
    area: float,
    angle: float,
) -> tuple[Outline, ...]:
    """One nucleus near the middle; in a few cells two, or one with a small second one next to it.

    Of 63 real cells with two nuclei, 54 have them touch; the smaller one has 0.39 to 0.78 (quartiles) of the larger one's
    area.
    """
    slack = 0.22 * float(np.median(radius))
    centre = (centre[0] + rng.normal(0, slack / 2), centre[1] + rng.normal(0, slack / 2))
    own_angle = angle + rng.normal(0, 0.35)
    elongation = 1 + (culture.nucleus_elongation - 1) * rng.gamma(3, 1 / 3)
    bearing = own_angle + np.pi / 2 + rng.normal(0, 0.6)
    if rng.random() < culture.binucleate:
        areas = [0.6 * area, 0.6 * area * rng.uniform(0.3, 1)]
    elif rng.random() < SECOND_NUCLEUS_SHARE * culture.lobed:
        areas = [area, area * rng.uniform(0.04, 0.2)]
    else:
        areas = [area]
    outlines = []
    for part in areas:
        shape = ellipse_radius(part, elongation, own_angle) * undulation(rng, 0.022, range(2, 7))
        if rng.random() < culture.lobed:
            shape = shape * dents(rng, int(rng.integers(1, 4)), 0.45) * undulation(rng, 0.05, range(3, 8))
        outlines.append(Outline(centre, shape))
    if len(outlines) == 1:
        return tuple(outlines)
    first, second = outlines
    apart = first.towards(bearing) + second.towards(bearing + np.pi)
    apart *= rng.uniform(0.75, 0.98) if rng.random() < TOUCHING_SHARE else rng.uniform(1.05, 1.6)
    shares = np.array([-areas[1], areas[0]]) / sum(areas)  # their common centre of mass stays
    return tuple(
        replace(outline, centre=(centre[0] + share * apart * np.sin(bearing), centre[1] + share * apart * np.cos(bearing)))
        for outline, share in zip(outlines, shares, strict=True)
    )


def _chromosomes(rng: np.random.Generator, centre: tuple[float, float], area: float, angle: float) -> tuple[Outline, ...]:
    """Condensed chromosomes: a rough ball (prometaphase), a plate (metaphase), or two plates (anaphase)."""
    stage = rng.choice(["ball", "plate", "plates"], p=[0.4, 0.4, 0.2])
    if stage == "ball":
        shape = ellipse_radius(0.55 * area, rng.uniform(1.0, 1.3), angle) * undulation(rng, 0.12, range(4, 14))
        return (Outline(centre, shape),)
    if stage == "plate":
        shape = ellipse_radius(0.4 * area, rng.uniform(2.4, 3.6), angle) * undulation(rng, 0.08, range(3, 10))
        return (Outline(centre, shape),)
    half = rng.uniform(2.0, 3.5)
    step = (half * np.cos(angle), -half * np.sin(angle))
    return tuple(
        Outline(
            (centre[0] + side * step[0], centre[1] + side * step[1]),
            ellipse_radius(0.2 * area, rng.uniform(2.2, 3.0), angle) * undulation(rng, 0.08, range(3, 9)),
        )
        for side in (-1, 1)
    )


def _draw(
    placed: list[PlacedCell],
    culture: Culture,
    warp: _Warp,
    origin: tuple[float, float],
    shape: tuple[int, int],
    pixel: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cell map, nucleus map (ids = place in `placed` + 1) and radial map of the placed cells on a pixel grid."""
    y, x = warp.grid(origin, shape, pixel)
    radial = np.full(shape, culture.reach, np.float32)
    cells = np.zeros(shape, np.int32)
    boxes = []
    for index, cell in enumerate(placed, start=1):
        box = _box(cell.outline.centre, cell.outline.reach * culture.reach, culture, origin, shape, pixel)
        boxes.append(box)
        if box is None:
            continue
        score = cell.outline.score(y[box], x[box])
        closer = score < radial[box]
        radial[box][closer] = score[closer]
        cells[box][closer] = index

    ground_y, ground_x = _axes(origin, shape, pixel)
    gap = 0.5 * culture.gap * warp.gap_factor(ground_y, ground_x)
    apart = cv2.distanceTransform((~_contacts(cells)).astype(np.uint8), cv2.DIST_L2, 5) * pixel
    cells[apart < gap] = 0

    nuclei = np.zeros(shape, np.int32)
    for index, (cell, box) in enumerate(zip(placed, boxes, strict=True), start=1):
        if box is None or not _keep_main_part(cells[box], index):
            continue
        own = cells[box] == index
        body = cv2.erode(own.astype(np.uint8), _disk(0.3 / pixel), borderValue=1).astype(bool)
        full = np.zeros(own.shape, bool)
        shift_y, shift_x = warp.at(*cell.outline.centre)  # a nucleus moves with its cell, but keeps its shape
        for nucleus in cell.nuclei:
            full |= nucleus.score(*np.broadcast_arrays(ground_y[box[0]] + shift_y, ground_x[:, box[1]] + shift_x)) < 1
        if full.any() and np.count_nonzero(full & own) < 0.75 * np.count_nonzero(full):
            cells[box][own] = 0  # squeezed away by its neighbours
            continue
        nuclei[box][full & body] = index
    return cells, nuclei, radial


def _axes(origin: tuple[float, float], shape: tuple[int, int], pixel: float) -> tuple[np.ndarray, np.ndarray]:
    """Ground coordinates in um: y (H, 1) and x (1, W), float32."""
    y = (origin[0] + (np.arange(shape[0]) + 0.5) * pixel).astype(np.float32)[:, None]
    x = (origin[1] + (np.arange(shape[1]) + 0.5) * pixel).astype(np.float32)[None, :]
    return y, x


def _box(
    centre: tuple[float, float],
    reach: float,
    culture: Culture,
    origin: tuple[float, float],
    shape: tuple[int, int],
    pixel: float,
) -> tuple[slice, slice] | None:
    """The part of the grid that a shape can touch, or None."""
    slices = []
    reach += 0.2 * np.sqrt(culture.area)  # what the warp may add
    for axis in range(2):
        low = int(np.floor((centre[axis] - reach - origin[axis]) / pixel))
        high = int(np.ceil((centre[axis] + reach - origin[axis]) / pixel)) + 1
        low, high = max(low, 0), min(high, shape[axis])
        if low >= high:
            return None
        slices.append(slice(low, high))
    return slices[0], slices[1]


def _contacts(cells: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels whose right or lower neighbour belongs to another cell."""
    contacts = np.zeros(cells.shape, bool)
    for a, b, target in (
        (cells[:, :-1], cells[:, 1:], contacts[:, :-1]),
        (cells[:-1], cells[1:], contacts[:-1]),
    ):
        target |= (a != b) & (a > 0) & (b > 0)
    return contacts


def _keep_main_part(view: np.ndarray, index: int) -> bool:
    """Delete all but the largest connected part of cell `index` in `view`; False if the cell has no pixel."""
    count, parts, statistics, _ = cv2.connectedComponentsWithStats((view == index).astype(np.uint8), connectivity=4)
    if count == 1:
        return False
    if count > 2:
        largest = 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))
        view[(parts > 0) & (parts != largest)] = 0
    return True


def _disk(radius: float) -> np.ndarray:
    size = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
