"""Runs killed or refused a write at every point must end like an undisturbed one: `python -m tools.endurance`."""
