"""The command line: ``metaqsm demo``, ``run``, ``cosmos``, ``report``, ``methods``, ``evaluate``, ``train``.

Exit codes: 0 done, 2 bad input (one line on standard error says what and what to do), 1 failed.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import DEFAULT_INVERSIONS

if TYPE_CHECKING:
    from napari_metaqsm.method import ParameterInfo, Run

app = typer.Typer(
    name="metaqsm",
    help="Quantitative susceptibility mapping: from the phase of a gradient-echo scan to susceptibility.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no list of results.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


def main() -> None:
    """Entry point: runs the command and turns what goes wrong into an exit code."""
    try:
        app(standalone_mode=True)
    except InputError as error:
        print(f"metaqsm: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("metaqsm: stopped", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        traceback.print_exc()
        print(f"metaqsm: failed: {error}", file=sys.stderr)
        sys.exit(1)


@app.command()
def run(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="A folder or files; what each is follows from names and sidecars."),
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
    b0: Annotated[float | None, typer.Option(help="Field strength in tesla.")] = None,
    b0_direction: Annotated[
        str | None, typer.Option(help="B0 along the array's axes, as 0,0,1; else from the header.")
    ] = None,
    phase_sign: Annotated[
        int | None, typer.Option(help="1 where phase grows with a paramagnetic field, -1 where inverted.")
    ] = None,
    phase_pi: Annotated[
        float | None, typer.Option(help="Stored value that means pi, where not usual.")
    ] = None,
    mask: Annotated[
        str | None, typer.Option(help="A file, a mask method (brain, threshold, phase_quality), or none.")
    ] = None,
    fit: Annotated[str, typer.Option(help="Field method.")] = "nonlinear_fit",
    background: Annotated[str, typer.Option(help="Background method.")] = "resharp",
    invert: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Inversion method; several give several maps [{' and '.join(DEFAULT_INVERSIONS)}]."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter, as tkd.threshold=0.15.")
    ] = None,
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
    mask_file = Path(mask) if mask and _names_file(mask) else None
    scan = load(
        paths or [],
        phase=phase,
        magnitude=magnitude,
        total_field=total_field,
        local_field=local_field,
        noise=noise,
        mask=mask_file,
        unit=unit,
        echo_times_s=_numbers("--echo-times", echo_times),
        b0_tesla=b0,
        b0_direction=_numbers("--b0-direction", b0_direction),
        phase_sign=phase_sign,
        phase_pi=phase_pi,
    )
    region = load_region(Path(reference), scan) if _names_file(reference) else reference
    if mask and not mask_file:
        scan = scan.with_mask(np.ones(scan.geometry.shape, bool) if mask == "none" else None)
    chain = default_chain(
        scan,
        field=fit,
        mask=mask or "brain",
        background=background,
        inversion=invert or DEFAULT_INVERSIONS,
        parameters=_parameters(set_ or []),
    )
    with _progress(quiet):
        result = reconstruct(scan, chain, device=device, reference=region)
        files = save(result, out)
    _tell(result.record["warnings"], files, quiet)


def _names_file(text: str) -> bool:
    return text.endswith((".nii", ".nii.gz")) or Path(text).is_file()


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.replace(" ", ",").split(",") if part)
    except ValueError:
        raise InputError(f"{option} is {text!r}; it must be numbers with commas between them") from None


def _parameters(settings: list[str]) -> dict[str, dict[str, str]]:
    """Values by method and parameter, from "method.parameter=value"."""
    values: dict[str, dict[str, str]] = {}
    for setting in settings:
        target, equals, value = setting.partition("=")
        name, dot, key = target.partition(".")
        if not (equals and dot):
            raise InputError(f"--set is {setting!r}; it must be method.parameter=value")
        values.setdefault(name, {})[key] = value
    return values


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
    b0: Annotated[float | None, typer.Option(help="Field strength in tesla.")] = None,
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
    parameters = _parameters(set_ or [])
    idle = set(parameters) - {"cosmos"}
    if idle:
        raise InputError(f"there are parameters for {', '.join(sorted(idle))}, but only cosmos runs")
    step = make_step("orientations", "cosmos", **parameters.get("cosmos", {}))
    scans = load_orientations(
        fields,
        masks=mask,
        b0_directions=[_numbers("--b0-direction", text) or () for text in b0_direction or ()],
        noises=noise or (),
        unit=unit,
        b0_tesla=b0,
    )
    region = load_region(Path(reference), scans[0]) if _names_file(reference) else reference
    with _progress(quiet):
        result = reconstruct_orientations(scans, step, device=device, reference=region)
        files = save(result, out)
    _tell(result.record["warnings"], files, quiet)


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(help="What metaqsm run or cosmos wrote, or a reading saved in the window.")
    ],
    inputs: Annotated[
        list[Path] | None,
        typer.Option(help="Folder or files of the scan, for its magnitude, phase and sidecars; repeated."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Regions to measure: a label map on the maps' grid [those of a saved reading]."),
    ] = None,
    names: Annotated[
        Path | None, typer.Option(help="Names of the labels: a table with the columns index and name.")
    ] = None,
    title: Annotated[str, typer.Option(help="Printed as typed; nothing else names a patient.")] = "",
    comment: Annotated[str, typer.Option(help="Likewise, below the title.")] = "",
    window: Annotated[
        str, typer.Option(help="Black and white of the slices in ppm, as -0.1,0.2.")
    ] = "-0.1,0.1",
    voxel: Annotated[
        list[str] | None,
        typer.Option(help="Slices through this voxel, as 40,45,30; repeated [the middle of the maps]."),
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="The page alone, without the PDF.")] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="The PDF alone, without the page.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the report [beside the maps].")] = None,
    quiet: QuietOption = False,
) -> None:
    """A reading on paper: report.html, report.pdf, the paragraph of methods and its references."""
    from napari_metaqsm.io.load import check_writable
    from napari_metaqsm.reading.findings import find_in
    from napari_metaqsm.reading.regions import measure_regions
    from napari_metaqsm.reading.reliability import reliability
    from napari_metaqsm.report.content import Wishes, make_report
    from napari_metaqsm.report.folder import FORMATS, open_folder, read_labels, read_names, write_report

    check_writable(out or folder)
    if names and not labels:
        raise InputError("there are names, but no labels; give a label map with --labels")
    numbers = _numbers("--window", window) or ()
    if len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise InputError(f"--window is {window!r}; it must be two numbers, the smaller first, as -0.1,0.1")
    wishes = Wishes(title, comment, window_ppm=numbers, voxels=[_voxel(text) for text in voxel or ()])
    with _progress(quiet):
        opened = open_folder(folder, inputs or ())
        drawn, named = opened.labels, opened.names
        if labels:
            drawn = opened.in_study_axes(read_labels(labels, opened.space))
            named = read_names(names) if names else {}
        regions = None
        if drawn is not None:
            regions = measure_regions(opened.study, drawn, named, reliability(opened.study).unreliable)
        findings = find_in(opened.study)
        measured = {"regions": regions, "spots": opened.spots, "findings": findings}
        made = make_report(opened.study, wishes, **measured, notes=opened.notes)
        formats = FORMATS if html == pdf else ["html" if html else "pdf"]
        files = write_report(made, out or folder, formats)
    _tell(opened.notes, files, quiet)


def _voxel(text: str) -> tuple[int, int, int]:
    numbers = _numbers("--voxel", text) or ()
    if len(numbers) != 3 or any(n != int(n) or n < 0 for n in numbers):
        raise InputError(f"--voxel is {text!r}; it must be three whole numbers, as 40,45,30")
    return tuple(int(n) for n in numbers)


def _tell(warnings: Iterable[str], files: Iterable[Path], quiet: bool) -> None:
    if not quiet:
        for text in warnings:
            print(f"note: {text}", file=sys.stderr)
        for file in files:
            print(file)


@app.command()
def evaluate(
    methods: Annotated[
        str | None,
        typer.Option(
            help="Inversion methods with commas between them, each with its own values where they are "
            "not the defaults: tkd,tkd:threshold=0.15 [all]."
        ),
    ] = None,
    volumes: Annotated[int, typer.Option(help="Synthetic scans of each kind; 0 leaves them out.")] = 100,
    shape: Annotated[str, typer.Option(help="Voxels of a synthetic scan.")] = "256,256,64",
    seed: Annotated[int, typer.Option(help="Of the synthetic scans.", min=0)] = 0,
    labels: Annotated[
        Path | None, typer.Option(help="Folder of label maps, of which numbers 19 and 20 are used.")
    ] = None,
    qsm2016: Annotated[Path | None, typer.Option(help="Folder of the challenge of 2016.")] = None,
    case: Annotated[Path | None, typer.Option(help="Folder of the benchmark case.")] = None,
    mesa: Annotated[
        str | None, typer.Option(help="Methods of one voxel size each, likewise [those shipped].")
    ] = None,
    device: DeviceOption = "auto",
    out: Annotated[Path, typer.Option(help="Folder for tables, pictures and the record.")] = Path(
        "metaqsm-evaluation"
    ),
    quiet: QuietOption = False,
) -> None:
    """What each inversion method reaches where the truth is known, in tables."""
    from napari_metaqsm.benchmark.plan import plan
    from napari_metaqsm.benchmark.report import evaluate as evaluate_parts

    parts = plan(
        methods,
        volumes=volumes,
        shape=_numbers("--shape", shape) or (),
        seed=seed,
        labels=labels,
        qsm2016=qsm2016,
        case=case,
        mesa=mesa,
    )
    with _progress(quiet):
        files = evaluate_parts(parts, out, seed, device, say=(lambda text: None) if quiet else print)
    if not quiet:
        for file in files:
            print(file)


@app.command()
def train(
    configuration: Annotated[Path, typer.Argument(help="A TOML file, as examples/train.toml.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: weights, checkpoint, logs, pictures.")] = Path(
        "metaqsm-training"
    ),
    resume: Annotated[
        str | None,
        typer.Option(help="Go on from this folder of a run or of its pieces; auto: from --out, if it can."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="In place of the file's value: optimisation.steps=100."),
    ] = None,
    limit_minutes: Annotated[
        float | None,
        typer.Option(min=0, help="Stop after this and save; 0 validates and saves at once."),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Train a network, on one device or, with the same command, on all of one machine or several."""
    missing = [name for name in ("lightning", "tensorboard") if find_spec(name) is None]
    if missing:
        raise InputError(
            f'training needs {" and ".join(missing)}; install them with: pip install "napari-metaqsm[train]"'
        )
    from napari_metaqsm.io.load import check_writable
    from napari_metaqsm.training.config import read_configuration
    from napari_metaqsm.training.fit import train as run_training

    settings = read_configuration(configuration, set_ or [])
    check_writable(out)
    # Lightning starts this command once more for each further device.
    quiet = quiet or os.environ.get("LOCAL_RANK", "0") != "0"
    with _progress(quiet, lines=True) as run:
        report = run_training(settings, out, resume=resume, limit_minutes=limit_minutes)
    if quiet or report is None:
        return
    for text in run.notices:
        print(f"note: {text}", file=sys.stderr)
    print(report)


@contextmanager
def _progress(quiet: bool, *, lines: bool = False) -> Iterator[Run]:
    """A progress bar fed by whatever runs inside; where there is no terminal, nothing, or ``lines``."""
    from napari_metaqsm.method import running

    if quiet:
        with running() as run:
            yield run
        return
    if lines and not sys.stderr.isatty():
        with running(lambda done, label: print(f"{done:4.0%} {label}", file=sys.stderr, flush=True)) as run:
            yield run
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Starting", total=1.0)

        def report(done: float, label: str) -> None:
            bar.update(task, completed=done, description=label)

        with running(report) as run:
            yield run


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
        from napari_metaqsm.plugin.demo import show_demo

        show_demo()
        return
    from napari_metaqsm.evaluation.picture import comparison_picture
    from napari_metaqsm.io.load import check_writable, load, save
    from napari_metaqsm.io.nifti import staged
    from napari_metaqsm.io.resources import resource
    from napari_metaqsm.pipeline import reconstruct

    check_writable(out)
    with _progress(quiet):
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


if __name__ == "__main__":
    main()
