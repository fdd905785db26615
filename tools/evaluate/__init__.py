"""How good a finished run is on simulated fields, and what each part of the system adds: `python -m tools.evaluate`."""
