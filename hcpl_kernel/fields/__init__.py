"""Finding and reading four-channel fields of view."""
