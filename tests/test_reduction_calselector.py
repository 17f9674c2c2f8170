"""Associations of the archive: nested, of all levels, and hostile ones."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_headers import write

from musedask.errors import FileError, InputError
from musedask.reduction.finding import calselector
from musedask.reduction.finding.calselector import CalFile, read_calselector, selections
from musedask.reduction.finding.scan import find_frames
from musedask.reduction.frames import Frame

NESTED = """<?xml version="1.0" encoding="UTF-8"?>
<!-- made by the archive -->
<association category="SCIENCE_GROUP" complete="true" mode="raw2raw">
  <mainFiles>
    <file category="OBJECT" name="MUSE.2016-01-02T03:04:05.678"/>
    <file category="OBJECT" name="MUSE.2016-01-02T03:24:05.678"/>
  </mainFiles>
  <associatedFiles>
    <association category="BIAS"><mainFiles>
      <file category="BIAS" name="MUSE.2016-01-01T12:00:00.000"/>
      <file category="bias" name="MUSE.2016-01-01T12:01:00.000"/>
    </mainFiles><associatedFiles/></association>
    <association category="FLAT" complete="false">
      <mainFiles><file category="FLAT" name="MUSE.2016-01-01T13:00:00.000"/></mainFiles>
      <associatedFiles>
        <association category="BIAS"><mainFiles>
          <file category="BIAS" name="MUSE.2015-12-31T12:00:00.000"/>
        </mainFiles></association>
        <association category="BADPIX_TABLE"><mainFiles>
          <file category="BADPIX_TABLE" name="M.MUSE.2015-07-01T00:00:00.000"/>
        </mainFiles></association>
      </associatedFiles>
    </association>
    <file category="GEOMETRY_TABLE" name="M.MUSE.2015-07-02T00:00:00.000.fits"/>
  </associatedFiles>
</association>
"""


def saved(tmp_path, text, name="association.xml"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_each_level_with_calibrations_is_a_selection(tmp_path):
    path = saved(tmp_path, NESTED)
    science, flat = read_calselector(path)
    assert [file.name[-12:] for file in science.main] == ["03:04:05.678", "03:24:05.678"]
    assert science.calibrations == (
        CalFile("BIAS", "MUSE.2016-01-01T12:00:00.000"),
        CalFile("BIAS", "MUSE.2016-01-01T12:01:00.000"),
        CalFile("FLAT", "MUSE.2016-01-01T13:00:00.000"),
        CalFile("GEOMETRY_TABLE", "M.MUSE.2015-07-02T00:00:00.000.fits"),
        # The flat's bias is hidden by the science's own, its bad pixels are not.
        CalFile("BADPIX_TABLE", "M.MUSE.2015-07-01T00:00:00.000"),
    )
    assert science.of_category("FLAT", "GEOMETRY_TABLE") == science.calibrations[2:4]
    assert (science.path, science.is_complete) == (str(path), True)
    assert flat.main == (CalFile("FLAT", "MUSE.2016-01-01T13:00:00.000"),)
    assert [file.category for file in flat.calibrations] == ["BIAS", "BADPIX_TABLE"]
    assert not flat.is_complete


def frame(name):
    return Frame(path=f"/raw/{name}", kind="raw")


def test_a_frame_finds_its_selection_by_name_packed_or_not(tmp_path):
    write(tmp_path / "a.fits")
    saved(tmp_path, NESTED)
    single = NESTED.replace("FLAT", "DARK").replace('"BIAS"', '"X"').replace("03:24", "05:00")
    saved(tmp_path, single.replace("GEOMETRY_TABLE", "DARK"), "b.xml")
    found = selections(find_frames(tmp_path))
    assert found.notes == ()
    assert len(found) == len(list(found)) == 4
    for name in ("MUSE.2016-01-02T03:24:05.678.fits", "MUSE.2016-01-02T03:24:05.678.fits.fz"):
        selection = found.of(frame(name))
        assert selection is not None
        assert selection.calibrations[0].name == "MUSE.2016-01-01T12:00:00.000"
    assert found.of(frame("MUSE.2016-01-02T06:00:00.000.fits")) is None


def test_the_fuller_of_two_selections_counts_whatever_their_order(tmp_path):
    write(tmp_path / "a.fits")
    short = NESTED[: NESTED.index('    <association category="FLAT"')]
    short += "</associatedFiles></association>"
    saved(tmp_path, short, "a.xml")
    saved(tmp_path, NESTED, "b.xml")
    saved(tmp_path, short, "c.xml")
    selection = selections(find_frames(tmp_path)).of(frame("MUSE.2016-01-02T03:04:05.678.fits"))
    assert selection is not None
    assert selection.path.endswith("b.xml")


@pytest.mark.parametrize(
    "text",
    [
        "<project><file category='BIAS' name='a'/></project>",
        "<!DOCTYPE svg PUBLIC 'x' 'http://example.org/x.dtd'><svg/>",
        "<association/>",
        "<association><mainFiles><file category='BIAS' name='a'/></mainFiles></association>",
    ],
)
def test_other_xml_and_empty_associations_give_nothing(tmp_path, text):
    write(tmp_path / "a.fits")
    path = saved(tmp_path, text)
    assert read_calselector(path) == ()
    found = selections(find_frames(tmp_path))
    assert (len(found), found.notes) == (0, ())


ENTITIES = "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(25))
BOMB = f'<!DOCTYPE association [<!ENTITY a "aa">{ENTITIES}]><association>&z;</association>'
FILE = """<!DOCTYPE association [<!ENTITY e SYSTEM "file:///etc/passwd">]>
<association><mainFiles><file category="BIAS" name="&e;"/></mainFiles></association>"""


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        FILE,
        FILE.encode("utf-16"),
        "<!DOCTYPE association SYSTEM 'http://127.0.0.1:9/x.dtd'><association/>",
        "<association>" * 200 + "</association>" * 200,
    ],
    ids=["bomb", "file", "utf-16", "outside", "deep"],
)
def test_entities_document_types_and_deep_nests_are_refused(tmp_path, text):
    write(tmp_path / "a.fits")
    path = saved(tmp_path, text)
    with pytest.raises(InputError, match="remove"):
        read_calselector(path)
    found = selections(find_frames(tmp_path))
    assert len(found) == 0
    assert "is not used" in found.notes[0]


@pytest.mark.parametrize(
    "name",
    ["../a", "/etc/passwd", "a/b", "..", "a..b", "", ".hidden", "a b", "C:\\a", "a\nb", "-rf"],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    text = NESTED.replace("MUSE.2016-01-01T13:00:00.000", name.replace("\n", "&#10;"))
    with pytest.raises(InputError, match="without a folder"):
        read_calselector(saved(tmp_path, text))


@pytest.mark.parametrize(
    "text", ["", "<association>", "<association></other>", "no xml", "<association>&e;"]
)
def test_what_is_no_xml_is_a_file_error(tmp_path, text):
    with pytest.raises(FileError, match="is no XML"):
        read_calselector(saved(tmp_path, text))


def test_a_file_of_endless_length_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(calselector, "MAX_BYTES", 1 << 20)
    with pytest.raises(FileError, match="more than 1 MB"):
        read_calselector(saved(tmp_path, "<association>" + " " * (1 << 20)))


@given(st.integers(0, len(NESTED)), st.text(max_size=4), st.integers(0, 30))
def test_damage_raises_nothing_but_our_own_errors(tmp_path_factory, at, noise, gone):
    path = tmp_path_factory.mktemp("xml") / "a.xml"
    path.write_text(NESTED[:at] + noise + NESTED[at + gone :], encoding="utf-8", newline="")
    # Whatever else comes out of it fails the test.
    with suppress(FileError, InputError):
        assert all(selection.calibrations for selection in read_calselector(path))
