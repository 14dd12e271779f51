"""How the audit is hashed, as pure values: what PostgreSQL does in `distsql.sql.audit_seals`, for events in a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from distsql.sql.audit_seals import COLUMNS


class Seal(NamedTuple):
    """What a seal says of a tenant's events behind one instant and up to another."""

    tenant_id: int
    number: int
    from_at: datetime | None
    until_at: datetime
    events: int
    content: bytes
    root: bytes


class Finding(NamedTuple):
    """What is wrong: in which tenant, at which seal, and what it means."""

    tenant_id: int
    number: int
    kind: str
    message: str


def event_hash(event: Mapping[str, Any]) -> bytes:
    """Of one event, as it was exported."""
    return hashlib.sha256(json.dumps([event[name] for name in COLUMNS], ensure_ascii=False).encode()).digest()


def content_of(hashes: Iterable[bytes]) -> bytes:
    """Of a seal's events, from their hashes in order."""
    content = hashlib.sha256()
    for each in hashes:
        content.update(each)
    return content.digest()


def root_of(seal: Seal, before: bytes) -> bytes:
    """What the seal's root has to be, behind that of the seal before (empty for the first)."""
    begin = "begin" if seal.from_at is None else written(seal.from_at)
    said = f"{seal.tenant_id} {seal.number} {begin} {written(seal.until_at)} {seal.events}"
    return hashlib.sha256(before + said.encode() + seal.content).digest()


def written(instant: datetime) -> str:
    """An instant as events and seals are hashed with it."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def check_link(seal: Seal, before: Seal | None) -> Finding | None:
    """Whether the seal follows the one before it, and says of itself what its root says."""
    number, until, root = (before.number, before.until_at, before.root) if before else (0, None, b"")
    if seal.number != number + 1:
        return Finding(
            seal.tenant_id, number + 1, "seal missing", f"Seal {number + 1} is missing: {seal.number} comes instead"
        )
    if seal.from_at != until or root_of(seal, root) != seal.root:
        return Finding(
            seal.tenant_id,
            seal.number,
            "seal altered",
            f"Seal {seal.number}, or the one before it, isn't as it was made",
        )
    return None


def check_content(seal: Seal, *, events: int, content: bytes) -> Finding | None:
    """Whether the events that there are now are those that were sealed."""
    if content == seal.content and events == seal.events:
        return None
    begin = "the beginning" if seal.from_at is None else written(seal.from_at)
    where = f"between {begin} and {written(seal.until_at)}"
    if events < seal.events:
        kind, what = "missing", f"{seal.events - events} of {seal.events} events are missing {where}"
    elif events > seal.events:
        kind, what = "added", f"{events - seal.events} events were added {where} (or the database's clock was set back)"
    else:
        kind, what = "altered", f"Of {events} events {where} some were altered, exchanged, or moved in their order"
    return Finding(seal.tenant_id, seal.number, kind, what)
