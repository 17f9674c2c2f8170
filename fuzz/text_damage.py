"""Damage to texts: words, lines, encodings; to JSON by its structure, and to XML by its rules."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

from fuzz.damage import damaged

_WORD = re.compile(r"[^\s,=:\"'<>{}\[\]();#|]+")
WORDS = (
    "0", "1", "-1", "nan", "inf", "-inf", "1e400", "1e-400", "99999999999999999999", "1_000",
    "0x1f",
    "True", "false", "None", "null", "~", "", " ", "''", '""', '"', "'", "#", "-", "--", ":", ",",
    ";",
    "\t", "(", "]", "{", "..", "../../../../tmp/evil", "/etc/passwd", "/", "\\", "%s%n", "{0}",
    "$HOME",
    "`id`", "$(id)", "; rm -rf x", "\x00", "\x1b[31m", "é", "\u2028", "\ufeff", "\U0001f52d",
    "a" * 300,
    "!!python/object/apply:os.system", "&a", "*a", "<<", "!!binary", "2014-12-08T03:12:45.123",
    "0000-00-00T00:00:00", "9999-99-99", "float64", "object", "int8", "string", "[1,2]", "1:2:3",
    "e", "+", "1e", "1.", ".5", "5d", '5"', "5'", "12h30m", "icrs", "image", "galactic", "arcsec",
    "-0.0", "359.9999999", "90", "-90.0001", "1e300",
)  # fmt: skip
"""What takes the place of a word."""


def damaged_text(rng: Random, data: bytes) -> bytes:
    """A text with other words, lines or encoding, at times with other bytes."""
    if rng.random() < 0.15:
        return damaged(rng, data)
    text = data.decode("utf-8")
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        text = rng.choice(_KINDS)(rng, text)
    return _encoded(rng, text)


def _encoded(rng: Random, text: str) -> bytes:
    how = rng.random()
    if how < 0.92:
        return text.encode("utf-8", "surrogatepass")
    if how < 0.94:
        return text.encode("utf-16", "surrogatepass")
    if how < 0.96:
        return b"\xef\xbb\xbf" + text.encode("utf-8", "surrogatepass")
    if how < 0.98:
        return text.encode("latin-1", "replace")
    return text.replace("\n", "\r").encode("utf-8", "surrogatepass")


def _word(rng: Random, text: str) -> str:
    found = list(_WORD.finditer(text))
    if not found:
        return rng.choice(WORDS)
    match = rng.choice(found)
    return text[: match.start()] + rng.choice(WORDS) + text[match.end() :]


def _inserted(rng: Random, text: str) -> str:
    at = rng.randint(0, len(text))
    return text[:at] + rng.choice(WORDS) + text[at:]


def _swapped(rng: Random, text: str) -> str:
    found = list(_WORD.finditer(text))
    if len(found) < 2:
        return text
    a, b = sorted(rng.sample(found, 2), key=lambda match: match.start())
    return text[: a.start()] + b[0] + text[a.end() : b.start()] + a[0] + text[b.end() :]


def _lines(rng: Random, text: str) -> str:
    lines = text.split("\n")
    n = rng.randrange(len(lines))
    kind = rng.randrange(5)
    if kind == 0:
        del lines[n]
    elif kind == 1:
        lines.insert(rng.randint(0, len(lines)), lines[n])
    elif kind == 2:
        lines.insert(rng.randint(0, len(lines)), lines.pop(n))
    elif kind == 3:
        lines[n] = lines[n][: rng.randint(0, len(lines[n]))]
    else:
        del lines[n:]
    return "\n".join(lines)


def _nested(rng: Random, text: str) -> str:
    """Deep nesting, which recursive readers do not survive."""
    at = rng.randint(0, len(text))
    opening = rng.choice(("[", "(", "{", "{a: ", "[[", "- ", "!", "a.", "{a={a=", "<a>", '{"a":'))
    return text[:at] + opening * rng.choice((50, 2000, 20000)) + text[at:]


def _long(rng: Random, text: str) -> str:
    at = rng.randint(0, len(text))
    return (
        text[:at]
        + rng.choice(("x", "9", " ", "\n", "(1,2) ")) * rng.choice((5000, 100000))
        + text[at:]
    )


_KINDS: tuple[Callable[[Random, str], str], ...] = (
    *[_word] * 8, *[_inserted] * 3, *[_swapped] * 2, *[_lines] * 4, _nested, _long,
)  # fmt: skip


def damaged_json(rng: Random, data: bytes) -> bytes:
    """A JSON document with other values at some places, or a damaged text."""
    if rng.random() < 0.3:
        return damaged_text(rng, data)
    document = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        document = _other_node(rng, document)
    text = json.dumps(document)
    if rng.random() < 0.05:
        text = text.replace("0", "[" * 100_000, 1)
    return text.encode("utf-8", "surrogatepass")


_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 1.5, float("nan"), float("inf"), 10**30, "", "x", "x" * 500,
    "../../evil",
    "/tmp/evil", "a\0b", "\ud800", "\n", [], {}, [1], [[]], {"a": 1}, [None], "NaN", "1", -0.0,
    2**63,
)  # fmt: skip


def _other_node(rng: Random, node: Any) -> Any:
    """The same document, one of its nodes another."""
    if isinstance(node, dict) and node and rng.random() < 0.85:
        key = rng.choice(list(node))
        out = dict(node)
        kind = rng.random()
        if kind < 0.1:
            del out[key]
        elif kind < 0.2:
            out[rng.choice(("", "extra", key + "x", "__class__", "folder"))] = rng.choice(_VALUES)
        else:
            out[key] = _other_node(rng, node[key])
        return out
    if isinstance(node, list) and node and rng.random() < 0.85:
        n = rng.randrange(len(node))
        kind = rng.random()
        if kind < 0.15:
            return node[:n] + node[n + 1 :]
        if kind < 0.3:
            return [*node, rng.choice([*_VALUES, node[n]])]
        return [*node[:n], _other_node(rng, node[n]), *node[n + 1 :]]
    return rng.choice(_VALUES)


def damaged_xml(rng: Random, data: bytes) -> bytes:
    """A damaged text, or XML that is made to hurt whoever parses it."""
    if rng.random() < 0.7:
        return damaged_text(rng, data)
    body = data.decode("utf-8")
    end = body.find("?>") + 2
    head, rest = body[:end], body[end:].lstrip()
    name = rng.choice(("association", "ns2:association", "html", "x"))
    made = rng.choice(_XML)(rng, name)
    rest = rest.replace(
        "MUSE", rng.choice(("&a;", "&a9;", "&#0;", "&#x41;", "MUSE")), rng.randint(0, 3)
    )
    return (head + made + rest).encode("utf-8", "surrogatepass")


def _bomb(rng: Random, name: str) -> str:
    levels = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    return f'<!DOCTYPE {name} [<!ENTITY a0 "boom">{levels}]>'


def _external(rng: Random, name: str) -> str:
    kind = rng.choice(("a", "% a"))
    where = rng.choice(("file:///etc/passwd", "file:///dev/zero", "http://127.0.0.1:9/x"))
    use = "%a;" if kind == "% a" else ""
    return f'<!DOCTYPE {name} [<!ENTITY {kind} SYSTEM "{where}">{use}]>'


def _external_type(rng: Random, name: str) -> str:
    return f'<!DOCTYPE {name} SYSTEM "file:///etc/passwd">'


def _long_entity(rng: Random, name: str) -> str:
    return f'<!DOCTYPE {name} [<!ENTITY a "{"x" * 100_000}">]>'


def _deep(rng: Random, name: str) -> str:
    return f"<{name}>" * rng.choice((90, 101, 5000, 100_000))


def _wide(rng: Random, name: str) -> str:
    attributes = "".join(f' a{n}="{n}"' for n in range(rng.choice((10, 5000))))
    return f"<{name}{attributes}>"


def _instructions(rng: Random, name: str) -> str:
    return rng.choice(
        ('<?xml-stylesheet href="file:///etc/passwd"?>', "<?php x?>", "<![CDATA[", "<!--")
    )


_XML: tuple[Callable[[Random, str], str], ...] = (
    _bomb, _bomb, _external, _external, _external_type, _long_entity, _deep, _wide, _instructions,
)  # fmt: skip
