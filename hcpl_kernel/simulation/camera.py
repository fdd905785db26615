"""From light to grey levels: haze, focus, gain per field, shot noise, subtracted background, defects."""

from __future__ import annotations

import numpy as np

from hcpl_kernel.simulation.anatomy import Anatomy
from hcpl_kernel.simulation.look import Look
from hcpl_kernel.simulation.texture import blur, fibres, noise, smooth_waves, spots

POINT_SPREAD = 0.09  # um, sd: the real full-resolution images are oversampled
RED, GREEN, BLUE, YELLOW = range(4)
# Grey level (of 255) that the reference percentile of the light reaches: median and sd of its log over fields; the look has
# that of green.
BRIGHTNESS = {RED: (195.0, 0.35), BLUE: (175.0, 0.30), YELLOW: (185.0, 0.40)}
REFERENCE_PERCENTILE = (99, 99, 90, 99)  # of the cells' light, of the nuclei's in blue
# Photons that make a grey level of 255 x the field's own brightness: (low, high), log-uniform.
PHOTONS = ((60.0, 900.0), (12.0, 500.0), (300.0, 3000.0), (60.0, 900.0))


def expose(rng: np.random.Generator, light: np.ndarray, anatomy: Anatomy, bits: int, look: Look) -> np.ndarray:
    """Take the picture.

    Args:
        light: (4, H, W) float32, red, green, blue, yellow, arbitrary units per channel.
        bits: 8 or 16.
        look: how bright green is, and how much background is taken off.

    Returns:
        (4, H, W) uint8 or uint16; the background is exactly 0 except in about a tenth of the fields.
    """
    light = _defects(rng, light, anatomy)
    pixel = anatomy.pixel
    defocus = rng.uniform(0.2, 0.7) if rng.random() < 0.05 else 0.0
    nearly_black = rng.random() < 0.04
    pedestal = rng.uniform(6, 12) if rng.random() < 0.08 else 0.0
    uneven = _uneven(rng, anatomy)
    top = 255 if bits == 8 else 65535
    image = np.zeros(light.shape, np.uint8 if bits == 8 else np.uint16)
    for channel in range(4):
        haze = rng.uniform(0.02, 0.2) * (0.5 if channel == BLUE else 1.0)
        sharp = blur(light[channel], float(np.hypot(POINT_SPREAD, defocus)), pixel)
        seen = (1 - haze) * sharp + haze * blur(light[channel], rng.uniform(2.5, 7.0), pixel)
        seen = seen * uneven
        median, spread = look.brightness if channel == GREEN else BRIGHTNESS[channel]
        brightness = min(median * np.exp(rng.normal(0, spread)), 250.0) * (0.12 if nearly_black else 1.0)
        inside = anatomy.nuclei > 0 if channel == BLUE else anatomy.cells > 0
        reference = np.percentile(seen[inside], REFERENCE_PERCENTILE[channel]) if inside.any() else seen.max()
        level = seen * np.float32(brightness / max(float(reference), 1e-6))
        photons = np.exp(rng.uniform(*np.log(PHOTONS[channel]))) / brightness  # a grey level
        dark = rng.uniform(0.1, 1.5) if channel != BLUE else 0.1
        level = (rng.poisson(np.maximum(level + dark, 0) * photons) / photons).astype(np.float32)
        offset = dark + (rng.uniform(0.0, 3.5) if channel != BLUE else 0.3)
        if look.subtracted is not None:
            levels, share = look.subtracted[channel]
            mean = float(level[inside].mean()) if inside.any() else 0.0
            offset += rng.random() ** 2 * (levels + share * mean)
        level = level - offset + (pedestal if channel in (RED, YELLOW) else 0.3 * pedestal * (channel == GREEN))
        image[channel] = np.clip(np.round(level * (top / 255)), 0, top)
    return image


def _uneven(rng: np.random.Generator, anatomy: Anatomy) -> np.ndarray:
    """(H, W) float32: uneven illumination, around 1, strong in few fields."""
    height, width = anatomy.shape
    strength = rng.uniform(0.1, 0.35) if rng.random() < 0.15 else 0.04
    waves = smooth_waves(rng, wavelength=(150.0, 500.0), amplitude=strength, count=3)
    y = (np.arange(height, dtype=np.float32) * np.float32(anatomy.pixel))[:, None]
    x = (np.arange(width, dtype=np.float32) * np.float32(anatomy.pixel))[None, :]
    return np.clip(1 + waves(y, x), 0.2, 2)


def _defects(rng: np.random.Generator, light: np.ndarray, anatomy: Anatomy) -> np.ndarray:
    """Bleed-through between channels, dead debris, dust, a hair; each in a few fields."""
    light = light.copy()
    scale = [float(np.percentile(channel[anatomy.cells > 0], 98)) if anatomy.cells.any() else 1.0 for channel in light]
    for source, target, share in ((BLUE, YELLOW, 0.06), (RED, GREEN, 0.08), (YELLOW, GREEN, 0.08), (BLUE, GREEN, 0.05)):
        if rng.random() < share and scale[source] > 0:
            light[target] += light[source] * np.float32(rng.uniform(0.03, 0.15) * scale[target] / scale[source])
    extent = np.array(anatomy.shape) - 1
    if rng.random() < 0.08:  # dead debris: bright in every channel
        count = int(rng.integers(1, 4))
        for _ in range(count):
            centre = rng.uniform((0, 0), extent)
            fragments = int(rng.integers(6, 30))
            y, x = centre[:, None] + rng.normal(0, 2.0 / anatomy.pixel, (2, fragments))
            size, weight = rng.uniform(0.4, 2.0, fragments), rng.uniform(0.3, 1.5, fragments)
            lump = spots(anatomy.shape, anatomy.pixel, y, x, size, weight)
            lump *= np.clip(1 + 0.5 * noise(rng, anatomy.shape, 0.5, anatomy.pixel), 0, 3)
            for channel in range(4):
                light[channel] += lump * np.float32(scale[channel] * rng.uniform(0.2, 2.0))
    dust = rng.poisson(np.exp(rng.uniform(-1, 3)))
    y, x = rng.uniform(0, extent[0], dust), rng.uniform(0, extent[1], dust)
    for channel in (RED, GREEN, YELLOW):
        chosen = rng.random(dust) < 0.5
        size, weight = rng.uniform(0.25, 0.9, chosen.sum()), rng.uniform(0.1, 1.2, chosen.sum())
        light[channel] += spots(anatomy.shape, anatomy.pixel, y[chosen], x[chosen], size, weight * scale[channel])
    if rng.random() < 0.02:
        start = rng.uniform((0, 0), extent)
        whole = np.ones(anatomy.shape, np.int32)
        bearing, weight = rng.uniform(0, 2 * np.pi, 1), np.array([1.5])
        hair = fibres(rng, whole, anatomy.pixel, start[:1], start[1:], bearing, (40, 120), 0.06, 0.5, weight)
        for channel in rng.choice(4, 2, replace=False):
            light[channel] += hair * np.float32(scale[channel])
    return light
