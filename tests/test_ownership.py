"""What counts as written by this user alone, and what is not followed."""

import os

import pytest

from jvan.files import replaced
from jvan.ownership import is_trusted, make_private_folder, open_lock, open_unlinked

OTHER = 54321  # a user that this machine does not have
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")


@pytest.fixture
def file(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o755)
    path = folder / "file"
    path.write_bytes(b"something")
    path.chmod(0o644)
    return path


def test_what_this_user_alone_may_write_is_trusted(file):
    assert is_trusted(file) and is_trusted(file.parent)
    assert not is_trusted(file.with_name("missing"))
    for mode in (0o600, 0o664, 0o755):  # a group's right to write is no stranger's
        file.chmod(mode)
        assert is_trusted(file)


@pytest.mark.parametrize("mode", [0o646, 0o666, 0o777, 0o1777])
def test_what_everybody_may_write_is_not(file, mode):
    file.chmod(mode)
    assert not is_trusted(file)
    file.chmod(0o644)
    file.parent.chmod(mode)
    assert not is_trusted(file)


def test_a_link_is_not(file):
    link = file.with_name("link")
    link.symlink_to(file)
    assert not is_trusted(link)


@as_root
def test_what_belongs_to_another_user_is_not(file):
    os.chown(file, OTHER, OTHER)
    assert not is_trusted(file)
    os.chown(file, 0, 0)
    os.chown(file.parent, OTHER, OTHER)
    assert not is_trusted(file)


@as_root
def test_what_belongs_to_root_is_trusted_by_everybody(file, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: OTHER)
    assert is_trusted(file)


@pytest.mark.parametrize("mode", ["rb", "wb", "ab", "r+b", "w"])
def test_a_link_is_not_followed(file, mode):
    link = file.with_name("link")
    link.symlink_to(file)
    with pytest.raises(OSError, match="is a link, and links are not followed here; remove it"):
        open_unlinked(link, mode)
    assert file.read_bytes() == b"something"


def test_a_dangling_link_makes_no_file(file):
    link, target = file.with_name("link"), file.with_name("target")
    link.symlink_to(target)
    with pytest.raises(OSError, match="is a link"):
        open_unlinked(link, "ab")
    assert not target.exists()


def test_a_link_that_appears_between_look_and_opening_is_not_followed(file, monkeypatch):
    link = file.with_name("link")
    link.symlink_to(file)
    monkeypatch.setattr(os.path, "islink", lambda path: False)
    with pytest.raises(OSError):
        open_unlinked(link, "wb")
    assert file.read_bytes() == b"something"


@pytest.mark.parametrize("mode", ["rb", "wb", "ab"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, mode):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError):  # ENXIO where nobody reads
        open_unlinked(tmp_path / "pipe", mode)


def test_a_lock_that_somebody_else_has_left_behind_is_read(file, monkeypatch):
    """As the kernel refuses it to a user who may only read it, or in a folder such as /tmp (fs.protected_regular)."""
    opened = os.open

    def refused(path, flags, *mode):
        if flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", refused)
    with open_lock(file) as lock:
        assert lock.read() == b"something"
    with pytest.raises(PermissionError):
        open_lock(file.with_name("missing"))


def test_a_folder_above_may_be_a_link(file, tmp_path):
    (tmp_path / "link").symlink_to(file.parent)
    with open_unlinked(tmp_path / "link" / "file", "wb") as opened:
        opened.write(b"new")
    assert file.read_bytes() == b"new"
    with open_unlinked(file, "r", encoding="utf-8") as opened:
        assert opened.read() == "new"


def test_writing_a_whole_file_replaces_a_link(file, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(file)
    with replaced(link, follow=False) as place:
        place.write_bytes(b"new")
    assert (link.read_bytes(), file.read_bytes(), link.is_symlink()) == (b"new", b"something", False)


def test_a_whole_file_that_cannot_be_written_leaves_nothing_behind(file, tmp_path):
    with pytest.raises(OSError), replaced(file.parent, follow=False) as place:
        place.write_bytes(b"new")
    assert list(tmp_path.iterdir()) == [file.parent]


def test_a_new_file_has_the_permissions_asked_for(tmp_path):
    open_unlinked(tmp_path / "file", "ab", 0o600).close()
    assert os.stat(tmp_path / "file").st_mode & 0o777 == 0o600


def test_folders_that_are_made_are_private_and_the_others_stay(tmp_path):
    tmp_path.chmod(0o755)
    make_private_folder(tmp_path / "a" / "b")
    assert [os.stat(tmp_path / name).st_mode & 0o777 for name in ("", "a", "a/b")] == [0o755, 0o700, 0o700]
    (tmp_path / "a").chmod(0o750)
    make_private_folder(tmp_path / "a" / "b")
    assert os.stat(tmp_path / "a").st_mode & 0o777 == 0o750
    (tmp_path / "a" / "file").touch()
    with pytest.raises(OSError):
        make_private_folder(tmp_path / "a" / "file")
