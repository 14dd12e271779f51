"""Names of repositories and tags (distribution specification, "Pulling manifests": grammar of name and reference)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from distsql.errors import NameInvalidError, ReferenceInvalidError
from distsql.oci.digest import Digest

MAX_NAME_LENGTH: Final = 255
DEFAULT_TENANT: Final = "library"

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
# \Z and not $: a trailing newline is not part of a name.
_NAME: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z", re.ASCII)
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z", re.ASCII)
# No name has such a character, and PostgreSQL doesn't take all of them.
_FOREIGN: Final = re.compile(r"[^\x01-\x7e]")


@dataclass(frozen=True, slots=True, order=True)
class RepositoryName:
    """A repository's full name: its tenant, and its path within the tenant.

    The tenant is the first component; a name of one component, ``x``, is ``library/x``. With ``repository_id`` the name
    means the repository of this id or none: not one that got the name later.
    """

    tenant: str
    path: str
    repository_id: int | None = field(default=None, compare=False)

    @classmethod
    def parse(cls, text: str) -> RepositoryName:
        """Reads a name as clients write it; else `NameInvalidError`."""
        # The length first: the expression never sees more than this. It is the full name's, or what is listed as
        # library/x could not be asked for.
        full = len(text) if "/" in text else len(DEFAULT_TENANT) + 1 + len(text)
        if full > MAX_NAME_LENGTH or not _NAME.match(text):
            raise NameInvalidError(
                f"{text[:80]!r} is no repository name: components of lower-case letters and digits, joined inside by "
                f"'.', '_', '__' or dashes and separated by '/', at most {MAX_NAME_LENGTH} characters with the tenant",
                detail={"name": text[:MAX_NAME_LENGTH]},
            )
        tenant, slash, path = text.partition("/")
        return cls(tenant, path) if slash else cls(DEFAULT_TENANT, tenant)

    def __str__(self) -> str:
        """The full name, tenant included."""
        return f"{self.tenant}/{self.path}"


def is_tag(text: str) -> bool:
    """Whether the text is of the tag grammar."""
    return _TAG.match(text) is not None


def check_tag(text: str) -> str:
    """The tag itself, or `ReferenceInvalidError`."""
    if not is_tag(text):
        raise ReferenceInvalidError(
            f"{text[:80]!r} is no tag: 1 to 128 letters, digits, '_', '.' and '-', not beginning with '.' or '-'",
            detail={"tag": text[:128]},
        )
    return text


def parse_reference(text: str) -> Digest | str:
    """A digest when there is a colon (no tag has one), else a tag; `DigestInvalidError`, `ReferenceInvalidError`."""
    return Digest.parse(text) if ":" in text else check_tag(text)


def name_bound(after: str) -> str:
    """Text behind which the same names are as behind ``after``, and which PostgreSQL takes whatever ``after`` is."""
    foreign = _FOREIGN.search(after)
    if foreign is None:
        return after
    # NUL is before everything that a name can have there, all others are behind it.
    return after[: foreign.start()] + ("" if foreign[0] == "\0" else "\x7f")
