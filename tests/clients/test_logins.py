"""Real clients against a registry in which everybody has to log in."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from dxf import DXF, DXFBase
from dxf.exceptions import DXFUnauthorizedError
from oras.provider import Registry
from requests import Response

from tests.clients.images import GREETING, Images
from tests.clients.programs import Box, make_box, require
from tests.clients.servers import free_port, plain_environment, serving
from tests.clients.tls import tls_in_front

pytestmark = pytest.mark.clients

CI, READER = "acme/ci", "acme/reader"
DOMAIN = "registry.test"


@dataclass(frozen=True)
class Guarded:
    """A registry with two accounts: one pushes, pulls and deletes, one only pulls."""

    host: str
    data: Path
    secrets: dict[str, str]

    def command(self, *arguments: str) -> str:
        """What a command of distsql prints, beside the server."""
        line = [sys.executable, "-m", "distsql", *arguments, "--data", str(self.data)]
        ended = subprocess.run(line, env=plain_environment(), capture_output=True, text=True, check=False, timeout=60)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture(scope="module")
def guarded(workspace: Path) -> Iterator[Guarded]:
    folder = workspace / "guarded"
    folder.mkdir()
    port, data = free_port(), folder / "data"
    command = [sys.executable, "-m", "distsql", "serve", "--port", str(port), "--data", str(data), "--auth", "token"]
    command += ["--tenant-domain", DOMAIN]
    with serving(command, port=port, folder=folder, environment=plain_environment()) as host:
        made = Guarded(host, data, {})
        made.command("tenant", "create", "acme")
        for login, grant in ((CI, "acme/**:pull,push,delete"), (READER, "acme/**:pull")):
            made.secrets[login] = made.command("account", "create", login, "--grant", grant).strip()
        yield made


@pytest.fixture
def box(workspace: Path, guarded: Guarded) -> Iterator[Box]:
    with make_box(workspace / "guest", insecure=guarded.host) as made:
        yield made


@pytest.fixture
def log_in(box: Box, guarded: Guarded) -> Callable[[str], None]:
    def log_in(login: str) -> None:
        box.run("skopeo", "login", "--tls-verify=false", "-u", login, "-p", guarded.secrets[login], guarded.host)

    require("skopeo")
    return log_in


def test_skopeo(box: Box, guarded: Guarded, images: Images, log_in: Callable[[str], None]) -> None:
    """A user logs in, pushes an image for several platforms, lists it, copies it over and deletes it."""
    target = f"docker://{guarded.host}/acme/skopeo"
    assert "denied" in box.fail("skopeo", "copy", "--all", f"{images.source}:multi", f"{target}:1")
    log_in(CI)
    box.run("skopeo", "copy", "--all", f"{images.source}:multi", f"{target}:1")
    assert json.loads(box.run("skopeo", "list-tags", target))["Tags"] == ["1"]
    box.run("skopeo", "copy", "--all", f"{target}:1", f"docker://{guarded.host}/acme/skopeo-copy:1")
    box.run("skopeo", "delete", f"{target}:1")
    assert "manifest unknown" in box.fail("skopeo", "inspect", f"{target}:1")


@pytest.fixture
def box_at_hosts(workspace: Path, guarded: Guarded) -> Iterator[Box]:
    """A user who reaches every host of the registry's domain through a proxy, as many do: here that is the server."""
    require("skopeo")
    with make_box(workspace / "guest-at-hosts", insecure=None) as made:
        yield replace(made, environment={**made.environment, "http_proxy": f"http://{guarded.host}"})


def test_skopeo_at_a_tenants_host(box_at_hosts: Box, guarded: Guarded, images: Images) -> None:
    """A user of acme's host logs in there, pushes, lists and pulls; at the registry's it has its full name."""
    box, host = box_at_hosts, f"acme.{DOMAIN}:{guarded.host.rpartition(':')[2]}"
    plain, target = "--tls-verify=false", f"docker://{host}/skopeo/by-host"
    box.fail("skopeo", "login", plain, "-u", CI, "-p", "wrong", host)
    box.run("skopeo", "login", plain, "-u", CI, "-p", guarded.secrets[CI], host)
    box.run("skopeo", "copy", "--dest-tls-verify=false", "--all", f"{images.source}:multi", f"{target}:1")
    assert json.loads(box.run("skopeo", "list-tags", plain, target))["Tags"] == ["1"]
    box.run("skopeo", "copy", "--src-tls-verify=false", f"{target}:1", f"dir:{box.make_folder('pulled')}")
    assert (box.folder / "pulled" / "manifest.json").exists()
    full = f"docker://{guarded.host}/acme/skopeo/by-host:1"
    login = ("--creds", f"{CI}:{guarded.secrets[CI]}")
    assert json.loads(box.run("skopeo", "inspect", plain, *login, full))["RepoTags"] == ["1"]


def test_a_reader_reads(box: Box, guarded: Guarded, images: Images, log_in: Callable[[str], None]) -> None:
    """A user who may only pull does, and can neither push nor delete."""
    target = f"docker://{guarded.host}/acme/read"
    log_in(CI)
    box.run("skopeo", "copy", f"{images.source}:image", f"{target}:1")
    log_in(READER)
    assert json.loads(box.run("skopeo", "inspect", f"{target}:1"))["Digest"] == images.image["digest"]
    box.fail("skopeo", "copy", f"{images.source}:image", f"{target}:2")
    box.fail("skopeo", "delete", f"{target}:1")
    assert json.loads(box.run("skopeo", "list-tags", target))["Tags"] == ["1"]


def test_wrong_secrets(box: Box, guarded: Guarded) -> None:
    require("skopeo")
    said = box.fail("skopeo", "login", "--tls-verify=false", "-u", CI, "-p", "wrong", guarded.host)
    assert "invalid username/password" in said


def test_everybody_pulls_what_is_public(
    box: Box, guarded: Guarded, images: Images, log_in: Callable[[str], None]
) -> None:
    """A user publishes a repository; others pull from it without logging in."""
    target = f"docker://{guarded.host}/acme/public"
    log_in(CI)
    box.run("skopeo", "copy", f"{images.source}:image", f"{target}:1")
    box.run("skopeo", "logout", guarded.host)
    box.fail("skopeo", "inspect", f"{target}:1")
    guarded.command("repository", "visibility", "acme/public", "public")
    assert json.loads(box.run("skopeo", "inspect", f"{target}:1"))["Digest"] == images.image["digest"]
    box.fail("skopeo", "copy", f"{images.source}:image", f"{target}:2")


def test_podman(box: Box, guarded: Guarded, images: Images) -> None:
    """A user logs in with podman, pushes, pulls and runs an image."""
    require("podman")
    require("runc")
    box.run("podman", "login", "--tls-verify=false", "-u", CI, "-p", guarded.secrets[CI], guarded.host)
    image_id = box.run("podman", "pull", "--quiet", f"{images.source}:image").strip()
    box.run("podman", "push", "--quiet", image_id, f"docker://{guarded.host}/acme/podman:1")
    box.run("podman", "rmi", "--force", image_id)
    assert json.loads(box.run_container("--quiet", f"{guarded.host}/acme/podman:1"))["says"] == GREETING


def test_oras(guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user keeps a file as an artifact, by tokens and by Basic alike."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.txt").write_text("all is well")
    for backend in ("token", "basic"):
        client = Registry(hostname=guarded.host, insecure=True, auth_backend=backend)
        with client.session:
            client.auth.set_basic_auth(CI, guarded.secrets[CI])
            target = f"{guarded.host}/acme/oras:{backend}"
            client.push(target, files=["report.txt"])
            [pulled] = client.pull(target, outdir=str(tmp_path / backend))
            assert Path(pulled).read_text() == "all is well"


def test_oras_at_a_tenants_host(guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of acme's host keeps a file there, and finds it under its full name at the registry's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    look_up = socket.getaddrinfo

    def all_here(host: str, *more: Any, **named: Any) -> Any:  # noqa: ANN401  # as the library's
        return look_up("127.0.0.1" if host.endswith(DOMAIN) else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", all_here)
    (tmp_path / "report.txt").write_text("all is well")
    host = f"acme.{DOMAIN}:{guarded.host.rpartition(':')[2]}"
    client = Registry(hostname=host, insecure=True, auth_backend="token")
    elsewhere = Registry(hostname=guarded.host, insecure=True, auth_backend="token")
    with client.session, elsewhere.session:
        for each in (client, elsewhere):
            each.auth.set_basic_auth(CI, guarded.secrets[CI])
        client.push(f"{host}/by/host:v1", files=["report.txt"])
        assert client.get_tags(f"{host}/by/host") == ["v1"]
        [pulled] = elsewhere.pull(f"{guarded.host}/acme/by/host:v1", outdir=str(tmp_path / "elsewhere"))
        assert Path(pulled).read_text() == "all is well"


def test_dxf(guarded: Guarded, tmp_path: Path) -> None:
    """A user keeps data under an alias, behind TLS; whoever has not logged in sees nothing."""

    def log_in(client: DXFBase, response: Response) -> None:
        client.authenticate(CI, guarded.secrets[CI], response=response)

    digest = f"sha256:{hashlib.sha256(b'content').hexdigest()}"
    with tls_in_front(guarded.host, tmp_path) as (host, certificate):
        with DXF(host, "acme/dxf", log_in, tlsverify=certificate, timeout=60) as client:
            assert client.push_blob(data=iter([b"content"]), digest=digest) == digest
            client.set_alias("it", digest)
            assert client.get_alias("it") == [digest]
            client.del_alias("it")
            assert client.list_aliases() == []
        with (
            DXF(host, "acme/dxf", tlsverify=certificate, timeout=60) as stranger,
            pytest.raises(DXFUnauthorizedError),
        ):
            stranger.list_aliases()
