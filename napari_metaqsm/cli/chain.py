"""``metaqsm run``, ``cosmos``, ``methods`` and ``demo``: maps from a scan."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_metaqsm.cli.app import app, progress, tell
from napari_metaqsm.cli.options import (
    AlternatingOption,
    B0Option,
    BackgroundOption,
    DeviceOption,
    DifferenceOption,
    FitOption,
    InvertOption,
    QuietOption,
    SetOption,
    names_file,
    numbers_in,
    parameters_in,
    series_in,
)
from napari_metaqsm.errors import InputError
from napari_metaqsm.method import DEFAULT_INVERSIONS

if TYPE_CHECKING:
    from napari_metaqsm.method import ParameterInfo


@app.command()
def run(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="A folder or files, NIfTI or DICOM; their names and headers tell what each is."),
    ] = None,
    phase: Annotated[
        list[Path] | None, typer.Option(help="Phase: one 4-D file, or repeated for each echo.")
    ] = None,
    magnitude: Annotated[list[Path] | None, typer.Option(help="Magnitude, likewise.")] = None,
    total_field: Annotated[Path | None, typer.Option(help="Start from a total field.")] = None,
    local_field: Annotated[Path | None, typer.Option(help="Start from a local field.")] = None,
    noise: Annotated[Path | None, typer.Option(help="Standard deviation of the field, in its unit.")] = None,
    unit: Annotated[str | None, typer.Option(help="Of the field and noise: ppm, Hz or rad/s.")] = None,
    echo_times: Annotated[
        str | None, typer.Option(help="Seconds, with commas; of a phase difference, the difference alone.")
    ] = None,
    b0: B0Option = None,
    b0_direction: Annotated[
        str | None, typer.Option(help="B0 along the array's axes, as 0,0,1; else from the header.")
    ] = None,
    phase_sign: Annotated[
        int | None, typer.Option(help="1 where phase grows with a paramagnetic field, -1 where inverted.")
    ] = None,
    phase_pi: Annotated[
        float | None, typer.Option(help="Stored value that means pi, where not usual.")
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="Of DICOM, the numbers of the series to use, as 8,9.")
    ] = None,
    alternating_slices: AlternatingOption = None,
    phase_difference: DifferenceOption = None,
    mask: Annotated[
        str | None, typer.Option(help="A file, a mask method (brain, threshold, phase_quality), or none.")
    ] = None,
    fit: FitOption = "nonlinear_fit",
    background: BackgroundOption = "resharp",
    invert: InvertOption = None,
    set_: SetOption = None,
    reference: Annotated[str, typer.Option(help="Zero of the map: brain, csf, none, or a file.")] = "brain",
    device: DeviceOption = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the maps and the record.")] = Path("metaqsm"),
    quiet: QuietOption = False,
) -> None:
    """From phase, a total field or a local field to susceptibility maps and their record."""
    import numpy as np

    from napari_metaqsm.io.load import check_writable, load, load_region, save
    from napari_metaqsm.pipeline import default_chain, reconstruct

    check_writable(out)
    mask_file = Path(mask) if mask and names_file(mask) else None
    scan = load(
        paths or [],
        phase=phase,
        magnitude=magnitude,
        total_field=total_field,
        local_field=local_field,
        noise=noise,
        mask=mask_file,
        unit=unit,
        echo_times_s=numbers_in("--echo-times", echo_times),
        b0_tesla=b0,
        b0_direction=numbers_in("--b0-direction", b0_direction),
        phase_sign=phase_sign,
        phase_pi=phase_pi,
        series=series_in(series),
        alternating_slices=alternating_slices,
        phase_difference=phase_difference,
    )
    region = load_region(Path(reference), scan) if names_file(reference) else reference
    if mask and not mask_file:
        scan = scan.with_mask(np.ones(scan.geometry.shape, bool) if mask == "none" else None)
    chain = default_chain(
        scan,
        field=fit,
        mask=mask or "brain",
        background=background,
        inversion=invert or DEFAULT_INVERSIONS,
        parameters=parameters_in(set_ or []),
    )
    with progress(quiet):
        result = reconstruct(scan, chain, device=device, reference=region)
        files = save(result, out)
    tell(result.record["warnings"], files, quiet, result.record["decisions"])


@app.command()
def methods(
    stage: Annotated[
        str | None, typer.Argument(help="field, mask, background, inversion, orientations; else all.")
    ] = None,
) -> None:
    """What there is: every method with its parameters, units, ranges and defaults."""
    from itertools import groupby

    from napari_metaqsm.method import KINDS, STAGES, parameter_infos
    from napari_metaqsm.method import methods as registered

    if stage not in (None, *STAGES):
        raise InputError(f"stage is {stage!r}; it must be one of {', '.join(STAGES)}")
    order = [*STAGES], ["", *KINDS]
    listed = sorted(registered(stage), key=lambda m: (order[0].index(m.stage), order[1].index(m.kind)))
    for group, entries in groupby(listed, key=lambda m: ", ".join(filter(None, (m.stage, m.kind)))):
        print(f"# {group}\n")
        for entry in entries:
            needs = ", ".join([*entry.needs, *(f"[{name}]" for name in entry.takes)])
            print(f"{entry.stage} {entry.name}: {entry.title} ({entry.reference})")
            print(f"  {entry.summary}")
            print(f"  needs {needs}")
            for info in parameter_infos(entry.parameters):
                unit = f" {info.unit}" if info.unit else ""
                print(f"  {entry.name}.{info.name}={info.default}{unit}  {info.help}{_range(info)}")
            print()


def _range(info: ParameterInfo) -> str:
    if info.choices:
        return f" ({', '.join(info.choices)})"
    ends = [f"{word} {end:g}" for word, end in (("from", info.low), ("to", info.high)) if end is not None]
    return f" ({' '.join(ends)})" if ends else ""


@app.command()
def cosmos(
    fields: Annotated[
        list[Path], typer.Argument(help="Three or more local fields, registered to one of them.")
    ],
    mask: Annotated[
        list[Path], typer.Option(help="One for all fields, or repeated for each, in their order.")
    ],
    b0_direction: Annotated[
        list[str] | None,
        typer.Option(
            help="B0 along the files' axes, as 0,0.34,0.94; repeated for each [B0_dir in its JSON]."
        ),
    ] = None,
    noise: Annotated[
        list[Path] | None, typer.Option(help="Standard deviation of each field, in its unit; repeated.")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Of the fields and noise: ppm, Hz or rad/s.")] = None,
    b0: B0Option = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help='A parameter, as cosmos.fit="closed form".')
    ] = None,
    reference: Annotated[str, typer.Option(help="Zero of the map: brain, none, or a file.")] = "brain",
    device: DeviceOption = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the map and the record.")] = Path("metaqsm-cosmos"),
    quiet: QuietOption = False,
) -> None:
    """One map from the fields of several head orientations, each with its own B0 direction."""
    from napari_metaqsm.io.load import check_writable, load_region, save
    from napari_metaqsm.io.orientations import load_orientations
    from napari_metaqsm.pipeline import make_step, reconstruct_orientations

    check_writable(out)
    parameters = parameters_in(set_ or [])
    idle = set(parameters) - {"cosmos"}
    if idle:
        raise InputError(f"there are parameters for {', '.join(sorted(idle))}, but only cosmos runs")
    step = make_step("orientations", "cosmos", **parameters.get("cosmos", {}))
    scans = load_orientations(
        fields,
        masks=mask,
        b0_directions=[numbers_in("--b0-direction", text) or () for text in b0_direction or ()],
        noises=noise or (),
        unit=unit,
        b0_tesla=b0,
    )
    region = load_region(Path(reference), scans[0]) if names_file(reference) else reference
    with progress(quiet):
        result = reconstruct_orientations(scans, step, device=device, reference=region)
        files = save(result, out)
    tell(result.record["warnings"], files, quiet, result.record["decisions"])


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results, without a window.")] = Path(
        "metaqsm-demo"
    ),
    window: Annotated[
        bool | None, typer.Option("--window/--no-window", help="Open napari, or not [if there is a display].")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """The chain on the bundled real head: in napari, or as files where there is no display."""
    if window is None:
        window, why = _can_show()
        if not window and not quiet:
            print(f"{why}: writing the results to {out} instead", file=sys.stderr)
    if window:
        import signal

        from napari_metaqsm.plugin.demo import show_demo

        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the window's loop would not hear of it
        show_demo()
        return
    from napari_metaqsm.evaluation.picture import comparison_picture
    from napari_metaqsm.io.load import check_writable, load, save
    from napari_metaqsm.io.nifti import staged
    from napari_metaqsm.io.resources import resource
    from napari_metaqsm.pipeline import reconstruct

    check_writable(out)
    with progress(quiet):
        scan = load([resource("samples/philips_2echo")])
        result = reconstruct(scan)
        files = save(result, out)
    titles = {step["result"]: step["title"] for step in result.record["steps"] if "result" in step}
    maps = {titles[name]: chi for name, chi in result.susceptibilities.items()}
    with staged(out) as folder:
        comparison_picture(maps, scan.geometry).save(folder / "comparison.png")
    if not quiet:
        for file in [*files, out / "comparison.png"]:
            print(file)


def _can_show() -> tuple[bool, str]:
    """Whether a window can be opened, and why not."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return False, "there is no display"
    try:
        import qtpy  # noqa: F401
    except ImportError as error:  # qtpy's own, when no Qt binding is installed
        return False, str(error)
    return True, ""
