"""An exported cube as OUTPUT_WCS of the real pipeline."""

from __future__ import annotations

import numpy as np
import pytest
from pixel_table import combine_pixel_tables

from musedask.cube import make_cube, sky_of, spectral_of
from musedask.fits import export_fits, open_cube
from musedask.sky import SkyProjection
from musedask.spectral import SpectralAxis

pytestmark = pytest.mark.real_esorex


def combine(folder, *calibrations):
    """Open the cube that muse_exp_combine makes of two pixel tables."""
    dates = [f"2020-01-0{n}T00:00:00.000" for n in (1, 2)]
    return open_cube(combine_pixel_tables(folder, dates, *calibrations))


@pytest.mark.parametrize("rotation_deg", [0.0, 30.0])
def test_the_pipeline_resamples_onto_the_grid_of_an_exported_cube(tmp_path, rotation_deg):
    values = np.ones((8, 37, 41), np.float32)
    sky = SkyProjection.north_up(150.1002, -60.2001, 0.2, 20.0, 18.0)
    grid = make_cube(
        {"flux": values, "variance": values, "n_exposures": values.astype(np.uint16),
         "exposure_time": values},
        sky.moved(0.0, 0.0, rotation_deg),
        SpectralAxis(4752.5, 1.25, 8, "air", "BARYCENT"),
    )  # fmt: skip
    export_fits(grid, tmp_path / "grid.fits")
    cube = combine(tmp_path, (tmp_path / "grid.fits", "OUTPUT_WCS"))
    assert cube["flux"].shape == grid["flux"].shape
    assert sky_of(cube).lattice_step(sky_of(grid), (37, 41)) == (0, 0)
    assert spectral_of(cube).first_angstrom == 4752.5
    centre = cube["flux"].values[1:-1, 15:20, 18:23]
    np.testing.assert_allclose(centre, 1.0, rtol=1e-5)


def test_without_it_the_pipeline_chooses_another_grid(tmp_path):
    cube = combine(tmp_path)
    assert cube["flux"].shape == (12, 30, 30)
