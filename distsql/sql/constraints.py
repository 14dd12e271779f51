"""What a violated constraint means: PostgreSQL decides, this page translates."""

from __future__ import annotations

from typing import Final

import psycopg

from distsql.errors import DistsqlError, ManifestUnknownError, NameUnknownError, QuotaExceededError

_GONE: Final = "The repository was removed while this was under way; push again"

_MEANINGS: Final = {
    "tags_tenant_id_repository_id_live_digest_fkey": (
        ManifestUnknownError,
        "The repository has no such manifest (any more) for the tag to point to",
    ),
    "tags_tenant_id_repository_id_fkey": (NameUnknownError, _GONE),
    "repositories_tenant_id_fkey": (NameUnknownError, "The tenant was removed while this was under way"),
    "manifests_tenant_id_repository_id_fkey": (NameUnknownError, _GONE),
    "layers_tenant_id_repository_id_fkey": (NameUnknownError, _GONE),
    "uploads_tenant_id_repository_id_fkey": (NameUnknownError, _GONE),
    "tag_pulls_tenant_id_repository_id_fkey": (NameUnknownError, _GONE),
    "signatures_tenant_id_repository_id_manifest_digest_fkey": (
        ManifestUnknownError,
        "The repository has no such manifest to sign",
    ),
    # Their message is the measure; `usage.transact_near_limit` tells the rest.
    "tenant_usage_free_bytes_check": (QuotaExceededError, "stored_bytes"),
    "tenant_usage_free_repositories_check": (QuotaExceededError, "repositories"),
    "tenant_usage_free_manifests_check": (QuotaExceededError, "manifests"),
    "tenant_usage_free_tags_check": (QuotaExceededError, "tags"),
}


def meaning(error: psycopg.IntegrityError) -> DistsqlError | None:
    """The registry's error for the constraint, or None where none should ever be violated."""
    known = _MEANINGS.get(error.diag.constraint_name or "")
    if known is None:
        return None
    kind, message = known
    return kind(message)
