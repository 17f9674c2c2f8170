"""What `musedask info` says of every kind of file, and of what is none."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from command_line import DEC, RA, command, date, expose, succeeded

from musedask.offsets import Offset, OffsetTable


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two exposures, their table, a store of them and an export."""
    folder = tmp_path_factory.mktemp("files")
    paths = [expose(folder, n, exptime=1800.0) for n in range(2)]
    succeeded("exposures", *paths, "-o", folder / "exposures.ecsv")
    succeeded("stack", *paths, "-o", folder / "deep.zarr", "--methods", "median,mean")
    succeeded("export", folder / "deep.zarr", folder / "deep.fits", "--group", "mean")
    return folder


def said(path):
    return succeeded("info", path).out


def test_an_exposure(folder):
    out = said(folder / "exp1.fits")
    for word in (
        "Cube exp1.fits: DATACUBE_FINAL, WFM-NOAO-N", date(1), "1800 s",
        "12 channels of 4750.00 to 4763.75 Angstrom (air, BARYCENT)",
        "20 x 24 spaxels of 0.2 arcsec", "RA 30.0", "DEC -59.999", "10**(-20)*erg",
    ):  # fmt: skip
        assert word in out
    assert "applied" not in out


def test_an_exposure_that_the_pipeline_has_moved_says_so(tmp_path):
    cards = {
        "HIERARCH ESO DRS MUSE OFFSET1 DRA": 2e-4, "HIERARCH ESO DRS MUSE OFFSET1 DDEC": -1e-4,
        "HIERARCH ESO DRS MUSE OFFSET1 DATE-OBS": date(0),
    }  # fmt: skip
    out = said(expose(tmp_path, 0, primary=cards))
    assert "applied already: ra_deg 0.0002, dec_deg -0.0001" in out


def test_an_exposure_without_facts_is_described_all_the_same(tmp_path):
    nothing = {"DATE-OBS": None, "EXPTIME": None, "HIERARCH ESO INS MODE": None,
               "HIERARCH ESO PRO CATG": None}  # fmt: skip
    out = said(expose(tmp_path, 0, primary=nothing))
    assert "no PRO CATG, unknown mode, DATE-OBS unknown, no EXPTIME" in out


def test_an_exposure_table(folder):
    out = said(folder / "exposures.ecsv")
    assert "Exposure table exposures.ecsv: 2 of 2 exposures used, 1.00 h" in out
    assert "modes: 2 WFM-NOAO-N" in out


def test_an_exposure_table_whose_files_have_moved_is_described(folder, tmp_path):
    out = said(shutil.copy(folder / "exposures.ecsv", tmp_path))
    assert "2 of 2 exposures used" in out
    assert re.search(r"files that are not there: 2, the first: .*exp0\.fits", out)


def test_a_megacube(folder):
    out = said(folder / "deep.zarr")
    for word in ("Mega-cube deep.zarr: median, mean", "2 exposures, 12 channels", "in 1 block ",
                 "around RA 30.0", "1.00 h in all", "within 0.00 Angstrom"):  # fmt: skip
        assert word in out


def test_an_export(folder):
    out = said(folder / "deep.fits")
    assert "mean of 2 exposures, from a mega-cube" in out
    assert "mega-cube" not in said(folder / "exp1.fits")
    assert out.startswith("Cube deep.fits: ")
    assert "12 channels of 4750.00 to 4763.75 Angstrom (air, BARYCENT)" in out


OFFSETS = OffsetTable(
    tuple(
        Offset(
            date_obs=date(n), name=f"exp{n}", ra_deg=RA, dec_deg=DEC, ra_offset_arcsec=0.3 * n,
            dec_offset_arcsec=0.4 * n, method="manual" if n == 2 else "auto", grade=grade,
        )
        for n, grade in enumerate(("A", "A", ""))
    )
)  # fmt: skip


@pytest.mark.parametrize(("name", "format"), [("o.ecsv", "ecsv"), ("o.fits", "offset_list")])
def test_offsets_that_stand_by_themselves(tmp_path, name, format):
    OFFSETS.write(tmp_path / name, format)
    out = said(tmp_path / name)
    assert f"Offsets {name}: 3 exposures, up to 1.000 arcsec" in out
    if format == "ecsv":
        assert "methods: 2 auto, 1 manual" in out
        assert "grades: 2 A, 1 ungraded" in out


def test_offsets_that_all_failed_have_no_size(tmp_path):
    failed = Offset(date_obs=date(0), ra_offset_arcsec=np.nan, dec_offset_arcsec=np.nan, grade="F")
    OffsetTable((failed,)).write(tmp_path / "o.ecsv")
    assert "1 exposure, up to nan arcsec" in said(tmp_path / "o.ecsv")


def eso_list(path, **more):
    columns = {"DATE_OBS": [date(0)], "RA_OFFSET": [1e-4], "DEC_OFFSET": [1e-4],
               "FLUX_SCALE": [1.0], **more}  # fmt: skip
    fits.BinTableHDU(Table(columns)).writeto(path)
    return path


def test_offsets_that_need_their_exposures_explain_what_to_do(tmp_path):
    cosmos, mypython = tmp_path / "offsets.txt", tmp_path / "radecoffsets.txt"
    cosmos.write_text("white_exp0.fits 1.0 -2.0 a\nwhite_exp1.fits 0.0 0.5 m\n")
    mypython.write_text("1e-4 2e-4\n0 -1e-4\n")
    files = {
        "cosmos": (cosmos, "names of the exposures"),
        "mypython": (mypython, "order of the exposures"),
        "offset_list": (eso_list(tmp_path / "list.fits"), "declination"),
        "pymusepipe": (eso_list(tmp_path / "pipe.fits", ROTANGLE=[0.1], MJD_OBS=[58849.0]),
                       "declination"),
    }  # fmt: skip
    for kind, (path, reason) in files.items():
        out = said(path)
        assert f"Offsets {path.name} ({kind}): this format" in out
        assert reason in out
        assert f"--offsets {path} -o NAME.zarr --dry-run" in out


def table_in_fits(folder):
    fits.BinTableHDU(Table({"a": [1]})).writeto(folder / "table.fits")
    return "table.fits", "table.fits: "


def image(folder):
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(folder / "image.fits")
    return "image.fits", "image.fits: "


def text(folder):
    (folder / "notes.txt").write_text("dear diary\n")
    return "notes.txt", "no offset table that musedask knows"


def html(folder):
    (folder / "cube.fits").write_text("<html>log in</html>")
    return "cube.fits", r"cube\.fits: is a web page \(HTML\), not FITS"


def cut(folder):
    path = expose(folder, 0)
    path.write_bytes(path.read_bytes()[:20000])
    return path.name, r"exp0\.fits: is cut off"


def zeros(folder):
    (folder / "zeros.fits").write_bytes(bytes(5000))
    return "zeros.fits", r"zeros\.fits: is not FITS"


def empty(folder):
    (folder / "empty.dat").touch()
    return "empty.dat", r"empty\.dat: is empty"


def binary(folder):
    (folder / "noise").write_bytes(np.random.default_rng(1).bytes(4000))
    return "noise", "noise: "


def bare_ecsv(folder):
    (folder / "bare.ecsv").write_text("path,use\na.fits,True\n")
    return "bare.ecsv", r"bare\.ecsv: not an ECSV table"


def odd_ecsv(folder):
    Table({"colour": ["red"]}).write(folder / "odd.ecsv", format="ascii.ecsv")
    return "odd.ecsv", r"odd\.ecsv: no column 'path'"


def a_folder(folder):
    (folder / "night").mkdir()
    expose(folder / "night", 0)
    return "night", "night: a folder, .* it holds 1 FITS file, give one of them"


def other_zarr(folder):
    import zarr

    zarr.create_array(folder / "other.zarr", shape=(3,), dtype="f4")
    return "other.zarr", r"other\.zarr: a folder, but not a mega-cube"


def broken_zarr(folder):
    (folder / "broken.zarr").mkdir()
    (folder / "broken.zarr" / "zarr.json").write_text('{"attributes": ')
    return "broken.zarr", r"broken\.zarr.*is no JSON"


def absent(_folder):
    return "absent.fits", r"absent\.fits: no such file"


NOTHING = (
    table_in_fits, image, text, html, cut, zeros, empty, binary, bare_ecsv, odd_ecsv, a_folder,
    other_zarr, broken_zarr, absent,
)  # fmt: skip


@pytest.mark.parametrize("make", NOTHING, ids=lambda make: make.__name__)
def test_what_it_does_not_know_is_one_error_that_names_the_file(make, tmp_path):
    name, match = make(tmp_path)
    answer = command("info", tmp_path / name)
    assert (answer.status, answer.out) == (1, "")
    assert re.search(match, answer.err), answer.err
    assert answer.err.startswith("musedask: ")
    assert str(tmp_path / name) in answer.err
    assert "fault of musedask" not in answer.err


def test_a_store_that_was_never_finished_is_told_from_one_that_never_was(folder, tmp_path):
    build = tmp_path / "deep.zarr.0123456789abcdef.building"
    shutil.copytree(folder / "deep.zarr", build)
    (build / "blocks" / "c.0.0.0.0").unlink()
    answer = command("info", tmp_path / "deep.zarr")
    assert answer.status == 1
    assert "not finished yet" in answer.err
    out = said(build)
    assert "under way or interrupted" in out
    assert "made: 0 of 1 block;" in out


def test_a_run_and_the_tables_of_its_reduction(tmp_path):
    succeeded("init", tmp_path / "mudf")
    assert said(tmp_path / "mudf").startswith("Run mudf: no cube is made yet")
    columns = {"date_obs": [date(0)], "recipe": ["muse_bias"], "stage": ["bias"], "ifu": [1]}
    quality = {**columns, "product": ["MASTER_BIAS"], "file": ["a.fits"], "ron_q1": [2.75]}
    used = {**columns, "job": ["k1"], "tag": ["BIAS"], "made_by": [""], "file": ["a.fits"]}
    for name, table in (("qc", quality), ("used_frames", used)):
        Table(table).write(tmp_path / f"{name}.ecsv")
    assert said(tmp_path / "qc.ecsv").startswith("Quality measures qc.ecsv: 1 product of 1 recipe")
    assert said(tmp_path / "used_frames.ecsv").startswith("Used frames used_frames.ecsv: 1 job of")
