from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.clients.images import GREETING, Images
from tests.clients.programs import Box, require

pytestmark = pytest.mark.clients


@pytest.fixture(autouse=True)
def podman() -> None:
    require("podman")
    require("runc")


def test_a_pushed_image_runs_elsewhere(new_box: Callable[[], Box], images: Images, repository: str) -> None:
    """A user pushes an image; on another machine, somebody pulls it and runs it."""
    here, there = new_box(), new_box()
    image_id = here.run("podman", "pull", "--quiet", f"{images.source}:image").strip()
    here.run(
        "podman", "push", "--quiet", "--digestfile", here.folder / "digest", image_id, f"docker://{repository}:1.0"
    )
    digest = (here.folder / "digest").read_text()

    pulled = there.run("podman", "pull", "--quiet", f"{repository}@{digest}").strip()
    assert pulled == image_id
    answer = json.loads(there.run_container(f"{repository}@{digest}", "eins", "zwei"))
    assert answer == {"says": GREETING, "arguments": ["eins", "zwei"], "forgotten": False, "same file": True}
    shell = there.run_container("--entrypoint", "sh", pulled, "-c", "ls /etc/app.d | sort; readlink /bin; echo $LANG")
    assert shell.splitlines() == ["a long way down", "größe.conf", "usr/bin", "C.UTF-8"]


def test_run_pulls_by_itself(box: Box, images: Images, repository: str) -> None:
    """A user runs an image for several platforms that was never pulled, by its tag."""
    require("skopeo")
    box.run("skopeo", "copy", "--all", f"{images.source}:multi", f"docker://{repository}:latest")
    assert json.loads(box.run_container("--quiet", repository))["says"] == GREETING
    names = json.loads(box.run("podman", "image", "inspect", repository))[0]["RepoDigests"]
    assert f"{repository}@{images.multi['digest']}" in names


def test_repositories_and_tags_are_found(box: Box, images: Images, repository: str) -> None:
    """A user searches the registry for a repository, and lists its tags."""
    require("skopeo")
    host, _, name = repository.partition("/")
    for tag in ("1.0", "1.1"):
        box.run("skopeo", "copy", f"{images.source}:sbom", f"docker://{repository}:{tag}")
    assert repository in box.run("podman", "search", "--format", "{{.Name}}", f"{host}/{name}").split()
    listed = json.loads(box.run("podman", "search", "--list-tags", "--format", "json", repository))
    assert listed == [{"Name": repository, "Tags": ["1.0", "1.1"]}]
