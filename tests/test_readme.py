"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mpdaf.obj import Cube

from musedask.simulation import simulate_exposures

README = Path(__file__).parent.parent / "README.md"


def python_blocks() -> list[str]:
    """What stands in the README for Python: stacking, then reducing."""
    return re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.S)


# mpdaf cannot read a unit with two slashes without astropy's remark on them.
@pytest.mark.filterwarnings("ignore::astropy.units.UnitsWarning")
def test_the_fifteen_lines_of_python_make_a_cube_that_mpdaf_opens(tmp_path, monkeypatch):
    block, _ = python_blocks()
    truth = simulate_exposures(tmp_path / "exposures", 2)
    truth.offsets.write(tmp_path / "offsets.ecsv")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(block, str(README), "exec"), names)
    cube = Cube("deep.fits")
    assert cube.shape[0] == 80
    assert cube.var is not None
    assert names["snr"].sizes == {"wavelength": 80}
    assert len([line for line in block.splitlines() if line.strip()]) <= 15


def test_every_file_that_the_readme_points_to_is_there():
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text())
    assert targets
    assert not [target for target in targets if not (README.parent / target).exists()]
