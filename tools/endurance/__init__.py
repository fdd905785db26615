"""Runs that are killed or refused a write at every point, and must end like an undisturbed one: `python -m tools.endurance`."""
