"""Fits what tells that a field is unlike those of the training, and measures which spoilt fields it finds."""
