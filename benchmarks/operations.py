"""What is compared: one line for each operation, with the bar that it has to reach."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.content import APP, CHUNKS, MANY_TAGS, TAG, Content, make_salt
from benchmarks.deleting import Victims, delete
from benchmarks.images import CopiedImages, Images
from benchmarks.operation import Operation
from benchmarks.reading import Read, has, is_blob
from benchmarks.servers import Server
from benchmarks.starting import start, stop
from benchmarks.uploading import put_manifests, upload_chunked, upload_for_a_time, upload_some

MIB: Final = 1 << 20
PAGE: Final = 100
CONNECTIONS: Final = (1, 64)
"""Beside the number that everything is measured with."""
RANGE: Final = MIB


def list_operations(content: Content, uploads: int, folder: Path, other: Server) -> list[Operation]:
    """`uploads`: how many large blobs a round uploads; `folder` is for clients' files, `other` to copy from and to."""
    return [
        *_manifest_reads(content),
        *_blob_reads(content),
        *_pages(content),
        *_writes(content, uploads),
        *_image_copies(content, folder, other),
        *_deletions(content),
        Operation("start-up", start, prepare=stop),
    ]


def _manifest_reads(content: Content) -> list[Operation]:
    by_tag, by_digest = (f"/v2/{MANY_TAGS}/manifests/{reference}" for reference in (content.tags[-1], content.digest))
    reads = {
        "manifest GET by tag": Read(by_tag, content.manifest.__eq__),
        "manifest GET by digest": Read(by_digest, content.manifest.__eq__),
        "manifest HEAD by tag": Read(by_tag, method="HEAD"),
        "manifest HEAD by digest": Read(by_digest, method="HEAD"),
    }
    operations = []
    for name, read in reads.items():
        operations.append(Operation(name, read.load, read.check, bar=8, open_bar=12 if "GET" in name else 0))
        for number in CONNECTIONS:
            several = f"{name}, {number} connection{'s' if number > 1 else ''}"
            bar = 3 if number == 1 and "GET" in name else 0
            operations.append(Operation(several, read.load, read.check, bar=bar, connections=number))
    anew = Read(by_tag, content.manifest.__eq__, anew=True)
    return [*operations, Operation("manifest GET by tag, new connections", anew.load, anew.check)]


def _blob_reads(content: Content) -> list[Operation]:
    def path(digest: str) -> str:
        return f"/v2/{APP}/blobs/{digest}"

    size, medium = content.sizes.large, content.sizes.medium
    middle = size // 2
    window = f"Range: bytes={middle}-{middle + min(RANGE, middle) - 1}\r\n"
    reads = {
        "blob HEAD": (Read(path(content.large.digest), method="HEAD"), 8.0, 0),
        "blob GET 1 KiB": (Read(path(content.config.digest), is_blob(content.config)), 15.0, 0),
        f"blob GET {_size(medium)}": (Read(path(content.medium.digest), is_blob(content.medium)), 0.0, medium),
        f"blob GET {_size(size)}": (Read(path(content.large.digest), is_blob(content.large), threads=2), 1.0, size),
        f"blob GET, a range of {_size(min(RANGE, middle))}": (
            Read(path(content.large.digest), headers=window, status=206),
            0.0,
            min(RANGE, middle),
        ),
    }
    return [Operation(name, one.load, one.check, bar=bar, large=large) for name, (one, bar, large) in reads.items()]


def _pages(content: Content) -> list[Operation]:
    """The peer (2.8) has no pages of tags: it answers with all of them. It has no referrers, but an index of them."""
    tag, repository = (names[len(names) * 9 // 10 :][:2] for names in (content.tags, content.repositories))
    tags, catalogue, referrers = f"/v2/{MANY_TAGS}/tags/list", "/v2/_catalog", f"/v2/{APP}/referrers/{content.digest}"
    fallback = f"/v2/{APP}/manifests/{content.fallback_tag}"
    reads = {
        "tags, first page": (Read(f"{tags}?n={PAGE}", has("tags", content.tags[0])), 40),
        "tags, deep page": (Read(f"{tags}?n={PAGE}&last={tag[0]}", has("tags", tag[1])), 40),
        "catalogue, first page": (Read(f"{catalogue}?n={PAGE}", has("repositories", APP)), 0),
        "catalogue, deep page": (
            Read(f"{catalogue}?n={PAGE}&last={repository[0]}", has("repositories", repository[1])),
            100,
        ),
        "referrers page": (Read(referrers, has("manifests", None), peer_path=fallback), 0),
    }
    return [Operation(name, read.load, read.check, bar=bar) for name, (read, bar) in reads.items()]


def _writes(content: Content, uploads: int) -> list[Operation]:
    size, chunked = content.sizes.large, content.sizes.chunked
    some = upload_some(content.large_blobs, uploads)
    return [
        Operation("manifest PUT", put_manifests(content, lambda: f"t{make_salt().hex()}"), bar=4),
        Operation("manifest PUT on one tag", put_manifests(content, lambda: TAG), bar=4),
        Operation("blob PUT 1 KiB", upload_for_a_time(content.small_blobs)),
        Operation(f"blob PUT {_size(size)}", some, bar=2, large=size, leaves=size),
        Operation(
            f"blob PUT {_size(chunked)} in {CHUNKS} chunks",
            upload_chunked(chunked, uploads),
            large=chunked,
            leaves=chunked,
        ),
    ]


def _image_copies(content: Content, folder: Path, other: Server) -> list[Operation]:
    layer = content.sizes.layer
    images, copied = Images(layer, folder), CopiedImages(layer, folder, other)
    return [
        Operation(
            "image push by skopeo",
            images.push,
            prepare=images.make,
            leaves=layer,
            with_bare=True,
            bar=1.5,
        ),
        Operation(
            "image pull by skopeo",
            images.pull,
            images.push_one,
            prepare=images.clear,
            with_bare=True,
            bar=1.2,
        ),
        Operation(
            "image push by skopeo, from a registry",
            copied.push,
            prepare=copied.make,
            leaves=layer,
            with_bare=True,
        ),
        Operation(
            "image pull by skopeo, to a registry",
            copied.pull,
            copied.push_one,
            prepare=copied.clear,
            with_bare=True,
        ),
    ]


def _deletions(content: Content) -> list[Operation]:
    """The peer (2.8) can't delete a tag: one is rid of it with its manifest, so that is what it does in both."""
    victims = Victims(content)
    return [
        Operation("manifest DELETE", delete(victims, by_tag=False), prepare=victims.top_up, bar=50),
        Operation("tag DELETE", delete(victims, by_tag=True), prepare=victims.top_up, bar=50),
    ]


def _size(size: int) -> str:
    return f"{size >> 20} MiB" if size >= MIB else f"{size >> 10} KiB"
