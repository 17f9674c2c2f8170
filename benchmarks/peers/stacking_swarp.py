"""SWarp, a slice at a time: bilinear, median."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
from astropy.io import fits

from benchmarks import reference
from benchmarks.exposures import grid_header
from benchmarks.jobs import Array, Comparison, Job, Place, Prepared, UnavailableError

_SKY_CARDS = (
    "CTYPE1", "CTYPE2", "CUNIT1", "CUNIT2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2",
    "CD1_1", "CD1_2", "CD2_1", "CD2_2",
)  # fmt: skip


def median(job: Job, place: Place) -> Prepared:
    """Slices and their weights are cut out beforehand, which is not timed."""
    program = shutil.which("SWarp") or shutil.which("swarp")
    if program is None:
        raise UnavailableError("SWarp is not installed (Debian package swarp)")
    data = job.data
    assert data is not None
    n_slices = min(int(job.options.get("slices", 1)), data.n_channels)
    header = grid_header(data)
    names = [_cut_out(place, channel) for channel in range(n_slices)]
    for channel in range(n_slices):
        _write_head(place.scratch / f"deep{channel}.head", header)
    threads = str(job.options.get("threads", 2))

    def run() -> list[Path]:
        made = []
        for channel, images in enumerate(names):
            output = place.scratch / f"deep{channel}.fits"
            subprocess.run(
                [program, *images, "-IMAGEOUT_NAME", output.name, "-WEIGHTOUT_NAME",
                 f"deep{channel}.weight.fits", *_OPTIONS, "-NTHREADS", threads],
                cwd=place.scratch, check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            made.append(output)
        return made

    def compare(made: list[Path]) -> Comparison:
        images = [fits.getdata(path).astype(float) for path in made]
        target = reference.celestial(header)
        places = reference.windows(len(images), images[0].shape)
        found = [(window, images[window.channel][window.slices]) for window in places]
        return reference.compare_median(found, place.exposures, target)

    per_slice = data.n_voxels // data.n_channels
    return Prepared(run, compare, per_slice * n_slices, place.exposures)


_OPTIONS = (
    "-c", "/dev/null", "-COMBINE_TYPE", "MEDIAN", "-RESAMPLING_TYPE", "BILINEAR",
    "-WEIGHT_TYPE", "MAP_WEIGHT", "-RESCALE_WEIGHTS", "N", "-SUBTRACT_BACK", "N",
    "-FSCALASTRO_TYPE", "NONE", "-FSCALE_DEFAULT", "1.0", "-FSCALE_KEYWORD", "NOSCALE",
    "-PROJECTION_ERR", "0", "-OVERSAMPLING", "1", "-DELETE_TMPFILES", "Y", "-WRITE_XML", "N",
    "-VERBOSE_TYPE", "QUIET",
)  # fmt: skip


def _cut_out(place: Place, channel: int) -> list[str]:
    """Images of one channel, missing pixels 0 with the weight 0; SWarp finds weights by name."""
    names = []
    for n, path in enumerate(place.exposures):
        with fits.open(path, memmap=True) as hdus:
            image: Array = np.array(hdus["DATA"].data[channel], np.float32)
            cards = {key: hdus["DATA"].header[key] for key in _SKY_CARDS}
        valid = np.isfinite(image)
        name = f"slice{channel}_{n:04d}"
        for values, end in ((np.where(valid, image, 0), ""), (valid, ".weight")):
            hdu = fits.PrimaryHDU(values.astype(np.float32), fits.Header(cards))
            hdu.writeto(place.scratch / f"{name}{end}.fits")
        names.append(f"{name}.fits")
    return names


def _write_head(path: Path, header: fits.Header) -> None:
    """The grid, as SWarp takes it: a text of cards beside the output."""
    grid = fits.Header({"NAXIS": 2, "NAXIS1": header["NAXIS1"], "NAXIS2": header["NAXIS2"]})
    grid.update({key: header[key] for key in _SKY_CARDS})
    path.write_text(grid.tostring(sep="\n", endcard=True, padding=False) + "\n")
