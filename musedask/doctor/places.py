"""What one machine lacks for esorex to work on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from musedask.doctor.finding import Finding, bad, doubtful, good
from musedask.doctor.needs import Needs
from musedask.doctor.probe import Probe

SLOW = 20e6
"""Bytes per second: below that, products of hundreds of megabytes take minutes to write."""


def pipeline(probe: Probe, where: str) -> Iterator[Finding]:
    """Whether esorex and all recipes are there."""
    if probe.no_pipeline:
        yield bad("esorex", f"{where}: {probe.no_pipeline}", "install it, or name it")
    elif probe.recipes_missing:
        yield bad(
            "recipes", f"{where}: esorex has no {', '.join(probe.recipes_missing)}",
            "install the MUSE pipeline, or name its folder in MUSEDASK_RECIPE_DIR",
        )  # fmt: skip
    else:
        yield good("esorex", f"{where}: {probe.pipeline}, all recipes")
    if not probe.ties:
        yield doubtful(
            "setpriv", f"{where}: not there; esorex may outlive a worker that is killed",
            "install util-linux 2.33 or newer",
        )  # fmt: skip


def disk(probe: Probe, folder: Path, needs: Needs) -> Iterator[Finding]:
    """Whether a folder can be worked in."""
    where = f"{folder} on {probe.host}"
    if probe.not_writable:
        yield bad("folder", f"{where}: {probe.not_writable}", "choose one that can be written to")
        return
    speed = f"{where}: written to with {probe.bytes_per_s / 1e6:.0f} MB/s"
    if probe.bytes_per_s < SLOW:
        yield doubtful("folder", speed, "keep the run on a faster disk")
    elif probe.free < needs.disk:
        yield bad(
            "disk",
            f"{where}: {probe.free / 1e9:.0f} GB free, products need {needs.disk / 1e9:.0f}",
            "make room, or keep the run elsewhere",
        )  # fmt: skip
    else:
        yield good("folder", f"{speed}, {probe.free / 1e9:.0f} GB free")
    if not probe.locks:
        yield doubtful(
            "locks", f"{where}: files cannot be locked",
            "start one reduction at a time, or use a file system with locks",
        )  # fmt: skip
