"""The headers that the MUSE pipeline (2.8.7) writes with DATACUBE_FINAL, card by card."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from astropy.io import fits
from astropy.time import Time

from musedask.cube import FLUX_UNITS, VARIANCE_UNITS
from musedask.simulation.exposure import ExposureSpec, Footprint

_PIPELINE = "muse/2.8.7"
_LIBRARY = "cpl-7.3.2"
_SCIBASIC_PARAMETERS = (
    ("nifu", "-1"), ("overscan", "vpoly"), ("ovscreject", "dcr"), ("ovscsigma", "30."),
    ("ovscignore", "3"), ("crop", "true"), ("cr", "none"), ("xbox", "15"), ("ybox", "40"),
    ("passes", "2"), ("thres", "5.8"), ("combine", "none"), ("saveimage", "false"),
    ("skylines", "5577.339,6300.304"), ("skyhalfwidth", "5."), ("skybinsize", "0.1"),
    ("resample", "false"), ("dlambda", "1.25"), ("merge", "false"),
)  # fmt: skip
_SCIPOST_PARAMETERS = (
    ("save", "cube,individual"), ("resample", "drizzle"), ("dx", "0."), ("dy", "0."),
    ("dlambda", "0."), ("crtype", "median"), ("crsigma", "15."), ("rc", "1.25"),
    ("pixfrac", "0.8"), ("ld", "1"), ("format", "Cube"), ("weight", "exptime"),
    ("filter", "white"), ("skymethod", "model"), ("lambdamin", "4000."), ("lambdamax", "10000."),
    ("lambdaref", "7000."), ("darcheck", "none"), ("skymodel_fraction", "0.1"),
    ("rvcorr", "bary"), ("astrometry", "true"),
)  # fmt: skip
_SCIPOST_CALIBRATIONS = ("ASTROMETRY_WCS", "EXTINCT_TABLE", "FILTER_LIST", "SKY_LINES",
                         "STD_RESPONSE", "STD_TELLURIC")  # fmt: skip


def primary_header(spec: ExposureSpec, target: str = "SIMFIELD") -> fits.Header:
    """Make the PRIMARY header of a cube: no data, the whole history of the exposure.

    Parameters
    ----------
    spec
        The exposure.
    target
        OBJECT.
    """
    header = fits.Header()
    header["SIMPLE"] = (True, "file does conform to FITS standard")
    header["BITPIX"] = (8, "number of bits per data pixel")
    header["NAXIS"] = (0, "number of data axes")
    header["EXTEND"] = (True, "FITS dataset may contain extensions")
    for key, value, comment in _observation(spec, target):
        header[key] = (value, _fitting(key, value, comment))
    for name, value, comment in (*_instrument(spec), *_products(spec)):
        key = f"HIERARCH ESO {name}"
        header[key] = (value, _fitting(key, value, comment))
    return header


def _fitting(key: str, value: Any, comment: str) -> str:
    """As much of a comment as a card of 80 characters has room for."""
    bare = len(str(fits.Card(key, value)).rstrip())
    return comment[: max(0, 80 - bare - len(" / "))]


def extension_header(footprint: Footprint, extension: str, target: str = "SIMFIELD") -> fits.Header:
    """Make the header of DATA or STAT.

    Parameters
    ----------
    footprint
        The exposure's array.
    extension
        ``DATA`` or ``STAT``.
    target
        OBJECT of the PRIMARY header.
    """
    ny, nx = footprint.shape
    sky = footprint.projection.mapping
    header = fits.Header()
    header["XTENSION"] = ("IMAGE", "IMAGE extension")
    header["BITPIX"] = (-32, "array data type")
    header["NAXIS"] = (3, "number of array dimensions")
    for axis, size in enumerate((nx, ny, footprint.spec.n_channels), 1):
        header[f"NAXIS{axis}"] = size
    header["PCOUNT"] = (0, "number of parameters")
    header["GCOUNT"] = (1, "number of groups")
    header["EXTNAME"] = (extension, "extension name")
    header["HDUCLASS"] = ("ESO", "class name (ESO format)")
    header["HDUDOC"] = ("DICD", "document with class description")
    header["HDUVERS"] = ("DICD version 6", "version number (according to spec v2.5.1)")
    header["HDUCLAS1"] = ("IMAGE", "Image data format")
    if extension == "DATA":
        header["HDUCLAS2"] = ("DATA", "this extension contains the data itself")
        header["ERRDATA"] = ("STAT", "pointer to the variance extension")
    else:
        header["HDUCLAS2"] = ("ERROR", "this extension contains variance")
        header["HDUCLAS3"] = ("MSE", "the extension contains variances (sigma**2)")
        header["SCIDATA"] = ("DATA", "pointer to the data extension")
    header["OBJECT"] = f"{target} ({extension})"
    header["BUNIT"] = FLUX_UNITS if extension == "DATA" else VARIANCE_UNITS
    for key in ("CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "CD2_1", "CD2_2", "CTYPE1", "CTYPE2"):
        header[key] = sky[key]
    header["CUNIT1"], header["CUNIT2"] = "deg", "deg"
    header["CRVAL1"], header["CRVAL2"] = sky["CRVAL1"], sky["CRVAL2"]
    header["CTYPE3"], header["CUNIT3"] = "AWAV", "Angstrom"
    header["CD3_3"] = footprint.spec.spectral.step_angstrom
    header["CRPIX3"], header["CRVAL3"] = 1.0, footprint.spec.first_angstrom
    for key in ("CD1_3", "CD2_3", "CD3_1", "CD3_2"):
        header[key] = 0.0
    return header


Card = tuple[str, Any, str]


def _observation(spec: ExposureSpec, target: str) -> Iterator[Card]:
    """Cards of the telescope and the observation."""
    ra, dec = spec.pointing_deg
    time = Time(spec.date_obs, format="isot", scale="utc")
    seconds = (spec.start.hour * 60 + spec.start.minute) * 60 + spec.start.second
    raw = f"MUSE.{spec.date_obs}.fits"
    yield "DATE", spec.date_obs, "file creation date"
    yield "ORIGIN", "ESO-PARANAL", "European Southern Observatory"
    yield "TELESCOP", "ESO-VLT-U4", "ESO <TEL>"
    yield "INSTRUME", "MUSE", "Instrument used."
    yield "OBJECT", target, "Original target."
    yield "RA", ra, "[deg] RA (J2000) pointing"
    yield "DEC", dec, "[deg] DEC (J2000) pointing"
    yield "EQUINOX", 2000.0, "Standard FK5"
    yield "RADESYS", "FK5", "Coordinate system"
    yield "EXPTIME", spec.exptime_s, "Integration time"
    yield "MJD-OBS", round(float(time.mjd), 8), "Obs start"
    yield "DATE-OBS", spec.date_obs, "Observing date"
    yield "UTC", float(seconds), "[s] UTC"
    yield "LST", round(ra * 240.0, 3), "[s] LST: the target culminates"
    yield "PI-COI", "SIMULATION", "PI-COI name."
    yield "OBSERVER", "SIMULATION", "Name of observer."
    yield "PIPEFILE", "DATACUBE_FINAL.fits", "Filename of data product"
    yield "SPECSYS", "BARYCENT", "Reference frame of spectral coordinates"
    yield "ARCFILE", raw, "Archive File Name"
    yield "DATAMD5", _checksum(spec, "cube"), "MD5 checksum"


def _instrument(spec: ExposureSpec) -> Iterator[Card]:
    """Cards of ESO OBS, TPL, TEL, INS, DET and DPR."""
    ra, dec = spec.pointing_deg
    is_adaptive = "-AO-" in spec.mode
    field = spec.mode[:3]
    template = f"MUSE_{field.lower()}-{'ao' if is_adaptive else 'noao'}_obs_genericoffset"
    yield from (
        ("OBS ID", 1000001, "Observation block ID"),
        ("OBS NAME", f"{field}-simulated", "OB name"),
        ("OBS PROG ID", "60.A-9100(Z)", "ESO program identification"),
        ("OBS START", spec.date_obs[:19], "OB start time"),
        ("OBS TARG NAME", "SIMFIELD", "OB target name"),
        ("TPL ID", template, "Template signature ID"),
        ("TPL EXPNO", 1, "Exposure number within template"),
        ("TPL NEXP", 1, "Number of exposures within template"),
        ("TPL START", spec.date_obs[:19], "TPL start time"),
        ("DPR CATG", "SCIENCE", "Observation category"),
        ("DPR TECH", "IFU", "Observation technique"),
        ("DPR TYPE", "OBJECT", "Observation type"),
        ("TEL AIRM START", 1.05, "Airmass at start"),
        ("TEL AIRM END", 1.07, "Airmass at end"),
        ("TEL AMBI FWHM START", spec.seeing_arcsec, "[arcsec] Observatory seeing"),
        ("TEL AMBI FWHM END", spec.seeing_arcsec, "[arcsec] Observatory seeing"),
        ("TEL AMBI TEMP", 12.5, "[deg C] Observatory ambient temperature"),
        ("TEL AMBI RHUM", 10.0, "[%] Observatory ambient relative humidity"),
        ("TEL AMBI PRES START", 743.0, "[hPa] Observatory ambient air pressure"),
        ("TEL AMBI PRES END", 743.0, "[hPa] Observatory ambient air pressure"),
        ("TEL IA FWHM", spec.seeing_arcsec, "[arcsec] Delivered seeing corrected by airmass"),
        ("TEL GEOELEV", 2648.0, "[m] Elevation above sea level"),
        ("TEL GEOLAT", -24.627, "[deg] Tel geo latitute (+=North)"),
        ("TEL GEOLON", -70.404, "[deg] Tel geo longitude (+=East)"),
        ("TEL TARG ALPHA", ra, "[deg] Alpha coordinate for the target"),
        ("TEL TARG DELTA", dec, "[deg] Delta coordinate for the target"),
        ("INS MODE", spec.mode, "Instrument mode used"),
        ("INS DROT MODE", "SKY", "Instrument derotator mode"),
        ("INS DROT POSANG", spec.rotation_deg, "[deg] Derotator position angle"),
        ("INS OPTI1 NAME", "Clear" if spec.mode.endswith("E") else "Blue", "Filter wheel"),
        ("INS OPTI2 NAME", field, "Mode Switching Unit field mode"),
        ("INS TEMP7 VAL", 12.0, "[C] Temperature"),
        ("DET READ CURID", 1, "Used readout mode id"),
        ("DET READ CURNAME", "SCI1.0", "Used readout mode name"),
        ("DET BINX", 1, "Binning factor along X"),
        ("DET BINY", 1, "Binning factor along Y"),
    )


def _products(spec: ExposureSpec) -> Iterator[Card]:
    """Cards of ESO PRO, QC and DRS: what the pipeline says of its own work."""
    raw = f"MUSE.{spec.date_obs}.fits"
    yield "PRO DID", "PRO-1.17", "Data dictionary for PRO"
    yield "PRO CATG", "DATACUBE_FINAL", "Category of pipeline product"
    yield "PRO TYPE", "REDUCED", "Product type"
    yield "PRO TECH", "IFU", "Observation technique"
    yield "PRO SCIENCE", True, "Scientific product if T"
    yield "PRO DATANCOM", 1, "Number of combined frames"
    yield "PRO ANCESTOR", raw, "Raw frame that all began with"
    yield from _recipe(spec, 1, "muse_scibasic", [(raw, "OBJECT")], (
        "BADPIX_TABLE", "GEOMETRY_TABLE", "MASTER_BIAS", "MASTER_FLAT", "TRACE_TABLE",
        "TWILIGHT_CUBE", "WAVECAL_TABLE"), _SCIBASIC_PARAMETERS)  # fmt: skip
    tables = [(f"PIXTABLE_OBJECT_0001-{ifu:02d}.fits", "PIXTABLE_OBJECT") for ifu in range(1, 25)]
    calibrations = (*_SCIPOST_CALIBRATIONS, *["LSF_PROFILE"] * 24)
    yield from _recipe(spec, 2, "muse_scipost", tables, calibrations, _SCIPOST_PARAMETERS)
    yield "DRS MUSE FLUX FFCORR", True, "flat-field spectrum was taken out"
    yield "QC SCIPOST LAMBDA", spec.first_angstrom + 2300.0, "[Angstrom] Wavelength of the image"
    yield "QC SCIPOST NDET", 1, "Number of detected sources"
    yield "QC SCIPOST FWHM NVALID", 1, "Number of detected sources with valid FWHM"
    yield "QC SCIPOST FWHM MEDIAN", spec.seeing_arcsec, "[arcsec] Median FWHM"
    yield "QC SCIPOST FWHM MAD", 0.0, "[arcsec] Median absolute deviation of the FWHM"


def _recipe(
    spec: ExposureSpec,
    number: int,
    recipe: str,
    raw: list[tuple[str, str]],
    calibrations: tuple[str, ...],
    parameters: tuple[tuple[str, str], ...],
) -> Iterator[Card]:
    """Cards of one step: ESO PRO RECi."""
    base = f"PRO REC{number}"
    yield f"{base} ID", recipe, "Pipeline recipe (unique) identifier"
    yield f"{base} DRS ID", _LIBRARY, "Data Reduction System identifier"
    yield f"{base} PIPE ID", _PIPELINE, "Pipeline (unique) identifier"
    for i, (name, category) in enumerate(raw, 1):
        yield f"{base} RAW{i} NAME", name, "File name"
        yield f"{base} RAW{i} CATG", category, "Category"
    for i, category in enumerate(calibrations, 1):
        yield f"{base} CAL{i} NAME", f"{category}-{i:02d}.fits", "File name"
        yield f"{base} CAL{i} CATG", category, "Category"
        yield f"{base} CAL{i} DATAMD5", _checksum(spec, f"{recipe}{i}"), "MD5"
    for i, (name, value) in enumerate(parameters, 1):
        yield f"{base} PARAM{i} NAME", name, ""
        yield f"{base} PARAM{i} VALUE", value, ""


def _checksum(spec: ExposureSpec, what: str) -> str:
    """32 hexadecimal digits that look like an MD5 and are always the same."""
    return hashlib.sha256(f"{spec.name} {spec.date_obs} {what}".encode()).hexdigest()[:32]
