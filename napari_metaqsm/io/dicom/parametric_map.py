"""A map as one Parametric Map: the numbers as they are, in ppm, as 32-bit floats."""

from __future__ import annotations

import numpy as np
from highdicom import (
    PixelMeasuresSequence,
    PlaneOrientationSequence,
    PlanePositionSequence,
    VOILUTTransformation,
)
from highdicom.pm import ParametricMap
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from napari_metaqsm.io.dicom.derived import (
    Description,
    acceptable,
    complete,
    derivation_code,
    derived_from,
    in_ppm,
    thickness_of,
)
from napari_metaqsm.io.dicom.grid import Grid, nearest_slices
from napari_metaqsm.io.dicom.source import Original


def parametric_map(images: np.ndarray, grid: Grid, original: Original, about: Description) -> Dataset:
    """The object, ready to be written.

    Parameters
    ----------
    images : (slice, row, column) float, ppm, on ``grid``
    original : whose patient, study and frame of reference it inherits, and to whose images it refers

    Notes
    -----
    The window is of the function LINEAR_EXACT: the usual LINEAR takes one from the width, which is less
    than 1 ppm here.
    """
    images = np.ascontiguousarray(images, dtype=np.float32)
    low, high = about.window_ppm
    header = acceptable(original.header)
    thickness = thickness_of(header, grid)
    spacing = round(grid.slice_spacing_mm, 5)
    measures = PixelMeasuresSequence(grid.spacing_mm, thickness, spacing)
    # What highdicom looks for in a source: one classic image. Which images it was, _refer says.
    header.ImagePositionPatient = [format_number_as_ds(float(x)) for x in grid.positions[0]]
    header.ImageOrientationPatient = [format_number_as_ds(float(x)) for x in grid.orientation.ravel()]
    header.PixelSpacing = [format_number_as_ds(x) for x in grid.spacing_mm]
    header.SliceThickness = format_number_as_ds(thickness)
    header.SpacingBetweenSlices = format_number_as_ds(spacing)
    header.Rows, header.Columns = grid.shape
    image = ParametricMap(
        [header],
        images,
        **about.arguments("ppm"),
        device_serial_number="none",
        contains_recognizable_visual_features=not about.faceless,
        real_world_value_mappings=[in_ppm(1.0, float(images.min()), float(images.max()))],
        voi_lut_transformations=[
            VOILUTTransformation((low + high) / 2, high - low, voi_lut_function="LINEAR_EXACT")
        ],
        content_description=f"Quantitative susceptibility map, {about.title}"[:64],
        content_label=about.label,
        pixel_measures=measures,
        plane_orientation=PlaneOrientationSequence("PATIENT", grid.orientation.ravel()),
        plane_positions=[PlanePositionSequence("PATIENT", position) for position in grid.positions],
    )
    complete(image, original.header, about.derivation)
    _order(image, images, grid)
    _refer(image, grid, original)
    return image


def _order(image: Dataset, images: np.ndarray, grid: Grid) -> None:
    """Put the frames in the order of the slices.

    highdicom sorts them by the text of their positions: backwards where x falls from slice to slice, and at
    random where x differs by rounding alone.
    """
    written = [
        np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        for frame in image.PerFrameFunctionalGroupsSequence
    ]
    order = np.argsort(np.array(written) @ grid.normal)
    frames = [image.PerFrameFunctionalGroupsSequence[n] for n in order]
    for number, frame in enumerate(frames, 1):
        frame.FrameContentSequence[0].DimensionIndexValues = number
    image.PerFrameFunctionalGroupsSequence = frames
    image.FloatPixelData = images.astype("<f4").tobytes()


def _refer(image: Dataset, grid: Grid, original: Original) -> None:
    """Name for each frame the image of the source at its place.

    highdicom refers to images of one kind of file; here a source is frames of one file or a file each.
    """
    near = nearest_slices(grid, original.grid)
    for frame, n in zip(image.PerFrameFunctionalGroupsSequence, near, strict=True):
        derivation = Dataset()
        derivation.DerivationCodeSequence = [derivation_code()]
        derivation.SourceImageSequence = [derived_from(original.images[n])]
        frame.DerivationImageSequence = [derivation]
    instances = {reference.sop_instance: reference.sop_class for reference in original.images}
    referenced = []
    for sop_instance, sop_class in instances.items():
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
        referenced.append(item)
    series = Dataset()
    series.SeriesInstanceUID = original.header.SeriesInstanceUID
    series.ReferencedInstanceSequence = referenced
    image.ReferencedSeriesSequence = [series]
    image.SourceImageSequence = referenced
