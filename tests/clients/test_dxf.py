from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from dxf import DXF
from requests import HTTPError

pytestmark = pytest.mark.clients


@pytest.fixture
def dxf(repository: str) -> Iterator[DXF]:
    host, _, name = repository.partition("/")
    with DXF(host, name, insecure=True, timeout=60) as client:
        yield client


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def pull(client: DXF, digest: str) -> bytes:
    pulled = client.pull_blob(digest)
    assert not isinstance(pulled, tuple)
    return b"".join(pulled)


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_files_are_kept_under_an_alias(dxf: DXF, tmp_path: Path) -> None:
    """A user keeps two files under one name, finds them by it, and gets them back."""
    contents = [b"first", os.urandom(3_000_000)]
    digests = [dxf.push_blob(write(tmp_path / "file", content)) for content in contents]
    assert digests == [sha256(content) for content in contents]
    dxf.set_alias("both", *digests)

    assert dxf.get_alias("both", sizes=True) == [(sha256(content), len(content)) for content in contents]
    assert pull(dxf, digests[1]) == contents[1]
    assert dxf.blob_size(digests[1]) == 3_000_000


def test_data_of_unknown_length_is_pushed(dxf: DXF) -> None:
    """A user pushes what a program is still producing: the body comes in chunks, without a length."""
    pieces = [os.urandom(100_000) for _ in range(20)]
    digest = sha256(b"".join(pieces))
    assert dxf.push_blob(data=iter(pieces), digest=digest) == digest
    assert pull(dxf, digest) == b"".join(pieces)


def test_wrong_data_is_refused(dxf: DXF) -> None:
    """A user's file was damaged on its way: the registry says so and keeps nothing of it."""
    digest = sha256(b"what was meant")
    with pytest.raises(HTTPError, match="400"):
        dxf.push_blob(data=iter([b"what came"]), digest=digest, check_exists=False)
    with pytest.raises(HTTPError, match="404"):
        dxf.blob_size(digest)


def test_aliases_and_repositories_are_listed_page_by_page(dxf: DXF, repository: str, tmp_path: Path) -> None:
    """A user with many names lists them in pages of two; none is lost between the pages."""
    digest = dxf.push_blob(write(tmp_path / "file", b"one"))
    names = ["a", "a-b", "a.b", "aa", "b"]
    for name in reversed(names):
        dxf.set_alias(name, digest)
    assert dxf.list_aliases(batch_size=2) == sorted(names)
    assert repository.partition("/")[2] in dxf.list_repos(batch_size=2)


def test_a_deleted_alias_is_gone(dxf: DXF, tmp_path: Path) -> None:
    """A user deletes a name and then what it stood for, and may reuse the name at once."""
    digest = dxf.push_blob(write(tmp_path / "file", b"old"))
    dxf.set_alias("current", digest)
    assert dxf.del_alias("current") == [digest]
    dxf.del_blob(digest)
    assert dxf.list_aliases() == []

    renewed = dxf.push_blob(write(tmp_path / "file", b"new"))
    dxf.set_alias("current", renewed)
    assert dxf.get_alias("current") == [renewed]


def test_a_blob_is_mounted_from_another_repository(dxf: DXF, repository: str, tmp_path: Path) -> None:
    """A user has the registry take a blob over from another repository instead of sending it again."""
    digest = dxf.push_blob(write(tmp_path / "file", b"shared"))
    name = repository.partition("/")[2]
    other = type(dxf).from_base(dxf, f"{name}/fork")
    assert other.mount_blob(name, digest) == digest
    assert pull(other, digest) == b"shared"
