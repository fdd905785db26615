"""From the values of an ensemble to probabilities and names, fitted on held-out fields."""
