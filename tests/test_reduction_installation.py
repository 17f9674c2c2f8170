"""What is installed, asked of the real esorex and remembered."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest
import stub_esorex

from musedask.errors import FileError, MissingError
from musedask.reduction.job.installation import (
    Installation,
    ask_esorex,
    available_recipes,
    installation,
    pipeline_version,
    remembered_installation,
)


@pytest.mark.real_esorex
def test_the_versions_are_those_of_the_packages():
    found = installation()
    for package, version in (("esorex", found.esorex), ("cpl-plugin-muse", found.muse)):
        query = subprocess.run(
            ["dpkg-query", "-W", "-f=${Version}", package], capture_output=True, text=True
        )
        if query.returncode == 0:
            assert query.stdout.startswith(version)
    assert re.fullmatch(r"\d+\.\d+\.\d+", found.cpl)
    assert pipeline_version() == found.muse


@pytest.mark.real_esorex
def test_the_recipes_of_the_chain_are_there():
    chain = {"muse_bias", "muse_scibasic", "muse_scipost", "muse_exp_align", "muse_exp_combine"}
    assert chain <= set(available_recipes())
    assert not [name for name in available_recipes() if not name.startswith("muse_")]


@pytest.mark.real_esorex
def test_a_recipe_that_is_not_there_is_missing():
    with pytest.raises(MissingError, match=r"no recipe muse_nope.*cpl-plugin-muse"):
        ask_esorex("--man-page", "muse_nope")


def test_versions_are_asked_once_and_remembered_on_disk(tmp_path, monkeypatch):
    stub_esorex.install(tmp_path / "bin")
    monkeypatch.setenv("MUSEDASK_ESOREX", str(tmp_path / "bin" / "esorex"))
    kept = tmp_path / "kept"
    assert remembered_installation(kept) is None
    expected = Installation(muse="2.8.7", esorex="3.13.6", cpl="7.2.3")
    assert installation(kept) == expected
    # Not asked again: what would answer is gone, though it looks as before.
    path = tmp_path / "bin" / "esorex"
    status = path.stat()
    path.write_text("#!/bin/sh\nexit 1\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert installation() == expected
    assert remembered_installation(kept) == expected
    # Another esorex is asked anew.
    os.utime(path, ns=(1, 1))
    assert remembered_installation(kept) is None
    with pytest.raises(FileError, match="status 1"):
        installation()


def test_what_cannot_be_read_is_not_remembered(tmp_path, monkeypatch):
    stub_esorex.install(tmp_path / "bin")
    monkeypatch.setenv("MUSEDASK_ESOREX", str(tmp_path / "bin" / "esorex"))
    installation(tmp_path)
    file = tmp_path / "installation.json"
    assert remembered_installation(tmp_path) is not None
    for text in ("{", "[]", json.dumps({**json.loads(file.read_text()), "more": 1})):
        file.write_text(text)
        assert remembered_installation(tmp_path) is None
