"""Which frames each recipe has used, as a table: a row for each line of each SOF."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from astropy.table import Column, Table

from musedask.reduction.job.record import JobRecord, UsedFile
from musedask.reduction.jobs import STAGES

COLUMNS = (
    ("job", "key of the job"),
    ("recipe", "its recipe"),
    ("stage", "stage of the chain"),
    ("ifu", "its IFU; 0 for the whole field"),
    ("tag", "tag of the frame in the SOF"),
    ("date_obs", "DATE-OBS of the frame; empty if it has none"),
    ("made_by", "key of the job that made the frame; empty for a raw frame or a static table"),
    ("file", "the frame; what a job made, below the run's folder of products"),
)
"""Names and what they are."""


def used_frames_table(records: Iterable[JobRecord], dates: Mapping[str, str]) -> Table:
    """Say which frames finished jobs have used; reads nothing.

    Parameters
    ----------
    records
        Of the finished jobs.
    dates
        Identity of a frame that was there before (:attr:`Frame.identity`) -> its DATE-OBS.

    Returns
    -------
    Table
        Jobs in the order of the chain, their frames in the order of the SOF.
    """
    done = sorted(records, key=_place)
    made = {f"{record.key}/{product.file}": product.date_obs
            for record in done for product in record.products}  # fmt: skip
    rows = [_row(record, used, dates, made) for record in done for used in record.inputs]
    columns: Sequence[Sequence[str | int]] = (
        list(zip(*rows, strict=True)) if rows else [[] for _ in COLUMNS]
    )
    return Table([
        Column(values, name, dtype=int if name == "ifu" else str, description=text)
        for (name, text), values in zip(COLUMNS, columns, strict=True)
    ])  # fmt: skip


def _place(record: JobRecord) -> tuple[int, str, int, str]:
    stage = STAGES.index(record.stage) if record.stage in STAGES else len(STAGES)
    date = min((product.date_obs for product in record.products), default="")
    return stage, date, record.ifu or 0, record.key


def _row(
    record: JobRecord, used: UsedFile, dates: Mapping[str, str], made: Mapping[str, str]
) -> tuple[str | int, ...]:
    file, date = used.path, dates.get(used.identity, "")
    # Beside a product, or made just for its job: the run may have been moved since.
    if used.job or not used.identity:
        recipe, key, name = used.path.split("/")[-3:]
        file, date = f"{recipe}/{key}/{name}", made.get(f"{key}/{name}", "")
    whose = (record.key, record.recipe, record.stage, record.ifu or 0)
    return (*whose, used.tag, date, used.job, file)
