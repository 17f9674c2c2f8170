"""Jobs that the real esorex does in a tenth of a second, on files made here."""

from __future__ import annotations

import numpy as np
from astropy.io import fits
from pixel_table import write_pixel_table

from musedask.reduction.jobs import FileInput, Job, MadeInput

DATES = tuple(f"2020-01-0{n}T00:00:00.000" for n in range(1, 6))
RA_DEG, DEC_DEG = 150.1, -60.2
GRID = {
    "SIMPLE": True, "BITPIX": -32, "NAXIS": 3, "NAXIS1": 41, "NAXIS2": 37, "NAXIS3": 8,
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg",
    "CRPIX1": 20.0, "CRPIX2": 19.0, "CRVAL1": 150.1002, "CRVAL2": -60.2001,
    "CD1_1": -0.2 / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.2 / 3600,
    "CTYPE3": "AWAV", "CUNIT3": "Angstrom", "CRPIX3": 1.0, "CRVAL3": 4752.5, "CD3_3": 1.25,
    "CD1_3": 0.0, "CD2_3": 0.0, "CD3_1": 0.0, "CD3_2": 0.0,
}  # fmt: skip


def given(tag, path):
    """A file as the plan knows it."""
    status = path.stat()
    return FileInput(tag, str(path), f"{status.st_size}-{status.st_mtime_ns}-0123abcd")


def grid(**changed):
    """The OUTPUT_WCS of GRID, with some cards changed; None leaves one out."""
    header = fits.Header([(k, v) for k, v in (GRID | changed).items() if v is not None])
    return MadeInput("OUTPUT_WCS", "header", header.tostring(sep="\n", padding=False))


def offsets(*rows):
    """An OFFSET_LIST of rows (DATE_OBS, RA_OFFSET, DEC_OFFSET, FLUX_SCALE)."""
    return MadeInput("OFFSET_LIST", "offset_list", "\n".join(" ".join(map(str, r)) for r in rows))


def pixel_tables(folder, dates=DATES[:2], **options):
    """A pixel table for each date, complete enough that the log of a job has no error."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, date in enumerate(dates, start=1):
        path = folder / f"table{number}.fits"
        write_pixel_table(path, RA_DEG, DEC_DEG, date, **options)
        edit(path, {
            "LST": 35000.0, "ESO TEL GEOLAT": -24.627, "ESO TEL GEOLON": -70.404,
            "ESO TEL GEOELEV": 2648.0, "ESO INS DROT MODE": "SKY",
            **{f"ESO TEL {key} {end}": value for end in ("START", "END") for key, value in (
                ("AIRM", 1.2), ("PARANG", 10.0))},
        })  # fmt: skip
        paths.append(path)
    return paths


def edit(path, cards, extension=0):
    """Set cards of a file; None removes one."""
    with fits.open(path, mode="update") as hdus:
        header = hdus[extension].header
        for key, value in cards.items():
            if value is None:
                header.remove(key, ignore_missing=True)
            else:
                header[f"HIERARCH {key}" if " " in key else key] = value


def combine(paths, *others, **parameters):
    """muse_exp_combine of pixel tables; ``others`` are further inputs."""
    return Job(
        recipe="muse_exp_combine",
        stage="combine",
        inputs=(*(given("PIXTABLE_REDUCED", path) for path in paths), *others),
        parameters=tuple(parameters.items()),
        ifus=(1,),
        products=("DATACUBE_FINAL",),
        title="combined field",
    )


def scipost(paths, *others, **parameters):
    """muse_scipost of pixel tables that are reduced already."""
    return Job(
        recipe="muse_scipost",
        stage="scipost",
        inputs=(*(given("PIXTABLE_OBJECT", path) for path in paths), *others),
        parameters=tuple(({"skymethod": "none", "save": "cube"} | parameters).items()),
        ifus=(1,),
        products=("DATACUBE_FINAL",),
        title="exposure",
    )


def images(folder, shifts_pix=((0, 0), (3, -2)), n_sources=8):
    """An IMAGE_FOV for each shift, all of the same stars."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (dx, dy) in enumerate(shifts_pix, start=1):
        rng = np.random.default_rng(3)
        y, x = np.mgrid[:100, :100]
        image = rng.normal(0.0, 1.0, x.shape)
        for at_x, at_y in rng.uniform(15, 85, (n_sources, 2)):
            image += 500 * np.exp(-((x - at_x - dx) ** 2 + (y - at_y - dy) ** 2) / 8.0)
        path = folder / f"image{number}.fits"
        write_image(path, image, number)
        paths.append(path)
    return paths


def write_image(path, values, number):
    """An IMAGE_FOV of the ``number``-th exposure."""
    primary = fits.PrimaryHDU()
    primary.header.update({
        "INSTRUME": "MUSE", "OBJECT": "TEST", "RA": RA_DEG, "DEC": DEC_DEG, "EXPTIME": 100.0,
        "DATE-OBS": DATES[number - 1], "MJD-OBS": 58849.0 + number - 1,
    })  # fmt: skip
    primary.header["HIERARCH ESO PRO CATG"] = "IMAGE_FOV"
    primary.header["HIERARCH ESO INS MODE"] = "WFM-NOAO-N"
    data = fits.ImageHDU(values.astype(np.float32), name="DATA")
    two_axes = {k: v for k, v in GRID.items() if "3" not in k and k[:2] in ("CT", "CU", "CD")}
    data.header.update(two_axes)
    data.header.update({"CRPIX1": 50.5, "CRPIX2": 50.5, "CRVAL1": RA_DEG, "CRVAL2": DEC_DEG})
    data.header["BUNIT"] = "10**(-20)*erg/s/cm**2/Angstrom"
    fits.HDUList([primary, data]).writeto(path)


def align(paths, **parameters):
    """muse_exp_align of images."""
    return Job(
        recipe="muse_exp_align",
        stage="align",
        inputs=tuple(given("IMAGE_FOV", path) for path in paths),
        parameters=tuple(parameters.items()),
        products=("OFFSET_LIST",),
        title="alignment",
    )
