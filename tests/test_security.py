"""Nothing gets in: paths in data lead nowhere else, modes are the user's, ports are local."""

from __future__ import annotations

import gzip
import json
import os
import stat
import tempfile
import urllib.request
from pathlib import Path

import psutil
import pytest
from compared_fields import made_compared
from fake_stack import fake_stack
from fits_files import write_cube
from hypothesis import given
from hypothesis import strategies as st
from raw_headers import write
from served_review import Served, write_review

import musedask as md
from musedask.cluster import certificates, client_job
from musedask.config import ClusterConfig
from musedask.errors import MissingError, MusedaskError
from musedask.fits.unpack import open_fits
from musedask.reduction.finding.scan import find_frames
from musedask.reduction.job.record import RECORD_NAME, find_record, read_record
from musedask.reduction.job.sof import prepare_sof
from musedask.reduction.jobs import FileInput, Job, MadeInput, Plan
from musedask.reduction.running.plan_file import read_plan, write_plan
from musedask.run import init_run, name_for_people, refresh_links

RECORD = {
    "format": 1, "key": "0123456789abcdef", "recipe": "muse_bias", "stage": "bias", "title": "a",
    "ifu": 1, "frames": [], "parameters": [["nifu", "1"]],
    "inputs": [{"tag": "BIAS", "path": "/raw/a.fits", "identity": "", "job": ""}],
    "products": [{"file": "A.fits", "tag": "MASTER_BIAS", "ifu": 1, "filter": "", "date_obs": "",
                  "size": 4, "datamd5": ""}],
    "pipeline": "2.8.7", "esorex": "3", "cpl": "7", "musedask": "0", "command": ["esorex"],
    "cores": 1, "wall_s": 1.0, "cpu_s": 1, "peak_memory": 1, "host": "h", "attempt": 1,
    "started": "", "ended": "", "warnings": [],
}  # fmt: skip


def record_in(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "A.fits").write_bytes(b"1234")
    (folder / RECORD_NAME).write_text(json.dumps(RECORD | changes), encoding="utf-8")
    return folder


def products(name):
    return [RECORD["products"][0] | {"file": name}]


# --- paths in data -----------------------------------------------------------------------------


def test_a_record_is_read(tmp_path):
    record = read_record(record_in(tmp_path / "job"))
    assert record is not None
    assert record.products_of("MASTER_BIAS") == (tmp_path / "job" / "A.fits",)


@pytest.mark.parametrize("kind", ["../A.fits", "{0}/A.fits", "below/../../A.fits", ".", "..", ""])
def test_a_record_cannot_name_a_product_outside_its_folder(kind, tmp_path):
    (tmp_path / "A.fits").write_bytes(b"1234")
    folder = record_in(tmp_path / "job", products=products(kind.format(tmp_path)))
    assert read_record(folder) is None


@pytest.mark.parametrize(
    "changes",
    [{"recipe": 5}, {"frames": [1]}, {"cores": "1"}, {"ifu": "1"}, {"title": None}, {"ifu": True},
     {"products": [RECORD["products"][0] | {"size": "4"}]}, {"command": "esorex"}],
)  # fmt: skip
def test_a_record_with_a_value_of_another_type_is_none(changes, tmp_path):
    assert read_record(record_in(tmp_path / "job", **changes)) is None


def test_the_key_of_a_job_is_searched_in_the_runs_products_alone(tmp_path):
    record_in(tmp_path / "elsewhere" / "muse_bias" / "key")
    (tmp_path / "run" / "products" / "muse_x").mkdir(parents=True)
    with pytest.raises(MissingError):
        find_record(tmp_path / "run" / "products", "../../../elsewhere/muse_bias/key")


@pytest.mark.parametrize(
    "change",
    [
        lambda job: job | {"recipe": "../../muse_bias"},
        lambda job: job | {"recipe": "/tmp/muse_bias"},
        lambda job: job | {"inputs": [["made", {"tag": "../X", "form": "header", "text": ""}]]},
    ],
)
def test_a_plan_cannot_lead_out_of_the_runs_folders(change, tmp_path):
    job = Job(recipe="muse_bias", stage="bias", inputs=(MadeInput("OUTPUT_WCS", "header", ""),))
    path = tmp_path / "plan.json"
    write_plan(Plan((job,)), path)
    assert read_plan(path) is not None
    content = json.loads(path.read_text(encoding="utf-8"))
    content["jobs"] = [change(content["jobs"][0])]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(MusedaskError, match=r"plan\.json"):
        read_plan(path)


@given(st.lists(st.text(), min_size=1, max_size=3))
def test_names_made_of_headers_are_names_in_one_folder(parts):
    name = name_for_people(*parts)
    assert name not in ("", ".", "..")
    assert os.path.basename(name) == name
    assert name.isascii()
    assert name.isprintable()
    assert " " not in name
    assert not name.startswith((".", "-"))


def test_links_named_after_a_target_stay_in_their_folder(tmp_path):
    cube = tmp_path / "cube.fits"
    cube.touch()
    name = f"{name_for_people('../../../etc/cron.d/x', '2020-01-01T00:00:00')}.fits"
    refresh_links(tmp_path / "cubes", {name: cube})
    assert [path.parent for path in tmp_path.rglob("*.fits") if path.is_symlink()] == [
        tmp_path / "cubes"
    ]


NAMES = ["a b.fits", "new\nline.fits", "\udcff.fits", "é.fits", "tab\t.fits", "#.fits", "x" * 240]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_cannot_break_a_line_of_a_sof(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"data")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    one = FileInput("BIAS", str(path), "")
    (line,) = prepare_sof(Job(recipe="muse_bias", stage="bias", inputs=(one,)), tmp_path, scratch)
    ((given, tag),) = (row.split(" ") for row in (scratch / "frames.sof").read_text().splitlines())
    assert (tag, given) == ("BIAS", line.path)
    assert (scratch / given).read_bytes() == b"data"
    assert given.isascii()
    assert given.isprintable()
    assert ".." not in Path(given).parts


# --- modes of files ----------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o002])
def test_files_have_the_modes_that_the_user_wants(umask, tmp_path, monkeypatch):
    cube = write_cube(tmp_path / "cube.fits")
    packed = tmp_path / "packed.fits.gz"
    packed.write_bytes(gzip.compress(cube.read_bytes()))
    write(tmp_path / "raw" / "a.fits")
    made = tmp_path / "made"
    monkeypatch.setenv("MUSEDASK_CACHE", str(made / "cache"))
    before = os.umask(umask)
    try:
        made.mkdir()
        open_fits(packed)
        find_frames(tmp_path / "raw", inventory=made / "inventory.json")
        run = init_run(made / "run")
        table = md.make_exposure_table([cube], measure=False)
        md.write_exposure_table(table, made / "exposures.ecsv")
        one = md.Offset(date_obs="2014-12-08T02:48:56.798", dec_deg=0.0, ra_offset_arcsec=0.1,
                        dec_offset_arcsec=0.1)  # fmt: skip
        for name in ("offsets.ecsv", "offsets.fits"):
            md.OffsetTable((one,)).write(made / name)
        md.write_megacube(fake_stack(), made / "deep.zarr")
        md.export_fits(md.open_megacube(made / "deep.zarr")["median"], made / "deep.fits")
        job = Job(recipe="muse_bias", stage="bias", inputs=(MadeInput("A", "header", ""),))
        write_plan(Plan((job,)), run.state / "plan.json")
    finally:
        os.umask(before)
    found = list(made.rglob("*"))
    assert len(found) > 40
    wrong = [
        (str(path.relative_to(made)), oct(mode))
        for path in found
        for mode in [stat.S_IMODE(path.stat().st_mode)]
        if mode != (0o777 if path.is_dir() else 0o666) & ~umask
    ]
    assert not wrong


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_keys_and_logs_with_an_address_are_for_this_user_alone(umask, tmp_path):
    before = os.umask(umask)
    try:
        with certificates.in_folder(tmp_path / "keys"):
            (folder,) = (tmp_path / "keys").iterdir()
            keys = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert b"PRIVATE KEY" in (folder / "key.pem").read_bytes()
        # The client's log, in which the dashboard's address will be.
        log = client_job._log(tmp_path / "logs")
    finally:
        os.umask(before)
    assert keys == {"ca.pem": 0o600, "key.pem": 0o600, "lock": 0o600}
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_the_token_of_a_review_is_in_no_file(tmp_path, monkeypatch):
    for name in ("HOME", "TMPDIR", "XDG_RUNTIME_DIR", "MUSEDASK_CACHE"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(tmp_path)
    served = Served(write_review(tmp_path / "review", [made_compared(side=20, n_sources=2)]))
    try:
        token = served.server.token
        assert f"/{token}/" in served.address
        assert len(token) >= 32
        with urllib.request.urlopen(served.address) as answer:
            assert answer.status == 200
    finally:
        served.stop()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if token.encode() in path.read_bytes()]


# --- ports -------------------------------------------------------------------------------------


def listening():
    """Addresses on which this process and those below it listen."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return {
        (process.pid, connection.laddr.ip, connection.laddr.port)
        for process in family
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


@pytest.mark.parametrize("kind", ["threads", "local"])
def test_what_listens_listens_on_this_machine_alone(kind):
    before = listening()
    with md.open_cluster(ClusterConfig(kind=kind, workers=1)):
        new = listening() - before
    assert {ip for _, ip, _ in new} <= {"127.0.0.1", "::1"}
    # A scheduler, a nanny and a worker: that they are seen shows that the look is no idle one.
    assert kind == "threads" or len(new) >= 3
