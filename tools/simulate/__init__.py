"""Data sets of simulated fields: `python -m tools.simulate`; also their statistics and contact sheets."""
