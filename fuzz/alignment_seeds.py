"""Whole files of the alignment: filters, catalogues, images, what was compared, decisions."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import Table

from musedask.alignment.image import FieldImage
from musedask.alignment.image_files import write_image
from musedask.alignment.material import Compared, MaskedCircle, write_material
from musedask.alignment.measurement import Measurement, SourceOffset
from musedask.alignment.review.decisions import Decision, decisions_text, row_version
from musedask.alignment.review.journal import UNDONE, Journal, Step
from musedask.sky import SkyProjection

SHAPE = (12, 14)
RA_DEG, DEC_DEG = 63.355417, 10.46556
SKY = SkyProjection.north_up(RA_DEG, DEC_DEG, 0.2, 6.2, 5.7)
MATERIAL = "offsets.alignment"
_DATE = "2014-12-08T02:48:56.798"
_MARGIN = 3


def make_alignment_seeds(folder: Path) -> None:
    """Write these seeds into a folder that is there."""
    _filters(folder)
    _catalogues(folder)
    _images(folder)
    _reviewed(folder)


def _filters(folder: Path) -> None:
    wavelengths = np.linspace(4800.0, 9300.0, 12)
    table = Table({"wavelength": wavelengths, "throughput": np.sin(np.linspace(0.1, 3.0, 12))})
    table.write(folder / "filter.csv", format="ascii.csv")
    lines = [f"{w / 10:.2f}  {t:.4f}" for w, t in table.iterrows()]
    (folder / "filter.txt").write_text(
        "# a curve\n# wavelength throughput\n" + "\n".join(lines) + "\n", encoding="utf-8"
    )
    table["wavelength"].unit = u.AA
    table["throughput"] = 100 * table["throughput"] * u.percent
    table.write(folder / "filter.ecsv", format="ascii.ecsv")
    table["throughput"].unit = None
    table.write(folder / "filter.fits")


def _catalogues(folder: Path) -> None:
    at = np.arange(6.0)
    table = Table({"ra": RA_DEG + 1e-4 * (at - 3), "dec": DEC_DEG + 1e-4 * (at % 3 - 1)})
    lines = [f"{ra:.7f} {dec:.7f}" for ra, dec in table.iterrows()]
    (folder / "catalogue.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table["pmra"], table["pmdec"], table["ref_epoch"] = at - 2, 3.0 * at, 2016.0
    table["source_id"] = np.arange(6) + 10**15
    table.write(folder / "catalogue.csv", format="ascii.csv")
    for name, unit in (("ra", u.deg), ("dec", u.deg), ("pmra", u.mas / u.yr), ("ref_epoch", u.yr)):
        table[name].unit = unit
    table.write(folder / "catalogue.ecsv", format="ascii.ecsv")
    table.write(folder / "catalogue.vot", format="votable")
    table.write(folder / "catalogue.fits")
    plain = (folder / "catalogue.fits").read_bytes()
    (folder / "catalogue.fits.gz").write_bytes(gzip.compress(plain, mtime=0))


def _image(**more: Any) -> FieldImage:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    noise = np.random.default_rng(3).normal(0.0, 0.1, SHAPE)
    flux = 5 * np.exp(-0.25 * ((rows - 6) ** 2 + (columns - 7) ** 2)) + noise
    image = FieldImage(
        flux=flux.astype(np.float32), projection=SKY, variance=np.full(SHAPE, 0.01, np.float32),
        ra_deg=RA_DEG, dec_deg=DEC_DEG, name="field", date_obs=_DATE, units="ct",
        fwhm_arcsec=0.7,
    )  # fmt: skip
    return replace(image, **more)


def _images(folder: Path) -> None:
    image = _image(coverage=np.ones(SHAPE, np.float32), carried_ra_arcsec=0.1)
    write_image(folder / "image.fits", image)
    plain = (folder / "image.fits").read_bytes()
    (folder / "image.fits.gz").write_bytes(gzip.compress(plain, mtime=0))
    cards = fits.Header([*SKY.cards, ("WCSNAME", "IDC-GAIA"), ("FILTER1", "F814W")])
    parts = (
        ("SCI", image.flux),
        ("WHT", np.full(SHAPE, 100.0, np.float32)),
        ("DQ", np.zeros(SHAPE, np.int16)),
    )
    hdus = [fits.ImageHDU(data, cards, name=name) for name, data in parts]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(folder / "image_hst.fits")
    scaled = fits.PrimaryHDU(np.rint(100 * image.flux).astype(">i2")[None], cards)
    scaled.header.update({"BSCALE": 0.01, "BZERO": 1.0, "BLANK": -32768})
    scaled.writeto(folder / "image_in_primary.fits")
    packed = fits.CompImageHDU(np.asarray(image.flux), cards, name="SCI", compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(folder / "image.fits.fz")


def _reviewed(folder: Path) -> None:
    source = SourceOffset(
        ra_deg=RA_DEG, dec_deg=DEC_DEG, x=6.2, y=5.7, ra_offset_arcsec=0.1, dec_offset_arcsec=0.2,
        ra_error_arcsec=0.02, dec_error_arcsec=0.02,
    )  # fmt: skip
    measurement = Measurement(
        date_obs=_DATE, name="field", ra_deg=RA_DEG, dec_deg=DEC_DEG, ra_offset_arcsec=0.1,
        dec_offset_arcsec=0.2, ra_error_arcsec=0.01, dec_error_arcsec=0.01, n_sources=1,
        correlation_after=0.9, grade="B", reasons=("one source alone",), sources=(source, source),
    )  # fmt: skip
    wide = np.pad(_image().flux, _MARGIN)
    reference = FieldImage(flux=wide, projection=SKY.shifted(-_MARGIN, -_MARGIN), name="reference")
    circle = MaskedCircle(RA_DEG, DEC_DEG, 1.0)
    write_material(folder / MATERIAL, [Compared(measurement, _image(), reference, (circle,))])
    row = measurement.offset
    decisions = (
        Decision(date_obs=_DATE, action="moved", based_on=row_version(row), ra_offset_arcsec=0.2,
                 dec_offset_arcsec=0.1, correlation=0.5, masked=(circle,), decided_by="me"),
        Decision(date_obs="2014-12-08T03:48:56.798", action="flagged", based_on="0123456789abcdef",
                 reason="clouds"),
    )  # fmt: skip
    (folder / "review.json").write_text(decisions_text(decisions), encoding="utf-8")
    journal = Journal(folder / "journal.jsonl")
    for action in ("moved", "masked", UNDONE):
        when = "2020-01-01T00:00:00"
        journal.add(Step(_DATE, action, "me", when, row, row, (circle,)))
