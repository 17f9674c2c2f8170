"""The server of the review page: who does not belong is refused, what is wrong is said."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pytest
from astropy.io import fits
from command_line import command
from compared_fields import made_compared
from served_review import Served, write_review

from musedask.alignment.image_files import read_image
from musedask.alignment.material import material_folder
from musedask.alignment.review.decisions import row_version
from musedask.alignment.review.overview import make_overview, usable
from musedask.alignment.review.server import ReviewServer
from musedask.alignment.review.session import Review
from musedask.alignment.review.static import write_static
from musedask.errors import FileError, InputError, MissingError
from musedask.offsets import OffsetTable

NAMES = ("", "_reference", "_difference")


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        return json.loads(self.body)["error"]


@pytest.fixture(scope="module")
def fields():
    return [made_compared(0, side=40), made_compared(1, side=40, grade="C")]


@pytest.fixture(scope="module")
def served(tmp_path_factory, fields):
    one = Served(write_review(tmp_path_factory.mktemp("served"), fields))
    yield one
    one.stop()


def ask(served, path, method="GET", body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", served.server.port, timeout=60)
    path = path.replace("TOKEN", served.server.token)
    try:
        connection.putrequest(method, path, skip_host=True)
        given = {"Host": f"127.0.0.1:{served.server.port}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        for name, value in given.items():
            if value is not None:
                connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return Reply(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


def send(served, name, record, **headers):
    body = record if isinstance(record, bytes) else json.dumps(record).encode()
    given = {"Content_Type": "application/json", "Origin": f"http://127.0.0.1:{served.server.port}"}
    return ask(served, f"/TOKEN/{name}", "POST", body, **given | headers)


def acceptance(served, number=0):
    row = served.table().find(served.review.keys[number])
    return {
        "index": number,
        "decision": {"date_obs": row.key, "action": "accepted", "based_on": row_version(row)},
    }


def delivered(reply):
    found = re.fullmatch(rb"review\.deliver\((\".*?\"), (.*)\);\n", reply.body, re.DOTALL)
    return json.loads(found[1]), json.loads(found[2])


def test_the_page_comes_with_headers_that_shut_the_rest_out(served):
    reply = ask(served, "/TOKEN/")
    assert reply.status == 200
    assert b"<title>musedask review" in reply.body
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Referrer-Policy"] == "no-referrer"
    assert reply.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in reply.headers
    assert "Server" not in reply.headers
    assert "Access-Control-Allow-Origin" not in reply.headers


def test_it_listens_on_this_machine_only(served):
    with socket.socket() as stranger:
        stranger.settimeout(5)
        own = socket.gethostbyname(socket.gethostname())
        if own.startswith("127."):
            own = "127.0.0.2"
        assert stranger.connect_ex((own, served.server.port)) != 0


@pytest.mark.parametrize("token", ["", "x", "TOKENx", "..", "%00", "\u00e9".encode().hex()])
@pytest.mark.parametrize("name", ["", "data/summary.js", "review.css"])
def test_a_wrong_token_opens_nothing(served, token, name):
    reply = ask(served, f"/{token}/{name}")
    assert reply.status in (403, 404)
    assert b"deliver" not in reply.body
    assert b"<title>" not in reply.body


def test_a_wrong_token_decides_nothing(served):
    before = served.path.read_bytes()
    body = json.dumps(acceptance(served)).encode()
    port = served.server.port
    reply = ask(served, "/x/decide", "POST", body, Content_Type="application/json",
                Origin=f"http://127.0.0.1:{port}")  # fmt: skip
    assert reply.status == 403
    assert served.path.read_bytes() == before


@pytest.mark.parametrize(
    "path",
    [
        "/TOKEN/../../etc/passwd", "/TOKEN/%2e%2e/%2e%2e/etc/passwd", "/TOKEN//etc/passwd",
        "/TOKEN/data/../index.html", "/TOKEN/data/offsets.ecsv", "/TOKEN/page_files.py",
        "/TOKEN/data/exposure--1.js", "/TOKEN/data/exposure-1e0.js", "/TOKEN/data/exposure-.js",
        "/TOKEN/data/exposure-9999999999.js", "/TOKEN/data/exposure-%C2%B2.js", "/TOKEN/%00",
        "/TOKEN/review.css/", "/TOKEN", "/", "/etc/passwd", "/TOKEN/decide",
    ],
)  # fmt: skip
def test_no_path_leads_outside(served, path):
    reply = ask(served, path)
    assert reply.status in (400, 403, 404)
    assert b"root:" not in reply.body
    assert str(served.path).encode() not in reply.body


@pytest.mark.parametrize(
    "host", ["example.org", "127.0.0.1.example.org", "example.org:80", "169.254.169.254", ""]
)
def test_another_host_name_is_refused(served, host):
    """A name of somebody else's that resolves to this machine (DNS rebinding)."""
    assert ask(served, "/TOKEN/", Host=host).status in (400, 403)


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "localhost:9000", "localhost", "[::1]:9000"])
def test_a_tunnel_may_have_another_port(served, host):
    assert ask(served, "/TOKEN/", Host=host).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://example.org"}, {"Origin": "null"}, {"Origin": None},
        {"Origin": "http://127.0.0.1:1"}, {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)  # fmt: skip
def test_another_site_decides_nothing(served, headers):
    before = served.path.read_bytes()
    assert send(served, "decide", acceptance(served), **headers).status == 403
    assert served.path.read_bytes() == before


def test_another_site_reads_nothing(served):
    for headers in ({"Origin": "http://example.org"}, {"Sec_Fetch_Site": "cross-site"}):
        for name in ("", "data/summary.js"):
            assert ask(served, f"/TOKEN/{name}", **headers).status == 403


def test_a_link_leads_to_the_page_alone_and_not_into_a_frame(served):
    """As from the file that --open gives to the browser."""
    followed = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert ask(served, "/TOKEN/", **followed, Sec_Fetch_Dest="document").status == 200
    assert ask(served, "/TOKEN/", **followed, Sec_Fetch_Dest="iframe").status == 403
    assert ask(served, "/x/", **followed, Sec_Fetch_Dest="document").status == 403
    summary = ask(served, "/TOKEN/data/summary.js", **followed, Sec_Fetch_Dest="document")
    assert summary.status == 403
    given = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    before = served.path.read_bytes()
    record = acceptance(served)
    assert send(served, "decide", record, **given, Sec_Fetch_Dest="document").status == 403
    assert served.path.read_bytes() == before


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no JSON"), (b"{", "no JSON"), (b"\xff", "no JSON"), (b"[]", "a JSON object"),
        (b'{"index": NaN}', "no JSON"), (b"[" * 20000, "no JSON"),
        (b'{"index": "0"}', "index is '0'"), (b'{"index": true}', "index is True"),
        (b'{"index": -1, "decision": {}}', "missing"), (b'{"index": 0}', "expected an object"),
        (b'{"index": 0, "decision": {"action": "accepted"}}', "missing"),
    ],
)  # fmt: skip
def test_malformed_json_is_refused(served, body, words):
    before = served.path.read_bytes()
    reply = send(served, "decide", body)
    assert reply.status == 400
    assert words in reply.error
    assert served.path.read_bytes() == before


def test_other_types_names_and_methods_are_refused(served):
    assert send(served, "decide", acceptance(served), Content_Type="text/plain").status == 415
    assert send(served, "elsewhere", {}).status == 404
    assert ask(served, "/TOKEN/", "PUT", b"").status in (403, 405)


def test_a_request_that_is_too_large_decides_nothing(served):
    """The server hangs up on it, before or while it is sent."""
    before = served.path.read_bytes()
    body = json.dumps(acceptance(served)).encode() + b" " * 65536
    with suppress(OSError, http.client.HTTPException):
        assert send(served, "decide", body).status >= 400
    assert served.path.read_bytes() == before


def test_a_decision_on_another_exposure_than_its_number_is_refused(served):
    record = acceptance(served, 0) | {"index": 1}
    reply = send(served, "decide", record)
    assert reply.status == 400
    assert "exposure 1 is" in reply.error
    far = send(served, "decide", acceptance(served) | {"index": 7})
    assert "no exposure 7" in far.error


def test_a_decision_is_answered_with_the_row_and_an_old_one_refused(tmp_path, fields):
    served = Served(write_review(tmp_path, fields))
    try:
        record = acceptance(served)
        reply = send(served, "decide", record)
        assert reply.status == 200
        answer = json.loads(reply.body)
        row = served.table().find(served.review.keys[0])
        assert (row.decision, row.decided_by) == ("accepted", "tester")
        assert answer["version"] == row_version(row)
        old = send(served, "decide", record)
        assert old.status == 409
        assert "changed" in old.error
        undone = send(served, "undo", {"index": 0, "based_on": answer["version"]})
        assert undone.status == 200
        assert served.table().find(row.key).decision == ""
        assert send(served, "undo", {"index": 0, "based_on": "x"}).status == 409
    finally:
        served.stop()


def test_images_come_by_number_as_half_precision(served, fields):
    name, record = delivered(ask(served, "/TOKEN/data/exposure-1.js?17"))
    assert name == "exposure-1"
    import base64

    flux = np.frombuffer(base64.b64decode(record["exposure"]), "<f2").reshape(40, 40)
    assert served.review.keys[1] == fields[0].key
    expected = fields[0].exposure.flux / record["unit"]
    np.testing.assert_allclose(flux, expected, rtol=1e-3, atol=1e-6)


def test_what_cannot_be_read_is_said_on_the_page(tmp_path, fields):
    served = Served(write_review(tmp_path, fields))
    try:
        for path in material_folder(served.path).glob("*.fits"):
            path.write_bytes(b"")
        _, record = delivered(ask(served, "/TOKEN/data/exposure-0.js"))
        assert "crc32" in record["error"]
    finally:
        served.stop()


def test_a_port_that_is_taken_is_said(served):
    import asyncio

    with pytest.raises(InputError, match=f"port {served.server.port} .*cannot be had"):
        asyncio.run(ReviewServer(served.review, served.server.port).start())


# --- the mosaic -----------------------------------------------------------------------------------


def test_the_mosaic_has_the_sources_where_the_reference_has_them(tmp_path):
    """Displaced by known offsets, put back by them: the mean is the reference."""
    fields = [
        made_compared(n, offset, n_sources=8, side=80)
        for n, offset in enumerate([(0.6, -0.4), (-1.0, 0.8), (0.0, 0.0)])
    ]
    review = Review(write_review(tmp_path, fields))
    overview = make_overview(usable(review.material, review.table()), tmp_path)
    mosaic, reference = overview.mosaic.flux, overview.reference.flux
    inner = np.isfinite(mosaic) & np.isfinite(reference) & (overview.mosaic.coverage == 3)
    # One source in each disagrees on purpose: leave the brightest differences out.
    difference = np.abs(mosaic - reference)[inner]
    assert np.quantile(difference, 0.95) < 0.15
    unmoved = [(entry, fields[2].measurement.offset) for entry in review.material]
    wrong = make_overview(unmoved, tmp_path).difference.flux
    assert np.nanquantile(np.abs(wrong), 0.95) > 0.3


def test_the_mosaic_and_the_aligned_images_are_fits(tmp_path, fields):
    review = Review(write_review(tmp_path, fields))
    folder = review.material.folder
    make_overview(usable(review.material, review.table()), folder)
    mosaics = [read_image(folder / f"mosaic{which}.fits") for which in NAMES]
    np.testing.assert_array_equal(mosaics[2].flux, mosaics[0].flux - mosaics[1].flux)
    assert mosaics[0].coverage.max() == 2
    aligned = sorted((folder / "aligned").glob("*.fits"))
    assert len(aligned) == 2
    with fits.open(aligned[0]) as units:
        np.testing.assert_array_equal(units["DATA"].data, fields[0].exposure.flux)
        # The header said too far east by 0.6 arcsec: it is taken off.
        moved = fields[0].exposure.projection.crval_deg[0] - units["DATA"].header["CRVAL1"]
    assert moved * 3600 * np.cos(np.radians(-27.78)) == pytest.approx(0.6, rel=1e-6)


def test_without_a_good_offset_there_is_no_mosaic(tmp_path):
    review = Review(write_review(tmp_path, [made_compared(0, grade="F", side=40)]))
    with pytest.raises(MissingError, match="no exposure has an offset"):
        make_overview(usable(review.material, review.table()), tmp_path)


# --- the page as files, and the command -----------------------------------------------------------


def test_the_static_page_is_whole_and_replaces_only_itself(tmp_path, fields):
    review = Review(write_review(tmp_path / "run", fields))
    page = write_static(review, tmp_path / "page")
    names = {str(path.relative_to(page.parent)) for path in page.parent.rglob("*.*")}
    assert {"index.html", "page.js", "data/summary.js", "data/exposure-1.js"} <= names
    for source in re.findall(r'(?:src|href)="([^"#]+)"', page.read_text()):
        assert source in names or source == "data:,"
    write_static(review, tmp_path / "page")
    (tmp_path / "page" / "thesis.tex").write_text("x")
    with pytest.raises(FileError, match=r"thesis\.tex"):
        write_static(review, tmp_path / "page")


def test_the_command_writes_the_static_page(tmp_path, fields):
    path = write_review(tmp_path, fields)
    answer = command("review", path, "--static", tmp_path / "page")
    assert answer.status == 0, answer.err
    assert "align --apply review.json" in answer.out
    assert (tmp_path / "page" / "index.html").is_file()


def test_the_command_takes_the_table_of_a_run(tmp_path, fields):
    (tmp_path / "musedask.toml").write_text("")
    write_review(tmp_path / "tables", fields)
    answer = command("review", tmp_path, "--static", tmp_path / "page")
    assert answer.status == 0, answer.err
    assert str(tmp_path / "tables" / "offsets.ecsv") in answer.out


def test_the_command_says_what_is_missing(tmp_path, fields):
    answer = command("review", tmp_path / "no.ecsv")
    assert answer.status == 1
    assert "no.ecsv" in answer.err
    path = tmp_path / "offsets.ecsv"
    OffsetTable(tuple(one.measurement.offset for one in fields)).write(path)
    answer = command("review", path)
    assert answer.status == 1
    assert "offsets.alignment: no such folder" in answer.err


def test_the_command_serves_until_it_is_interrupted(tmp_path, fields):
    path = write_review(tmp_path, fields)
    process = subprocess.Popen(
        [sys.executable, "-m", "musedask.cli", "review", str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    import signal

    address = process.stdout.readline().strip()
    found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/([\w-]{32})/", address)
    assert found, address
    connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
    connection.request("GET", f"/{found[2]}/data/summary.js")
    assert connection.getresponse().status == 200
    connection.close()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert f"ssh -L {found[1]}:127.0.0.1:{found[1]}" in err
    assert "the review has ended" in err
    assert found[2] not in err
