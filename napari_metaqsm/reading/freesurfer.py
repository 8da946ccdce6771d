"""What FreeSurfer's numbers of brain structures mean, in the field's words."""

from __future__ import annotations

# Structure: left, right. From the colour table that is shipped with FreeSurfer, which fixes the numbers.
_PAIRS = {
    "cerebral white matter": (2, 41),
    "cerebral cortex": (3, 42),
    "lateral ventricle": (4, 43),
    "inferior lateral ventricle": (5, 44),
    "cerebellar white matter": (7, 46),
    "cerebellar cortex": (8, 47),
    "thalamus": (10, 49),
    "caudate": (11, 50),
    "putamen": (12, 51),
    "pallidum": (13, 52),
    "hippocampus": (17, 53),
    "amygdala": (18, 54),
    "lesion": (25, 57),
    "accumbens": (26, 58),
    "substantia nigra": (27, 59),
    "ventral diencephalon": (28, 60),
    "vessel": (30, 62),
    "choroid plexus": (31, 63),
}
_SINGLE = {
    14: "third ventricle",
    15: "fourth ventricle",
    16: "brain stem",
    24: "cerebrospinal fluid",
    72: "fifth ventricle",
    77: "white matter hypointensities",
    85: "optic chiasm",
    251: "corpus callosum, posterior",
    252: "corpus callosum, mid-posterior",
    253: "corpus callosum, central",
    254: "corpus callosum, mid-anterior",
    255: "corpus callosum, anterior",
}

FREESURFER: dict[int, str] = _SINGLE | {
    number: f"{side} {structure}"
    for structure, numbers in _PAIRS.items()
    for side, number in zip(("left", "right"), numbers, strict=True)
}
