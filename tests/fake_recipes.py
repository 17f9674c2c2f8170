"""A stand-in for a whole pipeline, inside this process: small products that the next step reads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fake_jobs import EsorexFailedError
from fits_files import write_cube
from stub_esorex import fits_bytes

from musedask.offsets import Offset, OffsetTable
from musedask.reduction.job.record import RECORD_NAME, JobRecord, Product, record_text
from musedask.reduction.jobs import Job, MadeInput

PIXEL_DEG = 0.2 / 3600


@dataclass(frozen=True)
class FakeRecipes:
    """Makes what a job is to make; told by files in a folder which jobs fail."""

    folder: str
    pointings: Mapping[str, tuple[float, float]]
    """DATE-OBS -> RA and DEC of the header, degrees."""
    offsets: Mapping[str, tuple[float, float]]
    """DATE-OBS -> what muse_exp_align finds, arcseconds; it leaves the others out."""

    def __call__(self, job: Job, folders: Any, *, attempt: int, **_: Any) -> JobRecord:
        with open(Path(self.folder, "calls"), "a", encoding="utf-8") as file:
            file.write(f"{job.stage} {job.title}\n")
        if any(word in job.title for word in self.broken()):
            raise EsorexFailedError(f"esorex ended with status 255: {job.recipe} is broken")
        final = folders.final(job)
        partial = final.with_name(f".{final.name}-{os.getpid()}-{id(job)}")
        partial.mkdir(parents=True)
        products = tuple(self._product(partial, job, tag) for tag in job.products)
        record = _record(job, final, products, attempt)
        (partial / RECORD_NAME).write_text(record_text(record))
        partial.rename(final)
        return record

    def calls(self) -> list[str]:
        """Stage and title of each call."""
        path = Path(self.folder, "calls")
        return path.read_text().splitlines() if path.exists() else []

    def broken(self) -> list[str]:
        """Words in the titles of jobs that fail."""
        path = Path(self.folder, "broken")
        return json.loads(path.read_text()) if path.exists() else []

    def break_jobs(self, *words: str) -> None:
        """Let jobs fail from now on that have one of these words in their titles."""
        Path(self.folder, "broken").write_text(json.dumps(words))

    def _product(self, folder: Path, job: Job, tag: str) -> Product:
        path = folder / f"{tag}.fits"
        if tag == "DATACUBE_FINAL":
            self._cube(path, job)
        elif tag == "OFFSET_LIST":
            found = {date: self.offsets[date] for date in job.frames if date in self.offsets}
            rows = (
                Offset(date_obs=date, ra_offset_arcsec=east, dec_offset_arcsec=north,
                       dec_deg=self.pointings[date][1])
                for date, (east, north) in found.items()
            )  # fmt: skip
            OffsetTable(tuple(rows)).write(path, format="offset_list")
        else:
            path.write_bytes(fits_bytes({"DATE-OBS": job.title, "ESO PRO CATG": tag}))
        return Product(path.name, tag, job.ifu, "white", "", path.stat().st_size, "")

    def _cube(self, path: Path, job: Job) -> None:
        """A cube at the pointing of its exposure, or on the grid that it is given."""
        date = job.frames[0]
        ra, dec = self.pointings[date]
        wcs = {"CRVAL1": ra, "CRVAL2": dec, "CRPIX1": 8.0, "CRPIX2": 7.0, "CRVAL3": 4750.0,
               "CD1_1": -PIXEL_DEG, "CD2_2": PIXEL_DEG}  # fmt: skip
        shape = (4, 12, 14)
        grid = next((i for i in job.inputs if isinstance(i, MadeInput) and i.tag == "OUTPUT_WCS"),
                    None)  # fmt: skip
        if grid is not None:
            cards = cards_of(grid.text)
            wcs |= {key: cards[key] for key in wcs if key in cards}
            shape = (4, int(cards["NAXIS2"]), int(cards["NAXIS1"]))
        flux = np.zeros(shape, np.float32)
        write_cube(
            path, data=flux, stat=flux + 1, wcs=wcs,
            primary={"DATE-OBS": date, "RA": ra, "DEC": dec, "EXPTIME": 900.0},
        )  # fmt: skip


def cards_of(text: str) -> dict[str, Any]:
    """Numbers of a header of lines."""
    found = {}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        try:
            found[key.strip()] = float(value.partition("/")[0])
        except ValueError:
            continue
    return found


def _record(job: Job, final: Path, products: tuple[Product, ...], attempt: int) -> JobRecord:
    return JobRecord(
        folder=final, key=job.key, recipe=job.recipe, stage=job.stage, title=job.title,
        ifu=job.ifu, frames=job.frames, parameters=job.parameters, inputs=(), products=products,
        pipeline=job.version, esorex="", cpl="", musedask="", command=(), cores=1, wall_s=2.0,
        cpu_s=2.0, peak_memory=0, host="here", attempt=attempt, started="", ended="",
        warnings=(f"{job.recipe} creaks",) if job.recipe == "muse_lsf" else (),
    )  # fmt: skip
