"""Filters: known curves, top hats and the tables that users bring."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from musedask.alignment.filters import Filter, find_filter, top_hat
from musedask.errors import FileError, InputError, MissingError

KNOWN = ("Johnson_B", "Johnson_V", "Cousins_R", "Cousins_I", "SDSS_g", "SDSS_r", "SDSS_i", "SDSS_z")


def moments(waves, passed):
    """Mean wavelength and equivalent width of a curve."""
    waves, passed = np.asarray(waves), np.asarray(passed)
    area = np.trapezoid(passed, waves)
    return np.trapezoid(waves * passed, waves) / area, area / np.max(passed)


@pytest.mark.parametrize("name", KNOWN)
def test_known_curves_have_the_mean_and_width_of_mpdafs(name):
    import mpdaf.obj

    listed = Path(mpdaf.obj.__file__).parent / "filters" / "filter_list.fits"
    theirs = Table.read(listed, hdu=name)
    ours = find_filter(name.lower())
    assert ours.name == name
    expected = moments(theirs["lambda"].data, theirs["throughput"].data)
    assert moments(ours.wavelengths, ours.throughput) == pytest.approx(expected, rel=1e-3)
    # A FILTER_LIST of the pipeline is read as it is.
    same = find_filter(f"{listed}[{name}]")
    np.testing.assert_allclose(
        same.weights(np.arange(4750.0, 9350.0, 1.25), 1.25),
        ours.weights(np.arange(4750.0, 9350.0, 1.25), 1.25),
        atol=1e-3,
    )


def test_known_curves_lie_where_textbooks_have_them():
    # Bessell 2005, ARA&A 43, 293, table 1 and Fukugita et al. 1996: effective wavelengths.
    textbook = [4361, 5448, 6407, 7980, 4770, 6231, 7625, 9134]
    for name, wave in zip(KNOWN, textbook, strict=True):
        one = find_filter(name)
        mean, _ = moments(one.wavelengths, one.throughput)
        assert mean == pytest.approx(wave, rel=0.03), name


@given(
    st.lists(st.floats(4000, 9000), min_size=2, max_size=8, unique=True),
    st.integers(0, 2**31),
)
def test_weights_are_the_integral_of_the_curve_over_each_channel(waves, seed):
    waves = sorted(waves)
    passed = np.random.default_rng(seed).uniform(0.01, 1.0, len(waves))
    one = Filter("made", tuple(waves), tuple(passed))
    channels = np.arange(3990.0, 9011.0, 5.0)
    weights = one.weights(channels, 5.0)
    # The mean over 200 samples of each channel, which linear pieces with jumps need.
    fine = channels[:, None] + 5.0 * ((np.arange(200) + 0.5) / 200 - 0.5)
    sampled = np.interp(fine, waves, passed, left=0, right=0).mean(axis=1)
    np.testing.assert_allclose(weights, sampled, atol=0.011)
    assert weights.sum() * 5.0 == pytest.approx(one.integral, rel=1e-9)


def test_a_top_hat_takes_part_of_the_channels_at_its_edges():
    weights = top_hat(5001.0, 5004.0).weights([4998.0, 5000.0, 5002.0, 5004.0, 5006.0], 2.0)
    np.testing.assert_allclose(weights, [0.0, 0.0, 1.0, 0.5, 0.0], atol=1e-12)
    assert find_filter(" 4800-5800 ").wavelengths == (4800.0, 5800.0)
    assert find_filter("4800.5-5800").integral == pytest.approx(999.5)


def test_a_step_may_have_two_values_at_one_wavelength():
    step = Filter("step", (5000.0, 5010.0, 5010.0, 5020.0), (0.2, 0.2, 1.0, 1.0))
    weights = step.weights([5005.0, 5010.0, 5015.0], 2.0)
    np.testing.assert_allclose(weights, [0.2, 0.6, 1.0])


def test_white_is_everything():
    white = find_filter("White")
    assert white.is_white
    assert white.weights([1.0, 1e5], 1.25).tolist() == [1.0, 1.0]


WAVES, PASSED = [5000.0, 5500.0, 6000.0], [0.0, 0.5, 0.25]


def written(folder: Path, kind: str) -> Path:
    path = folder / f"mine.{kind}"
    if kind == "txt":
        path.write_text("# a filter\n# throughput wave\n0 5000\n0.5 5500\n0.25 6000\n")
    elif kind == "tab":
        path.write_text("# a curve\n\n5000 0\n5500 0.5\n6000 0.25\n")
    elif kind == "dat":
        path.write_text("500 0\n550 0.5\n600 0.25\n")
    elif kind == "csv":
        path.write_text("Trans,Lambda\n0.25,6000\n0.5,5500\n0,5000\n")
    elif kind == "ecsv":
        table = {
            "wave": np.array(WAVES) / 1e4 * u.um,
            "throughput": np.array(PASSED) * 100 * u.percent,
        }
        Table(table).write(path)
    else:
        table = Table({"WAVELENGTH": np.array(WAVES) / 10 * u.nm, "THROUGHPUT": PASSED})
        table.write(path)
    return path


@pytest.mark.parametrize("kind", ["txt", "tab", "dat", "csv", "ecsv", "fits"])
def test_tables_of_users_are_read_with_their_units(kind, tmp_path):
    one = find_filter(written(tmp_path, kind))
    assert one.name == "mine"
    np.testing.assert_allclose(one.wavelengths, WAVES)
    np.testing.assert_allclose(one.throughput, PASSED)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a b\n5000 1\n6000 1\n", "no column holds a wavelength"),
        ("wave b\n5000 1\n6000 1\n", "no column holds a throughput"),
        ("wave trans\n5000 x\n6000 y\n", "trans does not hold a number"),
        ("wave trans\n5000 1\n6000 nan\n", "row 2 of the column trans"),
        ("wave trans\n5000 1\n4000 1\n6000 1\n", "rise"),
        ("wave trans\n5000 0\n6000 0\n", "above 0 somewhere"),
        ("wave trans\n5000 1\n6000 -0.5\n", "0 or more"),
        ("5000 1\n", "two or more"),
    ],
)
def test_what_is_no_filter_is_an_error_with_file_and_reason(text, complaint, tmp_path):
    path = tmp_path / "curve.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=complaint) as caught:
        find_filter(path)
    assert str(path) in str(caught.value)


def test_a_unit_that_is_no_length_is_an_error(tmp_path):
    path = tmp_path / "curve.ecsv"
    Table({"wave": [5000, 6000] * u.s, "trans": [1.0, 1.0]}).write(path)
    with pytest.raises(InputError, match=r"curve\.ecsv: the unit of the column wave is 's'"):
        find_filter(path)


def test_errors_name_what_there_is(tmp_path):
    with pytest.raises(MissingError, match=r"'Jonson_V': neither a file nor.*Johnson_V"):
        find_filter("Jonson_V")
    with pytest.raises(InputError, match="two wavelengths that rise"):
        find_filter("5800-4800")
    curve = Table({"lambda": WAVES, "throughput": PASSED})
    hdus = [fits.PrimaryHDU(), *(fits.BinTableHDU(curve, name=name) for name in ("ONE", "TWO"))]
    path = tmp_path / "list.fits"
    fits.HDUList(hdus).writeto(path)
    assert find_filter(f"{path}[two]").name == "two"
    with pytest.raises(InputError, match=r"more than one table.*ONE, TWO"):
        find_filter(path)
    with pytest.raises(InputError, match=r"no table three.*ONE, TWO"):
        find_filter(f"{path}[three]")
    (tmp_path / "broken.ecsv").write_text("nothing")
    with pytest.raises(FileError, match=r"broken\.ecsv: cannot be read"):
        find_filter(tmp_path / "broken.ecsv")
