"""Whole files, as small as can be, of each kind that musedask reads: where damage begins."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

import musedask as md
from fuzz.alignment_seeds import make_alignment_seeds
from fuzz.store_seed import make_store
from musedask.exposures import check_exposure_table, write_exposure_table
from musedask.reduction.finding.scan import find_frames
from musedask.reduction.job.record import JobRecord, Product, UsedFile, record_text
from musedask.reduction.jobs import FileInput, Job, MadeInput, Plan, ProductInput
from musedask.reduction.running.plan_file import write_plan
from musedask.run_template import TEMPLATE

SHAPE = (8, 12, 14)
_TILE = (1, 12, 14)
DATES = tuple(f"2014-12-08T0{n}:48:56.798" for n in range(2, 5))
"""DATE-OBS of the exposures; the cubes are ``cube0.fits`` to ``cube2.fits``."""
_UNITS = "10**(-20)*erg/s/cm**2/Angstrom"


def make_seeds(folder: Path) -> None:
    """Write all seeds into a folder."""
    folder.mkdir(parents=True)
    _cubes(folder)
    _raw_frames(folder / "raw")
    _masks(folder)
    _offsets(folder)
    _lists(folder)
    _configurations(folder)
    _notes(folder)
    make_alignment_seeds(folder)
    make_store(folder / "store.zarr")
    find_frames(folder / "raw", inventory=folder / "inventory.json")


def _write(path: Path, hdus: Iterable[Any]) -> None:
    fits.HDUList(list(hdus)).writeto(path)


def _axes(n: int) -> fits.Header:
    return fits.Header(
        {
            "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg",
            "CRVAL1": 63.355417 + 1e-5 * n, "CRVAL2": 10.46556, "CRPIX1": 7.2, "CRPIX2": 6.7,
            "CD1_1": -5.5555555555556e-05, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 5.5555555555556e-05,
            "CTYPE3": "AWAV", "CUNIT3": "Angstrom", "CRVAL3": 7000.0 + 0.1 * n, "CRPIX3": 1.0,
            "CD3_3": 1.25, "BUNIT": _UNITS,
        }
    )  # fmt: skip


def _primary(n: int) -> fits.Header:
    return fits.Header(
        {
            "INSTRUME": "MUSE", "OBJECT": "COSMOS-01", "RA": 63.355417, "DEC": 10.46556,
            "EXPTIME": 900.0, "DATE-OBS": DATES[n], "MJD-OBS": 56999.1173, "SPECSYS": "BARYCENT",
            "HIERARCH ESO INS MODE": "WFM-AO-N", "HIERARCH ESO PRO CATG": "DATACUBE_FINAL",
            "HIERARCH ESO OBS TARG NAME": "COSMOS-01", "HIERARCH ESO TEL IA FWHM": 0.8,
            "HIERARCH ESO DRS MUSE OFFSET1 DATE-OBS": DATES[n],
            "HIERARCH ESO DRS MUSE OFFSET1 DRA": 1e-5, "HIERARCH ESO DRS MUSE OFFSET1 DDEC": -1e-5,
            "HIERARCH ESO DRS MUSE FLUX SCALE1": 1.02,
            "HIERARCH ESO INS DROT POSANG": 0.0, "HIERARCH ESO INS DROT POSANG ORIG": 0.1,
            "HIERARCH ESO QC SCIPOST FWHM MEDIAN": 0.7,
        }
    )  # fmt: skip


def _cubes(folder: Path) -> None:
    rng = np.random.default_rng(1)
    for n in range(3):
        flux = rng.normal(3.0, 10.0, SHAPE).astype(">f4")
        variance = rng.uniform(50.0, 150.0, SHAPE).astype(">f4")
        quality = (rng.random(SHAPE) < 0.02).astype(">i4")
        axes = _axes(n)
        _write(
            folder / f"cube{n}.fits",
            [
                fits.PrimaryHDU(header=_primary(n)), fits.ImageHDU(flux, axes, name="DATA"),
                fits.ImageHDU(variance, axes, name="STAT"), fits.ImageHDU(quality, axes, name="DQ"),
            ],
        )  # fmt: skip
    whole = (folder / "cube0.fits").read_bytes()
    (folder / "cube.fits.gz").write_bytes(gzip.compress(whole, mtime=0))
    packed = [fits.CompImageHDU(data, axes, name=name, compression_type=kind, tile_shape=_TILE)
              for data, name, kind in ((flux, "DATA", "GZIP_2"), (variance, "STAT", "GZIP_1"),
                                       (quality, "DQ", "RICE_1"))]  # fmt: skip
    _write(folder / "cube.fits.fz", [fits.PrimaryHDU(header=_primary(2)), *packed])
    # As CubEx writes it: the flux in PRIMARY; and in scaled integers.
    scaled = fits.PrimaryHDU(np.rint(flux).astype(">i2"), _primary(2) + axes)
    scaled.header.update({"BSCALE": 0.5, "BZERO": 1.0, "BLANK": -32768})
    _write(folder / "cube_in_primary.fits", [scaled, fits.ImageHDU(variance)])


def _raw_frames(folder: Path) -> None:
    folder.mkdir()
    kinds = {
        "object": ("SCIENCE", "OBJECT"), "bias": ("CALIB", "BIAS"), "flat": ("CALIB", "FLAT,LAMP"),
    }  # fmt: skip
    for n, (name, (category, kind)) in enumerate(kinds.items()):
        header = fits.Header(
            {
                "INSTRUME": "MUSE", "DATE-OBS": f"2016-01-02T0{n}:04:05.678", "MJD-OBS": 57389.1,
                "EXPTIME": 900.0, "OBJECT": name, "RA": 150.1, "DEC": 2.2,
                "HIERARCH ESO DPR CATG": category, "HIERARCH ESO DPR TYPE": kind,
                "HIERARCH ESO DPR TECH": "IFU", "HIERARCH ESO TPL START": "2016-01-02T03:00:00",
                "HIERARCH ESO TPL ID": "MUSE_wfm-noao_obs_genericoffset",
                "HIERARCH ESO TPL NEXP": 5, "HIERARCH ESO OBS TARG NAME": "COSMOS-01",
                "HIERARCH ESO OBS ID": 200123456, "HIERARCH ESO INS MODE": "WFM-NOAO-N",
                "HIERARCH ESO INS OPTI2 NAME": "WFM", "HIERARCH ESO INS TEMP7 VAL": 11.25,
                "HIERARCH ESO INS LAMP1 NAME": "CU-LAMP-FF", "HIERARCH ESO INS LAMP1 ST": True,
                "HIERARCH ESO INS SHUT1 ST": True, "HIERARCH ESO DET READ CURNAME": "SCI1.0",
            }
        )  # fmt: skip
        chips = [fits.ImageHDU(np.zeros(4, ">i2"), name=f"CHAN{ifu:02d}") for ifu in (1, 2)]
        for chip in chips:
            chip.header["HIERARCH ESO DET CHIP LIVE"] = True
        _write(folder / f"{name}.fits", [fits.PrimaryHDU(header=header), *chips])
    plain = (folder / "bias.fits").read_bytes()
    (folder / "flat.fits.gz").write_bytes(gzip.compress(plain, mtime=0))
    (folder / "calselector.xml").write_text(_ASSOCIATION, encoding="utf-8")


def _masks(folder: Path) -> None:
    mask = np.ones(SHAPE[1:], np.int16)
    mask[:2] = 0
    _write(folder / "mask.fits", [fits.PrimaryHDU(mask)])
    _write(folder / "mask_in_extension.fits",
           [fits.PrimaryHDU(), fits.ImageHDU(mask[None].astype(">f4"))])  # fmt: skip
    (folder / "mask.fits.gz").write_bytes(
        gzip.compress((folder / "mask.fits").read_bytes(), mtime=0)
    )
    _write(folder / "mask.fits.fz", [fits.PrimaryHDU(), fits.CompImageHDU(mask)])
    (folder / "regions.reg").write_text(_REGIONS, encoding="utf-8")
    (folder / "regions_image.reg").write_text(_IMAGE_REGIONS, encoding="utf-8")


def _offsets(folder: Path) -> None:
    rows = tuple(
        md.Offset(
            date_obs=date, name=f"cube{n}", ra_deg=63.355417, dec_deg=10.46556,
            ra_offset_arcsec=0.1 * n, dec_offset_arcsec=-0.2 * n, flux_scale=1.01,
            rotation_deg=0.01 * n, background=0.0, grade="A", method="manual" if n else "auto",
        )
        for n, date in enumerate(DATES)
    )  # fmt: skip
    table = md.OffsetTable(rows)
    # As formats have it that keep no rotation.
    plain = md.OffsetTable(tuple(md.Offset(
        date_obs=row.date_obs, name=row.name, ra_deg=row.ra_deg, dec_deg=row.dec_deg,
        ra_offset_arcsec=row.ra_offset_arcsec, dec_offset_arcsec=row.dec_offset_arcsec,
    ) for row in rows))  # fmt: skip
    exposures = md.open_exposures([folder / f"cube{n}.fits" for n in range(3)])
    headers = [_Exposure(cube) for cube in exposures]
    table.write(folder / "offsets.ecsv")
    plain.write(folder / "offset_list.fits")
    (folder / "offset_list.fits.gz").write_bytes(
        gzip.compress((folder / "offset_list.fits").read_bytes(), mtime=0)
    )
    table.write(folder / "pymusepipe.fits", "pymusepipe", exposures=headers)
    plain.write(folder / "offsets.txt", "cosmos")
    plain.write(folder / "radecoffsets.txt", "mypython", exposures=headers)
    (folder / "manualoffsets.txt").write_text(_MANUAL, encoding="utf-8")


class _Exposure:
    """An exposure as the writers of offsets want it."""

    def __init__(self, cube: Any) -> None:
        self.date_obs, self.name = str(cube["date_obs"].values), str(cube["name"].values)
        self.ra_deg, self.dec_deg = float(cube["ra_deg"]), float(cube["dec_deg"])
        self.primary_header = cube.attrs["primary_header"]


def _lists(folder: Path) -> None:
    table = Table({"path": [f"cube{n}.fits" for n in range(3)]})
    table["date_obs"] = list(DATES)
    table["mode"], table["exptime"], table["pointing"] = "WFM-AO-N", [900.0] * 3, "COSMOS-01"
    table["seeing"], table["mask"], table["regions"] = 0.8, "mask.fits", ["regions.reg", "", ""]
    table["weight"], table["use"], table["reason"] = [1.0, 2.0, 1.0], [True, True, False], ""
    made = check_exposure_table(table, folder=folder)
    write_exposure_table(made, folder / "exposures.ecsv")
    (folder / "cubeall.in").write_text(
        "cube0.fits\ncube1.fits  # best\ncube2.fits\n", encoding="utf-8"
    )
    (folder / "maskall.in").write_text("mask.fits\nNone\nmask.fits\n", encoding="utf-8")
    (folder / "regionsall.in").write_text("regions.reg\n-\nregions.reg\n", encoding="utf-8")


def _configurations(folder: Path) -> None:
    (folder / "musedask.toml").write_text(TEMPLATE + _MORE_TOML, encoding="utf-8")
    (folder / "rc.dic").write_text(_RC, encoding="utf-8")
    (folder / "calib_tables.dic").write_text(_CALIB, encoding="utf-8")
    (folder / "esorex.log").write_text(_LOG, encoding="utf-8")


def _notes(folder: Path) -> None:
    frame = FileInput("BIAS", "/raw/bias.fits", "17280-1500000000-abc")
    first = Job(recipe="muse_bias", stage="bias", inputs=(frame,), parameters=(("nifu", "1"),),
                ifu=1, ifus=(1,), version="2.8.7", products=("MASTER_BIAS",))  # fmt: skip
    second = Job(
        recipe="muse_scipost", stage="scipost", version="2.8.7", products=("DATACUBE_FINAL",),
        inputs=(ProductInput("MASTER_BIAS", first.key),
                MadeInput("OUTPUT_WCS", "header", "NAXIS = 3")),
        frames=(DATES[0],), reasons=("the nearest",),
    )  # fmt: skip
    write_plan(Plan((first, second), ("a note",)), folder / "plan.json")
    record = JobRecord(
        folder=folder, key=first.key, recipe="muse_bias", stage="bias", title="bias IFU 1", ifu=1,
        frames=(), parameters=(("nifu", "1"),),
        inputs=(UsedFile("BIAS", "/raw/bias.fits", "17280-1500000000-abc"),),
        products=(Product("mask.fits", "MASTER_BIAS", 1, "", DATES[0],
                          (folder / "mask.fits").stat().st_size, "0" * 32),),
        pipeline="2.8.7", esorex="3.13.6", cpl="7.2.3", musedask="0.1.0",
        command=("esorex", "muse_bias"),
        cores=1, wall_s=1.0, cpu_s=1.0, peak_memory=10**9, host="here", attempt=1,
        started="2020-01-01T00:00:00+00:00", ended="2020-01-01T00:00:01+00:00", warnings=("a",),
    )  # fmt: skip
    (folder / "job.json").write_text(record_text(record), encoding="utf-8")
    outcome = {
        "key": first.key,
        "state": "failed",
        "reason": "why",
        "log_end": ["a"],
        "warnings": [],
    }
    (folder / "failure.json").write_text(
        json.dumps({"lasting": 1, "outcome": outcome}), encoding="utf-8"
    )
    running = {"key": first.key, "session": "s", "host": "h", "pid": 1, "since": 1.0, "lost": 0}
    (folder / "running.json").write_text(json.dumps(running), encoding="utf-8")
    facts = {
        "format": 1,
        "facts": {"a.fits 1 2": {"seeing": 0.8}},
        "rows": {DATES[0]: {"use": True}},
    }
    (folder / "memory.json").write_text(json.dumps(facts), encoding="utf-8")


_ASSOCIATION = """<?xml version="1.0" encoding="UTF-8"?>
<association category="SCIENCE_GROUP" complete="true" mode="raw2raw">
  <mainFiles>
    <file category="OBJECT" name="MUSE.2016-01-02T03:04:05.678"/>
    <file category="OBJECT" name="MUSE.2016-01-02T03:24:05.678"/>
  </mainFiles>
  <associatedFiles>
    <association category="BIAS"><mainFiles>
      <file category="BIAS" name="MUSE.2016-01-01T12:00:00.000"/>
    </mainFiles><associatedFiles/></association>
    <association category="FLAT" complete="false">
      <mainFiles><file category="FLAT" name="MUSE.2016-01-01T13:00:00.000"/></mainFiles>
    </association>
    <file category="GEOMETRY_TABLE" name="M.MUSE.2015-07-02T00:00:00.000.fits"/>
  </associatedFiles>
</association>
"""
_REGIONS = """# Region file format: DS9 version 4.1
global color=green dashlist=8 3 width=1 font="helvetica 10 normal" select=1
fk5
circle(4:13:25.3,+10:27:56.0,1.2")
-ellipse(63.3554,10.4656,0.5",0.3",30) # color=red text={a bad; one}
box(63.3554,10.4656,1",0.4",45) # include=0
galactic; polygon(183.1,-28.6,183.2,-28.6,183.2,-28.5)
"""
_IMAGE_REGIONS = """image
circle(5.2,6.1,2.5)
annulus(7,6,1,2,3)
box(3,3,2,2,0); polygon(1,1,4,1,4,4) # color=blue
# text(1,1) text={note}
"""
_MANUAL = """offset_wcs_2d('white_cube0.fits', ra_offset_deg=0.0002, dec_offset_deg=-0.0001)
# a remark
cube1.fits 0.0001 -0.0002
"""
_MORE_TOML = """
[[reduction.choose]]
frames = "2021-03-04"
tag = "ILLUM"
file = "none"

[reduction.windows]
BIAS = 3.5

[reduction.muse_scipost]
skymodel_fraction = 0.05
crop = true
"""
_RC = """# folders
root        /data/MUSE/
musecalib   /data/calib/muse-2.8/
musecalib_time /data/calib/time/
"""
_CALIB = """geo_table     geometry_table_wfm.fits
astro_table   astrometry_wcs_wfm.fits
std_flux_table std flux table.fits
"""
_LOG = """                     ***** ESO Recipe Execution Tool, version 3.13.6  *****
11:37:03 [ INFO  ] esorex: Running the muse_bias recipe
11:37:03 [WARNING] muse_bias_compute: [tid=000] Channel for IFU 3 is missing
11:37:04 [ ERROR ] muse_bias: [tid=001] Dumping all 2 error(s):
11:37:04 [ ERROR ] muse_bias: [tid=001] [1/2] 'Data not found: ESO INS DROT MODE' (10) at a:b.c:9
  and more of it
11:37:05 [ ERROR ] esorex: Execution of recipe 'muse_bias' failed, status = 10
"""
