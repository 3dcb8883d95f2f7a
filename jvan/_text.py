"""Words from files that nobody vouches for, made fit for a terminal."""

from __future__ import annotations


def printable(text, longest: int = 300) -> str:
    """`text` cut to `longest` characters, with line breaks and terminal escapes spelled out."""
    text = str(text)
    short = text if len(text) <= longest else text[:longest] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in short)
