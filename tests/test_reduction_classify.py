"""Each row of the pipeline's rules, the traps in their order, and headers as they come."""

from __future__ import annotations

import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from musedask.reduction.finding.classify import STATIC_TAGS, classify, kit_tag


def raw(category, kind, template="MUSE_tpl", exposures=1, **more):
    return {
        "INSTRUME": "MUSE",
        "ESO DPR CATG": category,
        "ESO DPR TYPE": kind,
        "ESO DPR TECH": "IFU",
        "ESO TPL ID": template,
        "ESO TPL NEXP": exposures,
        **more,
    }


ROWS = [
    (raw("CALIB", "BIAS"), "BIAS"),
    (raw("CALIB", "DARK"), "DARK"),
    (raw("CALIB", "FLAT,LAMP", exposures=3), "FLAT"),
    (raw("CALIB", "FLAT,LAMP", "MUSE_wfm_cal_specflat", 1), "FLAT"),
    (raw("CALIB", "FLAT,LAMP", "MUSE_nfm_cal_specflat", 2), "FLAT"),
    (raw("CALIB", "FLAT,LAMP,ILLUM", "MUSE_wfm_cal_illum"), "ILLUM"),
    (raw("CALIB", "FLAT,LAMP,ILLUM", "MUSE_nfm_cal_illum"), "ILLUM"),
    (raw("CALIB", "FLAT,SKY"), "SKYFLAT"),
    (raw("CALIB", "WAVE"), "ARC"),
    (raw("CALIB", "WAVE,LSF"), "ARC_LSF"),
    (raw("CALIB", "WAVE,MASK"), "MASK"),
    (raw("CALIB", "SKY"), "SKY"),
    (raw("SCIENCE", "SKY"), "SKY"),
    (raw("CALIB", "STD"), "STD"),
    (raw("CALIB", "ASTROMETRY"), "ASTROMETRY"),
    (raw("SCIENCE", "OBJECT"), "OBJECT"),
    (raw("CALIB", "TELLURIC"), "OBJECT"),
    (raw("CALIB", "STD,TELLURIC"), "OBJECT"),
    (raw("TECHNICAL", "FLAT,LAMP,THRUPUT"), "AMPL"),
]


@pytest.mark.parametrize(("header", "tag"), ROWS)
def test_each_row_of_the_rules(header, tag):
    assert classify(header) == ("raw", tag, "")


@pytest.mark.parametrize(("header", "tag"), ROWS)
def test_the_order_of_types_spaces_and_case_do_not_matter(header, tag):
    words = header["ESO DPR TYPE"].lower().split(",")
    changed = {
        "instrume": " muse ",
        "HIERARCH ESO DPR CATG": f" {header['ESO DPR CATG'].lower()}  ",
        "HIERARCH ESO DPR TYPE": " , ".join(reversed(words)),
        "ESO.DPR.TECH": "ifu",
        "hierarch eso tpl id": header["ESO TPL ID"].upper(),
        "ESO TPL NEXP": str(header["ESO TPL NEXP"]),
    }
    assert classify(changed) == ("raw", tag, "")


@pytest.mark.parametrize(("header", "tag"), ROWS)
def test_a_header_of_astropy_is_taken_as_it_is(header, tag):
    cards = fits.Header([(f"HIERARCH {k}" if " " in k else k, v) for k, v in header.items()])
    cards["COMMENT"] = "first"
    cards["COMMENT"] = "second"
    assert classify(cards).tag == tag


@pytest.mark.parametrize(
    ("header", "tag"),
    [
        # An ILLUM is a lamp flat as well, and may come in long templates.
        (raw("CALIB", "FLAT,LAMP,ILLUM", "MUSE_wfm_cal_illum", 5), "ILLUM"),
        (raw("CALIB", "LAMP,ILLUM,FLAT", "MUSE_WFM_CAL_ILLUM", 5), "ILLUM"),
        # The attached flats of the first years.
        (raw("CALIB", "FLAT,LAMP,ILLUM", "MUSE_wfm_cal_specflatatt", 1), "ILLUM"),
        (raw("CALIB", "FLAT,LAMP", "MUSE_wfm_cal_specflatatt", 1), "ILLUM"),
        (raw("CALIB", "FLAT,LAMP", "MUSE_wfm_cal_specflatatt", 3), "FLAT"),
        (raw("CALIB", "FLAT,LAMP,ILLUM", "MUSE_wfm_cal_specflat", 11), "FLAT"),
        # WAVE has to stand alone, MASK need not.
        (raw("CALIB", "WAVE,MASK,X"), "MASK"),
        # Twilights are no lamp flats.
        (raw("CALIB", "SKY,FLAT", exposures=8), "SKYFLAT"),
    ],
)
def test_the_traps_in_the_order_of_the_rows(header, tag):
    assert classify(header)[:2] == ("raw", tag)


@pytest.mark.parametrize(
    ("header", "kind", "words"),
    [
        (raw("CALIB", "FLAT,LAMP", exposures=2), "skipped", "TPL NEXP = 2"),
        (raw("CALIB", "FLAT,LAMP", "MUSE_xfm_cal_specflat", 2), "skipped", "XFM"),
        (raw("ACQUISITION", "OBJECT"), "skipped", "DPR CATG = ACQUISITION"),
        (raw("TEST", "BIAS"), "skipped", "DPR CATG = TEST"),
        (raw("TECHNICAL", "FOCUS"), "skipped", "FOCUS"),
        (raw("SCIENCE", "OBJECT") | {"ESO DPR TECH": "IMAGE"}, "skipped", "IMAGE"),
        (raw("SCIENCE", "OBJECT") | {"ESO DPR TECH": None}, "unknown", "without DPR TECH"),
        (raw("SCIENCE", "OBJECT") | {"INSTRUME": "FORS2"}, "unknown", "FORS2"),
        (raw("SCIENCE", "OBJECT") | {"INSTRUME": None}, "unknown", "without INSTRUME"),
        (raw("CALIB", "OBJECT"), "unknown", "DPR TYPE = OBJECT"),
        (raw("SCIENCE", "STD"), "unknown", "DPR TYPE = STD"),
        (raw("SCIENCE", "BIAS"), "unknown", "DPR CATG = SCIENCE"),
        (raw("CALIB", "WAVE,OTHER"), "unknown", "WAVE,OTHER"),
        (raw("CALIB", "FLAT"), "unknown", "FLAT"),
        (raw("CALIB", ""), "unknown", "DPR TYPE = missing"),
        ({"INSTRUME": "MUSE"}, "unknown", "without DPR CATG"),
        ({}, "unknown", "no INSTRUME"),
        ({"INSTRUME": "MUSE", "PRODCATG": "SCIENCE.CUBE.IFS"}, "skipped", "SCIENCE.CUBE.IFS"),
    ],
)
def test_what_is_in_no_row_says_why(header, kind, words):
    found = classify(header)
    assert (found.kind, found.tag) == (kind, "")
    assert words in found.reason


@pytest.mark.parametrize(
    ("header", "name", "kind", "tag"),
    [
        ({"INSTRUME": "MUSE", "ESO PRO CATG": "MASTER_BIAS"}, "x.fits", "product", "MASTER_BIAS"),
        ({"ESO PRO CATG": "TRACE_TABLE"}, "x.fits", "product", "TRACE_TABLE"),
        ({"INSTRUME": "MUSE", "ESO PRO CATG": "ANY_OTHER"}, "x.fits", "product", "ANY_OTHER"),
        ({"ESO PRO CATG": "ANY_OTHER"}, "x.fits", "unknown", ""),
        ({"INSTRUME": "FORS2", "ESO PRO CATG": "MASTER_BIAS"}, "x.fits", "unknown", ""),
        # A product keeps cards of the raw frame that it is made of.
        (raw("CALIB", "BIAS") | {"ESO PRO CATG": "MASTER_BIAS"}, "x", "product", "MASTER_BIAS"),
        ({"ESO PRO CATG": "LSF_PROFILE"}, "LSF_PROFILE-07.fits", "product", "LSF_PROFILE"),
        ({"ESO PRO CATG": "LSF_PROFILE"}, "lsf_profile_slice_wfm-n.fits", "static", "LSF_PROFILE"),
        ({"ESO PRO CATG": "STD_RESPONSE"}, "STD_RESPONSE_0001.fits", "product", "STD_RESPONSE"),
        ({"ESO PRO CATG": "STD_RESPONSE"}, "std_response_wfm-n.fits", "static", "STD_RESPONSE"),
        ({"ESO PRO CATG": "SKY_LINES"}, "sky_lines.fits", "static", "SKY_LINES"),
        (
            {"ESO PRO CATG": "SKY_LINES", "ESO PRO REC1 ID": "muse_create_sky"},
            "SKY_LINES.fits",
            "product",
            "SKY_LINES",
        ),
        (
            {"ESO PRO CATG": "GEOMETRY_TABLE", "ESO PRO REC1 ID": "muse_geometry"},
            "M.MUSE.2016-01-02T03:04:05.678.fits",
            "static",
            "GEOMETRY_TABLE",
        ),
    ],
)
def test_products_and_static_tables_go_by_pro_catg(header, name, kind, tag):
    assert classify(header, name)[:2] == (kind, tag)


@pytest.mark.parametrize("tag", sorted(STATIC_TAGS))
def test_each_static_tag_is_known_without_instrume(tag):
    assert classify({"ESO PRO CATG": tag.lower()}) == ("static", tag, "")


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("geometry_table_wfm.fits", "GEOMETRY_TABLE"),
        ("geometry_table_wfm_2014-12-01.fits", "GEOMETRY_TABLE"),
        ("geometry_table_nfm.fits.gz", "GEOMETRY_TABLE"),
        ("astrometry_wcs_wfm_2015-09-10.fits", "ASTROMETRY_WCS"),
        ("astrometry_reference.fits", "ASTROMETRY_REFERENCE"),
        ("my_filter_list.fits", "FILTER_LIST"),
        ("line_catalog.fits", "LINE_CATALOG"),
        ("extinct_table.fits", "EXTINCT_TABLE"),
        ("std_flux_table.fits", "STD_FLUX_TABLE"),
        ("sky_lines.fits", "SKY_LINES"),
        ("std_response_wfm-ao-n.fits", "STD_RESPONSE"),
        ("lsf_profile_slice_nfm-ao-n.fits", "LSF_PROFILE"),
        ("badpix_table_2015-06-02.fits", "BADPIX_TABLE"),
        ("vignetting_mask.fits", "VIGNETTING_MASK"),
        ("raman_lines.fits", "RAMAN_LINES"),
        ("telluric_regions.fits", "TELLURIC_REGIONS"),
        ("outline_catalog.fits", ""),
        ("STD_RESPONSE_0001.fits", ""),
        ("MUSE.2016-01-02T03:04:05.678.fits", ""),
    ],
)
def test_tables_of_the_kit_are_known_by_name_where_the_header_is_silent(name, tag):
    assert kit_tag(name) == tag
    assert classify({}, name)[:2] == (("static", tag) if tag else ("unknown", ""))


def test_a_name_does_not_overrule_a_header():
    assert classify(raw("CALIB", "BIAS"), "sky_lines.fits").tag == "BIAS"
    assert classify({"INSTRUME": "HAWKI"}, "sky_lines.fits").kind == "unknown"


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.just(float("nan")),
)
CARDS = ["INSTRUME", "ESO DPR CATG", "ESO DPR TYPE", "ESO DPR TECH", "ESO TPL ID", "ESO TPL NEXP",
         "ESO PRO CATG", "ESO PRO REC1 ID", "PRODCATG"]  # fmt: skip


@given(
    st.dictionaries(st.one_of(st.sampled_from(CARDS), st.text()), ANYTHING),
    st.sampled_from([{}, raw("CALIB", "FLAT,LAMP"), raw("SCIENCE", "OBJECT")]),
    st.text(),
)
def test_no_header_raises_and_each_verdict_is_whole(cards, base, name):
    found = classify(base | cards, name)
    assert found.kind in ("raw", "static", "product", "skipped", "unknown")
    assert bool(found.tag) == (found.kind in ("raw", "static", "product"))
    assert found.reason or found.tag
