"""What a network looks at, and how it sees the classes: `python -m tools.explain gradcam` and `... embedding`."""
