"""Every way to write there is, and what it does: new tags, content that counts, deletions, moved tags."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from distsql.contract import Namespace, Repository
from distsql.oci.digest import Digest
from distsql.oci.manifest import ParsedManifest, parse
from tests.registry.pushing import image, push_blob, push_image

Call = Callable[[], Awaitable[object]]
_numbers = count(1000)  # behind those of the world


@dataclass(frozen=True)
class World:
    """``acme/web`` has two images: ``old`` under the tags v1 and spare, and ``new`` without a tag."""

    namespace: Namespace
    old: ParsedManifest
    new: ParsedManifest

    @property
    def web(self) -> Repository:
        return self.namespace.repository("acme/web")

    @property
    def elsewhere(self) -> Repository:
        """A repository that isn't there yet."""
        return self.namespace.repository(f"acme/new-{next(_numbers)}")


async def make_world(namespace: Namespace) -> World:
    web = namespace.repository("acme/web")
    old = await push_image(web, b"layer", tags=["v1", "spare"])
    return World(namespace, old, await push_image(web, b"layer", number="2"))


@dataclass(frozen=True)
class Write:
    """``prepare`` gets ready what ``member`` is called on, and gives the call.

    ``deletes``: it takes content away. ``moves``: it moves or ends v1. ``grows``: it adds to what the tenant uses.
    """

    member: str
    prepare: Callable[[World], Awaitable[Call]]
    deletes: bool = False
    moves: bool = False
    grows: bool = False


async def _put_image(world: World) -> Call:
    manifest = image(b"layer", number=str(next(_numbers)))
    return lambda: world.web.manifests.put(manifest)


async def _put_index_alone(world: World) -> Call:
    """It refers to nothing."""
    manifest = parse(b'{"what": "%d"}' % next(_numbers), "application/vnd.example.thing.v1+json")
    return lambda: world.web.manifests.put(manifest)


async def _put_with_new_tag(world: World) -> Call:
    return lambda: world.web.manifests.put(world.old, ["v2"])


async def _put_with_moved_tag(world: World) -> Call:
    return lambda: world.web.manifests.put(world.new, ["v1"])


async def _put_again(world: World) -> Call:
    return lambda: world.web.manifests.put(world.old, ["v1"])


async def _delete_tagged(world: World) -> Call:
    return lambda: world.web.manifests.delete(world.old.digest)


async def _force_delete_tagged(world: World) -> Call:
    return lambda: world.web.manifests.delete(world.old.digest, force=True)


async def _delete_untagged(world: World) -> Call:
    return lambda: world.web.manifests.delete(world.new.digest)


async def _tag_anew(world: World) -> Call:
    return lambda: world.web.tags.tag("v3", world.new.digest)


async def _tag_if_new(world: World) -> Call:
    return lambda: world.web.tags.tag("v4", world.new.digest, None)


async def _move_tag(world: World) -> Call:
    return lambda: world.web.tags.tag("v1", world.new.digest)


async def _swap_tag(world: World) -> Call:
    return lambda: world.web.tags.tag("v1", world.new.digest, world.old.digest)


async def _move_another_tag(world: World) -> Call:
    return lambda: world.web.tags.tag("spare", world.new.digest)


async def _untag(world: World) -> Call:
    return lambda: world.web.tags.untag("v1")


async def _untag_another(world: World) -> Call:
    return lambda: world.web.tags.untag("spare")


async def _begin_upload(world: World) -> Call:
    return world.web.layers.upload


async def _begin_upload_elsewhere(world: World) -> Call:
    return world.elsewhere.layers.upload


async def _write(world: World) -> Call:
    upload = await world.web.layers.upload()
    return lambda: upload.write(b"some")


async def _resumed_write(world: World) -> Call:
    begun = await world.web.layers.upload()

    async def write() -> None:
        async with await world.web.layers.resume(begun.uuid) as upload:
            await upload.write(b"some")

    return write


async def _read_from(world: World) -> Call:
    upload = await world.web.layers.upload()

    async def source() -> AsyncIterator[bytes]:
        yield b"some"

    return lambda: upload.read_from(source())


async def _close(world: World) -> Call:
    begun = await world.web.layers.upload()

    async def write_and_close() -> None:
        upload = await world.web.layers.resume(begun.uuid)
        await upload.write(b"some")
        await upload.close()

    return write_and_close


async def _finish(world: World) -> Call:
    content = b"content %d" % next(_numbers)
    async with await world.web.layers.upload() as upload:
        await upload.write(content)

    async def finish() -> None:
        async with await world.web.layers.resume(upload.uuid) as again:
            await again.finish(Digest.of(content))

    return finish


async def _cancel(world: World) -> Call:
    begun = await world.web.layers.upload()

    async def cancel() -> None:
        await (await world.web.layers.resume(begun.uuid)).cancel()

    return cancel


async def _mount(world: World) -> Call:
    target = world.elsewhere
    await push_blob(target, b"layer")
    return lambda: target.layers.mount(Digest.of(b"layer"), "acme/web")


async def _mount_elsewhere(world: World) -> Call:
    return lambda: world.elsewhere.layers.mount(Digest.of(b"layer"), "acme/web")


async def _delete_blob(world: World) -> Call:
    content = b"unneeded %d" % next(_numbers)
    digest = await push_blob(world.web, content)
    return lambda: world.web.layers.delete(digest)


async def _sign(world: World) -> Call:
    return lambda: world.web.signatures.put(world.old.digest, b"signature")


async def _remove(world: World) -> Call:
    return world.web.remove


async def _restore_manifest(world: World) -> Call:
    await world.web.manifests.delete(world.new.digest)
    return lambda: world.web.restorations.restore_manifest(world.new.digest)


async def _restore_tag(world: World) -> Call:
    await world.web.tags.tag("v5", world.new.digest)
    await world.web.tags.untag("v5")
    return lambda: world.web.restorations.restore_tag("v5")


async def _roll_back(world: World) -> Call:
    await world.web.tags.tag("v1", world.new.digest)
    return lambda: world.web.restorations.roll_back("v1")


async def _restore_elsewhere(world: World) -> Call:
    gone = world.elsewhere
    await push_image(gone, b"layer", tags=["v1"])
    await gone.remove()
    return gone.restorations.restore_repository


WRITES: Final[dict[str, Write]] = {
    "put a manifest": Write("ManifestService.put", _put_image, grows=True),
    "put a manifest of nothing": Write("ManifestService.put", _put_index_alone, grows=True),
    "put with a new tag": Write("ManifestService.put", _put_with_new_tag, grows=True),
    "put and move a tag": Write("ManifestService.put", _put_with_moved_tag, moves=True),
    "put again": Write("ManifestService.put", _put_again),
    "delete a tagged manifest": Write("ManifestService.delete", _delete_tagged, deletes=True, moves=True),
    "force a deletion": Write("ManifestService.delete", _force_delete_tagged, deletes=True, moves=True),
    "delete an untagged manifest": Write("ManifestService.delete", _delete_untagged, deletes=True),
    "make a tag": Write("TagService.tag", _tag_anew, grows=True),
    "make a tag if it is new": Write("TagService.tag", _tag_if_new, grows=True),
    "move a tag": Write("TagService.tag", _move_tag, moves=True),
    "swap a tag": Write("TagService.tag", _swap_tag, moves=True),
    "move a tag of another pattern": Write("TagService.tag", _move_another_tag),
    "end a tag": Write("TagService.untag", _untag, deletes=True, moves=True),
    "end a tag of another pattern": Write("TagService.untag", _untag_another, deletes=True),
    "begin an upload": Write("LayerService.upload", _begin_upload),
    "begin an upload in a new repository": Write("LayerService.upload", _begin_upload_elsewhere, grows=True),
    "write": Write("LayerUpload.write", _write),
    "write to a resumed upload": Write("LayerUpload.write", _resumed_write),
    "write from a source": Write("LayerUpload.read_from", _read_from),
    "write and close": Write("LayerUpload.close", _close),
    "finish": Write("LayerUpload.finish", _finish, grows=True),
    "cancel": Write("LayerUpload.cancel", _cancel),
    "mount": Write("LayerService.mount", _mount),
    "mount into a new repository": Write("LayerService.mount", _mount_elsewhere, grows=True),
    "delete a blob": Write("LayerService.delete", _delete_blob, deletes=True),
    "sign": Write("SignatureService.put", _sign),
    "restore a manifest": Write("RestorationService.restore_manifest", _restore_manifest, grows=True),
    "restore a tag": Write("RestorationService.restore_tag", _restore_tag, grows=True),
    "roll a tag back": Write("RestorationService.roll_back", _roll_back, moves=True),
    "restore a repository": Write("RestorationService.restore_repository", _restore_elsewhere, grows=True),
    "remove a repository": Write("Repository.remove", _remove, deletes=True, moves=True),
}

READS: Final[frozenset[str]] = frozenset(
    {
        "Access.allows",
        "Closable.close",
        "Index.holders",
        "Layer.handler",
        "Layer.read",
        "Layer.seek",
        "Layer.tell",
        "LayerService.exists",
        "LayerService.fetch",
        "LayerService.resume",
        "LayerUpload.seek",
        "LayerUpload.tell",
        "Manifest.references",
        "ManifestService.all",
        "ManifestService.exists",
        "ManifestService.exists_by_tag",
        "ManifestService.get",
        "ManifestService.get_by_tag",
        "ManifestService.referrers",
        "ManifestService.tags",
        "Namespace.acting_as",
        "Namespace.repositories",
        "Namespace.repository",
        "Namespace.scope",
        "Repository.exists",
        "RestorationService.deleted",
        "Scope.contains",
        "SignatureService.get",
        "TagService.get",
        "TagService.history",
        "TagService.list",
        "TagService.lookup",
        "TagService.resolve",
        "Trust.signatures",
    }
)
"""Members that write nothing; ``resume`` finds a session, which is not written to by that."""
