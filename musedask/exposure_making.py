"""Making the exposure table: from the headers of cubes, and a look at their sky."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from astropy.table import Table

from musedask.errors import FileError, InputError
from musedask.exposure_facts import ExposureFacts, group_pointings, read_facts
from musedask.exposures import COLUMNS, check_exposure_table
from musedask.progress import Progress, Ticker
from musedask.wording import counted


def make_exposure_table(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    measure: bool = True,
    pointing_radius_arcsec: float = 20.0,
    progress: Progress | None = None,
) -> Table:
    """Make the exposure table of some cubes from their headers and a look at their sky.

    A file that cannot be read gets a row as well, with ``use`` False and the
    reason; of several cubes with one DATE-OBS the first is used.

    Parameters
    ----------
    paths
        FITS files of reduced exposures.
    measure
        Whether to open each cube and measure its sky between 7000 and 7100
        Angstrom (it reads about 70 MB of a full cube, and unpacks a packed
        one). Otherwise nothing is read but headers.
    pointing_radius_arcsec
        Exposures whose header positions chain together within this are one
        pointing, named after the target.
    progress
        Told after each file how far it has come.

    Returns
    -------
    Table
        One row per file in the order given, file names absolute.

    Raises
    ------
    InputError
        If there are no paths.
    FileError
        If none of the files can be read.
    """
    files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not files:
        raise InputError("no exposures: name at least one FITS cube")
    ticker = Ticker(progress, len(files))
    facts = []
    for file in files:
        facts.append(read_facts(Path(file).absolute(), measure=measure))
        ticker.step()
    return exposure_table_of(facts, pointing_radius_arcsec)


def exposure_table_of(
    facts: Sequence[ExposureFacts], pointing_radius_arcsec: float = 20.0
) -> Table:
    """Make the exposure table of what is known of some files.

    Parameters
    ----------
    facts
        One for each file.
    pointing_radius_arcsec
        As in :func:`make_exposure_table`.

    Raises
    ------
    FileError
        If none of the files could be read.
    """
    if not any(fact.is_good for fact in facts):
        reasons = "; ".join(f"{fact.path}: {fact.reason}" for fact in facts[:3])
        raise FileError(
            f"no exposure that can be read among {counted(len(facts), 'file')}: {reasons}"
        )
    table = Table({"path": [str(fact.path) for fact in facts]})
    for spec in COLUMNS:
        if hasattr(ExposureFacts, spec.name) and spec.name != "path":
            table[spec.name] = [getattr(fact, spec.name) for fact in facts]
    table["pointing"] = _pointing_names(facts, pointing_radius_arcsec)
    use, reason = _used_once(facts)
    table["use"], table["reason"] = use, reason
    return check_exposure_table(table, must_exist=False)[[spec.name for spec in COLUMNS]]


def _used_once(facts: Sequence[ExposureFacts]) -> tuple[list[bool], list[str]]:
    """Use the first readable cube of each DATE-OBS; say why not the others."""
    first: dict[str, ExposureFacts] = {}
    use, reasons = [], []
    for fact in facts:
        winner = first.setdefault(fact.date_obs[:23], fact) if fact.is_good else fact
        same = winner is not fact
        use.append(fact.is_good and not same)
        reasons.append(f"same DATE-OBS as {winner.path.name}" if same else fact.reason)
    return use, reasons


def _pointing_names(facts: Sequence[ExposureFacts], radius_arcsec: float) -> list[str]:
    """Name each field after its commonest target; number fields that share a target."""
    labels = group_pointings([f.ra_deg for f in facts], [f.dec_deg for f in facts], radius_arcsec)
    targets = {
        label: Counter(f.target for f, n in zip(facts, labels, strict=True) if n == label)
        for label in sorted(set(labels) - {-1})
    }
    base = {label: (found.most_common(1)[0][0] or "field") for label, found in targets.items()}
    shared = Counter(base.values())
    names: dict[int, str] = {}
    for label, name in base.items():
        k = 1
        unique = name if shared[name] == 1 and name != "field" else f"{name}-{k}"
        while unique in names.values():
            k += 1
            unique = f"{name}-{k}"
        names[label] = unique
    return [names[n] if n >= 0 else f.target for f, n in zip(facts, labels, strict=True)]
