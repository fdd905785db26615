"""Which networks of a folder of candidates make the ensemble, and how they are joined: `python -m tools.select_ensemble`."""
