"""A run: from a folder of fields to `submission.csv`, resumable, within a time limit."""
