"""Calibrations that the user chose, or the archive did: they go before the association's own."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from musedask.config import Choice
from musedask.errors import InputError, MissingError
from musedask.reduction.frames import Frame
from musedask.reduction.planning.sequences import Sequence, role_of, stem_of
from musedask.reduction.recipes import RECIPES

NOTHING = "none"
"""As ``file`` of a choice: go without."""
ELSEWHERE = {"OFFSET_LIST": "offsets", "OUTPUT_WCS": "grid"}
"""What cannot be chosen file by file -> the setting of ``[reduction]`` for it."""
ROLES_TO_CHOOSE = tuple(
    sorted({role_of(tag) for recipe in RECIPES.values() for tag in recipe.takes} | {"SKY"})
)
"""What a choice, a window or ``allow_missing`` can be about."""


@dataclass(frozen=True)
class Chosen:
    """What was chosen for one frame and role."""

    files: tuple[Frame, ...]
    """Files, any of which makes a sequence the chosen one; none to go without."""
    choice: Choice
    """Where it was chosen."""


class Choices:
    """The choices of a configuration, checked against the frames.

    Raises
    ------
    InputError
        If a tag is none that can be chosen, a file is of another tag, or a
        choice is for no frame that there is.
    MissingError
        If a file that was chosen is not there.
    """

    def __init__(self, choices: Iterable[Choice], frames: Iterable[Frame]) -> None:
        every = tuple(frames)
        users = {name for frame in every for name in _names(frame)} | {"*"}
        by_file = _by_file(every)
        self._by_user: dict[tuple[str, str], tuple[int, Chosen]] = {}
        self._choices = tuple(choices)
        self._used: set[int] = set()
        for order, choice in enumerate(self._choices):
            role = known_role(choice.tag, "[[reduction.choose]] tag")
            if role in ELSEWHERE:
                raise InputError(
                    f"[[reduction.choose]] tag = {choice.tag!r}: this follows from "
                    f"[reduction] {ELSEWHERE[role]}"
                )
            if choice.frames not in users:
                raise InputError(
                    f"[[reduction.choose]] frames = {choice.frames!r}: no frame has this "
                    "DATE-OBS, name, night, template or tag; correct it, or take it out"
                )
            chosen = Chosen(_chosen_files(choice, role, by_file), choice)
            self._by_user[choice.frames, role] = order, chosen

    def find(self, user: Sequence, role: str) -> Chosen | None:
        """Give what was chosen for a sequence (an exposure is one, too); the last one counts."""
        if not self._by_user:
            return None
        names = {name for frame in user.frames for name in _names(frame)} | {"*"}
        found = [self._by_user[name, role] for name in names if (name, role) in self._by_user]
        if not found:
            return None
        order, chosen = max(found, key=lambda one: one[0])
        self._used.add(order)
        return chosen

    def unused(self) -> tuple[Choice, ...]:
        """Choices that nothing has asked for, or that later ones override."""
        return tuple(c for order, c in enumerate(self._choices) if order not in self._used)


def known_role(tag: str, where: str) -> str:
    """Give the role of a tag that a user wrote.

    Raises
    ------
    InputError
        If the chain has no such calibration; names the nearest.
    """
    role = role_of(tag)
    if role not in ROLES_TO_CHOOSE:
        near = difflib.get_close_matches(tag.upper(), ROLES_TO_CHOOSE, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(ROLES_TO_CHOOSE)}"
        raise InputError(f"{where} {tag!r}: the chain takes no such calibration; {hint}")
    return role


def _chosen_files(
    choice: Choice, role: str, by_file: Mapping[str, list[Frame]]
) -> tuple[Frame, ...]:
    if choice.file == NOTHING:
        return ()
    files = by_file.get(choice.file, [])
    if not files:
        near = difflib.get_close_matches(choice.file, by_file, 1)
        hint = f"; the nearest name is {near[0]}" if near else ""
        raise MissingError(
            f"[[reduction.choose]] {choice.tag} = {choice.file!r} for {choice.frames}: there is "
            f"no such file or TPL START{hint}; add the file, or take the choice out"
        )
    fitting = tuple(f for f in files if _can_play(f, role))
    if not fitting:
        raise InputError(
            f"[[reduction.choose]] {choice.tag} = {choice.file!r} for {choice.frames}: this is "
            f"{files[0].tag or files[0].kind}, not {choice.tag}"
        )
    return fitting


def _can_play(frame: Frame, role: str) -> bool:
    return role_of(frame.tag) == role or (role == "LSF_PROFILE" and frame.tag == "ARC")


def _by_file(frames: Iterable[Frame]) -> dict[str, list[Frame]]:
    """Files by each name that a user may write."""
    found: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        names = {frame.path, frame.name, stem_of(frame.name), frame.date_obs, frame.template_start}
        for name in names - {""}:
            found[name].append(frame)
    return found


def _names(frame: Frame) -> set[str]:
    """What a choice may call a frame that it is for."""
    names = {
        frame.path, frame.name, stem_of(frame.name), frame.date_obs, frame.date_obs[:23],
        frame.night, frame.template_start, frame.tag,
    }  # fmt: skip
    return names - {""}
