"""Jobs that look finished: a folder with products and a record."""

from __future__ import annotations

import hashlib
from pathlib import Path

from musedask.reduction.job.record import JobRecord, Product, UsedFile, record_text


def a_record(folder, recipe="muse_bias", products=(), **changed):
    """A record with a value in each field."""
    fields = {
        "folder": Path(folder), "key": Path(folder).name, "recipe": recipe,
        "stage": "bias", "title": "bias IFU 1", "ifu": 1,
        "frames": ("2020-01-01T00:00:00.000",), "parameters": (("nifu", "1"),),
        "inputs": (UsedFile("BIAS", "/raw/b.fits", "10-11-abc"),),
        "products": tuple(products), "pipeline": "2.8.7", "esorex": "3.13.6", "cpl": "7.2.3",
        "musedask": "0.1", "command": ("/usr/bin/esorex", "muse_bias"), "cores": 1,
        "wall_s": 9.5, "cpu_s": 9.25, "peak_memory": 900 << 20, "host": "node1", "attempt": 1,
        "started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:00:10+00:00",
        "warnings": ("a warning",),
    }  # fmt: skip
    return JobRecord(**{**fields, **changed})


def finish(products, recipe, files):
    """A finished job that made ``files``: name -> PRO CATG, IFU and, if it has one, filter."""
    key = hashlib.sha256(f"{recipe} {files}".encode()).hexdigest()[:16]
    folder = Path(products) / recipe / key
    folder.mkdir(parents=True)
    made = []
    for name, (tag, ifu, *rest) in files.items():
        (folder / name).write_bytes(name.encode())
        filter_name = rest[0] if rest else ""
        made.append(Product(name, tag, ifu, filter_name, "", len(name), f"md5 of {name}"))
    record = a_record(folder, recipe, made, title="")
    (folder / "job.json").write_text(record_text(record))
    return record
