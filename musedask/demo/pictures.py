"""The demo's pictures. They need matplotlib, which only the demo does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from musedask.demo.cubes import CubeLike, mean_coverage, white_light
from musedask.demo.exposures import CENTRE_DEG
from musedask.errors import MissingError
from musedask.sky import ARCSEC_PER_DEG, SkyProjection
from musedask.whole_files import appearing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats32 = np.ndarray[Any, np.dtype[np.float32]]

_EMPTY = "0.82"
FLUX_LABEL = r"mean flux  [$10^{-20}$ erg s$^{-1}$ cm$^{-2}$ $\mathrm{\AA}^{-1}$ spaxel$^{-1}$]"


def white_light_pngs(
    before: CubeLike,
    after: CubeLike,
    folder: str | os.PathLike[str],
    *,
    after_name: str = "median",
    centre_deg: tuple[float, float] = CENTRE_DEG,
) -> list[Path]:
    """Draw one exposure, the stack, its coverage, and the three side by side.

    Parameters
    ----------
    before
        One exposure: its FITS file or cube.
    after
        The stack, with its counts: an exported FITS file or a cube.
    folder
        Where ``before.png``, ``after.png``, ``coverage.png`` and ``demo.png`` go.
    after_name
        What the stack is called in the titles.
    centre_deg
        RA and DEC of the pictures' zero.

    Raises
    ------
    MissingError
        If matplotlib is not installed.
    FileError
        If the folder cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as err:
        raise MissingError(
            "the pictures need matplotlib, which is not installed: pip install 'musedask[demo]'"
        ) from err
    images = [white_light(before), white_light(after), mean_coverage(after)]
    titles = ["One exposure", f"{after_name.capitalize()} of all exposures", "Exposures per voxel"]
    bright = [np.nanpercentile(image, 99.7) for image, _ in images[:2]]
    scale = (0.0, float(max(bright)))
    base = Path(folder)
    paths = []
    for name, (image, projection), title in zip(
        ("before", "after", "coverage"), images, titles, strict=True
    ):
        figure = Figure(figsize=(5.6, 4.9), layout="constrained")
        _draw(figure, figure.add_subplot(), image, projection, title, scale, centre_deg)
        paths.append(_save(figure, base / f"{name}.png"))
    figure = Figure(figsize=(15.0, 4.7), layout="constrained")
    every = [_limits(image, projection, centre_deg) for image, projection in images]
    for axes, (image, projection), title in zip(figure.subplots(1, 3), images, titles, strict=True):
        _draw(figure, axes, image, projection, title, scale, centre_deg)
        axes.set_xlim(max(box[0] for box in every), min(box[1] for box in every))
        axes.set_ylim(min(box[2] for box in every), max(box[3] for box in every))
    paths.append(_save(figure, base / "demo.png"))
    return paths


def _draw(
    figure: Figure,
    axes: Axes,
    image: Floats32,
    projection: SkyProjection,
    title: str,
    scale: tuple[float, float],
    centre_deg: tuple[float, float],
) -> None:
    """Draw one picture with its axes and its colour bar."""
    from matplotlib import colormaps
    from matplotlib.colors import AsinhNorm, BoundaryNorm
    from matplotlib.ticker import MultipleLocator

    counts = title.startswith("Exposures")
    if counts:
        colours = colormaps["viridis"]
        top = int(np.ceil(np.nanmax(image)))
        norm: Any = BoundaryNorm(np.arange(-0.5, top + 1), colours.N)
    else:
        colours = colormaps["inferno"].with_extremes(bad=_EMPTY)
        norm = AsinhNorm(linear_width=scale[1] / 12, vmin=scale[0], vmax=scale[1])
    west, east, south, north = _limits(image, projection, centre_deg)
    drawn = axes.imshow(
        np.ma.masked_invalid(image), origin="lower", extent=(west, east, south, north),
        cmap=colours, norm=norm, interpolation="nearest",
    )  # fmt: skip
    axes.set_facecolor(_EMPTY)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(5))
    axes.set(xlabel="east  [arcsec]", ylabel="north  [arcsec]", title=title)
    ticks = np.arange(top + 1) if counts else _round_ticks(scale[1])
    bar = figure.colorbar(drawn, ax=axes, shrink=0.92, pad=0.02, ticks=ticks)
    bar.set_label("mean number of exposures" if counts else FLUX_LABEL, fontsize="small")
    bar.ax.minorticks_off()
    if not counts:
        bar.ax.set_yticklabels([f"{tick:g}" for tick in ticks])


def _round_ticks(top: float) -> list[float]:
    return [0.0, *(tick for tick in (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0) if tick < top)]


def _limits(
    image: Floats32, projection: SkyProjection, centre_deg: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Left, right, bottom and top edge in arcseconds east and north of the centre."""
    ny, nx = image.shape
    ra, dec = projection.to_sky([-0.5, nx - 0.5], [-0.5, ny - 0.5])
    turn = (ra - centre_deg[0] + 180.0) % 360.0 - 180.0
    east = turn * np.cos(np.radians(centre_deg[1])) * ARCSEC_PER_DEG
    north = (dec - centre_deg[1]) * ARCSEC_PER_DEG
    return float(east[0]), float(east[1]), float(north[0]), float(north[1])


def _save(figure: Figure, path: Path) -> Path:
    with appearing(path) as partial:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without the software's name the same picture is the same file.
        figure.savefig(partial, format="png", dpi=110, metadata={"Software": None})
    return path
