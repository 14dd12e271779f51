"""The object store of the tests: a real server, which a container or the packaged program runs.

``DISTSQL_TEST_S3=docker|packaged`` insists on one way and fails loudly; without it Docker is tried first.
``DISTSQL_TEST_S3_ENDPOINT`` names a server that runs already, with credentials as AWS clients find them.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests import postgres
from tests.places import make_place

# Not the module's own numbers: all workers begin with the same seed, and would take the same ports.
_chance = random.SystemRandom()

_WORKERS = 16  # more than anybody tests with at once on one machine

IMAGE = "chrislusf/seaweedfs:4.48"
BUCKET = "distsql-test"
READY_S = 60

# The server opens a gRPC port 10000 above each of these, so they stay below 55536.
_PORTS = ("s3.port", "master.port", "filer.port", "volume.port", "admin.port", "metricsPort")
# Catalogues of tables, which it would serve at fixed ports: a second server on the machine would die of that.
_NO_PORTS = ("s3.port.iceberg", "s3.port.lance")


class ObjectStore(NamedTuple):
    """A server and the credentials that it takes."""

    endpoint: str
    access_key: str
    secret_key: str

    def url(self, prefix: str = "", *, endpoint: str | None = None) -> str:
        """The address of a byte store in the tests' bucket; below a prefix of its own unless one is given."""
        prefix = prefix or secrets.token_hex(6)
        return f"s3://{BUCKET}/{prefix}?endpoint={endpoint or self.endpoint}&region=us-east-1"

    def environment(self) -> dict[str, str]:
        """Credentials, as AWS clients find them."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def running_store() -> Iterator[ObjectStore]:
    """A server with the tests' bucket; this process's environment has the credentials while it runs."""
    with _server() as store, pytest.MonkeyPatch.context() as environment:
        for name, value in store.environment().items():
            environment.setenv(name, value)
        for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            environment.delenv(name, raising=False)
        _make_bucket(store)
        yield store


@contextmanager
def _server() -> Iterator[ObjectStore]:
    given = os.environ.get("DISTSQL_TEST_S3_ENDPOINT")
    choice = os.environ.get("DISTSQL_TEST_S3", "")
    if given:
        yield ObjectStore(given, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    elif choice == "docker" or (not choice and postgres.docker_answers()):
        with _container() as store:
            yield store
    elif choice in {"", "packaged"}:
        with _program() as store:
            yield store
    else:
        raise ValueError(f"DISTSQL_TEST_S3 is {choice!r}: docker or packaged")


def _credentials() -> tuple[str, str]:
    return f"test{secrets.token_hex(6)}", secrets.token_hex(20)


@contextmanager
def _container() -> Iterator[ObjectStore]:
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415  # fails without an engine

    access_key, secret_key = _credentials()
    container = (
        DockerContainer(IMAGE)
        .with_command("mini -dir=/data -ip.bind=0.0.0.0 -admin.ui=false -webdav=false -master.telemetry=false")
        .with_env("AWS_ACCESS_KEY_ID", access_key)
        .with_env("AWS_SECRET_ACCESS_KEY", secret_key)
        .with_exposed_ports(8333)
    )
    with container:
        endpoint = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8333)}"
        _await_ready(endpoint, lambda: True)
        yield ObjectStore(endpoint, access_key, secret_key)


@contextmanager
def _program() -> Iterator[ObjectStore]:
    """The packaged server, in a folder that goes with it."""
    access_key, secret_key = _credentials()
    folder = make_place("distsql-s3-")
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    command = [
        str(Path(sys.executable).with_name("weed")), "-logtostderr=false", f"-logdir={folder}", "mini",
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}", "-admin.ui=false", "-webdav=false",
        "-master.telemetry=false", "-debug.port=0", f"-filer.localSocket={folder / 'filer.sock'}",
        *(f"-{name}={port}" for name, port in ports.items()),
        *(f"-{name}=0" for name in _NO_PORTS),
    ]  # fmt: skip
    (folder / "data").mkdir()
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=folder)
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    try:
        _await_ready(endpoint, lambda: process.poll() is None, said=folder / "output")
        yield ObjectStore(endpoint, access_key, secret_key)
    finally:
        process.send_signal(signal.SIGKILL)  # what it holds is thrown away
        process.wait()
        shutil.rmtree(folder)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, nor on the one 10000 above each, which the server takes too.

    None of the one kind may be of the other, and none another test worker's, which looks for some at the same time:
    each has numbers of its own. Below those that clients are given (32768).
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    found: list[int] = []
    while len(found) < count:
        port = _chance.randrange(12000 + worker % _WORKERS, 22000, _WORKERS)
        if port not in found and all(_is_free(each) for each in (port, port + 10000)):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _await_ready(endpoint: str, alive: object, *, said: Path | None = None) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            if httpx.get(f"{endpoint}/healthz", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        told = said.read_text(errors="replace")[-4000:] if said else ""
        assert callable(alive), told
        assert alive(), f"the object store ended\n{told}"
        assert time.monotonic() < deadline, f"the object store wasn't ready in {READY_S} s\n{told}"
        time.sleep(0.1)


def _make_bucket(store: ObjectStore) -> None:
    import boto3  # noqa: PLC0415 - slow to import
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import ClientError  # noqa: PLC0415

    client = boto3.client(
        "s3", endpoint_url=store.endpoint, region_name="us-east-1", config=Config(signature_version="s3v4")
    )
    deadline = time.monotonic() + READY_S
    while True:
        try:
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"x")
        except ClientError as error:
            if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
                continue
        client.close()
        return
