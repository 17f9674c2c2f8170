"""Where pixels lie on the sky: a frozen, comparable celestial projection.

FITS counts pixels from 1 and musedask from 0; the two meet in this file alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from musedask.errors import InputError
from musedask.quiet import quiet

Card = tuple[str, str | float]
Floats = np.ndarray[Any, np.dtype[np.float64]]

ARCSEC_PER_DEG = 3600.0
COPY_TOLERANCE_PIX = 1e-3
"""Two lattices that agree within this many pixels over a whole field are one lattice."""


@dataclass(frozen=True)
class SkyProjection:
    """A celestial WCS of two axes as a value: equal cards are equal projections.

    Pixel coordinates in and out are 0-based, ``(x, y)``, integers at centres.
    """

    cards: tuple[Card, ...]
    """Canonical FITS cards, sorted by keyword: always a CD matrix, in degrees."""

    @classmethod
    def from_header(cls, header: fits.Header, origin: str = "header") -> SkyProjection:
        """Take the celestial part of a FITS header; ``origin`` names it in errors.

        Raises
        ------
        InputError
            If there is no celestial WCS, its axes are not RA then DEC, or
            they are coupled to the wavelength axis.
        """
        with quiet(FITSFixedWarning):
            try:
                wcs = WCS(header, naxis=2)
            except Exception as err:
                raise InputError(f"{origin}: the WCS cannot be understood: {err}") from err
        ctypes = [str(ctype) for ctype in wcs.wcs.ctype]
        if not (ctypes[0].startswith("RA--") and ctypes[1].startswith("DEC-")):
            raise InputError(
                f"{origin}: CTYPE1, CTYPE2 = {ctypes}, expected RA and DEC axes "
                "(a cube from the pipeline has RA---TAN, DEC--TAN)"
            )
        for key in ("CD1_3", "CD2_3", "CD3_1", "CD3_2", "PC1_3", "PC2_3", "PC3_1", "PC3_2"):
            if abs(float(header.get(key, 0.0))) > 0:
                raise InputError(f"{origin}: {key} = {header[key]} couples sky and wavelength")
        return cls.from_wcs(wcs, origin)

    @classmethod
    def from_wcs(cls, wcs: WCS, origin: str = "WCS") -> SkyProjection:
        """Take an astropy WCS of two celestial axes."""
        matrix = np.asarray(wcs.pixel_scale_matrix, dtype=np.float64)
        if not np.all(np.isfinite(matrix)) or np.linalg.det(matrix) == 0:
            raise InputError(f"{origin}: the CD matrix {matrix.tolist()} is singular")
        if not np.all(np.isfinite(wcs.wcs.crval)) or abs(wcs.wcs.crval[1]) > 90:
            raise InputError(
                f"{origin}: CRVAL = {list(wcs.wcs.crval)} is not a position on the sky"
            )
        wcs.wcs.set()
        cards: dict[str, str | float] = {
            "CTYPE1": str(wcs.wcs.ctype[0]),
            "CTYPE2": str(wcs.wcs.ctype[1]),
            "CUNIT1": "deg",
            "CUNIT2": "deg",
            "CRVAL1": float(wcs.wcs.crval[0]) % 360.0,
            "CRVAL2": float(wcs.wcs.crval[1]),
            "CRPIX1": float(wcs.wcs.crpix[0]),
            "CRPIX2": float(wcs.wcs.crpix[1]),
        }
        for i in range(2):
            for j in range(2):
                cards[f"CD{i + 1}_{j + 1}"] = float(matrix[i, j]) + 0.0
        # As wcs.to_header() gives them, which takes longer than all the rest.
        for key in ("LONPOLE", "LATPOLE", "EQUINOX"):
            value = getattr(wcs.wcs, key.lower())
            if np.isfinite(value):
                cards[key] = float(f"{value:.14G}")
        if wcs.wcs.radesys:
            cards["RADESYS"] = str(wcs.wcs.radesys)
        if "PV" in wcs.wcs.to_header():
            full = wcs.to_header()
            cards.update({key: float(full[key]) for key in full if key.startswith("PV")})
        return cls(tuple(sorted(cards.items())))

    @classmethod
    def from_cards(cls, cards: Mapping[str, Any]) -> SkyProjection:
        """Take canonical cards back, as :attr:`cards` gave them."""
        return cls(
            tuple(sorted((k, v if isinstance(v, str) else float(v)) for k, v in cards.items()))
        )

    @classmethod
    def north_up(
        cls, ra_deg: float, dec_deg: float, pixel_arcsec: float, x: float = 0.0, y: float = 0.0
    ) -> SkyProjection:
        """A TAN projection, north up and east left, with ``(ra, dec)`` at 0-based ``(x, y)``."""
        step = pixel_arcsec / ARCSEC_PER_DEG
        cards: dict[str, str | float] = {
            "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg",
            "CRVAL1": ra_deg % 360.0, "CRVAL2": dec_deg, "CRPIX1": x + 1.0, "CRPIX2": y + 1.0,
            "CD1_1": -step, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": step,
        }  # fmt: skip
        return cls.from_wcs(WCS(fits.Header(cards)))

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the cards alone: the cached WCS is made again where it is needed."""
        return {"cards": self.cards}

    @cached_property
    def wcs(self) -> WCS:
        """The astropy WCS of these cards."""
        for key, value in self.cards:
            text = f"{key}{value}"
            if not (text.isascii() and text.isprintable()):
                raise InputError(f"the WCS has a card {key!r} = {value!r}, which FITS cannot hold")
        wcs = WCS(naxis=2)  # filled by hand: through a header it takes ten times as long
        fill, cards = wcs.wcs, self.mapping
        fill.ctype, fill.cunit = [cards["CTYPE1"], cards["CTYPE2"]], ["deg", "deg"]
        fill.crpix, fill.crval = [cards["CRPIX1"], cards["CRPIX2"]], list(self.crval_deg)
        fill.cd = self.cd
        for key in ("LONPOLE", "LATPOLE", "EQUINOX", "RADESYS"):
            if key in cards:
                setattr(fill, key.lower(), cards[key])
        # PVi_m: parameter m of axis i.
        fill.set_pv([(int(k[2]), int(k[4:]), v) for k, v in self.cards if k.startswith("PV")])
        fill.set()  # here, so that threads that share it only ever read it
        return wcs

    @property
    def mapping(self) -> dict[str, str | float]:
        """The cards as a dictionary."""
        return dict(self.cards)

    @property
    def checksum(self) -> int:
        """A number (int64, not negative) that differs where the cards differ."""
        digest = hashlib.sha256(repr(self.cards).encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    @property
    def pixel_area_arcsec2(self) -> float:
        """Area of a pixel at the projection's centre."""
        return float(np.abs(np.linalg.det(self.cd))) * ARCSEC_PER_DEG**2

    @property
    def cd(self) -> Floats:
        """The CD matrix, float64 of shape (2, 2), degrees a pixel."""
        cards = self.mapping
        return np.array([[cards["CD1_1"], cards["CD1_2"]], [cards["CD2_1"], cards["CD2_2"]]], float)

    @property
    def crval_deg(self) -> tuple[float, float]:
        """RA and DEC of the reference point, degrees."""
        cards = self.mapping
        return float(cards["CRVAL1"]), float(cards["CRVAL2"])

    @property
    def is_north_up(self) -> bool:
        """Whether y is north and x is west, to one part in a million."""
        cd = self.cd
        size = np.abs(cd).max()
        return bool(cd[0, 0] < 0 < cd[1, 1] and max(abs(cd[0, 1]), abs(cd[1, 0])) < 1e-6 * size)

    def to_sky(self, x: Any, y: Any) -> tuple[Floats, Floats]:
        """RA and DEC in degrees of 0-based pixel coordinates."""
        ra, dec = self.wcs.wcs_pix2world(np.asarray(x, float), np.asarray(y, float), 0)
        return ra, dec

    def to_pixel(self, ra_deg: Any, dec_deg: Any) -> tuple[Floats, Floats]:
        """0-based pixel coordinates of sky positions; NaN where they do not project."""
        ra, dec = np.broadcast_arrays(np.asarray(ra_deg, float), np.asarray(dec_deg, float))
        x, y = self.wcs.wcs_world2pix(ra, dec, 0)
        centre_ra, centre_dec = np.radians(self.crval_deg)
        away = np.sin(centre_dec) * np.sin(np.radians(dec)) + np.cos(centre_dec) * np.cos(
            np.radians(dec)
        ) * np.cos(np.radians(ra) - centre_ra)
        behind = away <= 0
        return np.where(behind, np.nan, x), np.where(behind, np.nan, y)

    def shifted(self, dx: float, dy: float) -> SkyProjection:
        """The projection of an array whose pixel (0, 0) was this one's pixel (dx, dy)."""
        cards = self.mapping
        cards["CRPIX1"] = float(cards["CRPIX1"]) - dx
        cards["CRPIX2"] = float(cards["CRPIX2"]) - dy
        return replace(self, cards=tuple(sorted(cards.items())))

    def moved(
        self,
        ra_arcsec: float,
        dec_arcsec: float,
        rotation_deg: float = 0.0,
        *,
        dec_deg: float | None = None,
        about: tuple[float, float] | None = None,
    ) -> SkyProjection:
        """Subtract an offset on the sky (exposure minus reference) and a rotation.

        Parameters
        ----------
        ra_arcsec, dec_arcsec
            Offset on the sky, arcseconds (east and north positive), that is
            subtracted; the coordinate RA changes by ``ra_arcsec / cos(dec)``.
        rotation_deg
            Position angle (north through east) by which the exposure is
            turned too far; the field is turned back by it.
        dec_deg
            Declination at which ``ra_arcsec`` was measured; the reference
            point's by default.
        about
            0-based pixel ``(x, y)`` that stays in place in the rotation; the
            reference pixel by default.
        """
        projection = self if about is None or rotation_deg == 0.0 else self._anchored(*about)
        cards = projection.mapping
        ra, dec = projection.crval_deg
        if abs(dec) > 89.9 and ra_arcsec:
            ra, dec = _moved_near_the_pole(ra, dec, ra_arcsec, dec_arcsec)
        else:
            ra -= (
                ra_arcsec / ARCSEC_PER_DEG / np.cos(np.radians(dec if dec_deg is None else dec_deg))
            )
            dec -= dec_arcsec / ARCSEC_PER_DEG
        cards["CRVAL1"], cards["CRVAL2"] = float(ra) % 360.0, float(dec)
        if rotation_deg:
            # Position angles grow from north (eta) to east (xi).
            angle = np.radians(rotation_deg)
            back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            matrix = back @ projection.cd
            for i in range(2):
                for j in range(2):
                    cards[f"CD{i + 1}_{j + 1}"] = float(matrix[i, j])
        return SkyProjection.from_wcs(WCS(fits.Header(list(cards.items()))))

    def _anchored(self, x: float, y: float) -> SkyProjection:
        """The same TAN plane, to first order, with its reference point at pixel (x, y)."""
        ra, dec = self.to_sky(x, y)
        ahead = np.array(self.to_sky([x + 1, x], [y, y + 1]))
        dra = (ahead[0] - ra + 180.0) % 360.0 - 180.0
        cd = np.array([dra * np.cos(np.radians(dec)), ahead[1] - dec])
        cards = self.mapping
        cards.update(CRVAL1=float(ra), CRVAL2=float(dec), CRPIX1=x + 1.0, CRPIX2=y + 1.0)
        for i in range(2):
            for j in range(2):
                cards[f"CD{i + 1}_{j + 1}"] = float(cd[i, j])
        return SkyProjection.from_wcs(WCS(fits.Header(list(cards.items()))))

    def lattice_step(self, other: SkyProjection, shape: tuple[int, int]) -> tuple[int, int] | None:
        """Whole pixels (dx, dy) that lead from this lattice to ``other``'s, or None.

        Pixel ``(x, y)`` here is pixel ``(x + dx, y + dy)`` there, everywhere in
        ``shape`` (ny, nx), within :data:`COPY_TOLERANCE_PIX`.
        """
        ny, nx = shape
        x = np.array([0.0, nx - 1, 0.0, nx - 1, nx / 2])
        y = np.array([0.0, 0.0, ny - 1, ny - 1, ny / 2])
        there_x, there_y = other.to_pixel(*self.to_sky(x, y))
        step_x, step_y = there_x - x, there_y - y
        if not (np.all(np.isfinite(step_x)) and np.all(np.isfinite(step_y))):
            return None
        dx, dy = round(float(step_x[0])), round(float(step_y[0]))
        worst = max(np.abs(step_x - dx).max(), np.abs(step_y - dy).max())
        return (dx, dy) if worst < COPY_TOLERANCE_PIX else None


def _moved_near_the_pole(
    ra: float, dec: float, ra_arcsec: float, dec_arcsec: float
) -> tuple[float, float]:
    """Subtract an offset in the tangent plane, where cos(dec) is no use."""
    plane = SkyProjection.north_up(ra, dec, 1.0)
    east, north = plane.to_sky(ra_arcsec, -dec_arcsec)
    return float(east), float(north)
