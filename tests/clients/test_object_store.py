"""The production set-up: a given PostgreSQL, an object store, and a client that is sent to it."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import postgres
from tests.clients.images import Images
from tests.clients.programs import make_box, require
from tests.clients.servers import free_port, plain_environment, serving
from tests.objectstore import ObjectStore

pytestmark = pytest.mark.clients


@pytest.fixture(params=["by default", "off"])
def registry(
    request: pytest.FixtureRequest,
    workspace: Path,
    postgres_server: str,
    template_database: str,
    object_store: ObjectStore,
) -> Iterator[str]:
    port, folder = free_port(), workspace / secrets.token_hex(3)
    folder.mkdir()
    with postgres.new_database(postgres_server, template=template_database) as url:
        command = [
            sys.executable, "-m", "distsql", "serve", "--port", str(port), "--database-url", url,
            "--storage", object_store.url(), *(["--redirect", "off"] if request.param == "off" else []),
        ]  # fmt: skip
        environment = {**plain_environment(), **object_store.environment()}
        with serving(command, port=port, folder=folder, environment=environment) as host:
            yield host
    logged = (folder / "stderr").read_text()
    assert object_store.secret_key not in logged
    assert "X-Amz-Signature" not in logged


def test_an_image_comes_out_as_it_went_in(registry: str, workspace: Path, images: Images) -> None:
    require("skopeo")
    with make_box(workspace / secrets.token_hex(3), insecure=registry) as box:
        name = f"docker://{registry}/acme/web:1.0"
        box.run("skopeo", "copy", f"{images.source}:image", name)
        out = box.make_folder("out")
        box.run("skopeo", "copy", name, f"oci:{out}:1.0")
        found = {f"sha256:{path.name}": path.read_bytes() for path in (out / "blobs/sha256").iterdir()}
        assert found == {digest: images.layout.read(digest) for digest in images.closure(images.image["digest"])}


def test_bytes_come_from_the_store_where_clients_are_sent_to_it(
    registry: str, request: pytest.FixtureRequest, object_store: ObjectStore
) -> None:
    with httpx.Client(base_url=f"http://{registry}") as client:
        pushed = client.post(
            "/v2/acme/web/blobs/uploads/",
            params={"digest": "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
            content=b"abc",
        )
        assert pushed.status_code == 201
        answer = client.get(pushed.headers["location"], headers={"authorization": "Basic c2VjcmV0OmNsaWVudA=="})
        assert client.head(pushed.headers["location"]).headers["content-length"] == "3"
        if request.node.callspec.params["registry"] == "off":
            assert (answer.status_code, answer.content) == (200, b"abc")
            return
        assert (answer.status_code, answer.content) == (307, b"")
        address = answer.headers["location"]
        assert address.startswith(object_store.endpoint)
        assert object_store.secret_key not in address
        sent = httpx.get(address)
        assert (sent.status_code, sent.content) == (200, b"abc")
        assert sent.headers["content-type"] == "application/octet-stream"
