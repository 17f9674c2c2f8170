"""Which exposure a row of a file is for: by DATE-OBS, or by the name of its white image."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import PurePath

from musedask.errors import InputError
from musedask.offsets import ExposureLike, date_key

_WHITE = re.compile(r"^white(?:_?light)?[_-]|[_-]white(?:_?light)?$", re.IGNORECASE)


def by_date(date_obs: str, exposures: Sequence[ExposureLike] | None) -> ExposureLike | None:
    """Give the exposure of this DATE-OBS, or None."""
    key = date_key(date_obs)
    return next((e for e in exposures or () if date_key(e.date_obs) == key), None)


def by_file_name(path: str, exposures: Sequence[ExposureLike]) -> ExposureLike:
    """Give the exposure that a white image belongs to.

    The image has the file name of the cube, or that with ``white`` before or
    after it; folders and ``.fits``, ``.fits.gz``, ``.fits.fz`` do not count.

    Raises
    ------
    InputError
        If no exposure, or more than one, goes by that name.
    """
    wanted = stem(path)
    plain = _WHITE.sub("", wanted)
    for name in dict.fromkeys((wanted, plain)):
        found = [exposure for exposure in exposures if name in _names(exposure)]
        if len({date_key(exposure.date_obs) for exposure in found}) > 1:
            dates = ", ".join(exposure.date_obs for exposure in found)
            raise InputError(f"{path}: {len(found)} exposures go by this name ({dates}): rename")
        if found:
            return found[0]
    names = sorted({name for exposure in exposures for name in _names(exposure)})
    near = difflib.get_close_matches(plain, names, n=1)
    hint = f"; the nearest is {near[0]}" if near else ""
    raise InputError(
        f"{path} belongs to none of the exposures given ({len(exposures)}){hint}: give the "
        "exposure too, or remove its entry"
    )


def stem(path: str) -> str:
    """Give the file name without folder and FITS endings."""
    return re.sub(r"(\.fits?)?(\.gz|\.fz)?$", "", PurePath(path).name, flags=re.IGNORECASE)


def _names(exposure: ExposureLike) -> set[str]:
    """Stems of the exposure's name and file."""
    candidates = (str(exposure.name), str(getattr(exposure, "path", "") or ""))
    return {stem(name) for name in candidates if name}
