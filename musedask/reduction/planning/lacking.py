"""Calibrations that are missing: all of them in one error, with the frames that need each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from musedask.errors import MissingError
from musedask.reduction.planning.picking import Lack
from musedask.reduction.planning.sequences import Sequence, role_of

_SHOWN = 5
"""Frames that are named for one missing calibration; the others are counted."""


@dataclass(eq=False)
class Lacking:
    """What is missing so far."""

    allowed: frozenset[str]
    """Roles without which a user wants to go on."""
    frames: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)
    """Tag and text -> frames that need it."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Frame -> why it is left out, as the user allowed."""

    def refuse(self, exposure: Sequence, lacks: Iterable[Lack]) -> bool:
        """Take down what an exposure lacks; give whether it cannot be reduced."""
        causes = dict.fromkeys(cause for lack in lacks for cause in lack.causes)
        frame = exposure.first
        name = f"{frame.tag} {frame.name}" + (f" ({frame.target})" if frame.target else "")
        hard = [cause for cause in causes if role_of(cause.tag) not in self.allowed]
        for cause in hard:
            self.frames.setdefault((cause.tag, cause.text), {})[name] = None
        if causes and not hard:
            self.left_out[name] = next(iter(causes)).text
        return bool(causes)

    def check(self) -> None:
        """Raise if anything is missing.

        Raises
        ------
        MissingError
            With a paragraph for each calibration, and what can be done.
        """
        if not self.frames:
            return
        lines = [f"{_number(len(self.frames))} missing; nothing was started:"]
        for (_, text), names in self.frames.items():
            shown = list(names)[:_SHOWN]
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            lines += [f"- {text}", f"  needed by {', '.join(shown)}{more}"]
        tags = ", ".join(f'"{tag}"' for tag in dict.fromkeys(tag for tag, _ in self.frames))
        lines.append(
            "Add the files, choose others in [[reduction.choose]], widen [reduction.windows], or "
            f"go on without: allow_missing = [{tags}] leaves out the frames that cannot do without"
        )
        raise MissingError("\n".join(lines))

    def notes(self) -> Iterable[str]:
        """Say which frames are left out."""
        return (f"{name} is left out: {why}" for name, why in self.left_out.items())


def _number(n_missing: int) -> str:
    return "1 calibration is" if n_missing == 1 else f"{n_missing} calibrations are"
