"""The table of used frames: a row for each line of each SOF, wherever the run lies now."""

from __future__ import annotations

from finished_jobs import a_record

from musedask.reduction.job.record import Product, UsedFile
from musedask.reduction.tables.used_frames import used_frames_table

RAW = UsedFile("BIAS", "/raw/b1.fits", "10-11-abc")
BIAS = a_record(
    "/run/products/muse_bias/b" + "0" * 15, inputs=(RAW, UsedFile("BIAS", "/raw/b2.fits", "20-x")),
    products=(Product("MASTER_BIAS-07.fits", "MASTER_BIAS", 7, "", "2020-01-01", 5, "md5"),), ifu=7,
)  # fmt: skip
FLAT = a_record(
    "/run/products/muse_flat/f" + "0" * 15, "muse_flat", stage="flat", ifu=7,
    inputs=(UsedFile("MASTER_BIAS", f"/old/products/muse_bias/{BIAS.key}/MASTER_BIAS-07.fits",
                     "md5", BIAS.key),),
    products=(Product("MASTER_FLAT-07.fits", "MASTER_FLAT", 7, "", "2019-01-01", 5, "md5"),),
)  # fmt: skip
FINAL = a_record(
    "/run/products/muse_scipost/a" + "0" * 15, "muse_scipost", stage="final", ifu=None,
    inputs=(UsedFile("OUTPUT_WCS", "/old/products/muse_scipost/a/OUTPUT_WCS.fits", ""),),
)  # fmt: skip


def rows(records, dates):
    table = used_frames_table(records, dates)
    return [tuple(row) for row in table["stage", "ifu", "tag", "date_obs", "made_by", "file"]]


def test_raw_frames_have_their_date_and_products_the_job_that_made_them():
    found = rows([FINAL, FLAT, BIAS], {RAW.identity: "2020-01-01T00:00:00"})
    assert found == [
        ("bias", 7, "BIAS", "2020-01-01T00:00:00", "", "/raw/b1.fits"),
        ("bias", 7, "BIAS", "", "", "/raw/b2.fits"),
        ("flat", 7, "MASTER_BIAS", "2020-01-01", BIAS.key,
         f"muse_bias/{BIAS.key}/MASTER_BIAS-07.fits"),
        ("final", 0, "OUTPUT_WCS", "", "", "muse_scipost/a/OUTPUT_WCS.fits"),
    ]  # fmt: skip


def test_the_order_of_the_records_does_not_matter():
    assert rows([BIAS, FLAT, FINAL], {}) == rows([FINAL, BIAS, FLAT], {})
    assert list(used_frames_table([FLAT, BIAS], {})["job"]) == [BIAS.key, BIAS.key, FLAT.key]


def test_no_job_is_no_row():
    assert len(used_frames_table([], {})) == 0
