"""What is known of a set of simulated exposures, kept beside them.

A folder of exposures has

- ``truth.ecsv``: an offset table that puts each exposure right,
- ``truth.json``: what each exposure was asked to be,
- ``truth.fit``: the voxels that cosmic rays struck and the spaxels without data.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from musedask.errors import FileError, InputError
from musedask.offsets import OffsetTable
from musedask.simulation.damage import HIT_DTYPE
from musedask.simulation.exposure import ExposureSpec, Footprint
from musedask.simulation.observe import Observation
from musedask.whole_files import appearing, write_whole

OFFSETS_FILE = "truth.ecsv"
SPECS_FILE = "truth.json"
DAMAGE_FILE = "truth.fit"
"""Not ``.fits``: so ``FOLDER/*.fits`` are the exposures and nothing else."""
_LOST_DTYPE = np.dtype([("exposure", "<i4"), ("y", "<i4"), ("x", "<i4")])
_STRUCK_DTYPE = np.dtype([("exposure", "<i4"), *HIT_DTYPE.descr])


@dataclass(frozen=True)
class Truth:
    """A set of exposures and all that is known of them."""

    observations: tuple[Observation, ...]
    """One for each exposure."""

    def __iter__(self) -> Iterator[Observation]:
        return iter(self.observations)

    def __len__(self) -> int:
        return len(self.observations)

    @property
    def paths(self) -> list[Path]:
        """The cubes."""
        return [observation.path for observation in self]

    @property
    def offsets(self) -> OffsetTable:
        """The offsets that put the exposures right."""
        return OffsetTable(tuple(observation.spec.offset for observation in self))


def write_truth(observations: Sequence[Observation], folder: str | os.PathLike[str]) -> Truth:
    """Write the three files beside the exposures, replacing older ones.

    Raises
    ------
    InputError
        If there are no exposures, one is not in the folder, or two share a DATE-OBS.
    """
    if not observations:
        raise InputError("no exposures: there is no truth to be told")
    truth = Truth(tuple(observations))
    base = Path(folder)
    rows = []
    for observation in truth:
        if observation.path.parent.resolve() != base.resolve():
            raise InputError(f"{observation.path} is not in {base}: the truth is kept beside it")
        row = {"file": observation.path.name, "field": list(observation.footprint.field)}
        rows.append({**row, **asdict(observation.spec)})
    truth.offsets.write(base / OFFSETS_FILE, overwrite=True)
    write_whole(base / SPECS_FILE, json.dumps(rows, indent=1).encode() + b"\n")
    tables = fits.HDUList([fits.PrimaryHDU(), *_damage(truth)])
    with appearing(base / DAMAGE_FILE) as partial:
        tables.writeto(partial)
    return truth


def read_truth(folder: str | os.PathLike[str]) -> Truth:
    """Read the truth of the exposures in a folder.

    Raises
    ------
    FileError
        If the folder has none, or it is broken.
    """
    base = Path(folder)
    try:
        rows = json.loads((base / SPECS_FILE).read_text(encoding="utf-8"))
        with fits.open(base / DAMAGE_FILE, memmap=False) as hdus:
            hits, lost = (np.asarray(hdus[name].data) for name in ("HITS", "LOST"))
    except (OSError, ValueError, KeyError) as err:
        raise FileError(
            f"{base}: no truth of simulated exposures can be read here ({err}): make them again"
        ) from err
    observations = []
    for i, row in enumerate(rows):
        path, field = base / row.pop("file"), tuple(row.pop("field"))
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
        }
        spec = ExposureSpec(**values)
        struck = hits[hits["exposure"] == i]
        records = np.zeros(struck.size, HIT_DTYPE)
        for key in HIT_DTYPE.names or ():
            records[key] = struck[key]
        gone = lost[lost["exposure"] == i]
        spaxels = np.stack([gone["y"], gone["x"]], axis=1).astype(np.int64)
        observations.append(Observation(path, Footprint(spec, field), records, spaxels))
    return Truth(tuple(observations))


def _damage(truth: Truth) -> tuple[Any, Any]:
    hits, lost = [], []
    for i, observation in enumerate(truth):
        struck = np.zeros(observation.hits.size, _STRUCK_DTYPE)
        struck["exposure"] = i
        for key in HIT_DTYPE.names or ():
            struck[key] = observation.hits[key]
        hits.append(struck)
        gone = np.zeros(len(observation.lost), _LOST_DTYPE)
        gone["exposure"] = i
        gone["y"], gone["x"] = observation.lost[:, 0], observation.lost[:, 1]
        lost.append(gone)
    return (
        fits.BinTableHDU(np.concatenate(hits), name="HITS"),
        fits.BinTableHDU(np.concatenate(lost), name="LOST"),
    )
