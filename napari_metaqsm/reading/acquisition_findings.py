"""Checks of how the scan was acquired; they need no voxel."""

from __future__ import annotations

import math

from napari_metaqsm.reading.finding import Check, Evidence, Finding, Severity

ENOUGH_ECHOES = 3
# White matter at 3 T (R2* 22/s, Gelman et al. 1999, Radiology 210:759-767); its decay grows with the field.
T2STAR_S, AT_TESLA = 0.045, 3.0
# What is left of the contrast-to-noise of the best echo time, T2* itself.
ENOUGH_CONTRAST, HARDLY_ANY_CONTRAST = 2 / 3, 1 / 4
THICK_MM = 3.0
ELONGATED = 3.0
# Above, background removal and masks were seen to err (Kiersnowski et al. 2023, doi:10.1002/mrm.29550).
OBLIQUE_DEGREES = 20.0
# Shorter than this along any axis, the field of what lies outside decides (Karsa et al. 2019,
# doi:10.1002/mrm.27410).
THIN_SLAB_MM = 80.0


def echoes(seen: Evidence) -> Finding:
    """Whether the echoes suffice to tell the field from the coils' phase, and to see that they agree."""
    name, count = "Number of echoes", len(seen.acquisition.echo_times_s)
    if seen.phase is not None and len(seen.phase) != count:
        return Finding(
            name,
            Severity.WRONG,
            f"{count} echo times for {len(seen.phase)} echoes of phase",
            "Without the time of each echo the phase cannot become a field.",
            "Enter one echo time for each echo in the Scan section.",
            f"{count} echo times, {len(seen.phase)} echoes",
        )
    figure = f"{count} echo{'es' if count > 1 else ''} of phase; {ENOUGH_ECHOES} or more wanted"
    if count >= ENOUGH_ECHOES:
        return Finding(name, Severity.IN_ORDER, f"{count} echoes", figure=figure)
    several = seen.magnitude is not None and len(seen.magnitude) > 1
    if count == 1 and several:
        why = (
            "The phase is that of one echo or a difference of two: nothing tells whether it grows in "
            "proportion to the echo time, and wraps, flow or motion stay unseen."
        )
    elif count == 1:
        why = (
            "The phase that the coils add cannot be told from the field. It is smooth, and most of it goes "
            "with the background, but not all; and nothing tells whether the phase grows with the echo time."
        )
    else:
        why = (
            "Two echoes give the field and the coils' phase, but nothing is left to see whether the phase "
            "grows in proportion to the echo time: flow, motion and a wrong wrap look like susceptibility."
        )
    todo = "Read slow changes across the brain with care. Next time acquire three or more echoes, monopolar."
    return Finding(
        name, Severity.CARE, "One echo only" if count == 1 else "Two echoes only", why, todo, figure
    )


def last_echo(seen: Evidence) -> Finding:
    """Whether the phase had time to grow: contrast-to-noise of the field goes as ``TE exp(-TE / T2*)``."""
    name = "Last echo"
    difference = (
        len(seen.acquisition.echo_times_s) == 1 and seen.magnitude is not None and len(seen.magnitude) > 1
    )
    last, tesla = seen.acquisition.echo_times_s[-1], seen.acquisition.b0_tesla
    best = T2STAR_S * AT_TESLA / tesla
    contrast = last / best * math.exp(1 - last / best) if last < best else 1.0
    figure = (
        f"last echo {1000 * last:.3g} ms at {tesla:g} T: {100 * contrast:.0f} % of the best contrast to "
        f"noise, {100 * ENOUGH_CONTRAST:.0f} % wanted"
    )
    if contrast >= ENOUGH_CONTRAST:
        return Finding(name, Severity.IN_ORDER, f"Last echo at {1000 * last:.3g} ms", figure=figure)
    severity = Severity.WRONG if contrast < HARDLY_ANY_CONTRAST else Severity.CARE
    return Finding(
        name,
        severity,
        f"{'Phase difference' if difference else 'Last echo'} too short: {1000 * last:.3g} ms",
        "The phase has hardly grown when it is read, so the noise in the map is large: weak contrast (gray "
        "against white matter, small veins) drowns in it, and methods smooth more than they should.",
        f"Trust only strong and large structures. Next time let the last echo be at about "
        f"{1000 * best * 5 / 9:.0f} to {1000 * best * 8 / 9:.0f} ms at {tesla:g} T.",
        figure,
    )


def voxels(seen: Evidence) -> Finding:
    """Whether voxels are small and near enough to cubes."""
    name, size = "Voxel size", seen.geometry.voxel_size_mm
    longest, ratio = max(size), max(size) / min(size)
    text = " × ".join(f"{s:.2g}" for s in size) + " mm"
    figure = (
        f"{text}, longest {longest:.2g} mm (under {THICK_MM:g} wanted), sides 1 : {ratio:.1f} (up to "
        f"{ELONGATED:g} wanted)"
    )
    if longest < THICK_MM * 0.99 and ratio <= ELONGATED * 1.01:
        return Finding(name, Severity.IN_ORDER, f"Voxels of {text}", figure=figure)
    what = "Thick slices" if ratio > 1.5 else "Large voxels"
    return Finding(
        name,
        Severity.CARE,
        f"{what}: {text}",
        "Within a long voxel the field of a small vein or bleed averages out: its susceptibility comes out "
        "too low, the more so the smaller it is, and its shape is drawn out along the slice.",
        "Do not compare values of small structures with those of thinner slices. Next time acquire voxels "
        "of about 1 mm, near to cubes.",
        figure,
    )


def obliquity(seen: Evidence) -> Finding:
    """Whether B0 lies near an axis of the image."""
    name, along = "Obliquity", max(abs(b) for b in seen.geometry.b0_direction)
    degrees = math.degrees(math.acos(min(along, 1.0)))
    figure = f"B0 lies {degrees:.0f}° off the nearest image axis; up to {OBLIQUE_DEGREES:g}° wanted"
    if degrees <= OBLIQUE_DEGREES:
        return Finding(name, Severity.IN_ORDER, f"B0 {degrees:.0f}° off the axis", figure=figure)
    return Finding(
        name,
        Severity.CARE,
        f"Strongly oblique: {degrees:.0f}°",
        "Every method here turns its dipole with B0, but with voxels that are no cubes a steep tilt costs "
        "accuracy all the same; and a wrong B0 direction bends every value.",
        "Check that B0 along z, y, x in the Scan section is that of the scanner. Next time acquire straight "
        "axial slices.",
        figure,
    )


def slab(seen: Evidence) -> Finding:
    """Whether the volume reaches far enough for the fields within it to be told from those outside."""
    name = "Coverage"
    extent = seen.extent_mm
    text = " × ".join(f"{e:.0f}" for e in extent) + " mm"
    figure = f"{text}; at least {THIN_SLAB_MM:g} mm along each axis wanted"
    if min(extent) >= THIN_SLAB_MM:
        return Finding(name, Severity.IN_ORDER, f"Volume of {text}", figure=figure)
    return Finding(
        name,
        Severity.CARE,
        f"Thin slab or crop: {text}",
        "A dipole reaches far. What lies above and below the slab bends the field within it, and the field "
        "of what lies within it is cut off: values come out too low, most near the first and last slices.",
        "Read the middle of the slab only. Next time cover the whole brain.",
        figure,
    )


CHECKS = (
    Check("Number of echoes", ("echo_times_s",), echoes),
    Check("Last echo", ("echo_times_s", "b0_tesla"), last_echo),
    Check("Voxel size", (), voxels),
    Check("Obliquity", (), obliquity),
    Check("Coverage", (), slab),
)
