"""Runs that are killed or refused a write at any point must end like undisturbed ones: `python -m tools.endurance`."""
