"""Where each member of an uncompressed tar file lies; only headers are read, and nothing is unpacked."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import DataError
from ..pictures.find import SUFFIXES, is_left_out

BLOCK = 512
LONGEST_NAME = 1 << 16
MAX_MEMBERS = 50_000_000
FILE, FOLDER, PAX = (b"0", b"\0", b"7"), b"5", b"x"
HARD_LINK, SYMBOLIC_LINK, LONG_NAME, LONG_LINK = b"1", b"2", b"L", b"K"
ABOUT_THE_NEXT = (LONG_NAME, LONG_LINK, PAX)
WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes: whatever size they claim


class Index(NamedTuple):
    """`names` of regular files with their `offsets` and `sizes`, in bytes; `folders` that have an entry of their own.

    `links` counts those that have a picture's name and are not followed: symbolic ones, and hard ones to nothing in the archive.
    """

    names: list[str]
    offsets: list[int]
    sizes: list[int]
    folders: set[str]
    links: int


class Member(NamedTuple):
    """One entry of an archive, where its data begins, and what it links to."""

    name: str
    kind: bytes
    offset: int
    length: int
    target: str


@dataclass
class _Contents:
    """What was found until now, by name. `aside` are files that are left out, to which a hard link may lead."""

    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    aside: dict[str, tuple[int, int]] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    links: int = 0


def index_tar(file, title: str) -> Index:
    """Regular files and folders of a POSIX or GNU tar file, which is open; a name that occurs twice means its last member, as for tar.

    A tar file among the members counts as a folder of what it holds, and a hard link as the file that it leads to.
    Symbolic links, devices and whatever else a tar file may hold are passed over. DataError for a file that is
    damaged or cut short, or for a name that climbs out of the archive.
    """
    found = _Contents()
    try:
        _collect(file.fileno(), (0, os.fstat(file.fileno()).st_size), title, "", found)
    except OSError as error:
        raise DataError(f"{title}: {(error.strerror or str(error)).lower()}") from None
    places = found.files.values()
    return Index([*found.files], [at for at, _ in places], [length for _, length in places], found.folders, found.links)


def _collect(descriptor: int, extent: tuple[int, int], title: str, above: str, found: _Contents) -> None:
    """Add the members between these bytes to what was `found`."""
    for member in _members(descriptor, *extent, title):
        name, kind = _checked(member.name, title), member.kind
        if kind == HARD_LINK:
            _follow(above, name, member.target, found)
        elif not name or any(map(is_left_out, name.split("/"))):
            if kind in FILE:
                found.aside[above + name] = (member.offset, member.length)
        elif kind == FOLDER or member.name.endswith("/"):  # as tar wrote folders before POSIX
            found.folders.add(above + name)
        elif kind in FILE and name.lower().endswith(".tar") and not above:
            # ImageNet's own archive of its training pictures is a tar file of a tar file for each class.
            found.folders.add(name[:-4])
            inside = (member.offset, member.offset + member.length)
            _collect(descriptor, inside, f"{title}:{name}", f"{name[:-4]}/", found)
        elif kind in FILE:
            found.files[above + name] = (member.offset, member.length)
        elif kind == SYMBOLIC_LINK:
            found.links += name.lower().endswith(SUFFIXES)


def _follow(above: str, name: str, target: str, found: _Contents) -> None:
    """A hard link is the file of that name at this point of the archive, as for tar; it may lead to nothing outside."""
    target = above + _plain(target)
    place = found.files.get(target) or found.aside.get(target)
    hidden = any(map(is_left_out, name.split("/")))
    if place is not None:
        (found.aside if hidden else found.files)[above + name] = place
    elif not hidden:
        found.links += name.lower().endswith(SUFFIXES)


def _members(descriptor: int, start: int, size: int, title: str):
    """Yield each member from byte `start` to `size`."""
    at, long, pax = start, {}, {}
    for _ in range(MAX_MEMBERS):
        header = os.pread(descriptor, max(0, min(BLOCK, size - at)), at)
        if not header.strip(b"\0"):  # the end, or a file that simply stops, as tar itself accepts
            return
        if len(header) < BLOCK or not _sum_is_right(header):
            raise DataError(f"{title}: damaged or cut short at byte {at}; fetch it again")
        kind, length, begin = header[156:157], _number(header[124:136], title), at + BLOCK
        if kind not in ABOUT_THE_NEXT:
            length = int(pax.get("size", length))
        if kind in WITHOUT_DATA:
            length = 0
        if length < 0 or begin + length > size:
            raise DataError(
                f"{title}: a member at byte {at} claims {length:,} bytes, more than there are; fetch it again"
            )
        if kind in ABOUT_THE_NEXT:
            if length > LONGEST_NAME:
                raise DataError(f"{title}: a member at byte {at} has a name of {length:,} bytes; the file is damaged")
            data = os.pread(descriptor, length, begin)
            if kind == PAX:
                pax = _pax(data, title)
            else:
                long[kind] = _text(data)
        else:
            name = pax.get("path") or long.get(LONG_NAME) or _name(header)
            target = pax.get("linkpath") or long.get(LONG_LINK) or _text(header[157:257])
            yield Member(name, kind, begin, length, target)
            long, pax = {}, {}
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
    """Records `LENGTH KEY=VALUE\\n`; only paths and a size concern us."""
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
    plain = _plain(name)
    if ".." in plain.split("/"):
        raise DataError(f"{title}: the member {name!r} points out of the archive; it is unsafe and not read")
    return plain


def _plain(name: str) -> str:
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
