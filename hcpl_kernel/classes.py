"""The nineteen classes of the competition, in their order (index = class id)."""

from __future__ import annotations

CLASS_NAMES = (
    "Nucleoplasm",
    "Nuclear membrane",
    "Nucleoli",
    "Nucleoli fibrillar center",
    "Nuclear speckles",
    "Nuclear bodies",
    "Endoplasmic reticulum",
    "Golgi apparatus",
    "Intermediate filaments",
    "Actin filaments",
    "Microtubules",
    "Mitotic spindle",
    "Centrosome",
    "Plasma membrane",
    "Mitochondria",
    "Aggresome",
    "Cytosol",
    "Vesicles and punctate cytosolic patterns",
    "Negative",
)
SHORT_NAMES = {
    **{name: name for name in CLASS_NAMES},
    "Nucleoli fibrillar center": "Fibrillar center",
    "Endoplasmic reticulum": "ER",
    "Golgi apparatus": "Golgi",
    "Intermediate filaments": "Int. filaments",
    "Actin filaments": "Actin",
    "Vesicles and punctate cytosolic patterns": "Vesicles",
}
"""Class name -> what fits into a cell of a picture."""
CLASS_COUNT = len(CLASS_NAMES)
NEGATIVE = 18
