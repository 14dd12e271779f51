"""What is particular to bytes in files: the layout, what is durable when, and a disk that is full or fails."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from distsql.bytestore.contract import ByteStore, Staged
from distsql.bytestore.filesystem import FilesystemStore
from distsql.errors import StoreFullError, StoreUnavailableError
from tests.bytestore.folders import append, finished, unfinished
from tests.bytestore.steps import complete

T = TypeVar("T")
Keep = Callable[[ByteStore, bytes], Awaitable[Staged]]

BIG = 300_000

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


def failing(function: Callable[..., T], code: int, *, times: int = 1) -> Callable[..., T]:
    """The function, which fails with this error after it went well ``times`` times."""
    calls = iter(range(1, 1000))

    def fail(*args: object) -> T:
        if next(calls) > times:
            raise OSError(code, os.strerror(code))
        return function(*args)

    return fail


# -- layout -------------------------------------------------------------------------------------------------------


async def test_layout_and_modes(files: FilesystemStore, root: Path, stage: Keep) -> None:
    staged = await stage(files, b"content")
    assert unfinished(root, staged.key).stat().st_mode & 0o777 == 0o600
    await complete(files, staged)
    file = finished(root, staged.key)
    assert file.parent.name == file.name[:2]
    assert file.stat().st_mode & 0o777 == 0o600
    assert files.local_path(staged.key) == file
    assert list((root / "staging").iterdir()) == []
    folders = [root, root / "objects", root / "staging", file.parent]
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}


async def test_begin_does_not_touch_the_disk(files: FilesystemStore, root: Path) -> None:
    await files.begin()
    assert list((root / "staging").iterdir()) == []


async def test_opening_again_finds_everything(files: FilesystemStore, root: Path, keep: Keep) -> None:
    key = (await keep(files, b"content")).key
    again = FilesystemStore(root)
    await again.open()
    assert await again.read(key, 0, 7) == b"content"
    await again.close()


async def test_walk_ignores_what_is_not_ours(files: FilesystemStore, root: Path, keep: Keep) -> None:
    key = (await keep(files, b"content")).key
    (root / "objects" / "lost+found").mkdir()
    (root / "objects" / "README").touch()
    (root / "staging" / "note.txt").touch()
    finished(root, key).with_suffix(".bak").touch()
    assert [item.key async for item in files.walk()] == [key]


async def test_symbolic_links_are_not_followed(files: FilesystemStore, root: Path, keep: Keep) -> None:
    key = (await keep(files, b"content")).key
    finished(root, key).rename(root / "elsewhere")
    finished(root, key).symlink_to(root / "elsewhere")
    with pytest.raises(StoreUnavailableError):
        await files.read(key, 0, 7)


async def test_fan_out_folder_that_was_removed_comes_back(files: FilesystemStore, root: Path, keep: Keep) -> None:
    staged = await append(files, await keep(files, b"content"), b"!")
    finished(root, staged.key).parent.rmdir()
    await complete(files, staged)
    assert await files.read(staged.key, 0, 8) == b"content!"


async def test_disk_that_is_not_mounted_has_lost_nothing(files: FilesystemStore, root: Path, keep: Keep) -> None:
    staged = await keep(files, b"content")
    shutil.rmtree(root)
    root.mkdir()
    for call in (
        files.length(staged.key),
        files.read(staged.key, 0, 7),
        files.delete(staged.key),
        complete(files, staged),
        complete(files, Staged(staged.key)),
        files.writer(Staged(staged.key)).__aenter__(),
        anext(files.stream(staged.key, 0, BIG)),
        anext(files.walk()),
    ):
        with pytest.raises(StoreUnavailableError):
            await call
    assert list(root.iterdir()) == []


async def test_open_says_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = FilesystemStore(tmp_path / "file" / "store")
    with pytest.raises(StoreUnavailableError, match=str(tmp_path)):
        await store.open()
    await store.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.open()


# -- durable, and in this order -----------------------------------------------------------------------------------


@pytest.fixture
def syscalls(monkeypatch: pytest.MonkeyPatch, root: Path) -> list[str]:
    """What the store has the disk do, in order, such as ``fsync objects``; files are called ``file``."""
    calls: list[str] = []

    def name_of(target: int | str | Path) -> str:
        path = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else Path(target)
        name = str(path.relative_to(root))
        return name if path.is_dir() else name.replace(path.name, "file")

    def record(name: str) -> None:
        real = getattr(os, name)

        def call(target: int | str | Path, *args: object) -> object:
            calls.append(f"{name} {name_of(target)}")
            return real(target, *args)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "fdatasync", "rename", "pwrite", "ftruncate"):
        record(name)
    return calls


@linux
async def test_bytes_are_durable_before_their_name(files: FilesystemStore, root: Path, syscalls: list[str]) -> None:
    staged = await files.begin()
    while (root / "objects" / staged.key[:2]).exists():  # of the object that tried the disk, for one in sixteen
        staged = await files.begin()
    staged = await append(files, staged, b"first")
    assert syscalls == ["pwrite staging/file", "fdatasync staging/file", "fsync staging"]
    syscalls.clear()
    staged = await append(files, staged, b"second")
    assert syscalls == ["pwrite staging/file", "fdatasync staging/file"]
    syscalls.clear()
    await complete(files, staged)
    fan_out = f"objects/{staged.key[:2]}"
    # The first rename finds no folder yet; the new folder's own name is made durable as well.
    renames = 2 * ["rename staging/file"] if syscalls[1].startswith("rename") else ["rename staging/file"]
    assert syscalls == [*renames, "fsync objects", f"fsync {fan_out}", "fsync staging"]
    syscalls.clear()
    await complete(files, staged)  # perhaps again because a process died before its fsync
    assert syscalls == [f"fsync {fan_out}", "fsync staging"]


@linux
async def test_length_that_complete_changes_is_durable_first(
    files: FilesystemStore, root: Path, stage: Keep, syscalls: list[str]
) -> None:
    staged = await stage(files, b"content")
    with unfinished(root, staged.key).open("ab") as file:
        file.write(b"left by a crash")
    syscalls.clear()
    await complete(files, staged)
    assert syscalls[:3] == ["ftruncate staging/file", "fdatasync staging/file", "rename staging/file"]
    assert await files.length(staged.key) == 7


async def test_what_a_crash_left_past_the_length_is_cut_off(files: FilesystemStore, root: Path, stage: Keep) -> None:
    staged = await stage(files, b"content")
    with unfinished(root, staged.key).open("ab") as file:
        file.write(b"left by a crash")
    async with files.writer(staged) as writer:
        await writer.write(b"!")
        await writer.flush()
        assert unfinished(root, staged.key).read_bytes() == b"content!"


@linux
async def test_folders_of_open_are_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store = FilesystemStore(tmp_path / "a" / "b")
    await store.open()
    await store.close()
    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")} <= set(synced)


# -- a full or failing disk ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.ENOSPC, StoreFullError),
        (errno.EDQUOT, StoreFullError),
        (errno.EFBIG, StoreFullError),
        (errno.EIO, StoreUnavailableError),
    ],
)
async def test_failed_write_costs_only_what_was_not_flushed(
    files: FilesystemStore,
    root: Path,
    stage: Keep,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    error: type[Exception],
) -> None:
    staged = await stage(files, b"good")
    async with files.writer(staged) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", failing(os.pwrite, code))
            await writer.write(bytes(BIG))
            with pytest.raises(error, match=str(root)):
                await writer.write(bytes(BIG))
        assert unfinished(root, staged.key).stat().st_size == 4  # at once, not when the writer is left
        for call in (writer.write(b"x"), writer.flush()):
            with pytest.raises(StoreUnavailableError, match="new writer"):
                await call
    staged = await append(files, staged, b" as ever")
    await complete(files, staged)
    assert await files.read(staged.key, 0, staged.length) == b"good as ever"


async def test_short_writes_are_gone_on_with(files: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:7777], at))
    staged = await append(files, await files.begin(), content := os.urandom(BIG))
    await complete(files, staged)
    assert await files.read(staged.key, 0, BIG) == content


async def test_really_no_room(files: FilesystemStore, root: Path, stage: Keep) -> None:
    staged = await stage(files, b"good")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(StoreFullError, match="Free space"):
            await append(files, staged, bytes(3_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert unfinished(root, staged.key).stat().st_size == 4
    assert (await append(files, staged, bytes(3_000_000))).length == 3_000_004


@pytest.mark.parametrize("function", ["fdatasync", "fsync"])
async def test_failed_sync_acknowledges_nothing(
    files: FilesystemStore, root: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """Calling fdatasync again would succeed: the kernel has dropped the pages that it could not write."""
    staged = await files.begin()
    async with files.writer(staged) as writer:
        await writer.write(b"lost")
        with monkeypatch.context() as patch:
            patch.setattr(os, function, failing(getattr(os, function), errno.EIO, times=0))
            with pytest.raises(StoreUnavailableError):
                await writer.flush()
        with pytest.raises(StoreUnavailableError):
            await writer.flush()
    assert unfinished(root, staged.key).stat().st_size == 0


async def test_failed_rename_can_be_tried_again(
    files: FilesystemStore, stage: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = await stage(files, b"content")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing(os.rename, errno.ENOSPC, times=0))
        with pytest.raises(StoreFullError):
            await complete(files, staged)
    await complete(files, staged)


async def test_room_of_what_was_not_flushed_is_given_back(files: FilesystemStore, root: Path, stage: Keep) -> None:
    staged = await stage(files, b"content")
    async with files.writer(staged) as writer:
        await writer.write(bytes(BIG))
    assert unfinished(root, staged.key).stat().st_size == 7
