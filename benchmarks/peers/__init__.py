"""Who is measured: musedask, others that do the same, and the limits that the machine sets.

A peer is a function that gets ready; its module is imported in the process of its job alone,
so that start-up and memory are its own.
"""

from __future__ import annotations

from importlib import import_module

from benchmarks.jobs import Prepare
from musedask.errors import MissingError

PEERS = {
    "musedask": "stacking_musedask:stack_to_store",
    "musedask-kernel": "stacking_musedask:kernel_alone",
    "musedask-compilation": "compiling:first_stack",
    "musedask-export": "exporting:musedask_export",
    "musedask-reading": "reading:store",
    "musedask-processes": "stacking_musedask:stack_on_processes",
    "musedask-graph": "planning:graph",
    "reference": "plain:reference_stack",
    "floor-read": "plain:read_and_swap",
    "floor-write": "plain:write",
    "mpdaf-median": "stacking_mpdaf:median",
    "mpdaf-combine": "stacking_mpdaf:combine",
    "mpdaf-pycombine": "stacking_mpdaf:pycombine",
    "mpdaf-write": "exporting:mpdaf_write",
    "cosmos-interp": "stacking_reproject:cosmos_interp",
    "cosmos-adaptive": "stacking_reproject:cosmos_adaptive",
    "reproject-coadd": "stacking_reproject:coadd",
    "swarp": "stacking_swarp:median",
    "xarray-dask": "stacking_xarray:stack_to_zarr",
    "esorex-combine": "combining_esorex:exp_combine",
    "fits-reading": "reading:fits_file",
    "reduction": "reducing:musedask_reduce",
    "reduction-again": "reducing:reduce_again",
    "reduction-planning": "planning_reduction:plan_from_headers",
    "esorex-script": "reducing:esorex_script",
}
"""Name -> module of this package and function in it."""


def load(name: str) -> Prepare:
    """Import a peer by its name here, or one from elsewhere by ``module:function``.

    Raises
    ------
    MissingError
        If there is no such peer.
    """
    if name not in PEERS and ":" not in name:
        raise MissingError(f"no peer {name!r}: there are {', '.join(PEERS)}")
    home = f"{__name__}." if name in PEERS else ""
    module, _, function = PEERS.get(name, name).partition(":")
    found: Prepare = getattr(import_module(f"{home}{module}"), function)
    return found


def family(name: str) -> str:
    """What comes before the first dash: ``mpdaf`` of ``mpdaf-median``."""
    return name.partition("-")[0]
