"""What may have gone wrong although esorex ended with status 0.

Each check is a small function from what is known of a job to complaints; a
complaint that the user does not tolerate fails the job. Their names are what
``tolerate`` in ``[reduction]`` takes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from musedask.files import as_file_error
from musedask.fits.hdus import Hdu, read_fits, read_primary
from musedask.reduction.job.complaints import Complaint, Evidence
from musedask.reduction.job.input_checks import (
    PIXEL_TABLES,
    POSITIONED,
    RAW_TAGS,
    missing_gains,
    offset_table,
    primary_of,
)
from musedask.reduction.job.log import MISSING_KEYWORD
from musedask.reduction.job.products import used_raw
from musedask.reduction.job.sof import SofLine
from musedask.wording import counted

Check = Callable[[Evidence, Path], Iterator[Complaint]]
CALIBRATED = ("DATACUBE_FINAL", "IMAGE_FOV", "PIXTABLE_REDUCED", "PIXTABLE_POSITIONED",
              "PIXTABLE_COMBINED")  # fmt: skip
"""Products of POSITIONED recipes that are in units of flux."""
_USED = (*RAW_TAGS, *PIXEL_TABLES, "IMAGE_FOV")
"""Tags of files that a recipe works on: each has to be among those that it says it used."""
_WCS = ("CRPIX1", "CRPIX2", "CRPIX3", "CRVAL1", "CRVAL2", "CRVAL3",
        "CD1_1", "CD1_2", "CD2_1", "CD2_2", "CD3_3")  # fmt: skip
_WCS_TOLERANCE = 1e-9
_OFFSET_TOLERANCE_DEG = 1e-9
"""4 microarcseconds."""
FEWEST_MATCHES = 3
"""Sources in common; two fields of ten sources may have two in common by chance."""
SPOKEN: tuple[tuple[str, str, str, str], ...] = (
    ("raw", r"could not be read although chip is alive", "",
     "a raw frame was left out; copy or download it again"),
    ("raw", r"Ignoring frame without arc lamp", "", "an arc without a lamp was left out"),
    ("ignored", r"it will be ignored!", "", "a file was left out; make it again"),
    ("duplicate", r"we already have IFU", "", "two files of one exposure: one was left out"),
    ("offsets", r"OFFSET_LIST has unexpected format", "", "no exposure was moved"),
    ("offsets", r"could not be read from OFFSET_LIST", "", "an exposure was not moved"),
    ("grid", r"No valid headers for OUTPUT_WCS", "", "the pipeline chose a grid of its own"),
    ("extinction", r"EXTINCT_TABLE missing|Extinction table not given|not doing extinction",
     "EXTINCT_TABLE", "fluxes are not corrected for the atmosphere"),
    ("astrometry", r"Using default MUSE \wFM astrometry", "ASTROMETRY_WCS",
     "positions are off; give the ASTROMETRY_WCS of the geometry's date"),
    ("velocity", r"properties necessary for radial velocity|radial velocity correction failed", "",
     "wavelengths are not barycentric; the header lacks what they are made of"),
    ("standard", r"observed target not listed|Unknown standard star", "",
     "the response is not that of this star; name it in STD_FLUX_TABLE, or choose another"),
    ("sky", r"Master sky fit failed|sky continuum from .* failed|fit may have failed", "",
     "the sky may still be there; look at the cube"),
)  # fmt: skip
"""Name of a check, what the log says, the tag that excuses it, and what that means."""
ABSENT = (
    (r"Channel for IFU +(\d+) is missing", "", "the data of"),
    (r"Calibrations could not be loaded for IFU +(\d+)", "", "the calibrations of"),
    (r"No LSF_PROFILE .*IFU +(\d+)", "LSF_PROFILE", "the line profiles of"),
    (r"Could not load LSF .* for IFU +(\d+)", "LSF_PROFILE", "the line profiles of"),
)
"""What the log says of an IFU, the tag that excuses it, and what was not found."""


def declared(evidence: Evidence, folder: Path) -> Iterator[Complaint]:
    """Each product that the job is for, of its own IFU."""
    job = evidence.job
    if not evidence.made:
        yield Complaint("products", "the recipe has made nothing")
        return
    tags = {made.product.tag for made in evidence.made}
    for tag in job.products:
        if tag not in tags:
            found = ", ".join(sorted(tags))
            yield Complaint("products", f"the recipe has made no {tag}, only {found}")
    for made in evidence.made:
        if job.ifu is not None and made.product.ifu not in (None, job.ifu):
            yield Complaint(
                "products", f"{made.product.file} is of IFU {made.product.ifu}, not {job.ifu}"
            )


def listed(evidence: Evidence, folder: Path) -> Iterator[Complaint]:
    """Each file that esorex says it has made."""
    there = {made.product.file for made in evidence.made}
    for name in evidence.listed:
        if name not in there:
            yield Complaint("products", f"esorex says that it made {name}, which is not there")


def all_used(evidence: Evidence, folder: Path) -> Iterator[Complaint]:
    """Each file that the recipe works on is one that a product says it is made from."""
    used: Counter[str] = Counter()
    for made in evidence.made:
        used |= Counter(used_raw(made))
    if not used:
        return
    wanted = Counter(line.path.rpartition("/")[2] for line in evidence.inputs(*_USED))
    for name in (wanted - used).elements():
        yield Complaint(
            "raw", f"{name} was left out: no product was made from it; see the log for the reason"
        )


def spoken(evidence: Evidence, folder: Path) -> Iterator[Complaint]:
    """What the log says, and not as an error."""
    for check, pattern, excuse, meaning in SPOKEN:
        for text in dict.fromkeys(match.string for match in evidence.log.find(pattern)):
            yield Complaint(check, f"{text} ({meaning})", excuse)


def refraction(evidence: Evidence, folder: Path) -> Iterator[Complaint]:
    """Differential refraction was corrected, now or before."""
    if evidence.log.find(r"not doing any DAR correction|skipped DAR correction"):
        for line in evidence.inputs(*PIXEL_TABLES):
            done = primary_of(line, folder).get("ESO DRS MUSE PIXTABLE DAR CORRECT")
            if not isinstance(done, int | float):
                yield Complaint(
                    "refraction",
                    f"{line.source}: differential refraction was not corrected: its header lacks "
                    "what the airmass is made of",
                )


def errors(evidence: Evidence, folder: Path) -> Iterator[Complaint]:
    """Errors in the log of a recipe that ended with status 0."""
    said = {m.string for _, pattern, _, _ in SPOKEN for m in evidence.log.find(pattern)}
    for text in evidence.log.errors:
        if text not in said:
            yield Complaint("log", f"error in the log: {text}")
    for error in evidence.log.dumped:
        if not error.is_echo:
            keyword = error.code == MISSING_KEYWORD
            yield Complaint("log", f"error in the log: {error.what}", is_warning=keyword)


def ifus(evidence: Evidence, folder: Path) -> Iterator[Complaint]:
    """IFUs that the job holds and the recipe has not found."""
    job = evidence.job
    for pattern, excuse, missing in ABSENT:
        for match in evidence.log.find(pattern):
            if int(match[1]) in job.ifus:
                yield Complaint("ifus", f"{missing} IFU {int(match[1])} were not found", excuse)


def in_flux(evidence: Evidence, folder: Path) -> Iterator[Complaint]:
    """Cubes and images of exposures are in units of flux, not in counts."""
    if evidence.job.recipe not in POSITIONED:
        return
    for made in evidence.of(*CALIBRATED):
        hdu = made.hdu("DATA")
        units = hdu.get("BUNIT") if hdu is not None else None
        if isinstance(units, str) and "erg" not in units:
            yield Complaint(
                "flux",
                f"{made.product.file} is in {units!r}, not in flux: STD_RESPONSE was missing or "
                "not used",
                "STD_RESPONSE",
            )


def filters(evidence: Evidence, folder: Path) -> Iterator[Complaint]:
    """An image for each filter that was asked for."""
    if evidence.job.recipe not in POSITIONED or not evidence.of("DATACUBE_FINAL"):
        return
    asked = [name.strip() for name in evidence.parameters.get("filter", "white").split(",")]
    there = {made.product.filter for made in evidence.of("IMAGE_FOV")}
    for name in filter(None, asked):
        if name not in there:
            yield Complaint(
                "filters",
                f"there is no image in the filter {name!r}: FILTER_LIST is missing, or has none "
                "of that name",
            )


def moved(evidence: Evidence, folder: Path) -> Iterator[Complaint]:
    """Each exposure was moved by what the OFFSET_LIST says, and scaled."""
    cubes = evidence.of("DATACUBE_FINAL", "PIXTABLE_POSITIONED", "PIXTABLE_COMBINED")
    tables = evidence.inputs("OFFSET_LIST")
    if evidence.job.recipe not in POSITIONED or not cubes or not tables:
        return
    rows = offset_table(tables[0], folder)
    applied = {date: values for made in cubes for date, values in _applied(made.primary)}
    exposures = [
        primary_of(line, folder).get("DATE-OBS") for line in evidence.inputs(*PIXEL_TABLES)
    ]
    for date in dict.fromkeys(map(str, exposures)):
        wanted, got = rows.get(date), applied.get(date)
        if wanted is None or got is None or not _same_offsets(wanted, got):
            yield Complaint(
                "offsets",
                f"the exposure {date} was moved by {got}, not by {wanted} (degrees of RA and "
                "DEC, factor of flux) as the OFFSET_LIST says",
            )


def _applied(primary: Hdu) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """What a product says of offsets: DATE-OBS, then degrees of RA and DEC and the scale."""
    number = 1
    while (date := primary.get(f"ESO DRS MUSE OFFSET{number} DATE-OBS")) is not None or number == 1:
        keys = (f"OFFSET{number} DRA", f"OFFSET{number} DDEC", f"FLUX SCALE{number}")
        ra, dec, scale = (primary.get(f"ESO DRS MUSE {key}") for key in keys)
        if date is not None:
            yield str(date), (_number(ra), _number(dec), _number(scale))
        number += 1


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _same_offsets(wanted: tuple[float, float, float], got: tuple[float, float, float]) -> bool:
    scaled = math.isclose(wanted[2], got[2], rel_tol=1e-6) or not math.isfinite(wanted[2])
    return scaled and all(
        math.isclose(a, b, rel_tol=1e-6, abs_tol=_OFFSET_TOLERANCE_DEG)
        for a, b in zip(wanted[:2], got[:2], strict=True)
    )


def on_grid(evidence: Evidence, folder: Path) -> Iterator[Complaint]:
    """A cube has the grid of the OUTPUT_WCS."""
    for line in evidence.inputs("OUTPUT_WCS"):
        grid = _grid_of(folder / line.path, line.source)
        for made in evidence.of("DATACUBE_FINAL"):
            data = made.hdu("DATA")
            what = list(_differences(grid, data)) if grid and data else ["three axes are missing"]
            if what:
                yield Complaint(
                    "grid",
                    f"{made.product.file} is not on the grid of {line.source}: {'; '.join(what)}",
                )


def _grid_of(path: Path, label: str) -> Hdu | None:
    """The first header with three axes; the file may be that header and nothing else."""
    with as_file_error(label), open(path, "rb") as file:
        primary = read_primary(file, label)
    if len(primary.shape) == 3:
        return primary
    return next((hdu for hdu in read_fits(path, label).hdus if len(hdu.shape) == 3), None)


def _differences(grid: Hdu, data: Hdu) -> Iterator[str]:
    """Where two grids differ; what a header leaves out is 0."""
    for key in ("NAXIS1", "NAXIS2", "NAXIS3", *_WCS):
        wanted, got = (_number(hdu.get(key) or 0) for hdu in (grid, data))
        if not math.isclose(wanted, got, rel_tol=_WCS_TOLERANCE, abs_tol=1e-12):
            yield f"{key} = {got:.12g} instead of {wanted:.12g}"


def has_data(evidence: Evidence, folder: Path) -> Iterator[Complaint]:
    """An image of an exposure has values: it touches its grid, and its filter."""
    for made in evidence.of("IMAGE_FOV"):
        hdu = made.hdu("DATA")
        if hdu is None or not hdu.shape:
            yield Complaint("empty", f"{made.product.file} has no image")
            continue
        values = np.fromfile(
            made.file.path, hdu.dtype, count=math.prod(hdu.shape), offset=hdu.offset
        )
        if not np.isfinite(values).any():
            yield Complaint("empty", f"{made.product.file} has no value: it touches no data")


def aligned(evidence: Evidence, folder: Path) -> Iterator[Complaint]:
    """muse_exp_align has an offset for each image."""
    if evidence.job.recipe != "muse_exp_align":
        return
    for made in evidence.of("OFFSET_LIST"):
        with fits.open(made.file.path, memmap=False) as hdus:
            rows = hdus[1].data
            bad = [
                str(row["DATE_OBS"])
                for row in rows
                if not (np.isfinite(row["RA_OFFSET"]) and np.isfinite(row["DEC_OFFSET"]))
            ]
        images = evidence.inputs("IMAGE_FOV")
        if len(rows) != len(images):
            yield Complaint(
                "aligned", f"{made.product.file} has {len(rows)} rows for {len(images)} images"
            )
        for date in bad:
            yield Complaint("aligned", f"{made.product.file} has no offset for {date}")
        yield from _matches(made.primary, images)


def _matches(primary: Hdu, images: Sequence[SofLine]) -> Iterator[Complaint]:
    """Images that were aligned by no source, or by so few that chance may have matched them."""
    for number, image in enumerate(images, start=1):
        matches = primary.get(f"ESO QC EXPALIGN NMATCH{number}")
        if isinstance(matches, int) and matches < FEWEST_MATCHES:
            found = counted(matches, "source") if matches else "no source"
            yield Complaint(
                "aligned",
                f"{image.source} has {found} in common with the others: look at its offset, or "
                "align it by hand",
                is_warning=matches > 0,
            )


def gains(evidence: Evidence, folder: Path) -> Iterator[Complaint]:
    """What is made of raw frames carries their gains: those of packed ones are seen only here."""
    if not evidence.inputs(*RAW_TAGS):
        return
    for made in evidence.made:
        missing = missing_gains(made.primary)
        if made.primary.get("ESO DET CHIP ID") is not None and missing:
            yield Complaint(
                "gain", f"{made.product.file} has no {', '.join(missing)}: its variances are wrong"
            )


CHECKS: tuple[Check, ...] = (
    declared,
    listed,
    all_used,
    spoken,
    refraction,
    errors,
    ifus,
    in_flux,
    filters,
    moved,
    on_grid,
    has_data,
    aligned,
    gains,
)


def check_job(evidence: Evidence, folder: Path) -> tuple[Complaint, ...]:
    """Everything that is wrong with what a job has made, each text once.

    Parameters
    ----------
    evidence
        What is known of the job.
    folder
        Where esorex ran: paths of the SOF may be relative to it.
    """
    found = (complaint for check in CHECKS for complaint in check(evidence, folder))
    return tuple({complaint.text: complaint for complaint in found}.values())
