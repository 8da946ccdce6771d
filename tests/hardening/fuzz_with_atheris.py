"""Coverage-guided fuzzing of the readers, by hand: ``python tests/hardening/fuzz_with_atheris.py nifti 300``.

Targets are nifti, sidecar and dicom; seconds come second; then files or folders to start from. It needs
atheris, which is no dependency. An input that ends in anything but a sentence is written to the working
folder as ``crash-…``: it goes into the tests, once it is mended.
"""

import contextlib
import gzip
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["napari_metaqsm", "nibabel", "pydicom"]):
    from napari_metaqsm.errors import InputError
    from napari_metaqsm.io.dicom.headers import read_headers
    from napari_metaqsm.io.nifti import read
    from napari_metaqsm.io.resources import resource
    from napari_metaqsm.io.sidecar import read_sidecar

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
warnings.simplefilter("ignore")


def nifti(data: bytes) -> None:
    # Half of the inputs are compressed here, for no fuzzer finds a checksum.
    packed = data[:1] == b"z"
    path = FOLDER / ("x.nii.gz" if packed else "x.nii")
    path.write_bytes(gzip.compress(data[1:], 1) if packed else data[1:])
    read(path)


def sidecar(data: bytes) -> None:
    (FOLDER / "x.json").write_bytes(data)
    read_sidecar(FOLDER / "x.nii")


def dicom(data: bytes) -> None:
    (FOLDER / "x.dcm").write_bytes(data)
    for _, words in read_headers([FOLDER / "x.dcm"]).refused:
        assert "\n" not in words


TARGETS = {"nifti": nifti, "sidecar": sidecar, "dicom": dicom}


def seeds(target: str, given: list[str]) -> Path:
    """A folder of small files to start from: those given, and the bundled scan."""
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    patterns = {"nifti": "*.nii*", "sidecar": "*.json", "dicom": "*"}
    found = [f for g in given for f in ([Path(g)] if Path(g).is_file() else sorted(Path(g).rglob("*")))]
    found += sorted(resource("samples/philips_2echo").glob(patterns[target]))
    for number, file in enumerate(f for f in found if f.is_file() and f.match(patterns[target])):
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
            content = opened.read(16_384)
        (corpus / str(number)).write_bytes(b"n" + content if target == "nifti" else content)
    return corpus


def main() -> None:
    name, seconds = sys.argv[1], int(sys.argv[2])

    def test(data: bytes) -> None:
        with contextlib.suppress(InputError):  # in one line, which the tests hold it to
            TARGETS[name](data)

    corpus = seeds(name, sys.argv[3:])
    options = [f"-max_total_time={seconds}", "-rss_limit_mb=2048", "-timeout=5", "-max_len=20000"]
    atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", str(corpus)], test)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
