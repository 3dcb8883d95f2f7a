"""Words from files that nobody vouches for, made fit for a terminal and for a spreadsheet."""

from __future__ import annotations

# what a spreadsheet takes for the beginning of a formula; it drops a tab and line breaks first
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def printable(text, longest: int | None = None) -> str:
    """`text` cut to `longest` characters, with each character that `str.isprintable` refuses as Python's escape of it.

    Those are controls, marks that turn the direction of writing, characters without width (so an emoji of several parts
    shows its joints), blanks other than the plain one, and bytes of a name that are no UTF-8.
    """
    text = str(text)
    if longest is not None and len(text) > longest:
        text = text[:longest] + "…"
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def in_nfc(name: str) -> str:
    """Macs write é as two characters in the names of files, other systems as one."""
    import unicodedata  # a library of 1 MB, which `import jvan` can do without

    return unicodedata.normalize("NFC", name)


def cell(name: str) -> str:
    """A name as a cell of a CSV file: an apostrophe keeps a spreadsheet from computing what it says."""
    return f"'{name}" if name.startswith(FORMULA) else name
