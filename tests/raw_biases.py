"""Raw MUSE biases of one IFU, with no more in their headers than muse_bias asks for."""

from __future__ import annotations

import numpy as np
from astropy.io import fits

CORNERS = ((1, 1), (4096, 1), (4096, 4112), (1, 4112))


def bias_extension(values, ifu=1, gain=1.1):
    """The extension of an IFU; ``gain=None`` leaves the detector's gains out."""
    hdu = fits.ImageHDU(values, name=f"CHAN{ifu:02d}")
    cards = {"CHIP NAME": "CHIP", "CHIP ID": "ID", "CHIP LIVE": True}
    for n, (x, y) in enumerate(CORNERS, start=1):
        cards |= {
            f"OUT{n} X": x, f"OUT{n} Y": y, f"OUT{n} NX": 2048, f"OUT{n} NY": 2056,
            f"OUT{n} PRSCX": 32, f"OUT{n} PRSCY": 32, f"OUT{n} OVSCX": 32, f"OUT{n} OVSCY": 32,
            f"OUT{n} RON": 2.8,
        }  # fmt: skip
        if gain is not None:
            cards[f"OUT{n} GAIN"] = gain
    for key, value in cards.items():
        hdu.header[f"HIERARCH ESO DET {key}"] = value
    return hdu


def bias_header(number):
    """The primary header of the ``number``-th bias of a night."""
    primary = fits.PrimaryHDU()
    primary.header.update({
        "INSTRUME": "MUSE", "OBJECT": "BIAS", "EXPTIME": 0.0,
        "DATE-OBS": f"2020-01-01T10:0{number}:00.000", "MJD-OBS": 58849.4 + number / 1440,
    })  # fmt: skip
    for key, value in {
        "INS MODE": "WFM-NOAO-N", "DET READ CURID": 1, "DET READ CURNAME": "SCI1.0",
        "DET BINX": 1, "DET BINY": 1,
    }.items():  # fmt: skip
        primary.header[f"HIERARCH ESO {key}"] = value
    return primary


def write_biases(folder, names):
    """Write a bias for each name, all of one IFU and with the noise of a real read-out."""
    noise = np.random.default_rng(1).normal(1000.0, 2.6, (4240, 4224)).astype(np.float32)
    paths = []
    for number, name in enumerate(names):
        values = np.roll(noise, 1000 * number, axis=0).astype(np.uint16)
        path = folder / name
        fits.HDUList([bias_header(number), bias_extension(values)]).writeto(path)
        paths.append(path)
    return paths
