"""The channels of a field of view."""

from __future__ import annotations

CHANNELS = ("red", "green", "blue", "yellow")
"""In the order of every array of this package: microtubules, protein of interest, nucleus, endoplasmic reticulum."""

CHANNEL_COUNT = len(CHANNELS)
