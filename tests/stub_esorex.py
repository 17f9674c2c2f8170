"""A stand-in for esorex, for faults that the real one cannot be made to show.

It hangs, crashes, is slow, or makes the wrong products, as a file beside it says,
and keeps a list of its calls. Run as a script it is esorex; imported, it installs
itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

PRODUCTS = {
    "muse_bias": ["MASTER_BIAS"],
    "muse_dark": ["MASTER_DARK"],
    "muse_flat": ["MASTER_FLAT", "TRACE_TABLE"],
    "muse_wavecal": ["WAVECAL_TABLE"],
    "muse_lsf": ["LSF_PROFILE"],
    "muse_twilight": ["DATACUBE_SKYFLAT", "TWILIGHT_CUBE"],
    "muse_scibasic": ["PIXTABLE_OBJECT"],
    "muse_standard": ["STD_RESPONSE"],
}
BANNER = """
     ***** ESO Recipe Execution Tool, version 3.13.6  *****

Libraries used: CPL = 7.2.3, CFITSIO = 4.2.0
"""
SPACE = 2880


def install(folder, **behaviour):
    """Make an ``esorex`` in a folder; give its path. Put the folder first in PATH to use it.

    ``behaviour`` is for all recipes: ``seconds`` to take, ``signal`` to die of in the end,
    ``status``, ``products`` (name -> PRO CATG), ``unlisted`` (does not say what it made),
    ``log`` (lines), ``grandchild`` (starts a process that sleeps), ``hog_mb`` (memory that it
    takes meanwhile), ``only`` (recipes that take time and memory).
    What it says of itself: ``muse`` (version of the pipeline), ``recipes``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "esorex"
    text = Path(__file__).read_text().partition("\n")[2]
    # -S and -E: it starts in 15 ms.
    path.write_text(f'#!{sys.executable} -SE\n"""A stand-in for esorex.\n{text}')
    path.chmod(0o755)
    (folder / "behaviour.json").write_text(json.dumps(behaviour))
    return path


def calls(folder):
    """What it was called with: a dictionary for each job, in the order of their starts."""
    path = folder / "calls.txt"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def fits_bytes(cards):
    """A FITS file without data."""
    lines = ["SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   = 0"]
    for key, value in cards.items():
        text = f"'{value}'" if isinstance(value, str) else str(value)
        start = key.ljust(8) if len(key) <= 8 and " " not in key else f"HIERARCH {key}"
        lines.append(f"{start}= {text}")
    content = "".join(line.ljust(80) for line in [*lines, "END"])
    return content.ljust(-(-len(content) // SPACE) * SPACE).encode()


def answer(arguments):
    """What is asked of it without a job."""
    behaviour = json.loads((Path(__file__).resolve().parent / "behaviour.json").read_text())
    sys.stdout.write(BANNER)
    if "--man-page" in arguments:
        sys.stdout.write(f"  {arguments[-1]} -- version {behaviour.get('muse', '2.8.7')}\n")
    if "--recipes" in arguments:
        for recipe in behaviour.get("recipes", []):
            sys.stdout.write(f"  {recipe:20s}: does something\n")
    for argument in arguments:
        if argument.startswith("--create-config="):
            Path(argument.partition("=")[2]).write_text("[]")


def run(recipe, options, sof, here):
    behaviour = json.loads((here / "behaviour.json").read_text())
    with open(here / "calls.txt", "a") as file:
        call = {"recipe": recipe, "pid": os.getpid(), "cwd": os.getcwd(), "options": options}
        file.write(json.dumps({**call, "threads": os.environ["OMP_NUM_THREADS"]}) + "\n")
    if behaviour.get("grandchild") and os.fork() == 0:
        os.execvp("sleep", ["sleep", "1000"])
    if recipe in behaviour.get("only", [recipe]):
        hog = b"x" * (behaviour.get("hog_mb", 0) << 20)
        time.sleep(behaviour.get("seconds", 0))
        del hog
    lines = [line.split() for line in Path(sof).read_text().splitlines()]
    ifu = int(options.get("--nifu", "0"))
    end = f"-{ifu:02d}.fits" if ifu else ".fits"
    tags = {"PIXTABLE_OBJECT": f"PIXTABLE_{lines[0][1]}"} if recipe == "muse_scibasic" else {}
    default = {f"{tags.get(t, t)}{end}": tags.get(t, t) for t in PRODUCTS.get(recipe, [])}
    products = behaviour.get("products", default)
    for name, tag in products.items():
        cards = {"DATE-OBS": "2020-01-01T00:00:00.000", "ESO PRO CATG": tag}
        cards |= {"ESO PRO REC1 ID": recipe}
        for number, (path, tag_in) in enumerate(lines, start=1):
            cards[f"ESO PRO REC1 RAW{number} NAME"] = os.path.basename(path)
            cards[f"ESO PRO REC1 RAW{number} CATG"] = tag_in
        (Path(options["--output-dir"]) / name).write_bytes(fits_bytes(cards))
    Path(options["--log-file"]).write_text("\n".join(behaviour.get("log", [])) + "\n")
    if not behaviour.get("unlisted"):
        listing = [{"name": name, "category": tag} for name, tag in products.items()]
        Path(options["--products-sof"]).write_text(json.dumps(listing))
    if "signal" in behaviour:
        signal.signal(behaviour["signal"], signal.SIG_DFL) if behaviour["signal"] != 9 else None
        os.kill(os.getpid(), behaviour["signal"])
    return behaviour.get("status", 0)


def main(arguments):
    names = [argument for argument in arguments if not argument.startswith("--")]
    options = dict(a.partition("=")[::2] for a in arguments if a.startswith("--"))
    if len(names) < 2:
        answer(arguments)
        return 0
    return run(names[0], options, names[-1], Path(__file__).resolve().parent)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
