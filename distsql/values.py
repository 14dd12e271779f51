"""The values that the interfaces of ``contract.py`` speak in, apart from those of the OCI specifications."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple, Protocol

from distsql.errors import NameInvalidError
from distsql.oci.digest import Digest
from distsql.oci.names import RepositoryName

# An ASGI application and what it is called with (ASGI specification, version 3).
ASGIScope = MutableMapping[str, Any]
ASGIMessage = MutableMapping[str, Any]
ASGIReceive = Callable[[], Awaitable[ASGIMessage]]
ASGISend = Callable[[ASGIMessage], Awaitable[None]]
ASGIApplication = Callable[[ASGIScope, ASGIReceive, ASGISend], Awaitable[None]]


_DURATION: Final = re.compile(r"(\d{1,9})(ms|s|m|h|d)\Z", re.ASCII)
_DURATION_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST: Final = timedelta(days=36_500)  # added to now, it is still a date


def duration(text: str) -> timedelta:
    """Reads 30s, 15m, 36h, 7d (or 250ms)."""
    match = _DURATION.match(text)
    if not match:
        raise ValueError("write a duration as 30s, 15m, 36h or 7d")
    found = timedelta(seconds=int(match[1]) * _DURATION_UNITS[match[2]])
    if found > _LONGEST:
        raise ValueError(f"write a duration of at most {_LONGEST.days}d")
    return found


class Action(enum.StrEnum):
    """What a caller may be allowed to do in a repository."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    ADMIN = "admin"


ANONYMOUS: Final = "anonymous"

ActorKind = Literal["anonymous", "account", "robot"]
"""Who asks, as pulls are counted: nobody in particular, a person's account, or a robot's or deploy token's."""


class Authority(Protocol):
    """What a caller may do, and where."""

    @property
    def tenant(self) -> str | None:
        """The one tenant whose repositories are listed for the caller; None: everybody's are."""

    @property
    def account_id(self) -> int | None:
        """Whose upload sessions the caller goes on with; None: anybody's."""

    @property
    def listed(self) -> Collection[str] | None:
        """Patterns of paths that lists of the tenant's repositories show (see `distsql.registry.grants`); None: all."""

    def allows(self, name: RepositoryName, action: Action) -> bool:
        """Whether the caller may do this in the repository."""

    def lists(self, name: RepositoryName) -> bool:
        """Whether a list of repositories shows the caller this one."""

    def repository_id(self, name: RepositoryName) -> int | None:
        """The one repository that the name means for this caller; None: whichever has it."""

    def tenant_id(self, tenant: str) -> int | None:
        """The id behind the name of a tenant that the caller belongs to, and which isn't suspended; None: ask."""

    @property
    def readable_ids(self) -> Collection[int] | None:
        """Where to look for content that the caller asks for without saying where; None: everywhere."""


class Unlimited:
    """Of a program that uses the registry as a library, and of everybody where nobody has to log in."""

    tenant: Final = None
    account_id: Final = None
    listed: Final = None
    readable_ids: Final = None

    def allows(self, name: RepositoryName, action: Action) -> bool:
        """Everything."""
        del name, action
        return True

    def lists(self, name: RepositoryName) -> bool:
        """All of them."""
        del name
        return True

    def repository_id(self, name: RepositoryName) -> int | None:
        """Whichever has the name."""
        del name
        return None

    def tenant_id(self, tenant: str) -> int | None:
        """It belongs to none."""
        del tenant
        return None


UNLIMITED: Final[Authority] = Unlimited()


def _unheard(text: str) -> None:
    del text


class Caller(NamedTuple):
    """On whose behalf a namespace acts: what it may do, and what audit and tag history remember of it."""

    actor: str = ANONYMOUS
    client_address: str = ""
    user_agent: str = ""
    request_id: str = ""
    authority: Authority = UNLIMITED
    account_id: int | None = None
    token_id: str | None = None
    warn: Callable[[str], None] = _unheard
    """Told what the caller should know although all went well."""


class Incident(NamedTuple):
    """A refusal, or a login: what is told of it, and what makes it another one than the one before."""

    tenant: str | None
    """Whose it is; None, or a name that nobody has: the server's."""
    actor: str
    action: str
    outcome: str
    cause: str | None = None
    account_id: int | None = None
    token_id: str | None = None
    repository: str | None = None
    reference: str | None = None
    digest: Digest | None = None
    client_address: str = ""
    user_agent: str = ""


class Anything(enum.Enum):
    """The type of `ANY`."""

    ANY = "any"


ANY: Final = Anything.ANY
"""For ``TagService.tag(expected=)``: whatever the tag points to now, or nothing."""


@dataclass(frozen=True, slots=True)
class TagMove:
    """One entry of a tag's history: what it pointed to from ``valid_from`` until ``valid_to`` (None: still does)."""

    tag: str
    digest: Digest
    valid_from: datetime
    valid_to: datetime | None
    actor: str
    ended_by: str | None


@dataclass(frozen=True, slots=True)
class DeletedThing:
    """What was deleted and can be restored: a tag (which pointed to ``digest``), a manifest, or a repository."""

    kind: Literal["tag", "manifest", "repository"]
    tag: str | None
    digest: Digest | None
    deleted_at: datetime
    deleted_by: str | None
    restorable_until: datetime


@dataclass(frozen=True, slots=True)
class SignatureRelation:
    """That content is signed, and how: ``kind`` is ``jws``, ``cosign`` (by tag) or ``referrer``.

    ``digest`` is that of the signature's own manifest, or of the bytes of a JWS.
    """

    kind: str
    subject: Digest
    digest: Digest
    created_at: datetime


@dataclass(frozen=True, slots=True)
class GlobalScope:
    """Contains every name."""

    name: str = ""

    def contains(self, name: str) -> bool:
        """Whether the name is one that a repository can have."""
        return _is_name(name)


@dataclass(frozen=True, slots=True)
class TenantScope:
    """Contains one tenant's names."""

    name: str

    def contains(self, name: str) -> bool:
        """Whether the name's first component is the tenant (``x`` belongs to ``library``)."""
        return _is_name(name) and RepositoryName.parse(name).tenant == self.name


def _is_name(text: str) -> bool:
    try:
        RepositoryName.parse(text)
    except NameInvalidError:
        return False
    return True


GLOBAL_SCOPE: Final = GlobalScope()


def position(offset: int, whence: int, *, current: int, end: int) -> int:
    """The position that a ``seek`` means, as `io.IOBase.seek` reads its arguments."""
    starts = {os.SEEK_SET: 0, os.SEEK_CUR: current, os.SEEK_END: end}
    if whence not in starts:
        raise ValueError(f"whence is {whence}: give os.SEEK_SET, os.SEEK_CUR or os.SEEK_END")
    return starts[whence] + offset
