from __future__ import annotations

from pathlib import Path

import pytest

from distsql.bytestore.filesystem import FilesystemStore
from distsql.bytestore.memory import MemoryStore
from distsql.bytestore.urls import open_store
from distsql.errors import SettingsError


async def test_memory_is_a_new_store_each_time() -> None:
    first, second = open_store("memory:"), open_store("memory:")
    assert isinstance(first, MemoryStore)
    assert first is not second


@pytest.mark.parametrize("name", ["blobs", "with space", "100%", "ünï", "what?", "a#b"])
async def test_url_of_a_folder_leads_back_to_it(tmp_path: Path, name: str) -> None:
    store = FilesystemStore(tmp_path / name)
    again = open_store(store.url)
    assert isinstance(again, FilesystemStore)
    assert again.url == store.url
    await again.open()
    assert (tmp_path / name / "objects").is_dir()
    await again.close()


@pytest.mark.parametrize(
    "url",
    [
        "file:",
        "file:///",
        "file:////",
        "file:relative",
        "file://host/path",
        "file:////host/path",
        "file:///path?x=1",
        "file:///path#x",
        "file:///path%00",
        "file://[",
        "memory:name",
        "memory://x",
        "/var/lib/distsql",
        "relative/path",
        "",
    ],
)
def test_malformed_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"file:|memory:"):
        open_store(url)


def test_plain_path_is_told_how_to_write_it() -> None:
    with pytest.raises(SettingsError, match="write file:///path"):
        open_store("/var/lib/distsql")


def test_unknown_scheme_is_told_those_that_exist_and_no_secret() -> None:
    with pytest.raises(SettingsError, match=r"gopher.*file:.*memory:") as caught:
        open_store("gopher://user:hunter2@host/bucket")
    assert "hunter2" not in caught.value.message
