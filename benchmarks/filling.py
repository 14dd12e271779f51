"""Every server is given the same content, through the ordinary HTTP API where that is bearable.

The many tags would take minutes one by one. distsql takes ten with each manifest (`PUT ...?tag=a&tag=b`, distribution
specification 1.2); the peer doesn't, so its tags are written into its folders, as it would write them. So are the many
repositories, which are made by mounting a layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.clients import Script, expect, request, run_scripts
from benchmarks.content import (
    APP,
    INDEX_TYPE,
    MANY_TAGS,
    TAG,
    Content,
    digest_of,
    put_manifest,
    tag_all,
    upload_all,
)
from benchmarks.servers import DockerRegistry, Server

BATCH: Final = 10
CLIENTS: Final = 8


def fill(server: Server, content: Content) -> None:
    small = [content.config, *content.layers]
    _run(server, upload_all(APP, iter([*small, content.medium, content.large])), upload_all(MANY_TAGS, iter(small)))
    _run(server, *(tag_all(name, content.manifest, iter([TAG])) for name in (APP, MANY_TAGS)))
    if isinstance(server, DockerRegistry):
        _write_tags(server, content)
        _write_repositories(server, content)
    else:
        # PUT by digest, with tags beside it.
        batches = (content.tags[start : start + BATCH] for start in range(0, len(content.tags), BATCH))
        references = (f"{content.digest}?{'&'.join(f'tag={tag}' for tag in batch)}" for batch in batches)
        _run(server, *(tag_all(MANY_TAGS, content.manifest, references) for _ in range(2)))
        names = iter(content.repositories)
        _run(server, *(_mount_all(content.config.digest, names) for _ in range(CLIENTS)))
    _run(server, _refer(server, content))


def _run(server: Server, *scripts: Script) -> None:
    run_scripts(server.port, scripts, headers=server.basic)


def _mount_all(digest: str, names: Iterator[str]) -> Script:
    for name in names:
        answer = yield request("POST", f"/v2/{name}/blobs/uploads/?mount={digest}&from={APP}")
        expect(answer, 201, "mount of a blob")


def _refer(server: Server, content: Content) -> Script:
    """Referrers of a manifest; where the server doesn't find them, the index that a client writes of them."""
    for manifest in content.referrers:
        expect((yield put_manifest(APP, digest_of(manifest), manifest)), 201, "PUT of a referrer")
    if isinstance(server, DockerRegistry):
        index = put_manifest(APP, content.fallback_tag, content.make_fallback_index(), INDEX_TYPE)
        expect((yield index), 201, "PUT of an index of referrers")


def _write_tags(server: DockerRegistry, content: Content) -> None:
    root = _repository(server, MANY_TAGS) / "_manifests/tags"
    for tag in content.tags:
        # Not the `index` folder beside it, which is for deleting only.
        (root / tag / "current").mkdir(parents=True)
        (root / tag / "current/link").write_text(content.digest)


def _write_repositories(server: DockerRegistry, content: Content) -> None:
    digest = content.config.digest
    for name in content.repositories:
        layer = _repository(server, name) / "_layers" / digest.replace(":", "/")
        layer.mkdir(parents=True)
        (layer / "link").write_text(digest)


def _repository(server: DockerRegistry, name: str) -> Path:
    return server.storage / "docker/registry/v2/repositories" / name
