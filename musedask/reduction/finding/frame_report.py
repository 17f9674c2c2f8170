"""What ``musedask frames`` says: the frames by night, what is missing, what is left out."""

from __future__ import annotations

import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from musedask.reduction.finding.missing import lacks
from musedask.reduction.frames import Frame, FrameList
from musedask.wording import counted

_ORDER = (
    "BIAS", "DARK", "FLAT", "ARC", "ARC_LSF", "SKYFLAT", "ILLUM", "STD", "SKY", "OBJECT"
)  # fmt: skip
"""Tags in the order of the reduction; others follow."""
_LONG = 40
"""Files of one reason that are listed by name; of more, the number."""


def frame_report(frames: FrameList, width: int = 100) -> str:
    """Describe frames as text for a terminal.

    Parameters
    ----------
    frames
        What :func:`musedask.reduction.finding.scan.find_frames` found.
    width
        Columns of the terminal; lines are cut or wrapped to it, but not below 80.
    """
    width = max(width, 80)
    parts = [_heading(frames), *_nights(frames, width), *_tables(frames, width)]
    found, notes = lacks(frames)
    needed = [str(lack) for lack in found if not lack.consequence]
    optional = [str(lack) for lack in found if lack.consequence]
    if not frames.science:
        needed.insert(0, "no OBJECT: there is no exposure of science to reduce")
    parts += _listed("Missing for a reduction", needed or ["nothing"], width)
    parts += _listed("Not there, and not needed", optional, width)
    parts += _listed("Not used", notes, width)
    parts += _listed("Left out", _left_out(frames), width)
    parts += _listed("Notes", frames.notes, width)
    return "\n".join(parts)


def _heading(frames: FrameList) -> str:
    tally = Counter(frame.kind for frame in frames)
    kinds = ", ".join(f"{n} {kind}" for kind, n in tally.most_common())
    return f"{counted(len(frames), 'file')} in {', '.join(frames.folders)}: {kinds}"


def _nights(frames: FrameList, width: int) -> Iterator[str]:
    """A table for each night and mode: a line for each template, or frame without one."""
    groups: dict[tuple[str, str], list[Frame]] = defaultdict(list)
    for frame in frames.of_kind("raw"):
        groups[frame.night, frame.mode].append(frame)
    for (night, mode), members in sorted(groups.items()):
        yield ""
        yield f"Night {night or 'unknown'}, {mode or 'no mode'}: {counted(len(members), 'frame')}"
        yield f"  {'tag':10} {'files':>5} {'UTC':11} {'exptime':>8} {'IFUs':>6}  target, template"
        for template in _templates(members):
            yield _row(template)[:width]


def _templates(members: Iterable[Frame]) -> list[list[Frame]]:
    groups: dict[tuple[str, ...], list[Frame]] = defaultdict(list)
    for frame in members:
        start = frame.template_start or frame.date_obs
        groups[frame.tag, start, frame.target, f"{frame.exptime_s}"].append(frame)
    return sorted(groups.values(), key=lambda group: (_rank(group[0].tag), group[0].date_obs))


def _rank(tag: str) -> tuple[int, str]:
    return (_ORDER.index(tag) if tag in _ORDER else len(_ORDER), tag)


def _row(template: list[Frame]) -> str:
    one = template[0]
    dates = sorted(frame.date_obs for frame in template)
    times = dict.fromkeys((dates[0][11:16], dates[-1][11:16]))
    exptime = "-" if one.exptime_s != one.exptime_s else f"{one.exptime_s:.1f} s"
    what = one.target if one.tag in ("OBJECT", "SKY", "STD") else one.template_id
    return (
        f"  {one.tag:10} {len(template):5} {'-'.join(times):11} {exptime:>8} "
        f"{_ifus(template):>6}  {what}"
    )


def _ifus(template: Iterable[Frame]) -> str:
    """How many IFUs the frames have; ``?`` where the headers were not all read."""
    numbers = {None if frame.ifus is None else len(frame.ifus) for frame in template}
    known = sorted(n for n in numbers if n is not None)
    if not known:
        return "?"
    text = f"{known[0]}" if len(known) == 1 else f"{known[0]}-{known[-1]}"
    return text + "?" * (None in numbers)


def _tables(frames: FrameList, width: int) -> list[str]:
    """Static tables and products: tag, and the names of the files."""
    lines: list[str] = []
    for kind, title in (("static", "Static tables"), ("product", "Products")):
        names: dict[str, list[str]] = defaultdict(list)
        for frame in frames:
            if frame.kind == kind:
                names[frame.tag].append(frame.name)
        rows = []
        for tag, found in sorted(names.items()):
            more = " ..." if len(found) > 3 else ""
            rows.append(f"{tag:20} {len(found):5}  {', '.join(sorted(found)[:3])}{more}")
        lines += ["", title, *(f"  {row}"[:width] for row in rows)] if rows else []
    return lines


def _left_out(frames: FrameList) -> list[str]:
    """Skipped, unknown and unreadable files, by reason."""
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for frame in frames.of_kind("unreadable", "unknown", "skipped"):
        reasons[frame.kind, frame.reason].append(frame.name)
    lines = []
    for (kind, reason), names in sorted(reasons.items(), key=lambda item: item[0], reverse=True):
        listed = names if kind == "unreadable" and len(names) <= _LONG else names[:3]
        more = f" and {len(names) - len(listed)} more" if len(names) > len(listed) else ""
        lines.append(f"{kind}: {', '.join(listed)}{more}: {reason}")
    return lines


def _listed(title: str, lines: Iterable[str], width: int) -> list[str]:
    """A heading and its lines, wrapped; nothing if there are none."""
    wrapped = [
        part
        for line in lines
        for part in textwrap.wrap(
            line, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
        )
    ]
    return ["", title, *wrapped] if wrapped else []
