"""Fit how the streams of an ensemble are joined: sums of log-odds."""
