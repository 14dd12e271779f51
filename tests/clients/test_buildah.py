from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.clients.images import MANIFEST
from tests.clients.programs import Box, require

pytestmark = pytest.mark.clients


@pytest.fixture(autouse=True)
def buildah() -> None:
    require("buildah")


def build(box: Box, repository: str) -> str:
    """An image from scratch with a few files, pushed; the digest that buildah says it pushed."""
    files = box.make_folder("files")
    (files / "hello.txt").write_text("hello\n")
    (files / "tool").write_text("#!/bin/sh\n")
    (files / "tool").chmod(0o755)
    container = box.run("buildah", "from", "scratch").strip()
    box.run("buildah", "copy", "--quiet", container, files, "/srv")
    box.run("buildah", "config", "--cmd", "/srv/tool", "--label", "made-by=buildah", container)
    image = box.run("buildah", "commit", "--quiet", "--rm", container).strip()
    return push(box, image, f"{repository}:1.0")


def push(box: Box, image: str, name: str) -> str:
    box.run("buildah", "push", "--quiet", "--digestfile", box.folder / "digest", image, f"docker://{name}")
    return (box.folder / "digest").read_text()


def layer_files(box: Box, name: str) -> list[Path]:
    """The layers of an image, lowest first, as buildah writes them after it has pulled and unpacked them."""
    out = box.make_folder("layers")
    box.run("buildah", "pull", "--quiet", name)
    box.run("buildah", "push", "--quiet", name, f"oci:{out}:it")
    blobs = out / "blobs"
    index = json.loads((out / "index.json").read_text())
    manifest = json.loads((blobs / index["manifests"][0]["digest"].replace(":", "/")).read_text())
    return [blobs / layer["digest"].replace(":", "/") for layer in manifest["layers"]]


def layer_digests(name: str) -> list[str]:
    """The layers of an image, lowest first, as the registry has them."""
    host, _, path = name.partition("/")
    repository, _, tag = path.rpartition(":")
    manifest = httpx.get(f"http://{host}/v2/{repository}/manifests/{tag}", headers={"Accept": MANIFEST}).json()
    return [layer["digest"] for layer in manifest["layers"]]


def test_an_image_built_from_scratch_is_pulled_elsewhere(new_box: Callable[[], Box], repository: str) -> None:
    """A user builds an image from a few files and pushes it; on another machine, its files are what they were."""
    here, there = new_box(), new_box()
    digest = build(here, repository)
    (layer,) = layer_files(there, f"{repository}:1.0")
    inspected = json.loads(there.run("buildah", "inspect", "--type", "image", f"{repository}:1.0"))
    assert inspected["FromImageDigest"] == digest
    assert inspected["OCIv1"]["config"]["Labels"]["made-by"] == "buildah"
    with tarfile.open(layer) as archive:
        hello = archive.extractfile("srv/hello.txt")
        assert hello is not None
        assert hello.read() == b"hello\n"
        assert archive.getmember("srv/tool").mode & 0o777 == 0o755


def test_an_image_is_built_on_one_in_the_registry(new_box: Callable[[], Box], repository: str) -> None:
    """A user builds from a Containerfile whose base is in the registry: the new image shares the base's layer."""
    here, there = new_box(), new_box()
    build(here, repository)
    context = there.make_folder("context")
    (context / "more.txt").write_text("more\n")
    (context / "Containerfile").write_text(f"FROM {repository}:1.0\nCOPY more.txt /srv/\n")
    there.run("buildah", "build", "--quiet", "--network", "host", "--layers", "--tag", f"{repository}:2.0", context)
    push(there, f"{repository}:2.0", f"{repository}:2.0")
    assert layer_digests(f"{repository}:2.0")[:1] == layer_digests(f"{repository}:1.0")
    _, own = layer_files(new_box(), f"{repository}:2.0")
    with tarfile.open(own) as archive:
        assert "srv/more.txt" in archive.getnames()


def test_an_index_is_made_of_pushed_images(box: Box, repository: str) -> None:
    """A user puts an image that is in the registry into a list of platforms, and pushes the list."""
    digest = build(box, repository)
    box.run("buildah", "manifest", "create", "platforms")
    box.run("buildah", "manifest", "add", "--arch", "riscv64", "platforms", f"docker://{repository}:1.0")
    box.run("buildah", "manifest", "push", "--all", "platforms", f"docker://{repository}:platforms")
    out = box.make_folder("list")
    box.run("buildah", "manifest", "push", "--all", "platforms", f"dir:{out}")
    (entry,) = json.loads((out / "manifest.json").read_text())["manifests"]
    assert (entry["digest"], entry["platform"]["architecture"]) == (digest, "riscv64")
