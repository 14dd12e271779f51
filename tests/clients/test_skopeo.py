from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from tests.clients.images import Images
from tests.clients.programs import Box, require

pytestmark = pytest.mark.clients

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture(autouse=True)
def skopeo() -> None:
    require("skopeo")


def raw_digest(box: Box, name: str) -> str:
    """Of the manifest as it arrives: the clients' own idea of it, with nothing parsed."""
    raw = box.run("skopeo", "inspect", "--raw", f"docker://{name}")
    return f"sha256:{hashlib.sha256(raw.encode()).hexdigest()}"


def blobs(layout: Path) -> dict[str, bytes]:
    return {f"sha256:{path.name}": path.read_bytes() for path in (layout / "blobs/sha256").iterdir()}


def tags(box: Box, repository: str) -> list[str]:
    listed: list[str] = json.loads(box.run("skopeo", "list-tags", f"docker://{repository}"))["Tags"]
    return listed


def test_an_image_comes_out_as_it_went_in(box: Box, images: Images, repository: str) -> None:
    """A user copies an image in, looks at it, and copies it out: the digests agree, and so does every byte."""
    box.run("skopeo", "copy", f"{images.source}:image", f"docker://{repository}:1.0")
    seen = json.loads(box.run("skopeo", "inspect", f"docker://{repository}:1.0"))
    assert seen["Name"] == repository
    assert seen["Digest"] == images.image["digest"]
    assert seen["RepoTags"] == ["1.0"]
    assert seen["Labels"] == {"org.opencontainers.image.title": "distsql's test image"}

    out = box.make_folder("out")
    box.run("skopeo", "copy", f"docker://{repository}@{images.image['digest']}", f"oci:{out}:1.0")
    expected = {digest: images.layout.read(digest) for digest in images.closure(images.image["digest"])}
    assert blobs(out) == expected


def test_an_index_is_copied_with_all_its_platforms(box: Box, images: Images, repository: str) -> None:
    """A user copies an image for several platforms, with `--all`; whoever copies it without gets the own platform's."""
    box.run("skopeo", "copy", "--all", f"{images.source}:multi", f"docker://{repository}:1.0")
    assert raw_digest(box, f"{repository}:1.0") == images.multi["digest"]

    out = box.make_folder("out")
    box.run("skopeo", "copy", "--all", f"docker://{repository}:1.0", f"oci:{out}:1.0")
    expected = {digest: images.layout.read(digest) for digest in images.closure(images.multi["digest"])}
    assert blobs(out) == expected

    one = box.make_folder("one")
    box.run("skopeo", "copy", f"docker://{repository}:1.0", f"oci:{one}:1.0")
    assert blobs(one).keys() == images.closure(images.image["digest"])


def test_an_artifact_comes_out_as_it_went_in(box: Box, images: Images, repository: str) -> None:
    """A user copies an image and the bill of materials that refers to it, which has no platform and an empty config."""
    for tag in ("image", "sbom"):
        box.run("skopeo", "copy", f"{images.source}:{tag}", f"docker://{repository}:{tag}")
    assert raw_digest(box, f"{repository}:sbom") == images.sbom["digest"]
    out = box.make_folder("out")
    box.run("skopeo", "copy", f"docker://{repository}:sbom", f"oci:{out}:sbom")
    assert blobs(out).keys() == images.closure(images.sbom["digest"])


def test_the_older_docker_format_is_served_as_pushed(box: Box, images: Images, repository: str) -> None:
    """A user pushes in Docker's format, for clients that know no other; the layers are those of the OCI image."""
    box.run("skopeo", "copy", "--format", "v2s2", f"{images.source}:image", f"docker://{repository}:1.0")
    manifest = json.loads(box.run("skopeo", "inspect", "--raw", f"docker://{repository}:1.0"))
    assert manifest["mediaType"] == DOCKER_MANIFEST
    own = json.loads(images.layout.read(images.image["digest"]))
    assert [layer["digest"] for layer in manifest["layers"]] == [layer["digest"] for layer in own["layers"]]

    out = box.make_folder("out")
    box.run("skopeo", "copy", f"docker://{repository}:1.0", f"dir:{out}")
    assert (
        raw_digest(box, f"{repository}:1.0")
        == f"sha256:{hashlib.sha256((out / 'manifest.json').read_bytes()).hexdigest()}"
    )
    for layer in own["layers"]:
        assert (out / layer["digest"].removeprefix("sha256:")).read_bytes() == images.layout.read(layer["digest"])


def test_the_oldest_docker_format_is_signed_and_verified(box: Box, images: Images, repository: str) -> None:
    """A user pushes Docker's schema 1, which skopeo signs with a key of its own, and pulls it by tag and by digest."""
    box.run("skopeo", "copy", "--format", "v2s1", f"{images.source}:image", f"docker://{repository}:1.0")
    raw = box.run("skopeo", "inspect", "--raw", f"docker://{repository}:1.0")
    manifest = json.loads(raw)
    assert (manifest["schemaVersion"], manifest["tag"]) == (1, "1.0")
    assert repository.endswith(f"/{manifest['name']}")
    [signature] = manifest["signatures"]
    assert signature["header"]["alg"] == "ES256"
    own = json.loads(images.layout.read(images.image["digest"]))
    layers = [layer["digest"] for layer in own["layers"]]
    assert [layer["blobSum"] for layer in manifest["fsLayers"] if layer["blobSum"] in layers] == layers[::-1]

    # skopeo computes the digest without the signatures by itself, and so did the registry.
    digest = json.loads(box.run("skopeo", "inspect", f"docker://{repository}:1.0"))["Digest"]
    out = box.make_folder("out")
    for number, source in enumerate((f"{repository}:1.0", f"{repository}@{digest}")):
        box.run("skopeo", "copy", f"docker://{source}", f"dir:{out}/{number}")
        assert (out / str(number) / "manifest.json").read_text() == raw
        for layer in layers:
            assert (out / str(number) / layer.removeprefix("sha256:")).read_bytes() == images.layout.read(layer)

    # Under another name it has to say so, and is signed anew.
    box.run("skopeo", "copy", f"docker://{repository}:1.0", f"docker://{repository}/copy:2.0")
    copied = json.loads(box.run("skopeo", "inspect", "--raw", f"docker://{repository}/copy:2.0"))
    assert (copied["name"], copied["tag"]) == (f"{manifest['name']}/copy", "2.0")
    assert copied["signatures"] != manifest["signatures"]


def test_a_copy_between_repositories_sends_no_layers(box: Box, images: Images, repository: str) -> None:
    """A user promotes an image to another repository of the same registry: its blobs are mounted, not sent again."""
    box.run("skopeo", "copy", f"{images.source}:image", f"docker://{repository}/staging:1.0")
    debug = box.run(
        *("sh", "-c", 'exec skopeo --debug copy "$1" "$2" 2>&1', "sh"),
        *(f"docker://{repository}/staging:1.0", f"docker://{repository}/production:1.0"),
    )
    assert raw_digest(box, f"{repository}/production:1.0") == images.image["digest"]
    layers = json.loads(images.layout.read(images.image["digest"]))["layers"]
    assert set(re.findall(r"POST \S+[?&]mount=(sha256%3A[0-9a-f]+)", debug)) == {
        layer["digest"].replace(":", "%3A") for layer in layers
    }
    # skopeo never tries to mount a config.
    assert len(re.findall(r"PATCH http", debug)) == 1


def test_tags_are_listed_and_deleted(box: Box, images: Images, repository: str) -> None:
    """A user lists tags and deletes one: its manifest goes, with every tag on it, and nothing else does."""
    for tag in ("image", "image-too"):
        box.run("skopeo", "copy", f"{images.source}:image", f"docker://{repository}:{tag}")
    box.run("skopeo", "copy", f"{images.source}:sbom", f"docker://{repository}:sbom")
    assert tags(box, repository) == ["image", "image-too", "sbom"]

    box.run("skopeo", "delete", f"docker://{repository}:image")
    assert tags(box, repository) == ["sbom"]
    assert "manifest unknown" in box.fail("skopeo", "inspect", f"docker://{repository}:image-too")
    assert raw_digest(box, f"{repository}:sbom") == images.sbom["digest"]


def test_a_repository_is_synchronised(box: Box, images: Images, repository: str) -> None:
    """A user mirrors a repository with its three tags, first to a folder, and from there to a new place."""
    sent = {"image": images.image, "multi": images.multi, "sbom": images.sbom}
    for tag in sent:
        box.run("skopeo", "copy", "--all", f"{images.source}:{tag}", f"docker://{repository}/source:{tag}")
    folder = box.make_folder("mirror")
    box.run("skopeo", "sync", "--all", "--src", "docker", "--dest", "dir", f"{repository}/source", folder)
    assert sorted(path.name for path in folder.iterdir()) == ["source:image", "source:multi", "source:sbom"]

    box.run("skopeo", "sync", "--all", "--src", "dir", "--dest", "docker", folder, f"{repository}/mirror")
    assert tags(box, f"{repository}/mirror/source") == sorted(sent)
    for tag, descriptor in sent.items():
        assert raw_digest(box, f"{repository}/mirror/source:{tag}") == descriptor["digest"]


def test_an_unknown_image_is_explained(box: Box, repository: str) -> None:
    """A user mistypes a name and is told so, in the registry's words."""
    assert "unknown" in box.fail("skopeo", "inspect", f"docker://{repository}:1.0")
