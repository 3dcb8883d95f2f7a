"""A strict reader of zip archives: every entry is checked against the directory before any is read.

PKWARE's APPNOTE.TXT describes the format. Entries are stored or deflated; nothing is written to disk.
"""

from __future__ import annotations

import struct
import zlib

from ..file_bytes import Source, shown

STORED, DEFLATED = 0, 8
MAX_ENTRIES = 50_000  # a VAN-B6 with optimiser state and averaged weights has some 13,000
DEFLATE_LIMIT = 1032  # no deflated stream expands by more
END, END64, LOCATOR, CENTRAL, LOCAL = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x01\x02", b"PK\x03\x04"
ENCRYPTED, STREAMED = 0x1 | 0x40 | 0x2000, 0x8
UNKNOWN32 = 0xFFFFFFFF


class ZipEntry:
    """One file of the archive: `view()` gives its bytes, checked against their CRC when first read."""

    __slots__ = ("_container", "_verified", "compressed", "crc", "flags", "method", "name", "nbytes", "offset", "start")

    def __init__(self, container, name, method, flags, crc, compressed, nbytes, offset):
        self._container, self._verified = container, False
        self.name, self.method, self.flags, self.crc = name, method, flags, crc
        self.compressed, self.nbytes, self.offset = compressed, nbytes, offset
        self.start = 0

    @property
    def whole(self) -> bool:
        """Whether reading a part costs as much as reading all."""
        return self.method == DEFLATED

    def view(self):
        raw = self._container.source.view(self.start, self.start + self.compressed)
        data = self._container.inflated(self, raw) if self.method == DEFLATED else raw
        # PyTorch can be told to write no checksums, and then writes 0 (torch.serialization.set_crc32_options).
        if not self._verified and self.crc and _crc(data) != self.crc:
            raise self._container.source.error(
                f"the entry {shown(self.name)} does not match its checksum; it is damaged"
            )
        self._verified = True
        return data

    def head(self, limit: int):
        """At most the first `limit` bytes, unchecked, without inflating the rest."""
        stop = self.start + (min(limit, self.compressed) if self.method == STORED else self.compressed)
        raw = self._container.source.view(self.start, stop)
        return raw if self.method == STORED else self._container.inflated_head(self, raw, min(limit, self.nbytes))


class ZipContainer:
    """The archive's entries by name, in the directory's order."""

    def __init__(self, source: Source):
        self.source = source
        self._inflated: tuple = (None, b"")
        start, size, count = self._end()
        self.entries: dict[str, ZipEntry] = {}
        for entry in self._directory(start, size, count):
            if entry.name in self.entries:
                raise source.error(
                    f"the zip entry {shown(entry.name)} stands twice in the archive; it is damaged or unsafe"
                )
            self.entries[entry.name] = entry
        self._check_entries(start)

    def inflated(self, entry: ZipEntry, raw) -> bytes:
        """A deflated entry's bytes; the last one is kept, since tensors that share it follow each other."""
        if self._inflated[0] is not entry:
            self._inflated = (None, b"")
            self._inflated = (entry, self._inflate(entry, raw))
        return self._inflated[1]

    def inflated_head(self, entry: ZipEntry, raw, limit: int) -> bytes:
        # to zlib a limit of 0 means none
        return self._decompress(entry, zlib.decompressobj(-15), raw, limit) if limit else b""

    def _decompress(self, entry: ZipEntry, inflate, raw, limit: int) -> bytes:
        try:
            return inflate.decompress(raw, limit)
        except zlib.error as error:
            raise self.source.error(
                f"the entry {shown(entry.name)} cannot be inflated ({error}); it is damaged"
            ) from None

    def _inflate(self, entry: ZipEntry, raw) -> bytes:
        inflate = zlib.decompressobj(-15)
        data = self._decompress(entry, inflate, raw, entry.nbytes + 1)
        if len(data) != entry.nbytes or not inflate.eof:
            raise self.source.error(
                f"the entry {shown(entry.name)} is not {entry.nbytes} bytes long as it claims; it is damaged"
            )
        return data

    # The directory

    def _end(self) -> tuple[int, int, int]:
        """Start, size and number of entries of the directory."""
        source = self.source
        tail_start = max(0, source.size - 22 - 65535)
        tail = bytes(source.view(tail_start))
        at = tail.rfind(END)
        if at < 0 or len(tail) - at < 22:
            raise source.error("the zip archive has no directory at its end; the file is truncated, fetch it again")
        disk, first_disk, here, count, size, start, comment = struct.unpack("<4H2LH", tail[at + 4 : at + 22])
        after = len(tail) - (at + 22 + comment)
        if after > 0:
            raise source.error(
                f"has {after} bytes after the end of its zip archive; fetch it again, or cut them off (its first "
                f"{source.size - after} bytes are the archive)"
            )
        if after:
            raise source.error("the zip archive does not end with its directory; it is damaged or unsafe")
        end = tail_start + at
        if tail[max(0, at - 20) : at][:4] == LOCATOR:
            start, size, count, end = self._end64(end - 20)
        elif disk or first_disk or here != count:
            raise source.error("the zip archive is one part of several; join them first")
        if count > MAX_ENTRIES:
            raise source.error(f"the zip archive has {count} entries; at most {MAX_ENTRIES} are read")
        if start + size != end:
            raise source.error("the zip archive's directory does not lie where it claims; it is damaged or unsafe")
        return start, size, count

    def _end64(self, locator: int) -> tuple[int, int, int, int]:
        disk, at, disks = struct.unpack("<LQL", self.source.view(locator + 4, locator + 20))
        record = self.source.view(at, at + 56)
        if disk or disks > 1 or record[:4] != END64:
            raise self.source.error("the zip archive's zip64 record does not lie where it claims; it is damaged")
        length, _, _, part, first, here, count, size, start = struct.unpack("<Q2H2L4Q", record[4:])
        if part or first or here != count or at + 12 + length != locator:
            raise self.source.error("the zip archive's zip64 record contradicts itself; it is damaged")
        return start, size, count, at

    def _directory(self, start: int, size: int, count: int):
        data = self.source.view(start, start + size)
        at = 0
        for _ in range(count):
            if data[at : at + 4] != CENTRAL or len(data) - at < 46:
                raise self.source.error("the zip archive's directory is damaged")
            fields = struct.unpack("<6H3L5H2L", data[at + 4 : at + 46])
            _, _, flags, method, _, _, crc, compressed, nbytes, n_name, n_extra, n_comment, disk, _, _, offset = fields
            name_end = at + 46 + n_name
            name = self._name(data[at + 46 : name_end])
            extra = data[name_end : name_end + n_extra]
            nbytes, compressed, offset = self._wide(extra, [nbytes, compressed, offset])
            at = name_end + n_extra + n_comment
            if at > len(data) or disk not in (0, 0xFFFF):
                raise self.source.error("the zip archive's directory is damaged")
            yield ZipEntry(self, name, method, flags, crc, compressed, nbytes, offset)
        if at != len(data):
            raise self.source.error("the zip archive's directory holds more than its entries; it is damaged or unsafe")

    def _wide(self, extra, numbers: list[int]) -> list[int]:
        """Replace the 32-bit placeholders by the 64-bit numbers of the zip64 extra field, in its order."""
        at = 0
        while len(extra) - at >= 4:
            kind, size = struct.unpack("<2H", extra[at : at + 4])
            field = extra[at + 4 : at + 4 + size]
            at += 4 + size
            if kind != 1:
                continue
            for i, number in enumerate(numbers):
                if number == UNKNOWN32:
                    if len(field) < 8:
                        raise self.source.error("the zip archive's zip64 fields are damaged")
                    numbers[i], field = int.from_bytes(field[:8], "little"), field[8:]
            break
        return numbers

    def _name(self, raw) -> str:
        try:
            name = str(raw, "utf-8")
        except UnicodeError:
            name = str(raw, "cp437")
        if "\0" in name:
            raise self.source.error(f"the zip entry {shown(name)} has an impossible name; it is damaged or unsafe")
        return name

    # The entries

    def _check_entries(self, directory: int) -> None:
        """Each entry's own header agrees with the directory, and no two entries share bytes."""
        previous_end = 0
        deflated = 0
        for entry in sorted(self.entries.values(), key=lambda e: e.offset):
            entry.start = self._local(entry, directory)
            if entry.offset < previous_end or entry.start + entry.compressed > directory:
                raise self.source.error(f"the zip entry {shown(entry.name)} overlaps another; it is damaged or unsafe")
            previous_end = entry.start + entry.compressed
            deflated += entry.nbytes if entry.method == DEFLATED else 0
        if deflated > budget(self.source.size):
            raise self.source.error(
                f"the zip entries claim {deflated} bytes in a file of {self.source.size}; refused as a decompression bomb"
            )

    def _local(self, entry: ZipEntry, directory: int) -> int:
        """Check the header in front of an entry's data and return where the data begin."""
        if entry.offset + 30 > directory:
            raise self.source.error(f"the zip entry {shown(entry.name)} lies outside the archive; it is damaged")
        header = self.source.view(entry.offset, entry.offset + 30)
        if header[:4] != LOCAL:
            raise self.source.error(f"no zip entry lies where the directory has {shown(entry.name)}; it is damaged")
        _, flags, method, _, _, crc, compressed, nbytes, n_name, n_extra = struct.unpack("<5H3L2H", header[4:])
        begin = entry.offset + 30
        names = self.source.view(begin, min(begin + n_name + n_extra, self.source.size))
        nbytes, compressed = self._wide(names[n_name:], [nbytes, compressed])
        own = (method, self._name(names[:n_name]), flags & ENCRYPTED)
        sizes = (crc, compressed, nbytes)
        told = (entry.crc, entry.compressed, entry.nbytes)
        streamed = flags & STREAMED and sizes in ((0, 0, 0), (0, UNKNOWN32, UNKNOWN32))
        if own != (entry.method, entry.name, 0) or not (streamed or sizes == told):
            raise self.source.error(
                f"the zip directory and the entry {shown(entry.name)} contradict each other; it is damaged or unsafe"
            )
        self._check_size(entry)
        return begin + n_name + n_extra

    def _check_size(self, entry: ZipEntry) -> None:
        if entry.flags & ENCRYPTED:
            raise self.source.error(f"the zip entry {shown(entry.name)} is encrypted; decrypt the file first")
        if entry.method == STORED:
            honest = entry.nbytes == entry.compressed
        elif entry.method == DEFLATED:
            honest = entry.nbytes <= entry.compressed * DEFLATE_LIMIT
        else:
            raise self.source.error(
                f"the zip entry {shown(entry.name)} is compressed by method {entry.method}; stored and deflated are read"
            )
        if not honest:
            raise self.source.error(
                f"the zip entry {shown(entry.name)} claims {entry.nbytes} bytes in {entry.compressed}; it is damaged or unsafe"
            )


def budget(file_size: int) -> int:
    """How many bytes a file of this size may expand to, in all: weights deflate by a tenth, pruned ones tenfold."""
    return (64 << 20) + 20 * file_size


def _crc(data) -> int:
    crc, view = 0, memoryview(data)
    for at in range(0, len(view), 1 << 24):
        crc = zlib.crc32(view[at : at + (1 << 24)], crc)
    return crc
