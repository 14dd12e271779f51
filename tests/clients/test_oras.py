from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from oras.oci import Subject
from oras.provider import Registry

from tests.clients.images import MANIFEST

pytestmark = pytest.mark.clients

SIGNATURE = "application/vnd.example.signature.v1+json"


@pytest.fixture
def oras(repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A client that looks for credentials in an empty home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    client = Registry(hostname=repository.partition("/")[0], insecure=True)
    with client.session:
        yield client


def push(oras: Registry, target: str, *files: Path, **options: Any) -> dict[str, Any]:
    """Push files, and give the descriptor of the manifest as oras sent it."""
    paths = [str(file) for file in files]
    answer = oras.push(target=target, files=paths, disable_path_validation=True, quiet=True, **options)
    assert answer.status_code == 201
    size = len(answer.request.body)
    return {"mediaType": MANIFEST, "digest": answer.headers["Docker-Content-Digest"], "size": size}


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_a_file_comes_back_with_its_annotations(oras: Registry, repository: str, tmp_path: Path) -> None:
    """A user pushes two files as an artifact with annotations, and pulls them into another folder."""
    model = write(tmp_path, "model.bin", bytes(range(256)) * 4096)
    card = write(tmp_path, "card.md", b"# A model\n")
    annotations = {"org.example.accuracy": "0.97", "org.example.author": "Zoë"}
    push(oras, f"{repository}:v1", model, card, manifest_annotations=annotations)

    pulled = oras.pull(target=f"{repository}:v1", outdir=str(tmp_path / "out"))
    assert {Path(path).name: Path(path).read_bytes() for path in pulled} == {
        "model.bin": model.read_bytes(),
        "card.md": card.read_bytes(),
    }
    assert oras.get_manifest(f"{repository}:v1")["annotations"] == annotations
    assert oras.get_tags(repository) == ["v1"]


def test_a_large_file_is_sent_in_chunks(oras: Registry, repository: str, tmp_path: Path) -> None:
    """A user on a bad line sends a file in pieces; the last one is smaller."""
    model = write(tmp_path, "model.bin", b"0123456789abcdef" * 200_000)
    push(oras, f"{repository}:v1", model, do_chunked=True, chunk_size=1_000_000)
    (pulled,) = oras.pull(target=f"{repository}:v1", outdir=str(tmp_path / "out"))
    assert Path(pulled).read_bytes() == model.read_bytes()


def test_an_attached_artifact_is_among_the_referrers(oras: Registry, repository: str, tmp_path: Path) -> None:
    """A user attaches a signature to an artifact, and whoever asks for what refers to the artifact finds it."""
    subject = push(oras, f"{repository}:v1", write(tmp_path, "model.bin", b"model"))
    config = write(tmp_path, "config.json", b"{}")
    signature = push(
        oras,
        f"{repository}:v1.sig",
        write(tmp_path, "signature.json", json.dumps({"signs": subject["digest"]}).encode()),
        subject=Subject(**subject),
        manifest_config=f"{config}:{SIGNATURE}",
        manifest_annotations={"org.example.key": "release"},
    )
    host, _, name = repository.partition("/")
    answer = httpx.get(f"http://{host}/v2/{name}/referrers/{subject['digest']}")
    assert answer.status_code == 200
    expected = {**signature, "artifactType": SIGNATURE, "annotations": {"org.example.key": "release"}}
    assert answer.json()["manifests"] == [expected]


def test_a_deleted_tag_is_gone(oras: Registry, repository: str, tmp_path: Path) -> None:
    """A user deletes a tag; the list doesn't have it any more, and pulling it fails."""
    push(oras, f"{repository}:old", write(tmp_path, "file", b"old"))
    push(oras, f"{repository}:new", write(tmp_path, "file", b"new"))
    assert oras.delete_tags(repository, ["old"]) == ["old"]
    assert oras.get_tags(repository) == ["new"]
    with pytest.raises(ValueError, match="Not Found"):
        oras.pull(target=f"{repository}:old", outdir=str(tmp_path / "out"))
