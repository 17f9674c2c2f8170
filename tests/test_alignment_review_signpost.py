"""The way to the review page: a browser finds it, and nobody else is told the token."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import sys
from pathlib import Path

import pytest
from browser import Browser, wait_until
from command_line import process
from compared_fields import made_compared
from served_review import Served, write_review

from musedask.alignment.review.signpost import signpost
from musedask.errors import FileError

ADDRESS = 'http://127.0.0.1:8080/to-ken_/?a=1&b="<'
A_BROWSER = """\
import json, pathlib, stat, sys, urllib.parse, urllib.request
path = pathlib.Path(urllib.parse.unquote(urllib.parse.urlsplit(sys.argv[1]).path))
text = path.read_text()
modes = [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent)]
words = pathlib.Path("/proc/self/cmdline").read_text().split("\\0")
address = text.partition("url=")[2].partition('"')[0]
print(json.dumps(["seen", words, modes, str(path)]), file=open(sys.argv[2], "w"))
if sys.argv[3] == "goes":
    urllib.request.urlopen(address, timeout=30).read()
"""


@pytest.fixture(scope="module")
def fields():
    return [made_compared(0, side=40)]


def test_only_its_user_can_read_it_and_it_is_removed(tmp_path):
    with signpost(tmp_path, ADDRESS) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.parent.parent == tmp_path
        assert 'content="0; url=http://127.0.0.1:8080/to-ken_/?a=1&amp;b=&quot;&lt;"' in (
            path.read_text()
        )
    assert list(tmp_path.iterdir()) == []


def test_where_others_could_read_it_nothing_is_written(tmp_path, monkeypatch):
    """As on a file system without modes."""
    opened = os.open

    def open_to_all(path, flags, mode=0o777, **rest):
        return opened(path, flags, 0o644 if mode == 0o600 else mode, **rest)

    monkeypatch.setattr("os.open", open_to_all)
    with pytest.raises(FileError, match=r"review\.html: others can read"), signpost(
        tmp_path, ADDRESS
    ):  # fmt: skip
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_named():
    with pytest.raises(FileError, match="/proc/self"), signpost(Path("/proc/self"), ADDRESS):
        pass


def start(tmp_path, fields, how):
    """``musedask review --open`` with a browser that notes what it is given."""
    table = write_review(tmp_path, fields)
    (tmp_path / "browser.py").write_text(A_BROWSER)
    note = tmp_path / "note.json"
    browser = f"{sys.executable} {tmp_path}/browser.py %s {note} {how}"
    running = process("review", table, "--open", env={"BROWSER": browser})
    address = running.stdout.readline().strip()
    return running, address, note, table.with_suffix(".alignment")


def ended(running):
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=60)
    return err


def test_the_command_tells_the_token_to_no_command_line(tmp_path, fields):
    running, address, note, folder = start(tmp_path, fields, "goes")
    try:
        token = re.fullmatch(r"http://127\.0\.0\.1:\d+/([\w-]{32})/", address)[1]
        wait_until(lambda: note.exists() and note.read_text(), "no browser was started")
        _, words, modes, path = json.loads(note.read_text())
        assert Path(path).as_uri() in words
        assert modes == [0o600, 0o700]
        assert not any(token in word for word in words)
        wait_until(lambda: not Path(path).parent.exists(), "it is still there")
        assert running.poll() is None
    finally:
        err = ended(running)
    assert "the review has ended" in err
    assert not list(folder.glob("open-*"))


def test_at_the_end_it_is_removed_though_no_browser_came(tmp_path, fields):
    running, _, note, folder = start(tmp_path, fields, "stays")
    try:
        wait_until(lambda: note.exists() and note.read_text(), "no browser was started")
        assert len(list(folder.glob("open-*"))) == 1
    finally:
        ended(running)
    assert not list(folder.glob("open-*"))


@pytest.mark.real_browser
def test_a_browser_that_opens_the_file_is_led_to_the_page(tmp_path, fields):
    served = Served(write_review(tmp_path / "run", fields))
    browser = Browser(tmp_path / "browser")
    try:
        with signpost(tmp_path, served.address) as path:
            page = browser.open(path.as_uri())
            page.wait("review.now().exposure.name === 'field_00'")
            assert page.evaluate("location.href") == served.address
            assert page.evaluate("document.referrer") == ""
            assert page.complaints == []
            assert served.server.visited.is_set()
    finally:
        browser.close()
        served.stop()
