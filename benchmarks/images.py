"""A whole image of ten layers, pushed and pulled by skopeo: one after another, as a person or a build does it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.clients import LoadFailed
from benchmarks.content import CONFIG_TYPE, IMAGE, LAYER_TYPE, LAYERS, MANIFEST_TYPE, Blob, BlobSource, make_salt
from benchmarks.load import Load, Pace, add_up
from benchmarks.servers import Server

GZIP: Final = b"\x1f\x8b\x08"
"""How compressed layers begin: skopeo compresses what doesn't."""
A_ROUND: Final = 3
TAG: Final = "whole"


class Images:
    """Pushed ones are new in every layer. `folder` holds them, and what was pulled, as skopeo's `dir:`."""

    def __init__(self, layer: int, folder: Path) -> None:
        self._layers = BlobSource(layer, GZIP)
        self._folder = folder

    def make(self, server: Server) -> None:
        """Images that a round will push."""
        self.clear(server)
        for number in range(A_ROUND):
            self._write(self._folder / f"image-{number}")

    def clear(self, _: Server) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)

    def push(self, server: Server, _: Pace) -> Load:
        return _time(partial(self._push, server, path, path.name) for path in sorted(self._folder.iterdir()))

    def push_one(self, server: Server) -> None:
        """What will be pulled."""
        self.clear(server)
        self._write(self._folder / "pulled")
        self._push(server, self._folder / "pulled", TAG)

    def pull(self, server: Server, _: Pace) -> Load:
        return _time(partial(self._pull, server, self._folder / f"pulled-{number}") for number in range(A_ROUND))

    def _push(self, server: Server, path: Path, tag: str) -> None:
        _copy(f"dir:{path}", _at(server, tag), to=server)

    def _pull(self, server: Server, path: Path) -> None:
        _copy(_at(server, TAG), f"dir:{path}", of=server)

    def _write(self, folder: Path) -> None:
        folder.mkdir()
        layers = [self._layers.make() for _ in range(LAYERS)]
        empty = {"type": "layers", "diff_ids": [blob.digest for blob in layers]}
        config = _blob({"architecture": "amd64", "os": "linux", "rootfs": empty, "author": make_salt().hex()})
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": config.digest, "size": config.length},
            "layers": [{"mediaType": LAYER_TYPE, "digest": blob.digest, "size": blob.length} for blob in layers],
        }
        (folder / "version").write_text("Directory Transport Version: 1.1\n")
        (folder / "manifest.json").write_text(json.dumps(manifest))
        for blob in (config, *layers):
            with (folder / blob.digest.removeprefix("sha256:")).open("wb") as file:
                file.writelines(blob.buffers)


class CopiedImages(Images):
    """From and to ``other``, a registry that does nothing: then skopeo copies six layers at once."""

    def __init__(self, layer: int, folder: Path, other: Server) -> None:
        super().__init__(layer, folder)
        self._other = other

    def make(self, server: Server) -> None:
        super().make(server)
        for path in self._folder.iterdir():
            self._push(self._other, path, path.name)

    def push(self, server: Server, _: Pace) -> Load:
        tags = sorted(path.name for path in self._folder.iterdir())
        return _time(partial(_copy, _at(self._other, tag), _at(server, tag), to=server) for tag in tags)

    def pull(self, server: Server, _: Pace) -> Load:
        anew = [_at(self._other, TAG, f"{IMAGE}-{make_salt().hex()}") for _ in range(A_ROUND)]
        return _time(partial(_copy, _at(server, TAG), to, of=server) for to in anew)


def _at(server: Server, tag: str, name: str = IMAGE) -> str:
    return f"docker://127.0.0.1:{server.port}/{name}:{tag}"


def _blob(document: object) -> Blob:
    content = json.dumps(document).encode()
    return Blob((content,), f"sha256:{hashlib.sha256(content).hexdigest()}")


def _time(copies: Iterable[Callable[[], None]]) -> Load:
    latencies = []
    for copy in copies:
        began = time.perf_counter()
        copy()
        latencies.append(time.perf_counter() - began)
    return add_up(latencies, sum(latencies))


def _copy(source: str, target: str, *, of: Server | None = None, to: Server | None = None) -> None:
    """``of`` and ``to`` are the registries at either end that may want a login."""
    logins = [(option, server.login) for option, server in (("--src-creds", of), ("--dest-creds", to)) if server]
    arguments = [word for option, login in logins if login for word in (option, login)]
    command = ["skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", *arguments, source, target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadFailed(f"skopeo copy {source} {target}: {done.stderr}")
