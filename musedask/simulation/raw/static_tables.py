"""The static calibrations that belong to the simulated frames, as FITS tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from musedask.simulation.raw import spectra
from musedask.simulation.raw.files import whole_file
from musedask.simulation.raw.night import STANDARD_DEG
from musedask.simulation.raw.optics import SLICE_SPAXELS, Optics, sky_slices
from musedask.simulation.raw.spec import RawSpec

_VALID_FROM = ("2017-03-11T00:00:00.000", 57823.0)
"""DATE-OBS and MJD-OBS of the tables: before all that is simulated."""
FILTERS = {
    "white": (4650.0, 9300.0, 0.0, 0.0), "Johnson_V": (5070.0, 5950.0, 0.0, 0.02),
    "Cousins_R": (5700.0, 7200.0, 0.0, 0.21), "Cousins_I": (7150.0, 8800.0, 0.0, 0.45),
    "SDSS_r": (5500.0, 6950.0, 0.0, 0.16), "SDSS_i": (6850.0, 8350.0, 0.0, 0.37),
    "ACS_F814W": (7000.0, 9350.0, 0.0, 0.42),
}  # fmt: skip
"""Name -> from, to (Angstrom), zero point AB, zero point Vega. Boxes with soft edges."""
_EDGE_ANGSTROM = 40.0
_CATALOG_FLUX = 1000.0
"""Flux in the line catalogue of a line of relative flux 1: more than the recipe finds in an arc
frame, since muse_wavecal leaves out what the catalogue says is fainter than the faintest line
found, and never ends where that leaves none."""
_RAMAN = {"O2": 6484.6, "N2": 6827.5}
"""Angstrom in air of the laser's 5891.6 (vacuum) after a loss of 1556 and 2331 per cm."""
Hdus = list[Any]


def write_static_tables(
    folder: Path, spec: RawSpec, optics: Sequence[Optics], star_deg: tuple[float, float],
    leave_out: set[str],
) -> dict[str, str]:  # fmt: skip
    """Write all static tables and give tag -> file name.

    Parameters
    ----------
    folder
        Where they go.
    spec
        What is simulated.
    optics
        All IFUs; the geometry table tells where their slices lie.
    star_deg
        RA and DEC of the standard star.
    leave_out
        Tags of tables that are to be missing.
    """
    field = spec.mode[:3].lower()
    makers: dict[str, tuple[str, Callable[[], Hdus]]] = {
        "LINE_CATALOG": ("line_catalog", _line_catalog),
        "GEOMETRY_TABLE": (f"geometry_table_{field}", lambda: _geometry(optics)),
        "ASTROMETRY_WCS": (f"astrometry_wcs_{field}", _astrometry),
        "EXTINCT_TABLE": ("extinct_table", _extinction),
        "STD_FLUX_TABLE": ("std_flux_table", lambda: _standards(star_deg)),
        "SKY_LINES": ("sky_lines", _sky_lines),
        "RAMAN_LINES": ("raman_lines", _raman_lines),
        "FILTER_LIST": ("filter_list", _filters),
        "TELLURIC_REGIONS": ("telluric_regions", _telluric),
        "BADPIX_TABLE": ("badpix_table", lambda: _bad_pixels(spec)),
    }
    written = {}
    for tag, (name, make) in makers.items():
        if tag in leave_out:
            continue
        hdus = fits.HDUList([_primary(tag, spec), *make()])
        if tag == "ASTROMETRY_WCS":
            _set_astrometry(hdus[0].header)
        with whole_file(folder / f"{name}.fits") as file:
            hdus.writeto(file)
        written[tag] = f"{name}.fits"
    return written


def _primary(tag: str, spec: RawSpec) -> Any:
    hdu = fits.PrimaryHDU()
    hdu.header["TELESCOP"] = "ESO-VLT-U4"
    hdu.header["INSTRUME"] = "MUSE"
    hdu.header["DATE-OBS"], hdu.header["MJD-OBS"] = _VALID_FROM
    hdu.header["HIERARCH ESO PRO CATG"] = tag
    hdu.header["HIERARCH ESO PRO TYPE"] = "REDUCED"
    hdu.header["HIERARCH ESO PRO TECH"] = "IFU"
    if tag in ("GEOMETRY_TABLE", "ASTROMETRY_WCS"):
        hdu.header["HIERARCH ESO INS MODE"] = spec.mode
        hdu.header["HIERARCH ESO INS OPTI2 NAME"] = spec.mode[:3]
    if tag == "LINE_CATALOG":
        hdu.header["VERSION"] = 3
    return hdu


def _table(name: str, *columns: tuple[str, str, str, Any]) -> Any:
    """A table of (name, format, unit, values)."""
    hdu = fits.BinTableHDU.from_columns(
        [fits.Column(n, form, unit or None, array=array) for n, form, unit, array in columns]
    )
    hdu.header["EXTNAME"] = name  # as it is: astropy's own argument would make it upper case
    return hdu


def _line_catalog() -> Hdus:
    rows = sorted(spectra.arc_lines(), key=lambda row: float(row["wavelength_air_angstrom"]))
    wave = [float(row["wavelength_air_angstrom"]) for row in rows]
    flux = [_CATALOG_FLUX * float(row["relative_flux"]) for row in rows]
    return [_table(
        "LINES", ("lambda", "E", "Angstrom", wave), ("flux", "E", "", flux),
        ("ion", "8A", "", [row["ion"] for row in rows]),
        ("quality", "J", "", [int(row["quality"]) for row in rows]),
        ("comment", "8A", "", [row["lamp"] for row in rows]),
    )]  # fmt: skip


def _geometry(optics: Sequence[Optics]) -> Hdus:
    n = sky_slices().size
    ifu = np.repeat([one.ifu for one in optics], n)
    x, y = (
        np.concatenate([getattr(one, name) for one in optics]) for name in ("x_field", "y_field")
    )
    return [_table(
        "GEOMETRY", ("SubField", "J", "", ifu),
        ("SliceCCD", "J", "", np.tile(np.arange(1, n + 1), len(optics))),
        ("SliceSky", "J", "", np.tile(sky_slices(), len(optics))),
        ("x", "D", "pix", x), ("y", "D", "pix", y), ("angle", "D", "deg", np.zeros(x.size)),
        ("width", "D", "pix", np.full(x.size, SLICE_SPAXELS)),
    )]  # fmt: skip


def _astrometry() -> Hdus:
    return []


def _set_astrometry(header: fits.Header) -> None:
    """The world coordinates of the field's own system: all in the primary header."""
    step = 0.2 / 3600
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CUNIT1"], header["CUNIT2"] = "deg", "deg"
    for key in ("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", "CD1_2", "CD2_1"):
        header[key] = 0.0
    header["CD1_1"], header["CD2_2"] = -step, step


def _extinction() -> Hdus:
    wave = np.arange(3000.0, 11001.0, 50.0)
    return [_table(
        "EXTINCTION", ("lambda", "D", "Angstrom", wave),
        ("extinction", "D", "mag/airmass", spectra.extinction(wave)),
    )]  # fmt: skip


def _standards(star_deg: tuple[float, float]) -> Hdus:
    """The simulated star, and another one far away from it."""
    wave = np.arange(3500.0, 10500.0, 2.0)
    hdus = []
    for name, (ra, dec), factor in (
        ("SIMSTAR", star_deg, 1.0),
        ("OTHERSTAR", (STANDARD_DEG[0] + 40, STANDARD_DEG[1]), 3.0),
    ):
        flux = factor * spectra.standard_star(wave)
        unit = "erg/s/cm**2/Angstrom"
        hdu = _table(
            name, ("lambda", "D", "Angstrom", wave), ("flux", "D", unit, flux),
            ("fluxerr", "D", unit, 0.01 * flux),
        )  # fmt: skip
        hdu.header["RA"], hdu.header["DEC"] = ra, dec
        hdus.append(hdu)
    return hdus


def _sky_lines() -> Hdus:
    rows = spectra.sky_lines()
    wave, flux = (
        [float(row[key]) for row in rows]
        for key in ("wavelength_air_angstrom", "flux_1e-20_erg_s_cm2_arcsec2")
    )
    names, groups = [row["name"] for row in rows], [int(row["group"]) for row in rows]
    return [_lines(names, groups, wave, flux)]


def _raman_lines() -> Hdus:
    """Where the laser's light comes back from oxygen and nitrogen; the simulated sky has none."""
    return [_lines(list(_RAMAN), [0, 1], list(_RAMAN.values()), [1000.0, 1000.0])]


def _lines(names: list[str], groups: list[int], wave: list[float], flux: list[float]) -> Any:
    unit = "10**(-20)*erg/(s cm^2 arcsec^2)"
    return _table(
        "LINES", ("name", "21A", "", names), ("group", "J", "", groups),
        ("lambda", "D", "Angstrom", wave), ("flux", "D", unit, flux),
        ("dq", "J", "", np.zeros(len(names), int)),
    )  # fmt: skip


def _filters() -> Hdus:
    hdus = []
    for name, (low, high, zero_ab, zero_vega) in FILTERS.items():
        wave = np.arange(low - 4 * _EDGE_ANGSTROM, high + 4 * _EDGE_ANGSTROM + 1, 10.0)
        curve = 0.5 * (
            np.tanh((wave - low) / _EDGE_ANGSTROM) - np.tanh((wave - high) / _EDGE_ANGSTROM)
        )
        hdu = _table(name, ("lambda", "D", "Angstrom", wave), ("throughput", "D", "", curve))
        hdu.header["ZP_AB"], hdu.header["ZP_VEGA"] = zero_ab, zero_vega
        hdus.append(hdu)
    return hdus


def _telluric() -> Hdus:
    bands = np.array([(centre, 4 * sigma) for centre, sigma, _ in spectra.TELLURIC_BANDS])
    low, high = bands[:, 0] - bands[:, 1], bands[:, 0] + bands[:, 1]
    limits = {"lmin": low, "lmax": high, "bgmin": low - 40.0, "bgmax": high + 40.0}
    return [_table("REGIONS", *((name, "D", "Angstrom", at) for name, at in limits.items()))]


def _bad_pixels(spec: RawSpec) -> Hdus:
    """A few pixels of each detector, in raw coordinates; they are good in the simulation."""
    hdus = []
    for ifu in spec.extensions:
        rng = np.random.default_rng([spec.seed, 5, ifu])
        hdus.append(_table(
            f"CHAN{ifu:02d}", ("xpos", "J", "pix", rng.integers(100, 2000, 3)),
            ("ypos", "J", "pix", rng.integers(100, 2000, 3)),
            ("status", "J", "", np.full(3, 256)), ("value", "E", "count", np.ones(3)),
        ))  # fmt: skip
    return hdus
