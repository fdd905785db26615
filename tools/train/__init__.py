"""Training: one command from images and labels to a weights folder, `python -m tools.train full` (`road/`).

    python -m tools.train full --data DATA --work WORK --recipe day

It is made of stages, which are commands as well: `python -m tools.train STAGE --config FILE --work DIR`. Every stage resumes
where an interrupted run stopped and gives what an uninterrupted one gives, because a batch, its augmentation and the
learning rate are functions of the settings, the seed and the number of the step (`loop.py`).

The mini ensemble, from nothing: `python -m tools.train mini --work DIR`, which leaves `DIR/weights`.
"""
