"""Made-up fields that were compared: known sources, a known offset, a source that disagrees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from musedask.alignment.image import FieldImage
from musedask.alignment.material import Compared
from musedask.alignment.measurement import Measurement, SourceOffset
from musedask.sky import SkyProjection

SIDE = 60
MARGIN = 8
PIXEL = 0.2
SIGMA = 0.05


def made_compared(
    number: int = 0,
    offset: tuple[float, float] = (0.6, -0.4),
    *,
    n_sources: int = 12,
    side: int = SIDE,
    grade: str = "A",
    seed: int = 1,
    **more: object,
) -> Compared:
    """An exposure that lies ``offset`` arcsec (east, north) from where it should.

    The last source disagrees by half an arcsecond to the north.
    """
    random = np.random.default_rng(seed)
    projection = SkyProjection.north_up(53.16, -27.78, PIXEL, (side - 1) / 2, (side - 1) / 2)
    x, y = random.uniform(6, side - 7, (2, n_sources))
    flux = 10 ** random.uniform(-0.3, 1.2, n_sources)
    # East is left: a header that points too far east gives the sources too large an RA, so that
    # on the sky they appear to the left of where the reference has them.
    moves = np.tile([-offset[0] / PIXEL, offset[1] / PIXEL], (n_sources, 1))
    moves[-1, 1] += 0.5 / PIXEL
    wide = side + 2 * MARGIN
    noise = random.normal(0, SIGMA, (side, side))
    exposure = _stars((side, side), x + moves[:, 0], y + moves[:, 1], flux) + noise
    reference = _stars((wide, wide), x + MARGIN, y + MARGIN, flux)
    date = f"2021-03-04T05:{number:02d}:07.123"
    ra, dec = projection.to_sky(x, y)
    sources = tuple(
        SourceOffset(
            ra_deg=float(ra[i]), dec_deg=float(dec[i]), x=float(x[i]), y=float(y[i]),
            ra_offset_arcsec=offset[0], dec_offset_arcsec=offset[1] + 0.5 * (i == n_sources - 1),
            ra_error_arcsec=0.02, dec_error_arcsec=0.02, signal_to_noise=30.0,
            used=i != n_sources - 1, reason="outlier" if i == n_sources - 1 else "",
        )
        for i in range(n_sources)
    )  # fmt: skip
    measurement = Measurement(
        date_obs=date, name=f"field_{number:02d}", ra_deg=53.16, dec_deg=-27.78,
        ra_offset_arcsec=offset[0], dec_offset_arcsec=offset[1], ra_error_arcsec=0.006,
        dec_error_arcsec=0.006, flux_scale=1.02, flux_scale_error=0.01, background=0.0,
        n_sources=n_sources - 1, signal_to_noise=100.0, correlation_before=0.3,
        correlation_after=0.9, fwhm_arcsec=0.7, blue_red_arcsec=0.02, grade=grade,
        reasons=() if grade == "A" else ("one source disagrees by 0.50 arcsec",),
        frame="made up", sources=sources,
    )  # fmt: skip
    measurement = replace(measurement, **more)
    return Compared(
        measurement if grade != "F" else measurement.failed("no source agrees"),
        FieldImage(
            flux=exposure.astype(np.float32), projection=projection, date_obs=date,
            variance=np.full((side, side), SIGMA**2, np.float32), name=measurement.name,
            units="1e-20 erg / (Angstrom s cm2)", ra_deg=53.16, dec_deg=-27.78,
        ),
        FieldImage(
            flux=reference.astype(np.float32), projection=projection.shifted(-MARGIN, -MARGIN),
            name="made up", units="1e-20 erg / (Angstrom s cm2)",
        ),
    )  # fmt: skip


def _stars(
    shape: tuple[int, int], x: np.ndarray, y: np.ndarray, flux: np.ndarray, sigma: float = 1.6
) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = np.zeros(shape)
    for one_x, one_y, one_flux in zip(x, y, flux, strict=True):
        image += one_flux * np.exp(-0.5 * ((columns - one_x) ** 2 + (rows - one_y) ** 2) / sigma**2)
    return image
