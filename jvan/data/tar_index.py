"""Where each member of an uncompressed tar file lies; only headers are read, and nothing is unpacked."""

from __future__ import annotations

import os
from typing import NamedTuple

from ..errors import DataError

BLOCK = 512
LONGEST_NAME = 1 << 16
MAX_MEMBERS = 50_000_000
FILE, FOLDER, LONG_NAME, PAX = (b"0", b"\0", b"7"), b"5", b"L", b"x"
WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes: whatever size they claim


class Index(NamedTuple):
    """`names` of regular files with their `offsets` and `sizes`, in bytes; `folders` that have an entry of their own."""

    names: list[str]
    offsets: list[int]
    sizes: list[int]
    folders: set[str]


def index_tar(file, title: str) -> Index:
    """Regular files and folders of a POSIX or GNU tar file, which is open; a name that occurs twice means its last member, as for tar.

    A tar file among the members counts as a folder of what it holds.
    Links, devices and whatever else a tar file may hold are passed over. DataError for a file that is
    damaged or cut short, or for a name that climbs out of the archive.
    """
    found: dict[str, tuple[int, int]] = {}
    folders: set[str] = set()
    try:
        _collect(file.fileno(), (0, os.fstat(file.fileno()).st_size), title, "", found, folders)
    except OSError as error:
        raise DataError(f"{title}: {(error.strerror or str(error)).lower()}") from None
    return Index(list(found), [at for at, _ in found.values()], [length for _, length in found.values()], folders)


def _collect(descriptor: int, extent: tuple[int, int], title: str, above: str, found: dict, folders: set) -> None:
    """Add the members between these bytes to `found` and `folders`."""
    for stored, kind, offset, length in _members(descriptor, *extent, title):
        name = _checked(stored, title)
        if not name or any(part.startswith(".") for part in name.split("/")):
            continue
        if kind == FOLDER or stored.endswith("/"):  # as tar wrote folders before POSIX
            folders.add(above + name)
        elif kind in FILE and name.lower().endswith(".tar") and not above:
            # ImageNet's own archive of its training pictures is a tar file of a tar file for each class.
            folders.add(name[:-4])
            _collect(descriptor, (offset, offset + length), f"{title}:{name}", f"{name[:-4]}/", found, folders)
        elif kind in FILE:
            found[above + name] = (offset, length)


def _members(descriptor: int, start: int, size: int, title: str):
    """Yield (name, kind, where its data begins, length) of each member from byte `start` to `size`."""
    at, long_name, pax = start, None, {}
    for _ in range(MAX_MEMBERS):
        header = os.pread(descriptor, max(0, min(BLOCK, size - at)), at)
        if not header.strip(b"\0"):  # the end, or a file that simply stops, as tar itself accepts
            return
        if len(header) < BLOCK or not _sum_is_right(header):
            raise DataError(f"{title}: damaged or cut short at byte {at}; fetch it again")
        kind, length, begin = header[156:157], _number(header[124:136], title), at + BLOCK
        if kind not in (LONG_NAME, PAX):
            length = int(pax.get("size", length))
        if kind in WITHOUT_DATA:
            length = 0
        if length < 0 or begin + length > size:
            raise DataError(
                f"{title}: a member at byte {at} claims {length:,} bytes, more than there are; fetch it again"
            )
        if kind in (LONG_NAME, PAX):
            if length > LONGEST_NAME:
                raise DataError(f"{title}: a member at byte {at} has a name of {length:,} bytes; the file is damaged")
            data = os.pread(descriptor, length, begin)
            long_name, pax = (_text(data), pax) if kind == LONG_NAME else (long_name, _pax(data, title))
        else:
            yield pax.get("path") or long_name or _name(header), kind, begin, length
            long_name, pax = None, {}
        at = begin + -(-length // BLOCK) * BLOCK
    raise DataError(f"{title}: more than {MAX_MEMBERS:,} members")


def _sum_is_right(header: bytes) -> bool:
    try:
        claimed = int(header[148:156].strip(b"\0 ") or b"0", 8)
    except ValueError:
        return False
    return claimed == sum(header) - sum(header[148:156]) + 8 * ord(" ")


def _number(field: bytes, title: str) -> int:
    """Octal digits, or base 256 where the first bit is set."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    try:
        return int(field.strip(b"\0 ") or b"0", 8)
    except ValueError:
        raise DataError(f"{title}: a member's size is no number; the file is damaged") from None


def _name(header: bytes) -> str:
    name, prefix = _text(header[:100]), _text(header[345:500])
    return f"{prefix}/{name}" if prefix and header[257:263] == b"ustar\0" else name


def _text(data: bytes) -> str:
    return os.fsdecode(data.split(b"\0", 1)[0])


def _pax(data: bytes, title: str) -> dict[str, str]:
    """Records `LENGTH KEY=VALUE\\n`; only a path and a size concern us."""
    records, at = {}, 0
    while at < len(data):
        digits, _, _ = data[at : at + 20].partition(b" ")
        end = at + int(digits) if digits.isdigit() else 0
        key, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if end <= at + len(digits) or end > len(data) or not equals or (key == b"size" and not value[:20].isdigit()):
            raise DataError(f"{title}: a member's extended header is damaged; fetch the file again")
        records[os.fsdecode(key)] = os.fsdecode(value[:20] if key == b"size" else value)
        at = end
    return records


def _checked(name: str, title: str) -> str:
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts:
        raise DataError(f"{title}: the member {name!r} points out of the archive; it is unsafe and not read")
    return "/".join(parts)
