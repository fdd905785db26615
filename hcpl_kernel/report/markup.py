"""HTML made of Python values: whatever is not markup yet is escaped, so that no ID or reason can become any."""

from __future__ import annotations

import html
import json
from typing import Any

_VOID = frozenset({"img", "meta", "br", "hr", "input"})


class Markup(str):
    """Text that is HTML, as :func:`element` made it or a template holds it."""


def text(value: object) -> Markup:
    """A value as HTML: markup as it is, everything else escaped, on one line, control characters written out."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape("".join(map(_printable, str(value))), quote=True))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character in "\n\r\t" else character.encode("unicode_escape").decode()


def join(*children: object) -> Markup:
    """Several values as HTML, one behind the other; None is left out."""
    return Markup("".join(text(child) for child in children if child is not None))


def element(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element.

    Args:
        name: of the tag; `svg` elements as well.
        children: values (:func:`text`).
        attributes: by name, `class_` for `class` and `_` for `-`; True is written without a value, None and False not at
            all.
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        written.append(f" {key}" if value is True else f' {key}="{text(value)}"')
    start = f"<{name}{''.join(written)}>"
    return Markup(start if name in _VOID else f"{start}{join(*children)}</{name}>")


def data_block(name: str, values: Any) -> Markup:
    """JSON for the page's script; no text in it can end the block."""
    plain = json.dumps(values, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        plain = plain.replace(character, f"\\u{ord(character):04x}")
    return Markup(f'<script type="application/json" id="{text(name)}">{plain}</script>')
