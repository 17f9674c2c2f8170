"""A headless Chromium, driven through its DevTools protocol: real keys, a real mouse.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--disable-extensions", "--no-default-browser-check",
    "--hide-scrollbars", "--mute-audio", "--remote-debugging-port=0",
)  # fmt: skip
PATIENCE_S = 60.0
"""Before a test gives up waiting; a loaded machine is slow."""
ALT, SHIFT = 1, 8
_CODES = {
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Enter": 13, "Escape": 27,
    "Tab": 9, " ": 32,
}  # fmt: skip


def chromium_is_missing() -> str:
    """Say what is missing, or nothing."""
    return "" if chromium() else "Chromium is not installed (Debian package chromium)"


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("google-chrome")


class Browser:
    """One browser process with its own profile."""

    def __init__(self, folder: Path, width: int = 1280, height: int = 800) -> None:
        program = chromium()
        assert program is not None, chromium_is_missing()
        self.profile = folder / "profile"
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True)
        self.runner = asyncio.Runner()
        with open(folder / "chromium.log", "wb") as log:
            self.process = subprocess.Popen(
                [program, *FLAGS, f"--user-data-dir={self.profile}",
                 f"--window-size={width},{height}", "about:blank"],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.size = width, height
        port_file = self.profile / "DevToolsActivePort"
        wait_until(lambda: port_file.exists() and len(port_file.read_text().split()) == 2)
        self.port = int(port_file.read_text().split()[0])
        self.pages: list[Page] = []

    def open(self, address: str) -> Page:
        """Open a tab."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/json/new?about:blank", method="PUT"
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            target = json.load(answer)
        page = Page(self, target["webSocketDebuggerUrl"])
        self.pages.append(page)
        page.go(address)
        return page

    def close(self) -> None:
        """End the process and all its children."""
        for page in list(self.pages):
            page.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)
        self.runner.close()


class Page:
    """One tab: what is typed and clicked in it, what it shows, what it asked the network for."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.browser = browser
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._number = 0
        self._connection: WebSocketClientConnection = self._run(_connected(address))
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        width, height = browser.size
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip
        self.send("Browser.setDownloadBehavior", behavior="allow",
                  downloadPath=str(browser.downloads))  # fmt: skip

    def _run(self, work: Any) -> Any:
        return self.browser.runner.run(work)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        self._number += 1
        text = json.dumps({"id": self._number, "method": method, "params": params})
        answer = self._run(self._answered(text, self._number))
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    async def _answered(self, text: str, number: int) -> dict[str, Any]:
        await self._connection.write_message(text)
        while True:
            message = await asyncio.wait_for(self._connection.read_message(), PATIENCE_S)
            assert message is not None, "the browser has gone"
            record: dict[str, Any] = json.loads(message)
            if record.get("id") == number:
                return record
            if record.get("method") == "Page.javascriptDialogOpening":  # "leave this page?"
                agreed = {"method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
                self._number += 1
                await self._connection.write_message(json.dumps(agreed | {"id": self._number}))
            self._take(record)

    def _take(self, event: dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"])[:2000])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.complaints.append(json.dumps(params["args"]))

    def go(self, address: str) -> None:
        """Go to an address, and wait until the page there has started."""
        self.send("Page.navigate", url=address)
        self.wait("document.body && document.body.dataset.ready === 'yes'")

    def reload(self) -> None:
        self.evaluate("document.body.dataset.ready = 'old'")
        self.send("Page.reload")
        self.wait("document.body && document.body.dataset.ready === 'yes'")

    def evaluate(self, expression: str) -> Any:
        """Give the value of an expression in the page."""
        found = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, f"{expression}: {found['exceptionDetails']}"
        return found["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Wait until an expression is true."""

        def is_true() -> Any:
            try:
                return self.evaluate(expression)
            except AssertionError:  # while the page changes there is nothing to evaluate in
                return False

        return wait_until(is_true, expression)

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key."""
        code = _CODES.get(key, ord(key.upper()[0]))
        about: dict[str, Any] = {
            "key": key, "code": key if key in _CODES else f"Key{key.upper()}",
            "windowsVirtualKeyCode": code, "modifiers": modifiers,
        }  # fmt: skip
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.send("Input.dispatchKeyEvent", **about, **down)
        self.send("Input.dispatchKeyEvent", **about, type="keyUp")

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def place_of(self, selector: str) -> tuple[float, float]:
        """Middle of an element, which has to be inside the window."""
        box = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " const b = e.getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2, b.width]; })()"
        )
        assert box[2] > 0, f"{selector} is not shown"
        return box[0], box[1]

    def move(self, x: float, y: float) -> None:
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click_at(self, x: float, y: float) -> None:
        self.move(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def click(self, selector: str) -> None:
        self.click_at(*self.place_of(selector))

    def text(self, selector: str) -> str:
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent"))

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        """Hang up; twice is as good as once."""
        if self in self.browser.pages:
            self.browser.pages.remove(self)
            self._run(self._closed())

    async def _closed(self) -> None:
        self._connection.close()
        # Until the other side has hung up, too: else the socket is left to the collector.
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while await self._connection.read_message() is not None:
                    pass


async def _connected(address: str) -> WebSocketClientConnection:
    return await websocket_connect(address, max_message_size=1 << 28)


def wait_until(is_true: Callable[[], Any], what: str = "") -> Any:
    """Wait for something; fail where it does not come."""
    end = time.monotonic() + PATIENCE_S
    while not (found := is_true()):
        assert time.monotonic() < end, f"waited {PATIENCE_S:.0f} s in vain for {what}"
        time.sleep(0.02)
    return found
