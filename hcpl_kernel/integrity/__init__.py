"""The Visual Integrity Detector (VID): how much a cell's predictions can be trusted, from its shape and its crop."""
