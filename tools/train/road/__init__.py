"""From images and a table of labels to a weights folder: what `python -m tools.train full` does, in order and resumable."""
