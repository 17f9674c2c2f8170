"""What a file is, from its header: the classification of ESO's MUSE pipeline (``muse.oca``).

Raw frames go by DPR CATG, TYPE and TECH, everything that a pipeline made by PRO
CATG. Tables of the calibration kit that do not say what they are go by the names
under which ESO ships them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from musedask.reduction.frames import Kind

STATIC_TAGS = frozenset(
    {
        "ASTROMETRY_REFERENCE",
        "ASTROMETRY_WCS",
        "AUTOCAL_FACTORS",
        "BADPIX_TABLE",
        "EXTINCT_TABLE",
        "FILTER_LIST",
        "GEOMETRY_TABLE",
        "LINE_CATALOG",
        "OUTPUT_WCS",
        "RAMAN_LINES",
        "SKY_LINES",
        "STD_FLUX_TABLE",
        "TELLURIC_REGIONS",
        "VIGNETTING_MASK",
    }
)
"""PRO CATGs of tables that come with the kit or from the user, and that no run makes anew."""
PRODUCT_TAGS = frozenset(
    {
        "DATACUBE_FINAL",
        "DATACUBE_SKYFLAT",
        "DATACUBE_STD",
        "ILLUM",
        "IMAGE_FOV",
        "LSF_PROFILE",
        "MASTER_BIAS",
        "MASTER_DARK",
        "MASTER_FLAT",
        "OFFSET_LIST",
        "PIXTABLE_OBJECT",
        "PIXTABLE_REDUCED",
        "PIXTABLE_SKY",
        "PIXTABLE_STD",
        "SKY_CONTINUUM",
        "SKY_MASK",
        "STD_RESPONSE",
        "STD_TELLURIC",
        "TRACE_TABLE",
        "TWILIGHT_CUBE",
        "WAVECAL_TABLE",
    }
)
"""PRO CATGs of products that are taken for MUSE's where INSTRUME is missing."""
KIT_NAMES: tuple[tuple[str, str], ...] = (
    (r"astrometry_reference", "ASTROMETRY_REFERENCE"),
    (r"astrometry_wcs_[wn]fm", "ASTROMETRY_WCS"),
    (r"badpix_table", "BADPIX_TABLE"),
    (r"extinct_table", "EXTINCT_TABLE"),
    (r"filter_list", "FILTER_LIST"),
    (r"geometry_table_[wn]fm", "GEOMETRY_TABLE"),
    (r"line_catalog", "LINE_CATALOG"),
    (r"lsf_profile_slice", "LSF_PROFILE"),
    (r"raman_lines", "RAMAN_LINES"),
    (r"sky_lines", "SKY_LINES"),
    (r"std_flux_table", "STD_FLUX_TABLE"),
    (r"std_response_[wn]fm", "STD_RESPONSE"),
    (r"telluric_regions", "TELLURIC_REGIONS"),
    (r"vignetting_mask", "VIGNETTING_MASK"),
)
"""How the files of the kit are named -> tag; users put a prefix or a date to these names."""
UNUSED_CATEGORIES = ("ACQUISITION", "TEST", "TECHNICAL")
_SKY_RECIPES = ("MUSE_CREATE_SKY", "MUSE_SCIPOST")


class Classification(NamedTuple):
    """What a file is."""

    kind: Kind
    """Raw, static, product, skipped or unknown."""
    tag: str
    """Tag in a SOF; empty if there is none."""
    reason: str
    """Why it is skipped or unknown, or what is odd about it; for people."""


class _Raw(NamedTuple):
    """The cards that raw frames are told apart by, in capitals."""

    category: str
    types: frozenset[str]
    template: str
    exposures: int


_Test = Callable[[_Raw], bool]


def _is(*types: str) -> _Test:
    return lambda raw: raw.types == frozenset(types)


def _has(*types: str) -> _Test:
    return lambda raw: raw.types >= frozenset(types)


def _is_illum(raw: _Raw) -> bool:
    """An attached flat: by its type, or (in the first years) by its template.

    The type decides, as it does for the pipeline, which only warns of another
    template; but the sequences of lamp flats stay what they are.
    """
    if not raw.types >= {"FLAT", "LAMP"} or _is_template(raw, "specflat"):
        return False
    return "ILLUM" in raw.types or (_is_template(raw, "specflatatt") and raw.exposures < 3)


def _is_flat(raw: _Raw) -> bool:
    return raw.types >= {"FLAT", "LAMP"} and (raw.exposures >= 3 or _is_template(raw, "specflat"))


def _is_template(raw: _Raw, name: str) -> bool:
    return re.fullmatch(f"MUSE_[WN]FM_CAL_{name}", raw.template, re.IGNORECASE) is not None


_ROWS: tuple[tuple[tuple[str, ...], _Test, str], ...] = (
    (("CALIB",), _is("BIAS"), "BIAS"),
    (("CALIB",), _is("DARK"), "DARK"),
    # Before FLAT: an ILLUM is a lamp flat, too.
    (("CALIB",), _is_illum, "ILLUM"),
    (("CALIB",), _is_flat, "FLAT"),
    (("CALIB",), _has("FLAT", "SKY"), "SKYFLAT"),
    (("CALIB",), _is("WAVE"), "ARC"),
    (("CALIB",), _is("WAVE", "LSF"), "ARC_LSF"),
    (("CALIB",), _has("WAVE", "MASK"), "MASK"),
    (("CALIB", "SCIENCE"), _is("SKY"), "SKY"),
    (("CALIB",), _is("STD"), "STD"),
    (("CALIB",), _is("ASTROMETRY"), "ASTROMETRY"),
    (("SCIENCE",), _is("OBJECT"), "OBJECT"),
    (("CALIB",), lambda raw: any("TELLU" in one for one in raw.types), "OBJECT"),
    (("TECHNICAL",), _has("FLAT", "LAMP", "THRUPUT"), "AMPL"),
)
"""DPR CATGs, test of the rest, tag; the first row that holds counts."""


def classify(header: Mapping[str, Any], name: str = "") -> Classification:
    """Say what a file is; never raises, whatever the cards hold.

    Parameters
    ----------
    header
        Cards of the PRIMARY header, with or without ``HIERARCH``.
    name
        Name of the file, for tables that do not say what they are.
    """
    cards = {_name(key): value for key, value in header.items()}
    instrument = _text(cards, "INSTRUME")
    product = _text(cards, "ESO PRO CATG")
    if instrument not in ("", "MUSE"):
        return Classification("unknown", "", f"a file of {instrument}, not of MUSE")
    if product:
        return _of_product(cards, product, instrument, name)
    if _text(cards, "ESO DPR CATG") or _text(cards, "ESO DPR TYPE"):
        return _of_raw(cards, instrument)
    if tag := kit_tag(name):
        return Classification("static", tag, "by its name; it has no PRO CATG")
    if kind := _text(cards, "PRODCATG"):
        return Classification("skipped", "", f"a product of the archive (PRODCATG = {kind})")
    if instrument:
        return Classification("unknown", "", "of MUSE, but without DPR CATG and PRO CATG")
    return Classification("unknown", "", "no INSTRUME, DPR CATG or PRO CATG in its header")


def kit_tag(name: str) -> str:
    """Tag of a file that is named as in the calibration kit, empty for others."""
    for pattern, tag in KIT_NAMES:
        if re.search(f"(?:^|[^a-z]){pattern}", name.lower()):
            return tag
    return ""


def _of_product(cards: Mapping[str, Any], tag: str, instrument: str, name: str) -> Classification:
    if not instrument and tag not in STATIC_TAGS | PRODUCT_TAGS:
        return Classification("unknown", "", f"PRO CATG = {tag} without INSTRUME")
    # The kit has products of earlier runs as defaults, and a run makes SKY_LINES of its own.
    made_by = _text(cards, "ESO PRO REC1 ID")
    is_own = tag == "SKY_LINES" and made_by in _SKY_RECIPES
    is_static = not is_own and (tag in STATIC_TAGS or kit_tag(name) == tag)
    return Classification("static" if is_static else "product", tag, "")


def _of_raw(cards: Mapping[str, Any], instrument: str) -> Classification:
    category, kind = _text(cards, "ESO DPR CATG"), _text(cards, "ESO DPR TYPE")
    technique = _text(cards, "ESO DPR TECH")
    if not instrument:
        return Classification("unknown", "", "a raw frame without INSTRUME")
    if category in ("ACQUISITION", "TEST"):
        return Classification("skipped", "", f"DPR CATG = {category}")
    if "IFU" not in technique:
        if not technique:
            return Classification("unknown", "", "a raw frame without DPR TECH")
        return Classification("skipped", "", f"DPR TECH = {technique}: not of the IFUs")
    types = frozenset(part.strip() for part in kind.split(",")) - {""}
    raw = _Raw(category, types, _text(cards, "ESO TPL ID"), _integer(cards, "ESO TPL NEXP"))
    for categories, holds, tag in _ROWS:
        if category in categories and holds(raw):
            return Classification("raw", tag, "")
    what = f"DPR CATG = {category or 'missing'}, DPR TYPE = {kind or 'missing'}"
    if category == "CALIB" and types >= {"FLAT", "LAMP"}:
        template = raw.template or "missing"
        what += f": a lamp flat of no sequence (TPL NEXP = {raw.exposures}, TPL ID = {template})"
        return Classification("skipped", "", what)
    if category in UNUSED_CATEGORIES:
        return Classification("skipped", "", what)
    return Classification("unknown", "", f"no raw frame has {what}")


def _name(key: object) -> str:
    """A card's name in capitals, with single spaces and without HIERARCH."""
    words = str(key).upper().replace(".", " ").split()
    return " ".join(words[1:] if words[:1] == ["HIERARCH"] else words)


def _text(cards: Mapping[str, Any], key: str) -> str:
    """A card's text in capitals, empty if there is none."""
    value = cards.get(key)
    return value.strip().upper() if isinstance(value, str) else ""


def _integer(cards: Mapping[str, Any], key: str) -> int:
    """A card's number, 0 if there is none."""
    try:
        return int(cards.get(key) or 0)
    except (TypeError, ValueError, OverflowError):
        return 0
