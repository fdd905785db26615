"""Random damage to everything that the package reads: `python -m tests.fuzz TARGET SECONDS [SEED]`.

A target is a module with `cases(seed)`, which gives endless names and bytes, and `check(data, folder)`, which raises where
what reads them breaks its promise: a result of the right form, or an error of this package.
"""
