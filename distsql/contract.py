"""The registry's interfaces: read this page first.

They descend from the 2015 ``registry.go`` of docker/distribution: a `Namespace` has repositories; a `Repository` has
manifests, tags, layers and signatures, each behind a service of its own. Nothing here knows of SQL, HTTP or files, so
that one contract suite (``tests/contract``) runs against every implementation.

Promises that hold throughout:

* Each method is one transaction: when it returns, what it says is committed; when it raises, nothing has changed.
* References are cheap and never checked: a `Repository` may not exist, and comes to be with the first write.
* Names are text as clients write them, ``tenant/path``; ``x`` is ``library/x``. Digests are `Digest`; lengths and
  offsets are in bytes; instants are aware datetimes; listings are in byte order and begin behind ``after``.
* Listings are async iterators that hold no connection between pages and use constant memory; any number of them may run
  at once, and each may be begun again behind the last name seen.
* Every method raises `UnavailableError` when the database or the byte store doesn't answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self
from uuid import UUID

from distsql.contract_undo import RestorationService
from distsql.oci.descriptor import Descriptor
from distsql.oci.digest import Digest
from distsql.values import (
    ANY,
    Action,
    Anything,
    ASGIApplication,
    ASGIScope,
    Caller,
    SignatureRelation,
    TagMove,
)


class Scope(Protocol):
    """A set of names; it gives a namespace its identity."""

    @property
    def name(self) -> str:
        """The identity: empty for the global scope, else the tenant's name."""

    def contains(self, name: str) -> bool:
        """Whether a repository of this name belongs to the scope. A malformed name belongs to none."""


class Manifest(Protocol):
    """A manifest of any kind, independent of how it is stored. Equal payload and media type is an equal manifest."""

    @property
    def media_type(self) -> str:
        """As pushed, without parameters."""

    @property
    def payload(self) -> bytes:
        """The exact bytes as pushed."""

    @property
    def digest(self) -> Digest:
        """Of the payload, in the algorithm in which it was pushed (schema 1: without its signatures)."""

    @property
    def subject(self) -> Descriptor | None:
        """What the manifest says something about, when it does; the registry may not have it."""

    @property
    def annotations(self) -> Mapping[str, str]:
        """The manifest's own annotations."""

    @property
    def artifact_type(self) -> str | None:
        """As written, else the config's media type for an image, else None (image manifest, "artifactType")."""

    def references(self) -> Sequence[Descriptor]:
        """Everything that the manifest needs, in its order: config, layers, children. The subject is not needed."""


class Access(Protocol):
    """What the namespace's caller may do."""

    async def allows(self, name: str, action: Action) -> bool:
        """Whether the caller may do this in the repository; False also for names outside the scope."""


class Trust(Protocol):
    """Signatures of whatever kind, in one shape."""

    async def signatures(self, name: str, digest: Digest) -> Sequence[SignatureRelation]:
        """Every signature that the repository has of this content; empty when none, or no such repository.

        Raises `NameInvalidError` and `NameUnknownError` as `Namespace.repository` does.
        """


class Index(Protocol):
    """Finding content without knowing its repository."""

    def holders(self, digest: Digest, *, after: str = "") -> AsyncIterator[str]:
        """Full names of the repositories in the scope that hold this blob or manifest."""


class Namespace(Protocol):
    """A collection of repositories, addressable by name."""

    def scope(self) -> Scope: ...

    def acting_as(self, caller: Caller) -> Namespace:
        """The same namespace on behalf of another caller."""

    def repository(self, name: str) -> Repository:
        """A reference to a repository that need not exist.

        Raises `NameInvalidError` for a malformed name, `NameUnknownError` for one outside the scope.
        """

    def repositories(self, *, after: str = "", limit: int | None = None) -> AsyncIterator[str]:
        """Full names of the repositories in the scope behind ``after``, which may be any text, at most ``limit``."""

    @property
    def access(self) -> Access:
        """What the caller may do."""

    @property
    def trust(self) -> Trust:
        """Which signatures there are."""

    @property
    def index(self) -> Index:
        """Where content is."""


class Repository(Protocol):
    """One repository: its services, and its life."""

    @property
    def name(self) -> str:
        """The full name, tenant included."""

    @property
    def manifests(self) -> ManifestService: ...

    @property
    def tags(self) -> TagService: ...

    @property
    def layers(self) -> LayerService: ...

    @property
    def signatures(self) -> SignatureService: ...

    @property
    def restorations(self) -> RestorationService: ...

    async def exists(self) -> bool:
        """Whether anything was ever written to it (and it was not removed since)."""

    async def remove(self) -> None:
        """Removes the repository with everything in it; other repositories keep what they share with it.

        Raises `NameUnknownError`.
        """


class ManifestService(Protocol):
    """The manifests of one repository."""

    async def exists(self, digest: Digest) -> bool: ...

    async def get(self, digest: Digest) -> Manifest:
        """The manifest, its payload checked against the digest.

        Raises `ManifestUnknownError`, `NameUnknownError` when there is no such repository, `ContentCorruptError`.
        """

    async def put(self, manifest: Manifest, tags: Sequence[str] = ()) -> Digest:
        """Creates or updates the manifest, and points all the tags to it, or nothing of that.

        Putting what is there already changes nothing but the tags; signatures are added, and what was put without any
        is from then on as put with some. Everything it refers to must be in the repository
        (non-distributable layers may be absent): else `ManifestReferencesUnknownError` lists all that is missing.
        The subject may be absent. Also `ReferenceInvalidError`, `TooManyTagsError` (over 100), `ManifestInvalidError`,
        `DigestInvalidError` when the payload has another digest; for Docker schema 1 `ManifestUnverifiedError` when a
        signature is missing or not true, `NameInvalidError` or `ReferenceInvalidError` when it names another place.
        """

    async def delete(self, digest: Digest, *, force: bool = False) -> None:
        """Removes the manifest and every tag on it, for all readers at once.

        Raises `ManifestUnknownError`, `NameUnknownError`; `InUseError` while a live index in the repository has it as
        a child, unless forced: then the index stays, and lacks it. Referrers don't keep their subject.
        """

    def all(self, *, after: Digest | None = None) -> AsyncIterator[Manifest]:
        """Every manifest behind ``after``, in the order of the digests. Raises `NameUnknownError`."""

    def referrers(
        self, digest: Digest, *, artifact_type: str | None = None, after: Digest | None = None, limit: int | None = None
    ) -> AsyncIterator[Descriptor]:
        """Manifests whose subject is this digest, in the order of their digests, whether or not the subject exists.

        Each descriptor carries artifact type, annotations and length. A repository that doesn't exist has none.
        """

    def tags(self) -> AsyncIterator[str]:
        """Names of all live tags: ``TagService.list`` by its older name."""

    async def exists_by_tag(self, tag: str) -> bool:
        """Whether the tag is live; no text is too malformed to ask."""

    async def get_by_tag(self, tag: str) -> Manifest:
        """The manifest that the tag points to: one read, so never a mixture of two moments.

        Raises `TagUnknownError`, `NameUnknownError`, `ContentCorruptError`.
        """


class TagService(Protocol):
    """The tags of one repository. A tag is live or ended; what it ever pointed to stays in its history."""

    async def get(self, tag: str) -> Descriptor:
        """What the tag points to. Raises `TagUnknownError`, `NameUnknownError`."""

    async def tag(self, tag: str, digest: Digest, expected: Digest | Anything | None = ANY) -> None:
        """Points the tag to a manifest of the repository.

        ``expected`` makes it a compare-and-swap: a digest that the tag must point to now, or None when it must not
        exist; otherwise `TagChangedError`. Of writers at the same time one is the last, and whoever begins when another
        has returned comes behind it; the history has them all, in this order.

        Raises `ManifestUnknownError`, `NameUnknownError`, `ReferenceInvalidError`.
        """

    async def untag(self, tag: str) -> None:
        """Ends the tag; its manifest stays. Raises `TagUnknownError`, `NameUnknownError`."""

    def list(self, *, after: str = "", limit: int | None = None) -> AsyncIterator[str]:
        """Names of the live tags behind ``after``, at most ``limit``. Raises `NameUnknownError`."""

    def lookup(self, digest: Digest, *, after: str = "", limit: int | None = None) -> AsyncIterator[str]:
        """Names of the live tags behind ``after`` that point to this digest. Raises `NameUnknownError`."""

    def history(self, tag: str, *, before: datetime | None = None, limit: int | None = None) -> AsyncIterator[TagMove]:
        """What the tag pointed to (of moves before an instant), newest first. Raises `NameUnknownError`."""

    async def resolve(self, tag: str, *, at: datetime) -> Digest | None:
        """What the tag pointed to at that instant, or None; its manifest may be gone since.

        Raises `NameUnknownError`.
        """


class LayerService(Protocol):
    """The blobs of one repository: image layers, configs, artifacts' content."""

    async def exists(self, digest: Digest) -> bool: ...

    async def fetch(self, digest: Digest, *, promised: bool = False) -> Layer:
        """The blob to read; ``promised``, for a push to need. Raises `BlobUnknownError`; to read `NameUnknownError`."""

    async def upload(self, algorithm: str = "sha256") -> LayerUpload:
        """Begins an upload session; ``algorithm`` is a hint for the digest that will close it.

        Raises `DigestInvalidError` for an algorithm that the registry doesn't have.
        """

    async def resume(self, uuid: UUID) -> LayerUpload:
        """Goes on with a session that any process began. Raises `UploadUnknownError`."""

    async def mount(self, digest: Digest, source: str | None = None) -> Layer:
        """Makes a blob of another repository of the same tenant appear in this one, without a copy.

        Without a ``source``, any repository of the tenant that the caller may read will do. Raises `BlobUnknownError`,
        for a blob that the caller may not see exactly as for one that exists nowhere; `NameInvalidError`.
        """

    async def delete(self, digest: Digest, *, force: bool = False) -> None:
        """Takes the blob out of this repository; others keep theirs.

        Raises `BlobUnknownError`, `NameUnknownError`; `InUseError` while a live manifest of the repository needs it,
        unless forced: then the manifest stays, and lacks it.
        """


class Closable(Protocol):
    """What has a lifetime: an async context manager that closes it."""

    async def close(self) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Layer(Closable, Protocol):
    """A blob that is open for reading; an async context manager. Its content never changes."""

    @property
    def digest(self) -> Digest: ...

    @property
    def length(self) -> int:
        """In bytes."""

    @property
    def created_at(self) -> datetime:
        """When the tenant first had this content."""

    async def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes from the position (-1: all that remain), none at the end. Raises `BytesMissingError`."""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves the position as `io.IOBase.seek` does, and gives it. Beyond the end is allowed and reads nothing.

        Before the beginning is `ValueError`.
        """

    def tell(self) -> int: ...

    def handler(self, request: ASGIScope) -> ASGIApplication:
        """An ASGI application that answers this GET or HEAD request, Range included, with the content or a redirect."""


class LayerUpload(Closable, Protocol):
    """An upload session; an async context manager that closes it, which is not the end of the session.

    What was written is remembered by `close` (or the end of the ``async with``), durably; then any process may
    `LayerService.resume`. Of two writers at the same time one wins; the other gets `UploadBusyError` or
    `UploadRangeError`, when it closes or finishes at the latest, and the content is the winner's.

    When a method raises, or when it is cancelled in `finish` or `close`, the session stands where it was last
    remembered, which is what `tell` then says: write again from there, in the same session, or cancel it.
    """

    @property
    def uuid(self) -> UUID: ...

    @property
    def started_at(self) -> datetime: ...

    @property
    def minimum_chunk(self) -> int:
        """The least that a request should add except for the last one, in bytes; 0 when any length will do."""

    @property
    def expires_at(self) -> datetime:
        """When the session is forgotten unless something is written to it."""

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        """Adds the data at the end, and gives its length. What is wrong may be told later, by `close` and `finish` too.

        Raises `UploadBusyError`, `UploadRangeError` (another writer was faster), `UploadUnknownError` (it was ended),
        `StoreFullError`.
        """

    async def read_from(self, source: AsyncIterator[bytes]) -> int:
        """Adds everything that the source gives, in bounded memory, and gives its length.

        When the source raises, or this is cancelled, what came before is kept: the session stands where it ends.
        """

    def seek(self, offset: int, whence: int = 0) -> int:
        """The position, which is always the end: an upload only grows. Any other is `UploadRangeError`."""

    def tell(self) -> int:
        """Bytes so far."""

    async def finish(self, digest: Digest) -> Layer:
        """Ends the session: the content becomes a blob of the repository, if it has this digest.

        Raises `DigestInvalidError` when it doesn't: nothing is stored, and what was not remembered before is forgotten;
        and what `write` raises.
        Of several at the same time one wins, for the others it is `UploadUnknownError` or `UploadBusyError`.
        """

    async def cancel(self) -> None:
        """Ends the session and forgets its bytes. Raises `UploadUnknownError`."""

    async def close(self) -> None:
        """Remembers what was written, and lets other writers in. Raises `UploadUnknownError` when it was ended."""


class SignatureService(Protocol):
    """Signatures of manifests, apart from the manifests: signing never changes what is signed."""

    async def get(self, digest: Digest) -> Sequence[bytes]:
        """Every signature of this manifest, in the order of arrival; empty when none. Raises `NameUnknownError`."""

    async def put(self, digest: Digest, *signatures: bytes) -> None:
        """Adds signatures; one that is there already is not added again.

        Raises `ManifestUnknownError`, `NameUnknownError`.
        """
