"""A review that is served for a test: a table, what was compared, a server in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

from musedask.alignment.material import Compared, material_folder, write_material
from musedask.alignment.review.server import ReviewServer
from musedask.alignment.review.session import Review
from musedask.offsets import OffsetTable


def write_review(folder: Path, compared: Sequence[Compared]) -> Path:
    """An offset table, and beside it what was compared."""
    path = folder / "offsets.ecsv"
    folder.mkdir(parents=True, exist_ok=True)
    OffsetTable(tuple(one.measurement.offset for one in compared)).write(path)
    write_material(material_folder(path), compared)
    return path


class Served:
    """A server in a thread of its own."""

    def __init__(self, path: Path, who: str = "tester") -> None:
        self.path = path
        self.review = Review(path, who)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.server = ReviewServer(self.review)
        asyncio.run_coroutine_threadsafe(self.server.start(), self.loop).result(30)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    @property
    def address(self) -> str:
        return self.server.address

    def table(self) -> OffsetTable:
        return OffsetTable.read(self.path)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop).result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)
        self.loop.close()
