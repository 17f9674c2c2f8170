"""The server of the page: on this machine only, for who knows the token in its address.

No text of a request becomes part of a path: the page's files are read into memory at the
start, and exposures are asked for by their number.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.web import Application, HTTPError, RequestHandler

from musedask.alignment.json_files import json_text
from musedask.alignment.review.applying import OutdatedError
from musedask.alignment.review.decisions import decision_of
from musedask.alignment.review.images import images_record
from musedask.alignment.review.overview import make_overview, usable
from musedask.alignment.review.page_data import (
    exposure_record,
    mosaic_record,
    script,
    summary,
)
from musedask.alignment.review.page_files import PAGE, page_files
from musedask.alignment.review.session import Review
from musedask.errors import FileError, InputError, MusedaskError

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""What a browser may call this machine; the port is another one through a tunnel."""
LARGEST_REQUEST = 64 * 1024
_TOKEN_BYTES = 24
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class ReviewServer:
    """Serves the page of one review from an asyncio loop.

    Parameters
    ----------
    review
        What is reviewed.
    port
        Where it listens; 0 is any that is free.
    """

    def __init__(self, review: Review, port: int = 0) -> None:
        self.review = review
        self.port = port
        self.token = secrets.token_urlsafe(_TOKEN_BYTES)
        self.visited = asyncio.Event()
        """Set when a browser has asked for the page."""
        self.files = page_files()
        # One thread: a review is not made for several at once.
        self._thread = ThreadPoolExecutor(1, "review")
        self._mosaic_lock = threading.Lock()
        self._server: HTTPServer | None = None

    @property
    def address(self) -> str:
        """What to open in the browser; the token in it is the key."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    async def start(self) -> None:
        """Listen.

        Raises
        ------
        InputError
            If the port is taken.
        """
        listening = socket.socket()
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((HOST, self.port))
            listening.listen()
            listening.setblocking(False)
        except OSError as err:
            listening.close()
            raise InputError(
                f"port {self.port} of {HOST} cannot be had: {err.strerror or err}; choose another "
                "one, or none: then any that is free is taken"
            ) from err
        self.port = listening.getsockname()[1]
        application = Application(
            [(r"/([^/]*)/(.*)", _Handler, {"server": self})],
            default_handler_class=_Nothing,
            log_function=_no_log,
        )
        self._server = HTTPServer(
            application, max_body_size=LARGEST_REQUEST, max_header_size=LARGEST_REQUEST
        )
        self._server.add_sockets([listening])

    async def stop(self) -> None:
        """Stop listening, and finish what is being written."""
        if self._server is not None:
            self._server.stop()
            await self._server.close_all_connections()
        self._thread.shutdown()

    async def work(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call something that is short in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    async def long_work(self, call: Callable[[], bytes]) -> bytes:
        """Call something that takes long, and that nobody waits for when the server ends."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[bytes] = loop.create_future()

        def tell(result: bytes | Exception) -> None:
            if found.done():
                return
            if isinstance(result, Exception):
                found.set_exception(result)
            else:
                found.set_result(result)

        def run() -> None:
            try:
                result: bytes | Exception = call()
            except Exception as err:  # it belongs to who asked
                result = err
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(tell, result)

        threading.Thread(target=run, name="mosaic", daemon=True).start()
        return await found

    def summary(self) -> bytes:
        """All exposures, read again from the disk."""
        self.review.refresh()
        return script("summary", summary(self.review, "server"))

    def images(self, index: int) -> bytes:
        """The images of an exposure."""
        row = self.review.table().find(self._key(index))
        return script(f"exposure-{index}", images_record(self.review.compared(row)))

    def mosaic(self) -> bytes:
        """The mosaic with the offsets as they are now; written to the disk as well."""
        with self._mosaic_lock:
            material, table = self.review.material, self.review.table()
            overview = make_overview(usable(material, table), material.folder)
        return script("mosaic", mosaic_record(overview) | {"folder": str(material.folder)})

    def decide(self, index: int, record: Any) -> dict[str, Any]:
        """Write a decision down."""
        try:
            decision = decision_of(record)
        except FileError as err:
            raise InputError(str(err)) from None
        key = self._key(index)
        if decision.key != key:
            raise InputError(f"exposure {index} is {key}, the decision is on {decision.key}")
        return exposure_record(self.review, self.review.decide(decision), index)

    def undo(self, index: int, based_on: Any) -> dict[str, Any]:
        """Take the last decision on an exposure back."""
        row = self.review.undo(self._key(index), str(based_on))
        return exposure_record(self.review, row, index)

    def _key(self, index: int) -> str:
        keys = self.review.keys
        if not 0 <= index < len(keys):
            raise InputError(f"there is no exposure {index}, they are 0 to {len(keys) - 1}")
        return keys[index]


def _no_log(handler: RequestHandler) -> None:
    """Keep addresses, which hold the token, out of logs."""


class _Plain(RequestHandler):
    """What all answers have in common."""

    def set_default_headers(self) -> None:
        """Set the headers that shut everything else out."""
        self.clear_header("Server")
        for name, value in _HEADERS.items():
            self.set_header(name, value)

    def write_error(self, status_code: int, **rest: Any) -> None:
        """Say what is wrong as JSON, without details of the program."""
        error = rest.get("exc_info", (None, None, None))[1]
        text = error.log_message if isinstance(error, HTTPError) else None
        self.answer({"error": text or self._reason}, status_code)

    def log_exception(self, kind: Any, error: Any, traceback: Any) -> None:
        """Log faults of the program; what a request did wrong is in the answer."""
        if isinstance(error, Exception) and not isinstance(error, HTTPError):
            log.error("the review page met a fault", exc_info=(kind, error, traceback))

    def answer(self, record: Any, status: int = 200) -> None:
        """Answer with JSON."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json_text(record))


class _Nothing(_Plain):
    """Anything outside the page."""

    def prepare(self) -> None:
        """Refuse."""
        raise HTTPError(404, "not found")


class _Handler(_Plain):
    """The page's files, its data, and the decisions that it sends."""

    def initialize(self, server: ReviewServer) -> None:
        """Take the server."""
        self.server = server

    def prepare(self) -> None:
        """Refuse who does not know the token, and pages from elsewhere."""
        token = self.path_args[0] if self.path_args else ""
        if not hmac.compare_digest(str(token).encode(), self.server.token.encode()):
            raise HTTPError(403, "the token in the address is wrong: use the address as printed")
        host = self.request.headers.get("Host", "")
        if host.rpartition(":")[0] not in LOOPBACK and host not in LOOPBACK:
            raise HTTPError(403, "this address is not this machine's")
        origin = self.request.headers.get("Origin")
        site = self.request.headers.get("Sec-Fetch-Site", "none")
        known = site in ("none", "same-origin") or self._is_led_here()
        if not known or origin not in (None, f"http://{host}"):
            raise HTTPError(403, "another site asked for this")

    def _is_led_here(self) -> bool:
        """Whether a link is followed to the page itself, as from the file that leads to it.

        No script of the page that has the link can read what this gives, nor frame it.
        """
        mode, target = (self.request.headers.get(f"Sec-Fetch-{key}") for key in ("Mode", "Dest"))
        to_page = self.request.method == "GET" and self.path_args[1:] == [""]
        return to_page and (mode, target) == ("navigate", "document")

    async def get(self, token: str, name: str) -> None:
        """Give a file of the page, or data."""
        files = self.server.files
        if (name or PAGE) in files:
            if not name:
                self.server.visited.set()
            kind, content = files[name or PAGE]
            self.set_header("Content-Type", kind)
            self.finish(content)
            return
        number = _number_in(name)
        if number is None and name not in ("data/summary.js", "data/mosaic.js"):
            raise HTTPError(404, "not found")
        try:
            if number is not None:
                content = await self.server.work(self.server.images, number)
            elif name == "data/mosaic.js":
                content = await self.server.long_work(self.server.mosaic)
            else:
                content = await self.server.work(self.server.summary)
        except MusedaskError as err:
            what = name.removeprefix("data/").removesuffix(".js")
            content = script(what, {"error": str(err)})
        self.set_header("Content-Type", "text/javascript; charset=utf-8")
        self.finish(content)

    async def post(self, token: str, name: str) -> None:
        """Take a decision, or take it back."""
        if name not in ("decide", "undo"):
            raise HTTPError(404, "not found")
        if self.request.headers.get("Origin") is None:
            raise HTTPError(403, "Origin is missing: decisions come from the page")
        record = self._json()
        index = record.get("index")
        if type(index) is not int:
            raise HTTPError(400, f"index is {index!r}, expected a whole number")
        try:
            if name == "decide":
                result = await self.server.work(self.server.decide, index, record.get("decision"))
            else:
                result = await self.server.work(self.server.undo, index, record.get("based_on"))
        except OutdatedError as err:
            self.answer({"error": str(err)}, 409)
        except MusedaskError as err:
            log.info("refused: %s", err)
            self.answer({"error": str(err)}, 400 if isinstance(err, InputError) else 500)
        else:
            self.answer(result)

    def _json(self) -> dict[str, Any]:
        kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip()
        if kind != "application/json":
            raise HTTPError(415, "expected application/json")
        try:
            record = json.loads(self.request.body.decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError) as err:
            raise HTTPError(400, f"this is no JSON: {err}") from None
        if not isinstance(record, dict):
            raise HTTPError(400, "expected a JSON object")
        return record


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _number_in(name: str) -> int | None:
    """The number in ``data/exposure-12.js``."""
    digits = name.removeprefix("data/exposure-").removesuffix(".js")
    whole = name == f"data/exposure-{digits}.js" and digits.isascii() and digits.isdecimal()
    return int(digits) if whole and len(digits) < 7 else None
