"""Joining the networks' probabilities (paper, "Multi-stream information fusion" and "Correlation-based ensembling")."""
