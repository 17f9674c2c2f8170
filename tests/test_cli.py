"""The command line by what a user gets to see: help, errors, exit status, resume."""

from __future__ import annotations

import gzip
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from command_line import (
    PIXEL_DEG,
    RA,
    ROOT,
    SHAPE,
    command,
    date,
    expose,
    process,
    succeeded,
    tree,
    values,
)
from numba import njit

from musedask import cli as command_line
from musedask import console
from musedask.cli import stacking
from musedask.fits.reading import Duplicates
from musedask.masks import MASK_SENSES
from musedask.offset_formats import OFFSET_FORMATS
from musedask.stacking.geometry import RESAMPLINGS
from musedask.stacking.statistics import METHODS

COMMANDS = (
    "init", "frames", "plan", "doctor", "reduce", "status", "exposures", "align", "review",
    "stack", "export", "info",
    "simulate", "demo", "import-pymusepipe",
)  # fmt: skip
ANSI = "\x1b"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two good exposures; not to be written to."""
    folder = tmp_path_factory.mktemp("pair")
    return [expose(folder, n) for n in range(2)]


def write_offsets(path, rows, **more):
    """An ECSV of offsets: (exposure, east, north) each."""
    table = Table(
        rows=[(date(n), float(east), float(north)) for n, east, north in rows],
        names=("date_obs", "ra_offset_arcsec", "dec_offset_arcsec"),
    )
    for key, column in more.items():
        table[key] = column
    table.write(path, format="ascii.ecsv", overwrite=True)
    return path


# --- help and usage ----------------------------------------------------------------------------


def test_choices_are_those_of_the_library():
    assert stacking.OFFSET_FORMATS == OFFSET_FORMATS
    assert stacking.METHODS == METHODS
    assert stacking.RESAMPLINGS == RESAMPLINGS
    assert stacking.MASK_SENSES == MASK_SENSES
    assert Duplicates.__args__ == stacking.DUPLICATES


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_a_terminal_and_explains_every_option(name):
    answer = succeeded(*([name] if name else []), "--help")
    assert answer.err == ""
    assert "\\b" not in answer.out
    assert "..." not in answer.out.partition("Commands:")[2], "a first sentence is too long"
    assert max(map(len, answer.out.splitlines())) <= 80
    found = command_line.cli if not name else command_line.cli.commands[name]
    for option in found.params:
        if isinstance(option, click.Option):
            assert option.help, f"{name} {option.opts} says nothing"


def test_the_help_of_stack_tells_a_story_in_sections():
    out = succeeded("stack", "--help").out
    titles = re.findall(r"^(\w.*):$", out, re.MULTILINE)
    assert titles == [
        "Files", "What is computed", "The grid", "What is left out of each exposure",
        "If something does not fit together", "Running", "Other",
    ]  # fmt: skip
    out = out.partition("Files:")[2]
    assert out.index("--output") < out.index("--methods") < out.index("--dry-run")


def test_commands_are_listed_in_the_order_of_use():
    out = succeeded("--help").out.partition("Commands:")[2]
    assert re.findall(r"^  ([\w-]+)", out, re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["stack"], "EXPOSURE"),
        (["stack", "a.fits"], "--output"),
        (["stack", "a.fits", "-o", "a.zarr", "--methods", "mode"], "median"),
        (["stack", "a.fits", "-o", "a.zarr", "--methods", ","], "no methods"),
        (["stack", "a.fits", "-o", "a.zarr", "--lambda", "7000"], "7000-7100"),
        (["stack", "a.fits", "-o", "a.zarr", "--lambda", "7100-7000"], "above the second"),
        (["stack", "a.fits", "-o", "a.zarr", "--mask-lambda", "nan-7000"], "7000-7100"),
        (["stack", "a.fits", "-o", "a.zarr", "--wavelengths", "1:2"], "FIRST:STEP:SIZE"),
        (["stack", "a.fits", "-o", "a.zarr", "--pixel", "0"], "--pixel"),
        (["stack", "a.fits", "-o", "a.zarr", "--clip", "-1"], "nsigma"),
        (["stack", "a.fits", "-o", "a.zarr", "--refcube", "b.fits", "--overlap"], "--refcube"),
        (["stack", "a.ecsv", "b.fits", "-o", "a.zarr"], "give it alone"),
        (["stack", "a.fits", "-o", "a.zarr", "--colour", "red"], "--colour"),
        (["exposures"], "FILES"),
        (["exposures", "a.fits", "--list", "b.in"], "--list"),
        (["exposures", "a.fits", "--mask-list", "b.in"], "--mask-list"),
        (["export", "a.zarr"], "OUTPUT"),
        (["info"], "FILE"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_what_is_not_understood_is_a_usage_error(arguments, word):
    answer = command(*arguments)
    assert (answer.status, answer.out) == (2, "")
    assert word in answer.err
    assert "Traceback" not in answer.err


# --- what can be wrong with the input ----------------------------------------------------------


def truncated(folder):
    path = expose(folder, 1)
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size // 2)
    return [path], r"exp1\.fits: is cut off"


def html(folder):
    path = folder / "page.fits"
    path.write_text("<!DOCTYPE html><html><body>404</body></html>")
    return [path], r"page\.fits: is a web page \(HTML\)"


def empty_file(folder):
    (folder / "empty.fits").touch()
    return [folder / "empty.fits"], r"empty\.fits: is empty"


def missing_hdu(folder):
    path = folder / "flat.fits"
    flux, _ = values(1)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(flux, name="DATA")]).writeto(path)
    return [path], r"flat\.fits: .*STAT"


def no_file(folder):
    return [folder / "absent.fits"], r"absent\.fits: there is no such file"


def a_folder(folder):
    return [folder], r"is a folder"


def other_step(folder):
    return [expose(folder, 1, wcs={"CD3_3": 2.5})], r"exp1.*2\.5"


def other_unit(folder):
    return [expose(folder, 1, wcs={"BUNIT": "erg/s/cm**2/Angstrom"})], r"exp1\.fits"


def one_date(folder):
    path = expose(folder, 1)
    return [path.rename(folder / "again.fits"), expose(folder, 1)], r"(?s)again.*exp1.*--duplicates"


def bad_stat(folder):
    return [expose(folder, 1, stat=np.zeros(SHAPE, np.float32))], r"exp1\.fits: STAT is zero"


def no_exptime(folder):
    return [expose(folder, 1, primary={"EXPTIME": None})], r"exp1: EXPTIME"


def elsewhere(folder):
    return [expose(folder, 1, wcs={"CRVAL1": RA + 120})], r"not of the same target|possible"


def no_exposures(folder):
    path = folder / "none.ecsv"
    Table({"path": np.array([], dtype="U10")}).write(path, format="ascii.ecsv")
    return path, r"none\.ecsv: no rows"


def none_used(folder):
    path = folder / "unused.ecsv"
    Table({"path": ["a.fits"], "use": [False]}).write(path, format="ascii.ecsv")
    return path, r"unused\.ecsv: not one of 1 row is used; set use to True"


def empty_ecsv(folder):
    (folder / "empty.ecsv").touch()
    return folder / "empty.ecsv", r"empty\.ecsv: .*ECSV.*musedask exposures"


def garbage_ecsv(folder):
    (folder / "garbage.ecsv").write_bytes(b"# %ECSV 1.0\n---\n\x00\x01" + bytes(range(256)))
    return folder / "garbage.ecsv", r"garbage\.ecsv"


def lost_row(folder):
    path = folder / "lost.ecsv"
    Table({"path": ["gone.fits"]}).write(path, format="ascii.ecsv")
    return path, r"(?s)lost\.ecsv, row 1.*gone\.fits is not there"


FAULTS = (
    truncated, html, empty_file, missing_hdu, no_file, a_folder, other_step, other_unit, one_date,
    bad_stat, no_exptime, elsewhere, no_exposures, none_used, empty_ecsv, garbage_ecsv, lost_row,
)  # fmt: skip


def one_clear_error(answer, match):
    assert answer.status == 1, answer
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert "fault of musedask" not in answer.err
    assert re.search(match, answer.err), answer.err
    messages = [line for line in answer.err.splitlines() if line.startswith("musedask: ")]
    assert len(messages) == 1, answer.err


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_of_the_exposures_is_one_clear_error_and_leaves_nothing(fault, tmp_path):
    made, match = fault(tmp_path)
    good = expose(tmp_path, 0)
    given = [good, *made] if isinstance(made, list) else [made]
    before = tree(tmp_path)
    one_clear_error(command("stack", *given, "-o", tmp_path / "deep.zarr"), match)
    assert {name: value for name, value in tree(tmp_path).items() if ".lock" not in name} == before


def test_a_fault_leaves_the_finished_store_as_it_was(tmp_path):
    paths = [expose(tmp_path, n) for n in range(2)]
    store = tmp_path / "deep.zarr"
    succeeded("stack", *paths, "-o", store)
    before = tree(store)
    made, match = truncated(tmp_path)
    one_clear_error(command("stack", paths[0], *made, "-o", store), match)
    assert tree(store) == before


@pytest.mark.parametrize(
    ("rows", "more", "options", "match"),
    [
        ([(0, 0, 0)], {}, [], r"no offset for exp1 .*--allow-missing-offsets"),
        ([(0, 0, 0)], {}, ["--allow-missing-offsets"], None),
        ([(n, 0, 0) for n in range(3)], {}, [], "off.ecsv: .*not given, 1 of 3"),
        ([(n, 0, 0) for n in range(3)], {}, ["--allow-missing-offsets"], None),
        ([(0, 0, 0), (1, 0, 0)], {"grade": ["A", "F"]}, [],
         r"exp1: its offset has grade F.*--allow-failed-offsets"),
        ([(0, 0, 0), (1, 0, 0)], {"grade": ["A", "F"]}, ["--allow-failed-offsets"], None),
        ([(0, 0, 0), (1, np.nan, 0)], {"grade": ["A", "F"]}, ["--allow-failed-offsets"],
         r"exp1: its offset is \(nan"),
        ([(0, 0, 0), (1, np.nan, 0)], {}, [], r"off\.ecsv: .*ra_offset_arcsec is nan"),
        ([(0, 0, 0), (0, 0, 0), (1, 0, 0)], {}, [], r"off\.ecsv: two rows for DATE-OBS"),
        ([(0, 0, 0), (1, 0, 0)], {"colour": ["a", "b"]}, [], r"off\.ecsv: unknown column 'colour'"),
        ([(0, 0, 0), (1, 7e5, 0)], {}, [], r"same target|possible"),
    ],
)  # fmt: skip
def test_offsets_that_do_not_fit_are_named_with_the_option_that_helps(
    pair, tmp_path, rows, more, options, match
):
    offsets = write_offsets(tmp_path / "off.ecsv", rows, **more)
    store = tmp_path / "deep.zarr"
    answer = command("stack", *pair, "--offsets", offsets, "-o", store, *options)
    if match is None:
        assert answer.status == 0, answer.err
    else:
        one_clear_error(answer, match)
        assert not store.exists()


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("off.ecsv", b"", "off.ecsv: the file is empty"),
        ("off.txt", b"nothing that anybody knows\n", "off.txt: .*--offsets-format"),
        ("off.fits", b"SIMPLE  =                    T", "off.fits"),
        ("off.html", b"<html>login</html>", "off.html: this is HTML"),
        ("offsets.txt", b"white_other.fits 1.0 2.0 a\n", "line 1: .*none of the exposures given"),
        ("radecoffsets.txt", b"0 0 0\n0 0 0\n", "radecoffsets.txt: 3 RA and 3 DEC offsets for 2"),
    ],
)
def test_files_of_offsets_that_cannot_be_read_are_named(pair, tmp_path, name, content, match):
    (tmp_path / name).write_bytes(content)
    answer = command("stack", *pair, "--offsets", tmp_path / name, "-o", tmp_path / "a.zarr")
    one_clear_error(answer, match)


def test_files_that_options_name_have_to_be_there(pair, tmp_path):
    for option in ("--offsets", "--refcube", "--regions", "--mask"):
        answer = command("stack", *pair, option, tmp_path / "absent", "-o", tmp_path / "a.zarr")
        one_clear_error(answer, "absent")


# --- where it cannot write ---------------------------------------------------------------------


def test_an_output_that_is_something_else_stays(pair, tmp_path):
    folder, file = tmp_path / "photos", tmp_path / "thesis.tex"
    folder.mkdir()
    (folder / "cat.png").write_bytes(b"cat")
    file.write_text("chapter one")
    for path in (folder, file, pair[0]):
        content = tree(path) if path.is_dir() else path.read_bytes()
        one_clear_error(command("stack", *pair, "-o", path), "exists and is not a mega-cube")
        assert (tree(path) if path.is_dir() else path.read_bytes()) == content


def test_a_folder_that_is_not_there_is_named(pair, tmp_path):
    store = tmp_path / "deep.zarr"
    one_clear_error(command("stack", *pair, "-o", tmp_path / "no" / "a.zarr"), "no: no such folder")
    succeeded("stack", *pair, "-o", store)
    answer = command("export", store, tmp_path / "no" / "a.fits")
    one_clear_error(answer, "no: no such folder")
    answer = command("exposures", *pair, "-o", tmp_path / "no" / "a.ecsv")
    one_clear_error(answer, "no: no such folder")


def test_a_folder_without_permission_is_named(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    one_clear_error(command("stack", *pair, "-o", tmp_path / "a.zarr"), "cannot be written to")


@contextmanager
def room_for(n_bytes):
    """Let no file of this process grow beyond some bytes, as a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("n_bytes", [0, 500, 5_000, 30_000])
def test_a_full_disk_is_one_error_and_the_run_goes_on_with_the_same_bytes(pair, tmp_path, n_bytes):
    store = tmp_path / "deep.zarr"
    with room_for(n_bytes):
        answer = command("stack", *pair, "-o", store)
    one_clear_error(answer, r"deep\.zarr.*(full|cannot be written)")
    assert not store.exists()
    succeeded("stack", *pair, "-o", store)
    other = tmp_path / "other.zarr"
    succeeded("stack", *pair, "-o", other)
    assert tree(store) == tree(other)
    with room_for(n_bytes):
        answer = command("export", store, tmp_path / "deep.fits")
    one_clear_error(answer, r"deep\.fits: cannot be written")
    assert [path.name for path in tmp_path.iterdir() if "fits" in path.name] == []


def test_a_disk_that_is_really_full_is_one_error(pair, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a small disk; a limit on file sizes stands in for it")
    try:
        one_clear_error(command("stack", *pair, "-o", disk / "a.zarr"), r"(?s)a\.zarr.*full")
        assert not (disk / "a.zarr").exists()
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        succeeded("stack", *pair, "-o", disk / "a.zarr")
        free = shutil.disk_usage(disk).free
        (disk / "filler").write_bytes(bytes(free - 50_000))
        answer = command("export", disk / "a.zarr", disk / "a.fits")
        one_clear_error(answer, r"a\.fits: takes .* the disk has")
        assert not list(disk.glob("*.fits"))
    finally:
        subprocess.run(["umount", disk], check=True)


# --- export, exposures, info -------------------------------------------------------------------


def test_export_asks_which_statistic_and_never_overwrites_by_itself(pair, tmp_path):
    store, out = tmp_path / "deep.zarr", tmp_path / "deep.fits"
    succeeded("stack", *pair, "-o", store, "--methods", "median,mean")
    answer = command("export", store, out)
    assert answer.status == 2
    assert "median, mean" in answer.err
    one_clear_error(command("export", store, out, "--group", "mode"), "it has median, mean")
    succeeded("export", store, out, "--group", "mean")
    content = out.read_bytes()
    answer = command("export", store, out, "--group", "median")
    one_clear_error(answer, r"deep\.fits: exists; give --overwrite")
    assert out.read_bytes() == content
    succeeded("export", store, out, "--group", "median", "--overwrite")
    assert out.read_bytes() != content
    answer = command("export", store, tmp_path / "a.fits", "--group", "mean", "--lambda", "1-2")
    one_clear_error(
        answer, r"--lambda 1-2: no channel; .*deep\.zarr reaches from 4750\.00 to 4763\.75 Angstrom"
    )


def test_export_of_what_is_no_megacube_is_refused(pair, tmp_path):
    for path in (tmp_path / "absent.zarr", tmp_path, pair[0]):
        one_clear_error(command("export", path, tmp_path / "out.fits"), re.escape(str(path)))
    said = r"exp0\.fits: is a file, and a mega-cube is a folder"
    one_clear_error(command("export", pair[0], tmp_path / "out.fits"), said)


def test_an_edited_table_is_never_replaced_without_being_asked_to(pair, tmp_path):
    table = tmp_path / "exposures.ecsv"
    assert succeeded("exposures", *pair, "-o", table).out == (
        f"{table}: 2 exposures, 2 of them used\n"
    )
    table.write_text(table.read_text() + "# mine\n")
    answer = command("exposures", *pair, "-o", table)
    one_clear_error(answer, r"exposures\.ecsv: exists; give --overwrite")
    assert table.read_text().endswith("# mine\n")
    succeeded("exposures", *pair, "-o", table, "--overwrite")


def test_a_table_keeps_unreadable_files_as_unused_rows(pair, tmp_path):
    bad, _ = html(tmp_path)
    out = succeeded("exposures", *pair, *bad, "-o", tmp_path / "e.ecsv").out
    assert "3 exposures, 2 of them used" in out
    one_clear_error(command("exposures", *bad, "-o", tmp_path / "f.ecsv"), r"page\.fits")
    assert not (tmp_path / "f.ecsv").exists()


def test_another_grid_needs_a_word(pair, tmp_path):
    store = tmp_path / "deep.zarr"
    succeeded("stack", *pair, "-o", store)
    before = tree(store)
    advice = (
        "stack onto a FITS export of it (--refcube), give a larger --pad from the start, write to "
        "another store, or replace this one with --replace-grid"
    )
    said = rf"deep\.zarr: .*another grid than .*{re.escape(advice)}\n"
    one_clear_error(command("stack", *pair, "-o", store, "--pad", 40), said)
    assert tree(store) == before
    succeeded("stack", *pair, "-o", store, "--pad", 40, "--replace-grid")
    assert tree(store) != before


def test_duplicates_are_the_users_choice(tmp_path):
    first = expose(tmp_path, 0).rename(tmp_path / "first.fits")
    second = expose(tmp_path, 0, flux=np.full(SHAPE, 7.0, np.float32))
    for choice, counts in (("first", 1), ("last", 1), ("keep", 2)):
        store = tmp_path / f"{choice}.zarr"
        succeeded("stack", first, second, "-o", store, "--duplicates", choice)
        assert f"  {counts} exposure" in succeeded("info", store).out


# --- streams -----------------------------------------------------------------------------------


def test_results_go_to_stdout_and_everything_else_to_stderr_without_colours(pair, tmp_path):
    store = tmp_path / "deep.zarr"
    answer = succeeded("stack", *pair, "-o", store, "-v")
    assert answer.out.startswith(f"{store}: 1 of 1 block made")
    assert answer.out.count("\n") == 1
    assert "stack: 0 of 1 block\n" in answer.err
    assert "stack: 1 of 1 block\n" in answer.err
    assert re.search(r"^\d\d:\d\d:\d\d info: Stack of 2 exposures", answer.err, re.MULTILINE)
    assert ANSI not in answer.out + answer.err
    assert succeeded("-v", "stack", *pair, "-o", store).err.count("Stack of 2") == 1
    assert succeeded("stack", *pair, "-o", store).err == ""
    answer = succeeded("export", store, tmp_path / "deep.fits")
    assert answer.out == f"{tmp_path / 'deep.fits'}\n"


def test_long_lines_of_the_log_stay_whole(pair, tmp_path):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    err = succeeded("stack", *pair, "-o", folder / "deep.zarr", "-v").err
    assert any(line.endswith("1 of 1 block to make, 0 linked") for line in err.splitlines())
    answer = command("stack", folder / "absent.fits", "-o", tmp_path / "a.zarr")
    assert answer.err.count("\n") == 1


def test_progress_in_a_log_file_is_a_line_every_tenth_or_minute(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    with console.progress_bar("stack") as progress:
        for done in range(101):
            clock[0] += 1.0
            progress(done, 100, float("nan") if done == 0 else 100.0 - done)
        capsys.readouterr()
        progress(100, 100, 0.0)
        assert capsys.readouterr().err == ""
    with console.progress_bar("stack") as progress:
        for done in range(11):
            clock[0] += 70.0
            progress(done, 1000, 3700.0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[-1] == "stack: 10 of 1000 blocks, 1:01:40 left"
    with console.progress_bar("stack") as progress:
        progress(1, 1, 0.0)
    assert capsys.readouterr().err == "stack: 1 of 1 block\n"


def test_warnings_are_one_line_in_the_words_of_the_command_line(tmp_path):
    paths = [
        expose(tmp_path, n, wcs={"CD1_1": -2 * PIXEL_DEG, "CD2_2": 2 * PIXEL_DEG}) for n in range(1)
    ]
    err = succeeded("stack", *paths, "-o", tmp_path / "a.zarr").err
    (line,) = [line for line in err.splitlines() if "warning" in line]
    assert line.startswith("warning: exp0: its spaxel of 0.4 arcsec")
    assert "--flux-per spaxel" in line
    assert "warning" not in succeeded(
        "stack", *paths, "-o", tmp_path / "b.zarr", "--flux-per", "spaxel"
    ).err  # fmt: skip


def test_an_unexpected_error_is_one_line_and_its_place_is_told_on_request(pair, monkeypatch):
    def broken(_path):
        raise ZeroDivisionError("a slip")

    monkeypatch.setattr("musedask.info.describe", broken)
    answer = command("info", pair[0])
    assert answer.status == 1
    assert answer.err == (
        "musedask: ZeroDivisionError: a slip (a fault of musedask; with -vv it says where)\n"
    )
    assert "in broken" in command("info", pair[0], "-vv").err


# --- processes ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_job(tmp_path_factory):
    """Arguments of a stack of many blocks, its bytes, and how long it computes."""
    folder = tmp_path_factory.mktemp("long")
    shape = (1500, 40, 44)
    paths = [expose(folder, n, shape=shape, x=0.3 * n) for n in range(4)]
    arguments = ["stack", *paths, "--methods", "median,mean,clipped", "--threads", "2"]
    store = folder / "undisturbed.zarr"
    running = process(*arguments, "-o", store)
    started = first_progress(running)
    _, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    return arguments, tree(store), time.monotonic() - started


def first_progress(running):
    """Wait until a process computes, or ends since nothing is left to compute; gives the time."""
    for line in running.stderr:
        if line.startswith("stack: "):
            break
    return time.monotonic()


def stopped(running, number, delay):
    """Send a signal some time after it began to compute; gives what it said."""
    first_progress(running)
    time.sleep(delay)
    running.send_signal(number)
    return running.communicate(timeout=60)[1]


@pytest.mark.slow
def test_killed_at_random_moments_and_started_again_it_ends_with_the_same_bytes(
    long_job, tmp_path, campaign
):
    arguments, expected, seconds = long_job
    store = tmp_path / "deep.zarr"
    rng = random.Random(20)
    kills = 0
    for _ in range(campaign(3, 10)):
        running = process(*arguments, "-o", store)
        stopped(running, signal.SIGKILL, rng.uniform(0, 0.8 * seconds))
        kills += running.returncode == -signal.SIGKILL
        if store.exists():  # it was faster: the next round begins anew
            assert tree(store) == expected
            shutil.rmtree(store)
    assert kills
    running = process(*arguments, "-o", store)
    _, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    assert tree(store) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == [".deep.zarr.lock", "deep.zarr"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_it_at_once_with_a_message_and_it_goes_on_later(long_job, tmp_path, number):
    arguments, expected, seconds = long_job
    store = tmp_path / "deep.zarr"
    # Where the tests run under nohup, it would ignore what they ignore.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        running = process(*arguments, "-o", store)
    finally:
        signal.signal(number, before)
    err = stopped(running, number, 0.3 * seconds)
    assert running.returncode == 130, err
    assert "musedask: stopped; the same command goes on from here" in err
    assert "Traceback" not in err
    assert not store.exists()
    assert "is under way or was interrupted" in command("info", store).err
    (build,) = tmp_path.glob("deep.zarr.*.building")
    assert re.search(r"made: \d+ of 24 blocks", succeeded("info", build).out)
    answer = succeeded(*arguments, "-o", store)
    assert re.search(r"\d+ of 24 blocks made, 0 unchanged, \d+ already there", answer.out)
    assert tree(store) == expected


def test_two_builders_of_one_store_do_not_meet(long_job, tmp_path):
    arguments, expected, _ = long_job
    store = tmp_path / "deep.zarr"
    running = process(*arguments, "-o", store)
    first_progress(running)
    one_clear_error(command(*arguments, "-o", store), r"deep\.zarr: another process is building")
    assert running.wait(timeout=300) == 0
    running.communicate()
    assert tree(store) == expected


def test_a_reader_that_goes_away_is_no_error_to_speak_of(pair):
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    running = subprocess.Popen(
        [sys.executable, "-m", "musedask.cli", "info", pair[0]], stdout=reader.stdin,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert running.communicate(timeout=60)[1] == ""
    reader.stdin.close()


COLD = """
import sys
from musedask import console
from musedask.megacube.packing import has_values
from musedask.stacking.kernels.slab import stack_slab
print(stack_slab.stats.cache_path)
if len(sys.argv) > 1:
    import numpy as np
    with console.compilation_said():
        has_values(np.zeros((1, 1, 1), np.float32))
    print(sum(has_values.stats.cache_misses.values()))
"""


def test_compiled_kernels_go_to_the_users_cache_where_the_package_cannot_hold_them(tmp_path):
    """Two processes at once, and one later; the package's folder takes no cache."""
    package = tmp_path / "site" / "musedask"
    shutil.copytree(ROOT / "musedask", package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        (folder / "__pycache__").touch()  # not even root can make a cache there
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "PYTHONPATH")
    } | {"HOME": str(home), "PYTHONPATH": str(package.parent)}

    def start():
        return subprocess.Popen(
            [sys.executable, "-c", COLD, "compile"], env=environment, text=True, cwd=tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def answered(running):
        out, err = running.communicate(timeout=300)
        assert running.returncode == 0, err
        return out, err

    both = [start(), start()]
    answers = [answered(running) for running in both]
    answers.append(answered(start()))
    for out, _ in answers:
        assert Path(out.split()[0]).is_relative_to(home)
    said = [err.count("compiling the kernels: once per machine") for _, err in answers]
    assert 1 <= sum(said[:2]) <= 2
    assert max(said) == 1
    assert said[2] == 0
    assert [out.split()[1] for out, _ in answers][2] == "0"


def test_a_gzipped_exposure_is_read_as_well(pair, tmp_path):
    packed = tmp_path / "exp0.fits.gz"
    packed.write_bytes(gzip.compress(Path(pair[0]).read_bytes()))
    succeeded("stack", packed, pair[1], "-o", tmp_path / "packed.zarr")
    succeeded("stack", *pair, "-o", tmp_path / "plain.zarr")
    names = ("median/flux/c.0.0.0", "median/variance/c.0.0.0", "median/n_exposures/c.0.0.0")
    for name in names:
        plain, unpacked = tree(tmp_path / "plain.zarr"), tree(tmp_path / "packed.zarr")
        assert plain[name] == unpacked[name]


def test_each_part_of_the_demo_says_that_it_compiles(tmp_path, monkeypatch):
    from musedask import demo

    def compiling(*_, **__):
        njit(lambda x: x + 1)(1)
        return "done"

    monkeypatch.setattr(demo, "run_night", compiling)
    monkeypatch.setattr(demo, "run", compiling)
    found = command("demo", tmp_path / "demo")
    assert found.err.count("compiling the kernels") == 2
