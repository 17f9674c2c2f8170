"""The review page in a real browser: keys, mouse, decisions on the disk, two tabs, no server."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from browser import ALT, SHIFT, Browser, wait_until
from compared_fields import PIXEL, SIDE, made_compared
from scipy import ndimage
from served_review import Served, write_review

from musedask.alignment.material import read_material
from musedask.alignment.review import session
from musedask.alignment.review.applying import apply_decisions
from musedask.alignment.review.decisions import read_decisions
from musedask.alignment.review.session import Review
from musedask.alignment.review.static import write_static
from musedask.offsets import OffsetTable

pytestmark = pytest.mark.real_browser

FIRST, SECOND = "field_01", "field_00"
"""Names in the order of the page: the doubtful one comes first."""


@pytest.fixture(scope="module")
def fields():
    return [made_compared(0), made_compared(1, (-0.8, 1.0), grade="C", seed=5)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    one = Browser(tmp_path_factory.mktemp("browser"))
    yield one
    one.close()


@pytest.fixture
def served(tmp_path, fields, monkeypatch):
    """A server whose fits take no time: each mask moves the offset by an arcsecond."""

    def measured_again(compared, masked):
        measurement = compared.measurement
        moved = measurement.ra_offset_arcsec + len(masked)
        return replace(compared, measurement=replace(measurement, ra_offset_arcsec=moved))

    monkeypatch.setattr(session, "measured_again", measured_again)
    one = Served(write_review(tmp_path / "run", fields))
    yield one
    one.stop()


@pytest.fixture
def page(browser, served):
    """The page of a new table; it must not complain, nor ask another machine for anything."""
    one = open_page(browser, served)
    yield one
    one.evaluate("localStorage.clear()")
    assert one.complaints == []
    assert [url for url in one.requests if not url.startswith((served.address, "data:"))] == []
    one.close()


def open_page(browser, served):
    page = browser.open(served.address)
    settled(page, FIRST)
    return page


def settled(page, name):
    """Wait until an exposure is shown, and nothing is being saved."""
    page.wait(
        f"!review.now().busy && review.now().exposure.name === '{name}' && review.field.images"
        " && review.field.exposure.key === review.now().exposure.key"
    )


def saved(page, words):
    page.wait(f"document.getElementById('message').textContent.includes({json.dumps(words)})")
    page.wait("!review.now().busy")


def row(served, name):
    return next(one for one in served.table() if one.name == name)


def picture(page):
    """What the large picture shows, as text."""
    return page.evaluate("document.getElementById('picture').toDataURL()")


# --- looking --------------------------------------------------------------------------------------


def test_the_worst_is_shown_first_with_its_numbers_and_reasons(page):
    assert page.text("#list li:first-child .name") == FIRST
    assert page.text("#list li:first-child .grade") == "C"
    facts = page.text("#facts")
    assert "one source disagrees by 0.50 arcsec" in facts
    for words in ("\N{MINUS SIGN}0.800 ± 0.006", "+1.000 ± 0.006", "FWHM", "made up", "0.90"):
        assert words in facts
    assert page.text("#progress") == "0 of 2 decided"


def test_space_blinks_and_the_modes_show_something_else(page):
    seen = {"exposure": picture(page)}
    page.press(" ")
    assert page.evaluate("review.field.showsReference") is True
    seen["reference"] = picture(page)
    page.press(" ")
    assert picture(page) == seen["exposure"]
    for key, mode in (("d", "difference"), ("s", "swipe"), ("c", "contours")):
        page.press(key)
        assert page.evaluate(f"document.getElementById('{mode}').ariaPressed") == "true"
        seen[mode] = picture(page)
        page.press(key)
    assert len(set(seen.values())) == 5
    assert picture(page) == seen["exposure"]


def test_everything_works_by_mouse_and_has_a_name(page):
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, select, canvas')].filter((e) =>"
        " !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).map((e) => e.outerHTML)"
    )
    assert nameless == []
    page.click("#blink")
    assert page.evaluate("review.field.showsReference") is True
    page.click("#contours")
    page.press(" ")  # the keys belong to the picture again: no button is pressed twice
    assert page.evaluate("review.field.contours") is True
    assert page.evaluate("review.field.showsReference") is False
    page.click("#difference")
    assert page.evaluate("review.field.mode") == "difference"
    page.click("#next")
    settled(page, SECOND)
    page.click("#previous")
    settled(page, FIRST)
    page.click("#help")
    assert page.evaluate("document.getElementById('help-dialog').open") is True
    page.press("Escape")
    assert page.evaluate("document.getElementById('help-dialog').open") is False


@pytest.mark.parametrize("size", [(1280, 800), (1920, 1080)])
def test_everything_fits_into_the_window(page, size):
    page.send("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1],
              deviceScaleFactor=1, mobile=False)  # fmt: skip
    page.wait("document.getElementById('mosaic-note').textContent.includes('mean of 2')")
    outside = page.evaluate(
        "[...document.querySelectorAll('button:not(#facts *), canvas, select')].filter((e) => {"
        " const b = e.getBoundingClientRect(); return !e.closest('[hidden], dialog') &&"
        " (b.left < 0 || b.top < 0 || b.right > innerWidth || b.bottom > innerHeight"
        " || b.width < 10); }).map((e) => e.id)"
    )
    assert outside == []
    assert page.evaluate("document.getElementById('facts').scrollWidth <="
                         " document.getElementById('facts').clientWidth")  # fmt: skip
    assert page.evaluate("document.getElementById('stage').clientHeight") > 0.45 * size[1]


def test_the_mosaic_selects_the_exposure_under_a_click(page):
    page.wait("document.getElementById('mosaic-note').textContent.includes('mean of 2')")
    page.click("#mosaic-exposures")
    settled(page, SECOND)


# --- moving ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "modifiers", "east", "north"),
    [
        ("ArrowRight", 0, 0.2, 0.0),
        ("ArrowLeft", 0, -0.2, 0.0),
        ("ArrowUp", 0, 0.0, -0.2),
        ("ArrowDown", 0, 0.0, 0.2),
        ("ArrowRight", SHIFT, 1.0, 0.0),
        ("ArrowUp", ALT, 0.0, -0.05),
    ],
)
def test_an_arrow_moves_the_exposure_that_way_and_the_offset_with_it(
    page, key, modifiers, east, north
):
    """North is up and east left: an exposure that has to go right pointed too far east."""
    before = page.evaluate("review.place(review.field.placement(), 10, 10)")
    page.press(key, modifiers)
    after = page.evaluate("review.place(review.field.placement(), 10, 10)")
    offset = page.evaluate("review.now().offset")
    assert offset[0] == pytest.approx(-0.8 + east * PIXEL, abs=1e-6)
    assert offset[1] == pytest.approx(1.0 + north * PIXEL, abs=1e-6)
    assert after[0] - before[0] == pytest.approx(east, abs=1e-6)
    assert after[1] - before[1] == pytest.approx(-north, abs=1e-6)
    page.press("u")
    assert page.evaluate("review.now().offset") == pytest.approx([-0.8, 1.0])


def expected_correlation(compared, offset):
    """Pearson's coefficient with scipy's interpolation, of images as the page has them."""
    exposure = compared.exposure.flux.astype(float)
    sigma = math.sqrt(float(np.median(compared.exposure.variance)))
    east, north = offset[0] - 0.0, offset[1] - 0.0
    # North up, east left: subtracting an offset to the east moves the exposure to the right.
    shift_x, shift_y = east / PIXEL, -north / PIXEL
    rows, columns = np.mgrid[:SIDE, :SIDE]
    margin = compared.margin
    below = ndimage.map_coordinates(
        compared.reference.flux.astype(float),
        [rows + shift_y + margin, columns + shift_x + margin],
        order=1, cval=np.nan,
    )  # fmt: skip
    known = np.isfinite(below)
    share = min(max(float((exposure > 5 * sigma).mean()), 0.005), 0.1)
    inner = compared.reference.flux[margin:-margin, margin:-margin]
    one = np.clip(exposure / np.quantile(exposure, 1 - share), -0.5, 1)[known]
    other = np.clip(below / np.quantile(inner, 1 - share), -0.5, 1)[known]
    return float(np.corrcoef(one, other)[0, 1])


def test_the_correlation_is_pythons_wherever_the_exposure_is(page, fields):
    found, expected = [], []
    for key, modifiers in (("ArrowRight", 0), ("ArrowUp", SHIFT), ("ArrowLeft", ALT)):
        page.press(key, modifiers)
        found.append(page.evaluate("review.now().correlation"))
        expected.append(expected_correlation(fields[1], page.evaluate("review.now().offset")))
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert max(found) - min(found) > 0.02
    assert f"{found[-1]:.4f}" == page.text("#correlation")


def test_the_correlation_leaves_out_what_has_no_value_and_cuts_each_image_at_its_own_level(page):
    random = np.random.default_rng(4)
    exposure = random.normal(0.0, 1.0, (10, 12))
    reference = random.normal(0.0, 4.0, (14, 16)) + 4.0 * np.pad(exposure, 2)
    reference[6, 9] = np.nan
    used = random.random((10, 12)) > 0.2
    images = {
        "nx": 12, "ny": 10, "margin": 2, "matrix": [[-0.2, 0.0], [0.0, 0.2]],
        "carried": [0.0, 0.0], "tops": [0.7, 6.0], "exposure": exposure.ravel().tolist(),
        "reference": [None if math.isnan(one) else one for one in reference.ravel()],
        "used": used.ravel().astype(int).tolist(),
    }  # fmt: skip
    found = page.evaluate(
        f"(() => {{ const images = {json.dumps(images)};"
        " images.reference = images.reference.map((one) => one ?? NaN);"
        " return review.correlation(images, review.placement(images, [0.07, -0.13], 0)); })()"
    )
    rows, columns = np.mgrid[:10, :12]
    at = [rows + 0.65 + 2, columns + 0.35 + 2]
    below = ndimage.map_coordinates(reference, at, order=1, cval=np.nan)
    known = used & np.isfinite(below)
    one = np.clip(exposure / 0.7, -0.5, 1.0)[known]
    other = np.clip(below / 6.0, -0.5, 1.0)[known]
    assert found == pytest.approx(float(np.corrcoef(one, other)[0, 1]), abs=1e-6)


def test_the_automatic_offset_fits_best(page):
    best = page.evaluate("review.now().correlation")
    for key in ("ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown"):
        page.press(key, SHIFT)
        assert page.evaluate("review.now().correlation") < best
        page.press("u")
    assert page.evaluate("review.now().correlation") == best


# --- deciding -------------------------------------------------------------------------------------


def test_accepting_is_on_the_disk_and_survives_a_reload(page, served):
    page.press("a")
    saved(page, "accepted")
    assert (row(served, FIRST).decision, row(served, FIRST).decided_by) == ("accepted", "tester")
    page.reload()
    settled(page, FIRST)
    assert "accepted by tester" in page.text("#state")
    assert page.text("#progress") == "1 of 2 decided"


def test_a_move_is_saved_when_it_is_accepted(page, served):
    page.press("ArrowRight", SHIFT)
    page.press("ArrowUp")
    assert row(served, FIRST).decision == ""
    assert "not accepted" in page.text("#state")
    correlation = page.evaluate("review.now().correlation")
    page.press("a")
    saved(page, "moved by hand")
    moved = row(served, FIRST)
    assert (moved.decision, moved.method) == ("moved", "manual")
    assert moved.ra_offset_arcsec == pytest.approx(-0.6)
    assert moved.dec_offset_arcsec == pytest.approx(0.96)
    assert moved.correlation_after == pytest.approx(correlation)
    page.press("r")
    saved(page, "back to automatic")
    assert row(served, FIRST).ra_offset_arcsec == -0.8
    assert row(served, FIRST).decision == ""


def test_a_move_that_was_not_accepted_survives_a_reload_and_another_exposure(page):
    page.press("ArrowRight", SHIFT)
    page.press("n")
    settled(page, SECOND)
    assert page.evaluate("review.now().offset") == pytest.approx([0.6, -0.4])
    page.reload()
    settled(page, FIRST)
    assert page.evaluate("review.now().offset") == pytest.approx([-0.6, 1.0])


def test_flagging_asks_for_a_reason(page, served):
    page.press("f")
    page.press("Enter")  # no reason: nothing happens
    assert page.evaluate("document.getElementById('flag-dialog').open") is True
    page.type("clouds and a fence")
    page.press("Enter")
    saved(page, "flagged")
    flagged = row(served, FIRST)
    assert (flagged.grade, flagged.decision, flagged.note) == ("F", "flagged", "clouds and a fence")
    assert math.isnan(flagged.ra_offset_arcsec)
    assert "flagged" in page.text("#list li:first-child .state")


def test_letters_typed_into_the_reason_are_no_keys(page, served):
    page.press("f")
    for letter in "and":
        page.press(letter)
    assert page.evaluate("document.getElementById('reason').value") == "and"
    page.press("Escape")
    assert page.evaluate("review.field.mode") == "blink"
    assert row(served, FIRST).decision == ""


def test_the_arrows_belong_to_a_slider_that_has_the_focus(page):
    page.evaluate("document.getElementById('brightness').focus()")
    page.press("ArrowRight")
    assert page.evaluate("review.now().offset") == [-0.8, 1.0]
    assert page.evaluate("review.field.brightness") > 0


def test_m_masks_the_source_under_the_pointer_and_fits_again(page, served):
    at = page.evaluate(
        "(() => { const s = review.now().exposure.measured.sources[3];"
        " const b = document.getElementById('picture').getBoundingClientRect();"
        " const p = review.field.toScreen(s.x, s.y); return [p[0] + b.x, p[1] + b.y]; })()"
    )
    page.move(*at)
    page.press("m")
    saved(page, "fitted again")
    (mask,) = page.evaluate("review.now().exposure.masked")
    source = read_material(served.review.material.folder).entries[1].measurement.sources[3]
    assert (mask["ra_deg"], mask["dec_deg"]) == (source.ra_deg, source.dec_deg)
    assert row(served, FIRST).ra_offset_arcsec == pytest.approx(0.2)
    page.reload()
    settled(page, FIRST)
    assert len(page.evaluate("review.now().exposure.masked")) == 1
    page.press("a")
    saved(page, "accepted")
    assert row(served, FIRST).ra_offset_arcsec == pytest.approx(0.2)
    page.press("r")
    saved(page, "back to automatic")
    assert page.evaluate("review.now().exposure.masked") == []
    assert row(served, FIRST).ra_offset_arcsec == -0.8


def test_a_mask_by_mouse_and_away_again(page, served):
    page.click("#mask")
    page.click("#picture")
    saved(page, "fitted again")
    assert len(page.evaluate("review.now().exposure.masked")) == 1
    page.click("#facts button[aria-label='Take mask 1 away']")
    saved(page, "nothing is masked")
    assert row(served, FIRST).ra_offset_arcsec == -0.8


def test_undo_takes_back_what_was_saved_and_goes_there(page, served):
    page.press("a")
    saved(page, "accepted")
    page.press("n")
    settled(page, SECOND)
    page.press("ArrowRight")
    page.press("u")
    assert page.evaluate("review.now().offset") == pytest.approx([0.6, -0.4])
    page.press("u")
    saved(page, "undone")
    settled(page, FIRST)
    assert row(served, FIRST).decision == ""


def test_a_second_tab_is_refused_told_and_shown_what_is_there(page, served, browser):
    other = open_page(browser, served)
    # It would look again when it gets the focus; here it has not had it.
    other.evaluate("Object.defineProperty(document, 'hidden', { value: true })")
    page.press("a")
    saved(page, "accepted")
    other.press("f")
    other.type("clouds")
    other.press("Enter")
    saved(other, "changed since the decision was made")
    assert row(served, FIRST).decision == "accepted"
    settled(other, FIRST)
    assert "accepted by tester" in other.text("#state")
    other.close()


def test_a_tab_that_gets_the_focus_shows_what_another_decided(page, served, browser):
    other = open_page(browser, served)
    page.press("a")
    saved(page, "accepted")
    other.evaluate("window.dispatchEvent(new Event('focus'))")
    other.wait("document.getElementById('state').textContent.includes('accepted by tester')")
    other.press("f")
    other.type("clouds")
    other.press("Enter")
    saved(other, "flagged")  # it knows, so it may
    assert row(served, FIRST).decision == "flagged"
    other.close()


def test_a_server_that_is_gone_is_said_and_nothing_seems_saved(browser, served):
    page = open_page(browser, served)
    page.evaluate("fetch = () => Promise.reject(new TypeError('gone'))")
    page.press("a")
    saved(page, "not saved: the server does not answer")
    assert page.text("#state") == "open"
    assert row(served, FIRST).decision == ""
    page.close()


def test_a_rotated_exposure_is_drawn_where_the_offset_table_puts_it(page):
    """Against the projection that stacking uses."""
    from musedask.sky import SkyProjection

    place = page.evaluate(
        "review.place(review.placement(review.field.images, [0.7, -0.3], 2.0), 5, 50)"
    )
    sky = SkyProjection.north_up(53.16, -27.78, PIXEL, (SIDE - 1) / 2, (SIDE - 1) / 2)
    middle = ((SIDE - 1) / 2, (SIDE - 1) / 2)
    moved = sky.moved(0.7, -0.3, 2.0, dec_deg=-27.78, about=middle)
    x, y = sky.to_pixel(*moved.to_sky(5, 50))
    assert place == pytest.approx([float(x), float(y)], abs=1e-3)


def test_a_nudge_moves_that_way_however_the_field_is_turned(page):
    for angle, parity in itertools.product([0.0, 37.0, 180.0, 290.0], [-1.0, 1.0]):
        turn = math.radians(angle)
        matrix = [
            [parity * 0.2 * math.cos(turn), -0.2 * math.sin(turn)],
            [parity * 0.2 * math.sin(turn), 0.2 * math.cos(turn)],
        ]
        images = json.dumps({"nx": 40, "ny": 30, "matrix": matrix, "carried": [0.3, -0.1]})
        before, after = page.evaluate(
            f"(() => {{ const images = {images}, offset = [1.5, -0.5];"
            " const at = (o) => review.place(review.placement(images, o, 3), 4, 7);"
            " return [at(offset), at(review.nudged(images, offset, 0.2, -1))]; })()"
        )
        assert after[0] - before[0] == pytest.approx(0.2)
        assert after[1] - before[1] == pytest.approx(-1.0)


# --- without a server -----------------------------------------------------------------------------


def test_the_static_page_opens_as_a_file_and_its_download_applies(tmp_path, fields, browser):
    path = write_review(tmp_path / "run", fields)
    index = write_static(Review(path), tmp_path / "page")
    page = browser.open(index.as_uri())
    page.evaluate("localStorage.clear()")
    settled(page, FIRST)
    page.press("ArrowRight", SHIFT)
    page.press("a")
    saved(page, "moved by hand")
    page.press("n")
    settled(page, SECOND)
    page.click("#facts button[aria-label='Mask source 1']")
    saved(page, "fitted again")
    assert "estimate" in page.text("#facts")
    page.press("a")
    saved(page, "accepted")
    page.reload()
    settled(page, FIRST)
    assert page.text("#progress") == "2 of 2 decided"
    page.click("#save-file")
    file = browser.downloads / "review.json"
    wait_until(lambda: file.exists() and file.read_text().endswith("}"))
    decisions = read_decisions(file)
    file.unlink()
    measured = []

    def measure(date_obs, masked):
        measured.append((date_obs, masked))
        return fields[0].measurement

    table = apply_decisions(OffsetTable.read(path), decisions, who="ada", measure=measure)
    assert [(one.decision, one.decided_by) for one in table] == [
        ("accepted", "ada"), ("moved", "ada"),
    ]  # fmt: skip
    assert table.rows[1].ra_offset_arcsec == pytest.approx(-0.6)
    assert len(measured[0][1]) == 1
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    page.evaluate("localStorage.clear()")
    page.close()


def test_the_static_pages_estimate_is_the_weighted_mean_of_what_is_left(tmp_path, fields, browser):
    page = browser.open(
        write_static(Review(write_review(tmp_path, fields)), tmp_path / "p").as_uri()
    )
    sources = [
        {"used": True, "ra_deg": 10.0, "dec_deg": 0.0, "ra_offset_arcsec": 1.0,
         "dec_offset_arcsec": 0.0, "ra_error_arcsec": 0.1, "dec_error_arcsec": 0.1},
        {"used": True, "ra_deg": 10.1, "dec_deg": 0.0, "ra_offset_arcsec": 2.0,
         "dec_offset_arcsec": 4.0, "ra_error_arcsec": 0.2, "dec_error_arcsec": 0.1},
        {"used": True, "ra_deg": 10.2, "dec_deg": 0.0, "ra_offset_arcsec": 99.0,
         "dec_offset_arcsec": 99.0, "ra_error_arcsec": 0.1, "dec_error_arcsec": 0.1},
        {"used": False, "ra_deg": 10.3, "dec_deg": 0.0, "ra_offset_arcsec": 77.0,
         "dec_offset_arcsec": 77.0, "ra_error_arcsec": 0.1, "dec_error_arcsec": 0.1},
    ]  # fmt: skip
    masked = [{"ra_deg": 10.2, "dec_deg": 0.0, "radius_arcsec": 1.0}]
    found = page.evaluate(f"review.provisional({json.dumps(sources)}, {json.dumps(masked)})")
    assert found["offset"] == pytest.approx([(1.0 * 4 + 2.0) / 5, 2.0])
    assert found["n"] == 2
    page.close()
