"""Real images, made on the spot from the machine's own programs and written as an OCI layout by the standard library
alone: nothing is downloaded, and what every digest has to be is known before a client has touched anything."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

Descriptor = dict[str, Any]

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY: Final = "application/vnd.oci.empty.v1+json"
SBOM: Final = "application/spdx+json"
REF_NAME: Final = "org.opencontainers.image.ref.name"

GREETING: Final = "a real image says hello"
ENTRYPOINT: Final = "/app/main.py"
# Hidden by a whiteout in the topmost layer: only a client that applied the layers in their order doesn't see it.
FORGOTTEN: Final = "etc/forgotten"

PROGRAMS: Final = (
    *("bash", "cat", "chmod", "cp", "cut", "date", "dd", "df", "du", "echo", "env", "expr", "false", "find", "grep"),
    *("gzip", "head", "id", "ln", "ls", "mkdir", "mktemp", "mv", "od", "printf", "pwd", "readlink", "rm", "sed"),
    *("seq", "sha256sum", "sleep", "sort", "stat", "sync", "tail", "tar", "tee", "test", "touch", "tr", "true"),
    *("uname", "uniq", "wc", "whoami", "xargs", "yes"),
)
UNUSED_MODULES: Final = frozenset(
    ("__pycache__", "ensurepip", "idlelib", "lib2to3", "site-packages", "test", "tkinter", "turtledemo")
)
UNUSED_EXTENSIONS: Final = (
    "_codecs_",
    "_ctypes",
    "_curses",
    "_decimal",
    "_ssl",
    "_test",
    "pyexpat",
    "unicodedata",
    "xx",
)
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}

MAIN: Final = f"""\
import json, pathlib, sys
settings = json.loads(pathlib.Path("/etc/app.json").read_text(encoding="utf-8"))
print(json.dumps({{
    "says": settings["says"],
    "arguments": sys.argv[1:],
    "forgotten": pathlib.Path("/{FORGOTTEN}").exists(),
    "same file": pathlib.Path("/app/again.py").samefile(__file__),
}}))
"""


class Layer:
    """A tar archive in the making. Entries have no times and owners of this machine, so each run gives one digest."""

    def __init__(self) -> None:
        self._content = io.BytesIO()
        self._archive = tarfile.open(fileobj=self._content, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 (closed by `content`)
        self._names: set[str] = set()

    def _add(self, name: str, kind: bytes, *, mode: int, target: str = "", data: bytes = b"") -> None:
        if name in self._names:
            return
        self._names.add(name)
        if "/" in name:
            self.folder(name.rpartition("/")[0])
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.linkname, entry.size = kind, mode, target, len(data)
        self._archive.addfile(entry, io.BytesIO(data))

    def folder(self, name: str, *, mode: int = 0o755) -> None:
        self._add(name, tarfile.DIRTYPE, mode=mode)

    def file(self, name: str, data: bytes, *, mode: int = 0o644) -> None:
        self._add(name, tarfile.REGTYPE, mode=mode, data=data)

    def symlink(self, name: str, target: str) -> None:
        self._add(name, tarfile.SYMTYPE, mode=0o777, target=target)

    def hardlink(self, name: str, target: str) -> None:
        self._add(name, tarfile.LNKTYPE, mode=0o644, target=target)

    def copy(self, source: Path, name: str | None = None) -> None:
        """A file of this machine, under the path that it has here."""
        mode = 0o755 if os.access(source, os.X_OK) else 0o644
        self.file(name or merged(source), source.read_bytes(), mode=mode)

    def content(self) -> bytes:
        self._archive.close()
        return self._content.getvalue()


@dataclass(frozen=True)
class Layout:
    """An OCI layout: blobs by digest in a folder, and names for some of them."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Layout:
        (folder / "blobs/sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        return cls(folder)

    def add(self, content: bytes, media_type: str) -> Descriptor:
        encoded = hashlib.sha256(content).hexdigest()
        (self.folder / "blobs/sha256" / encoded).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{encoded}", "size": len(content)}

    def add_json(self, value: Mapping[str, Any], media_type: str) -> Descriptor:
        # Indented, unlike what any client would write: a registry that parses and rewrites it changes the digest.
        return self.add(json.dumps(value, indent=3).encode(), media_type)

    def publish(self, named: Mapping[str, Descriptor]) -> None:
        entries = [{**descriptor, "annotations": {REF_NAME: name}} for name, descriptor in named.items()]
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        (self.folder / "index.json").write_text(json.dumps(index))

    def read(self, digest: str) -> bytes:
        return (self.folder / "blobs" / digest.replace(":", "/")).read_bytes()

    def digests(self) -> set[str]:
        return {f"sha256:{path.name}" for path in (self.folder / "blobs/sha256").iterdir()}


@dataclass(frozen=True)
class Images:
    """What there is to push, as tags of one layout: `image` runs on this machine, `other` is small and for another
    platform, `multi` is an index of the two, `sbom` has `image` as its subject."""

    layout: Layout
    image: Descriptor
    multi: Descriptor
    sbom: Descriptor

    @property
    def source(self) -> str:
        """How skopeo, podman and buildah call the layout."""
        return f"oci:{self.layout.folder}"

    def closure(self, digest: str) -> set[str]:
        """The digests of a manifest and of everything below it."""
        manifest = json.loads(self.layout.read(digest))
        below = set().union(*(self.closure(child["digest"]) for child in manifest.get("manifests", [])))
        blobs = [manifest["config"], *manifest["layers"]] if "config" in manifest else []
        return {digest} | below | {blob["digest"] for blob in blobs}


def make_images(folder: Path) -> Images:
    layout = Layout.create(folder)
    own = ARCHITECTURES.get(platform.machine(), platform.machine())
    other = "arm64" if own == "amd64" else "amd64"
    settings = settings_layer()
    image = add_image(layout, [system_layer(), python_layer(), settings], architecture=own)
    small = add_image(layout, [other_layer(other), settings], architecture=other)
    platforms = [(image, own), (small, other)]
    entries = [{**entry, "platform": {"os": "linux", "architecture": name}} for entry, name in platforms]
    multi = layout.add_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, INDEX)
    sbom = add_sbom(layout, subject=image)
    layout.publish({"image": image, "multi": multi, "other": small, "sbom": sbom})
    return Images(layout, image, multi, sbom)


def add_image(layout: Layout, layers: Iterable[bytes], *, architecture: str) -> Descriptor:
    contents = list(layers)
    config = {
        "created": "2024-02-29T12:00:00Z",
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"],
            "Entrypoint": [str(interpreter()), ENTRYPOINT],
            "Labels": {"org.opencontainers.image.title": "distsql's test image"},
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(c).hexdigest()}" for c in contents]},
        "history": [{"created": "2024-02-29T12:00:00Z", "created_by": "tests/clients/images.py"} for _ in contents],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": layout.add_json(config, CONFIG),
        "layers": [layout.add(gzip.compress(content, 1, mtime=0), LAYER) for content in contents],
        "annotations": {"org.opencontainers.image.description": "dès le début, Zoë's"},
    }
    return layout.add_json(manifest, MANIFEST)


def add_sbom(layout: Layout, *, subject: Descriptor) -> Descriptor:
    """An artifact: no image, no platform, only a document about its subject."""
    document = {"spdxVersion": "SPDX-2.3", "name": "test image", "packages": [{"name": name} for name in PROGRAMS]}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": SBOM,
        "config": layout.add(b"{}", EMPTY),
        "layers": [layout.add_json(document, SBOM)],
        "subject": subject,
    }
    return layout.add_json(manifest, MANIFEST)


def system_layer() -> bytes:
    """A small Unix: shell, the everyday programs, what they link to, time zones, and the links of a merged /usr."""
    layer = Layer()
    for link in ("bin", "lib", "lib64", "sbin"):
        layer.folder(f"usr/{link}")
        layer.symlink(link, f"usr/{link}")
    for folder in ("dev", "proc", "root", "run", "sys", "var"):
        layer.folder(folder)
    layer.folder("tmp", mode=0o1777)
    programs = [Path(found) for name in PROGRAMS if (found := shutil.which(name))]
    for program in programs:
        layer.copy(program, f"usr/bin/{program.name}")
    for library in libraries(programs):
        layer.copy(library)
    layer.symlink("usr/bin/sh", "bash")
    for zone in sorted(Path("/usr/share/zoneinfo/Europe").glob("*")):
        layer.copy(zone)
    layer.file("etc/passwd", b"root:x:0:0:root:/root:/bin/bash\n")
    layer.file("etc/group", b"root:x:0:\n")
    layer.file(FORGOTTEN, b"a later layer takes this away\n")
    return layer.content()


def python_layer() -> bytes:
    """The Python that runs this test: some hundred files, some of them large."""
    layer = Layer()
    layer.copy(interpreter())
    for dependency in libraries([interpreter()]):
        layer.copy(dependency)
    for folder, subfolders, files in os.walk(sysconfig.get_path("stdlib")):
        # Pruned on the way down: site-packages may hold a hundred times as much as what is wanted.
        subfolders[:] = sorted(set(subfolders) - UNUSED_MODULES)
        for name in sorted(files):
            if name.endswith((".py", ".so")) and not name.startswith(UNUSED_EXTENSIONS):
                layer.copy(Path(folder, name))
    return layer.content()


def settings_layer() -> bytes:
    """The program and its settings, links, a name that isn't ASCII, a long one, an empty file, and a whiteout."""
    layer = Layer()
    layer.file(ENTRYPOINT.lstrip("/"), MAIN.encode(), mode=0o755)
    layer.hardlink("app/again.py", ENTRYPOINT.lstrip("/"))
    layer.file("etc/app.json", json.dumps({"says": GREETING}).encode())
    layer.file("etc/app.d/größe.conf", b"size = 1\n")
    layer.file("etc/app.d/" + "/".join(["a long way down"] * 12) + "/empty", b"")
    folder, _, name = FORGOTTEN.rpartition("/")
    layer.file(f"{folder}/.wh.{name}", b"")
    return layer.content()


def other_layer(architecture: str) -> bytes:
    layer = Layer()
    layer.file("README", f"there is nothing to run on {architecture}\n".encode())
    return layer.content()


def interpreter() -> Path:
    return Path(sys.executable).resolve()


def libraries(programs: Iterable[Path]) -> list[Path]:
    """The shared libraries of programs, the loader among them, under the paths by which they are loaded."""
    ldd = shutil.which("ldd")
    if ldd is None:
        return []
    listed = subprocess.run([ldd, *programs], capture_output=True, text=True, check=False).stdout
    return [Path(found) for found in sorted(set(re.findall(r"(/\S+) \(0x", listed)))]


def merged(path: Path) -> str:
    """The name in an archive whose /bin, /lib and the like are links into /usr: a file below them would undo a link."""
    name = path.as_posix().lstrip("/")
    return f"usr/{name}" if name.split("/")[0] in {"bin", "lib", "lib64", "sbin"} else name
