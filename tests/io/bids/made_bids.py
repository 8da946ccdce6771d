"""BIDS datasets made for tests: small synthetic heads, the bundled real scan, and subjects with trouble.

``make_dataset(root)`` begins one; ``add_subject``, ``add_real_subject`` and ``add_field_map`` put scans in;
``cut_short``, ``spoil_json`` and ``take_away`` break them. Each says which files it wrote. With ``inherit``
echo times and field strength stand above the subjects, as the standard allows.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import torch

from napari_metaqsm.io.bids.names import BidsName, parse_name
from napari_metaqsm.io.nifti import space_from, staged, write
from napari_metaqsm.io.resources import resource
from napari_metaqsm.scan import Acquisition, Geometry, Scan
from napari_metaqsm.simulation.acquisition import echo_signal, measured
from napari_metaqsm.simulation.shapes import sphere, sphere_field

SHAPE = (20, 22, 16)
ECHO_TIMES_S = (0.005, 0.01, 0.015)
B0_TESLA = 3.0
# What the validator asks of every image of a scanner; the values are of no meaning here.
_SEQUENCE = {
    "Manufacturer": "Made",
    "MagneticFieldStrength": B0_TESLA,
    "RepetitionTime": 0.03,
    "FlipAngle": 15,
    "MRAcquisitionType": "3D",
}
SOURCES_PPM = {(-12.0, 8.0, 0.0): 0.15, (12.0, -8.0, 4.0): -0.1}


def make_dataset(root: Path, inherit: bool = False, **described: object) -> Path:
    """An empty dataset; with ``inherit``, the sequence of every MEGRE is told at its root."""
    root.mkdir(parents=True, exist_ok=True)
    _json(root / "dataset_description.json", {"Name": "Made", "BIDSVersion": "1.10.0", **described})
    (root / "README").write_text("Synthetic scans of small balls, made for tests.\n")
    if inherit:
        # One file for each echo: of several that apply in one folder the validator says they are too many.
        for number, time in enumerate(ECHO_TIMES_S, start=1):
            _json(root / f"echo-{number}_MEGRE.json", {**_SEQUENCE, "EchoTime": time})
    return root


@functools.cache
def head(seed: int = 0, shape: tuple[int, int, int] = SHAPE, echoes: int = 3) -> tuple[Scan, np.ndarray]:
    """A ball of 4 mm voxels with two sources in it, and its susceptibility (ppm)."""
    geometry = Geometry(shape, (4.0, 4.0, 4.0))
    radius = 0.4 * min(n * 4.0 for n in shape)
    ball = sphere(geometry, radius)
    field = sphere_field(geometry, 12.0, (0.0, 0.0, 4.0 * shape[2])) * 9.0  # of something outside
    chi = torch.zeros(shape)
    for centre, ppm in SOURCES_PPM.items():
        field = field + ppm * sphere_field(geometry, 8.0, centre)
        chi = chi + ppm * sphere(geometry, 8.0, centre)
    acquisition = Acquisition(ECHO_TIMES_S[:echoes], B0_TESLA)
    signals = [
        echo_signal(100 * ball, 20 * torch.ones(shape), field, B0_TESLA, time)
        for time in acquisition.echo_times_s
    ]
    generator = torch.Generator().manual_seed(seed)
    return measured(signals, ball > 0.5, geometry, acquisition, 60.0, generator), chi.numpy()


def add_subject(
    root: Path,
    subject: str,
    session: str | None = None,
    *,
    suffix: str = "MEGRE",
    parts: tuple[str, ...] = ("mag", "phase"),
    inherit: bool = False,
    seed: int = 0,
    shape: tuple[int, int, int] = SHAPE,
    echoes: int = 3,
    **entities: str,
) -> list[Path]:
    """One multi-echo scan; ``entities`` as ``run="1", acq="qsm"``.

    With ``inherit`` only the phase's unit stands beside the images: the rest is told at the dataset's root.
    """
    scan = head(seed, shape, echoes)[0]
    arrays = {
        "mag": scan.magnitude,
        "phase": scan.phase,
        "real": scan.magnitude * np.cos(scan.phase),
        "imag": scan.magnitude * np.sin(scan.phase),
    }
    folder = root / f"sub-{subject}" / (f"ses-{session}" if session else "") / "anat"
    written = []
    for part in parts:
        for number, time in enumerate(scan.acquisition.echo_times_s, start=1):
            name = {"sub": subject, **({"ses": session} if session else {}), **entities}
            name |= {"echo": str(number), "part": part}
            about = {} if inherit else {**_SEQUENCE, "EchoTime": time}
            about |= {"Units": "rad"} if part == "phase" else {}
            written += _image(folder, name, suffix, arrays[part][number - 1], scan, about)
    return written


def add_real_subject(root: Path, subject: str) -> list[Path]:
    """The bundled scan of a head, two echoes at 3 mm."""
    folder = root / f"sub-{subject}" / "anat"
    folder.mkdir(parents=True)
    written = []
    for file in sorted(resource("samples/philips_2echo").glob("sub-*")):
        name = parse_name(file.name)
        copy = folder / str(BidsName({**name.entities, "sub": subject}, name.suffix, name.extension))
        copy.write_bytes(file.read_bytes())
        if name.extension == ".json" and name.entities["part"] == "phase":
            _json(copy, {**json.loads(file.read_text()), "Units": "arbitrary"})
        written.append(copy)
    return written


def add_field_map(root: Path, subject: str, two_phases: bool = False) -> list[Path]:
    """A field map of two echoes: their phase difference, or the two phases."""
    scan = head(0, SHAPE, 2)[0]
    first, second = scan.acquisition.echo_times_s
    difference = np.angle(np.exp(1j * (scan.phase[1] - scan.phase[0])))
    images = {
        "magnitude1": (scan.magnitude[0], {"EchoTime": first}),
        "magnitude2": (scan.magnitude[1], {"EchoTime": second}),
    }
    if two_phases:
        images["phase1"] = (scan.phase[0], {"EchoTime": first, "Units": "rad"})
        images["phase2"] = (scan.phase[1], {"EchoTime": second, "Units": "rad"})
    else:
        images["phasediff"] = (difference, {"EchoTime1": first, "EchoTime2": second, "Units": "rad"})
    folder = root / f"sub-{subject}" / "fmap"
    written = []
    for suffix, (values, about) in images.items():
        written += _image(folder, {"sub": subject}, suffix, values, scan, {**_SEQUENCE, **about})
    return written


def cut_short(file: Path, part: float = 0.5) -> None:
    """Leave only the first part of a file, as a broken transfer does."""
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * part)])


def spoil_json(file: Path) -> None:
    """Make a sidecar unreadable."""
    file.write_text('{"EchoTime": 0.005, "Magnetic')


def take_away(root: Path, pattern: str) -> list[Path]:
    """Remove files, such as ``sub-03/anat/*part-phase*``; there must be some."""
    gone = sorted(root.glob(pattern))
    assert gone, f"no file is called {pattern}"
    for file in gone:
        file.unlink()
    return gone


def make_mask(scan: Scan) -> np.ndarray:
    """Where a made head has signal."""
    return scan.magnitude[0] > 0.3 * scan.magnitude[0].max()


def _image(
    folder: Path, entities: dict[str, str], suffix: str, values: np.ndarray, scan: Scan, about: dict
) -> list[Path]:
    image = folder / str(BidsName(entities, suffix, ".nii.gz"))
    sidecar = folder / str(BidsName(entities, suffix, ".json"))
    with staged(folder) as temporary:
        write(temporary / image.name, values.astype(np.float32), space_from(scan.geometry))
    if not about:
        return [image]
    _json(sidecar, about)
    return [image, sidecar]


def _json(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=1))
