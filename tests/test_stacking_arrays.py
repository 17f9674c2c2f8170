"""Names of a stack's blocks in Dask: the same for the same content, and for no other."""

from __future__ import annotations

import cloudpickle
import numpy as np
import pytest
from exposure_cubes import memory_cube

from musedask import CubeGrid, stack
from musedask.masks import ExposureMask
from musedask.stacking import Clipping

RNG = np.random.default_rng(1)
FLUX = RNG.standard_normal((4, 2, 20, 20)).astype(np.float32)


def stacked(flux=FLUX, moved=0.0, **options):
    cubes = [memory_cube(f, np.ones_like(f), n) for n, f in enumerate(flux)]
    grid = CubeGrid.from_cube(cubes[0])
    grid = CubeGrid(grid.sky.shifted(moved, 0.0), grid.spectral, grid.ny, grid.nx)
    return stack(cubes, None, grid, **{"methods": ("mean",), **options}).results


def test_the_same_stack_again_has_the_same_name():
    assert stacked().name == stacked().name


@pytest.mark.parametrize(
    "change",
    [
        {"flux": 2 * FLUX}, {"flux": FLUX[:3]}, {"moved": 0.5}, {"methods": ("median",)},
        {"methods": ("mean", "median")}, {"resampling": "bilinear"}, {"weights": "equal"},
        {"mask": ExposureMask(border_pix=2)}, {"subtract_background": True},
        {"methods": ("clipped",)}, {"methods": ("clipped",), "clipping": Clipping(nsigma=3.0)},
        {"methods": ("mean_odd",)}, {"weights": "noise"},
    ],
    ids=repr,
)  # fmt: skip
def test_a_stack_of_other_content_has_another_name(change):
    others = [stacked(), *([stacked(methods=("clipped",))] if "clipping" in change else [])]
    assert stacked(**change).name not in {other.name for other in others}


def test_tiles_of_equal_size_have_names_of_their_own(monkeypatch):
    monkeypatch.setattr("musedask.stacking.plan.TILE_PIX", 10)
    keys = stacked().__dask_graph__().layers
    assert sum(name.startswith("stack-block") for name in keys) == 4


def test_a_graph_is_small():
    results = stacked()
    assert len(cloudpickle.dumps(dict(results.__dask_graph__()))) < 2e5
