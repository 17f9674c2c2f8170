"""The command that shows offsets in the browser."""

from __future__ import annotations

import asyncio
import socket
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from musedask import console
from musedask.cli.options import A_FOLDER, A_PATH, verbose
from musedask.errors import FileError

if TYPE_CHECKING:
    from musedask.alignment.review.server import ReviewServer


@click.command()
@click.argument("offsets", type=A_PATH, metavar="[RUN | OFFSETS.ecsv]", default=Path("."))
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="PORT",
              help="Where the page is served; any that is free by default.")  # fmt: skip
@click.option("--static", type=A_FOLDER, metavar="DIR",
              help="Write the page as files that open without a server, and end.")  # fmt: skip
@click.option("--open/--no-open", "opened", default=False,
              help="Open the page in the browser; only printed by default.")  # fmt: skip
@click.option("--who", metavar="NAME", help="Noted with decisions; your user name by default.")
@verbose
def review(offsets: Path, port: int, static: Path | None, opened: bool, who: str | None) -> None:
    """Look at offsets in the browser, and decide.

    Blink, nudge, mask, accept or flag. What is decided is in the table at once;
    'musedask align' keeps it. The table is the one that 'musedask align' made, or
    that of a RUN; the images lie beside it, in NAME.alignment.

    \b
    musedask review offsets.ecsv
    musedask review offsets.ecsv --static page     (open page/index.html)
    musedask align --apply review.json -o offsets.ecsv
    """
    from musedask.alignment.by_hand import user_name
    from musedask.alignment.review.session import Review

    opened_review = Review(_table(offsets), who or user_name())
    if static is not None:
        from musedask.alignment.review.static import write_static

        with console.progress_bar("page", "exposures") as bar:
            page = write_static(opened_review, static, bar)
        click.echo(f"{page}: open it in a browser; its decisions are saved as review.json, then "
                   f"'musedask align --apply review.json -o {opened_review.path}'")  # fmt: skip
        return
    from musedask.alignment.review.server import ReviewServer

    try:
        asyncio.run(_serve(ReviewServer(opened_review, port), opened))
    except KeyboardInterrupt:
        console.say("musedask: the review has ended; all that was decided is in the table")


async def _serve(server: ReviewServer, opened: bool) -> None:
    """Serve until the process is told to end."""
    from musedask.alignment.by_hand import user_name

    await server.start()
    try:
        click.echo(server.address)
        console.say(
            "Open this address in a browser on this machine; who has it can change the offsets. "
            f"From elsewhere, first: ssh -L {server.port}:127.0.0.1:{server.port} "
            f"{user_name()}@{socket.gethostname()}. Ctrl-C ends the review."
        )
        if opened:
            await _open(server)
        await asyncio.Event().wait()
    finally:
        await server.stop()


async def _open(server: ReviewServer) -> None:
    """Open the page in the browser, and wait until it is there."""
    from musedask.alignment.review.signpost import signpost

    try:
        with signpost(server.review.material.folder, server.address) as page:
            if await asyncio.to_thread(webbrowser.open, page.as_uri()):
                await server.visited.wait()
            else:
                console.say("musedask: no browser could be started; open the address by hand")
    except FileError as err:
        console.say(f"musedask: --open: {err}; open the address by hand")


def _table(given: Path) -> Path:
    """The offset table of a run, or the file itself."""
    if not given.is_dir():
        return given
    from musedask.run import open_run

    return open_run(given).offsets
