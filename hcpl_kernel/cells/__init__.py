"""From a label map to cells: the table of boxes and areas, the square crops, and the on-disk store of crops."""
