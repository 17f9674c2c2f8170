"""The page as files that open without a server; its decisions are a download."""

from __future__ import annotations

import os
from pathlib import Path

from musedask.alignment.review.images import images_record
from musedask.alignment.review.overview import make_overview, usable
from musedask.alignment.review.page_data import mosaic_record, script, summary
from musedask.alignment.review.page_files import PAGE, page_files
from musedask.alignment.review.session import Review
from musedask.errors import FileError, MusedaskError
from musedask.progress import Progress
from musedask.whole_files import write_whole

DATA = "data"


def write_static(
    review: Review, folder: str | os.PathLike[str], progress: Progress | None = None
) -> Path:
    """Write the page of a review as files.

    Parameters
    ----------
    review
        What is reviewed.
    folder
        Made if it is not there; files of an older page in it are replaced.
    progress
        Called with exposures done, exposures in all and seconds left.

    Returns
    -------
    Path
        The file to open.

    Raises
    ------
    FileError
        If the folder holds something else, or a file cannot be written.
    """
    path = Path(folder)
    _check_folder(path)
    records = summary(review, "static")
    rows = [review.table().find(key) for key in review.keys]
    for i, row in enumerate(rows):
        if review.entry(row.key) is not None:
            record = images_record(review.compared(row))
            write_whole(path / DATA / f"exposure-{i}.js", script(f"exposure-{i}", record))
        if progress is not None:
            progress(i + 1, len(rows), float("nan"))
    try:
        pairs = usable(review.material, review.table())
        mosaic = mosaic_record(make_overview(pairs, review.material.folder))
        mosaic["folder"] = str(review.material.folder)
    except MusedaskError as err:
        mosaic = {"error": str(err)}
    write_whole(path / DATA / "mosaic.js", script("mosaic", mosaic))
    write_whole(path / DATA / "summary.js", script("summary", records))
    for name, (_, content) in page_files().items():
        if name != PAGE:
            write_whole(path / name, content)
    # Last: who finds it finds everything that it needs.
    write_whole(path / PAGE, page_files()[PAGE][1])
    return path / PAGE


def _check_folder(path: Path) -> None:
    try:
        (path / DATA).mkdir(parents=True, exist_ok=True)
        known = {DATA, *page_files()}
        strangers = sorted(found.name for found in path.iterdir() if found.name not in known)
    except OSError as err:
        raise FileError(f"{path}: cannot be made: {err.strerror or err}") from err
    if strangers:
        raise FileError(
            f"{path}: holds other files ({', '.join(strangers[:3])}); give a folder of its own"
        )
