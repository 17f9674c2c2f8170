"""A real sky: Abell 478 as MUSE and the HST saw it, from the files in mpdaf's wheel.

What is real, and what was done to it, so that it can be observed again wider
and at any seeing:

- *Continuum*: the HST image (WFPC2 F814W, 60", 0.1" pixels) gives the picture;
  its cosmic rays and dead pixels were replaced by the local median, its sky
  level was subtracted, and it was moved onto the MUSE astrometry. The spectrum
  is the slope of MUSE flux against the HST brightness, channel by channel, over
  the 40 x 40 spaxels that MUSE has; under bright night-sky lines and the
  galaxy's own gas lines it is interpolated. So all objects have the spectrum of
  the central galaxy, whose outskirts are bluer in reality, and what is left of
  the HST noise is a part of it. In means over 8 x 8 spaxels this sky has 1.03 to
  1.25 times the real flux at 7800 to 9350 Angstrom, most in the faintest corner,
  and 0.45 to 0.87 times at 4750 to 5500 Angstrom.
- *Gas*: what MUSE has above that continuum in the windows of the galaxy's
  emission lines ([OIII], [OI], Halpha + [NII], [SII] at z = 0.086), as its four
  strongest singular vectors. It fades out at the edge of the 8" that MUSE
  covers, and cannot be sharper than the 0.73" of that exposure.
- *Noise*: the STAT of the exposure, as a spectrum and its growth with flux.

Nothing here needs mpdaf's code: only its data folder is looked up.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from scipy import interpolate, ndimage

from musedask.errors import FileError, MissingError
from musedask.simulation.noise import NoiseModel
from musedask.simulation.psf import Psf, SkyImage
from musedask.sky import SkyProjection
from musedask.spectral import STEP_ANGSTROM

Floats = np.ndarray[Any, np.dtype[np.float64]]
Floats32 = np.ndarray[Any, np.dtype[np.float32]]

MUSE_FILE = "sdetect/minicube.fits"
HST_FILE = "sdetect/a478hst-cutout.fits"

HST_MINUS_MUSE_ARCSEC = (-0.778, -0.944)
"""Offset on the sky (east, north) of the HST image's WCS against the MUSE cube's: subtract it
from HST positions. Least squares of the two pictures; a test measures it again."""
NATIVE_FWHM_ARCSEC = 0.73
"""Seeing of the real exposure: the Moffat (beta 2.8) that turns the HST image into it."""
GALAXY_DEG = (63.355445, 10.465363)
"""Central galaxy (RA, DEC), in MUSE's frame."""
COMPACT_SOURCE_DEG = (63.355085, 10.467611)
"""The only compact source within 10" of the galaxy (RA, DEC), in MUSE's frame: its width
in a stack shows the point-spread function."""
HALPHA_WINDOW_ANGSTROM = (7095.0, 7175.0)
"""Halpha and [NII] of the central galaxy."""

_GAS_WINDOWS = ((5262.0, 5295.0), (5425.0, 5450.0), (6820.0, 6860.0), HALPHA_WINDOW_ANGSTROM,
                (7275.0, 7325.0))  # fmt: skip
_GAS_COMPONENTS = 4
_EXPTIME_S = 900.0
_EDGE_CHANNELS = 4
"""At both ends of the real cube, whose own noise is not that of the sky."""


def mpdaf_data(name: str) -> Path:
    """Find a file in the data folder of mpdaf's wheel, without importing mpdaf.

    Raises
    ------
    MissingError
        If mpdaf is not installed.
    FileError
        If it is, but has no such file.
    """
    found = importlib.util.find_spec("mpdaf")
    if found is None or not found.submodule_search_locations:
        raise MissingError(
            "the real sky is in the wheel of mpdaf, which is not installed: "
            "pip install 'musedask[demo]'"
        )
    path = Path(found.submodule_search_locations[0]) / "data" / name
    if not path.is_file():
        raise FileError(f"{path} is not there: reinstall mpdaf (pip install --force-reinstall)")
    return path


@dataclass(frozen=True, eq=False)
class RealSky:
    """Abell 478, see the module; computes on demand, holds about 20 MB."""

    continuum: SkyImage
    """HST counts per second and square arcsecond, on MUSE's frame."""
    gas: tuple[SkyImage, ...]
    """Pictures of the gas, per square arcsecond."""
    wavelengths: Floats
    """Of the tabulated spectra, float64 (wavelength,), Angstrom."""
    table: Floats
    """Spectra of the continuum and of each gas component, float64 (component, wavelength)."""

    def spectra(self, wavelengths: Floats) -> Floats:
        """Spectrum of each component, float64 (component, wavelength).

        Between the real cube's channels by cubic splines; beyond its ends the
        continuum stays at the median of its last 40 channels, without gas.
        """
        waves = np.asarray(wavelengths, float)
        splines = interpolate.CubicSpline(self.wavelengths, self.table, axis=1)
        result = np.asarray(splines(np.clip(waves, self.wavelengths[0], self.wavelengths[-1])))
        for beyond, end in (
            (waves < self.wavelengths[0], self.table[:, :40]),
            (waves > self.wavelengths[-1], self.table[:, -40:]),
        ):
            result[:, beyond] = np.median(end, axis=1)[:, None]
        return result

    def maps(self, psf: Psf, projection: SkyProjection, shape: tuple[int, int]) -> Floats32:
        """Picture of each component under a seeing, float32 (component, y, x)."""
        images = (self.continuum, *self.gas)
        return np.stack([image.observed(psf, projection, shape) for image in images])


@dataclass(frozen=True, eq=False)
class _RealCube:
    """The MUSE cube: arrays and axes."""

    flux: Floats
    variance: Floats
    projection: SkyProjection
    wavelengths: Floats


@lru_cache(maxsize=1)
def real_sky() -> RealSky:
    """Make the real sky from mpdaf's files; takes a second, the result is kept.

    Raises
    ------
    MissingError
        If mpdaf is not installed.
    """
    cube = _read_cube()
    hst = _hst_image()
    shape = cube.flux.shape[1:]
    picture = hst.observed(Psf(NATIVE_FWHM_ARCSEC), cube.projection, shape).astype(float).ravel()
    flat = cube.flux.reshape(cube.flux.shape[0], -1)
    slope, constant = np.linalg.lstsq(np.stack([picture, np.ones(picture.size)], 1), flat.T)[0]
    in_gas = _inside(cube.wavelengths, _GAS_WINDOWS)
    bad = in_gas | _in_sky_lines(cube)
    continuum = _bridged(slope, bad)
    # One number for the sky level that is left in the HST image: HST brightness where MUSE is 0.
    level = float(np.median(-constant[~bad] / slope[~bad])) / cube.projection.pixel_area_arcsec2
    hst = SkyImage(hst.brightness - level, hst.projection)
    left = flat - slope[:, None] * picture - constant[:, None]
    left[in_gas] += (slope - continuum)[in_gas, None] * picture
    left[in_gas] += (constant - _bridged(constant, bad))[in_gas, None]
    gas_spectra, gas_maps = _gas(left[in_gas], cube.variance.reshape(flat.shape)[in_gas])
    table = np.zeros((1 + _GAS_COMPONENTS, cube.wavelengths.size))
    table[0] = continuum
    table[1:, in_gas] = gas_spectra
    area = cube.projection.pixel_area_arcsec2
    gas = tuple(
        SkyImage(_faded(image.reshape(shape)) / area, cube.projection, NATIVE_FWHM_ARCSEC)
        for image in gas_maps
    )
    return RealSky(hst, gas, cube.wavelengths, table)


@lru_cache(maxsize=1)
def real_noise() -> NoiseModel:
    """Make a noise model from the real cube's STAT; the result is kept.

    The variance per channel is a straight line against the spaxel's white
    flux: its value at 0 is that of the sky, its slope (smoothed over 400
    channels, as it is weakly known) the growth with flux.
    """
    cube = _read_cube()
    white = np.median(cube.flux, axis=0).ravel()
    design = np.stack([white, np.ones(white.size)], 1)
    stat = cube.variance.reshape(cube.variance.shape[0], -1)
    slope = np.linalg.lstsq(design, stat.T)[0][0]
    per_flux = np.maximum(ndimage.median_filter(slope, 401, mode="mirror"), 0.05)
    sky = np.median(stat - per_flux[:, None] * white, axis=1)
    inner = slice(_EDGE_CHANNELS, -_EDGE_CHANNELS)
    return NoiseModel(cube.wavelengths[inner], sky[inner], per_flux[inner], _EXPTIME_S)


@lru_cache(maxsize=1)
def _read_cube() -> _RealCube:
    with fits.open(mpdaf_data(MUSE_FILE), memmap=False) as hdus:
        header = hdus["DATA"].header
        flux = np.asarray(hdus["DATA"].data, dtype=float)
        variance = np.asarray(hdus["STAT"].data, dtype=float)
        bad = ~np.isfinite(flux) | ~np.isfinite(variance) | (variance <= 0)
    for array in (flux, variance):
        # Five voxels are bad: they take the median of their channel.
        channel = np.nonzero(bad)[0]
        array[bad] = [np.median(array[z][~bad[z]]) for z in channel]
    wavelengths = header["CRVAL3"] + STEP_ANGSTROM * np.arange(flux.shape[0])
    return _RealCube(flux, variance, SkyProjection.from_header(header, MUSE_FILE), wavelengths)


def _hst_image() -> SkyImage:
    """The HST image without cosmic rays, per square arcsecond, on MUSE's frame."""
    with fits.open(mpdaf_data(HST_FILE), memmap=False) as hdus:
        counts = np.asarray(hdus["SCI"].data, dtype=float)
        exposed = np.asarray(hdus["WHT"].data) > 0
        projection = SkyProjection.from_header(hdus["SCI"].header, HST_FILE)
    smooth = ndimage.median_filter(counts, 5)
    noise = 1.4826 * float(np.median(np.abs(counts - smooth)))
    # A tenth of the local brightness is allowed too: cores of galaxies are sharp.
    struck = np.abs(counts - smooth) > 6 * np.maximum(noise, 0.1 * np.abs(smooth))
    clean = np.where(struck | ~exposed, smooth, counts)
    projection = projection.moved(*HST_MINUS_MUSE_ARCSEC)
    return SkyImage(clean / projection.pixel_area_arcsec2, projection)


def _inside(wavelengths: Floats, windows: tuple[tuple[float, float], ...]) -> Any:
    inside = np.zeros(wavelengths.shape, bool)
    for low, high in windows:
        inside |= (wavelengths >= low) & (wavelengths <= high)
    return inside


def _in_sky_lines(cube: _RealCube) -> Any:
    """Channels whose variance stands out, and the ends of the cube."""
    variance = np.median(cube.variance, axis=(1, 2))
    bright = variance > 2.0 * ndimage.percentile_filter(variance, 30, 201, mode="nearest")
    bright[:_EDGE_CHANNELS] = bright[-_EDGE_CHANNELS:] = True
    return ndimage.binary_dilation(bright)


def _bridged(spectrum: Floats, bad: Any) -> Floats:
    """Replace bad channels by a straight line between medians of the good ones around."""
    channels = np.arange(spectrum.size)
    smooth = ndimage.median_filter(spectrum[~bad], 31, mode="nearest")
    return np.where(bad, np.interp(channels, channels[~bad], smooth), spectrum)


def _gas(left: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Strongest singular vectors: spectra (component, channel) and maps (component, spaxel)."""
    noise = np.sqrt(np.median(variance, axis=1))[:, None]
    u, size, vh = np.linalg.svd(left / noise, full_matrices=False)
    spectra = (u[:, :_GAS_COMPONENTS] * size[:_GAS_COMPONENTS] * noise).T
    return spectra, vh[:_GAS_COMPONENTS]


def _faded(image: Floats) -> Floats:
    """Take the image to 0 over its outer four spaxels."""
    ny, nx = image.shape
    edge_y = np.minimum(np.arange(ny), np.arange(ny)[::-1])
    edge_x = np.minimum(np.arange(nx), np.arange(nx)[::-1])
    edge = np.minimum(edge_y[:, None], edge_x[None, :])
    return np.asarray(image * np.sin(np.clip((edge + 1) / 5.0, 0, 1) * np.pi / 2) ** 2)
