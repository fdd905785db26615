"""Comparing groups of fields, such as treatments: the fields are the replicates, not their cells."""
