"""The files of the page, from the package."""

from __future__ import annotations

from importlib import resources

PAGE = "index.html"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def page_files() -> dict[str, tuple[str, bytes]]:
    """Name -> type and content of each file of the page."""
    folder = resources.files("musedask.alignment.review") / "page"
    files = {}
    for file in folder.iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in KINDS:
            files[file.name] = KINDS[suffix], file.read_bytes()
    return files
