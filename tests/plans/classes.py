"""Which statements run with requests, by which indexes; and which ones don't, with the reason."""

from __future__ import annotations

from typing import Final

# Where the planner may choose between two that hold the same columns, both are there.
_REPOSITORY: Final = {"tenants_name_key", "repositories_live_key"}
_EITHER_LAYER: Final = ("layers_pkey", "layers_digest_idx")

HOT: Final[dict[str, set[str] | list[set[str]]]] = {
    # Reading
    "find_tagged_manifest": _REPOSITORY | {"tags_live_key", "manifests_pkey"},
    "find_manifest": _REPOSITORY | {"manifests_pkey"},
    "find_layer": [_REPOSITORY | {layer, "blobs_pkey"} for layer in _EITHER_LAYER],
    "find_upload": _REPOSITORY | {"uploads_pkey", "accounts_pkey"},
    "find_repository": _REPOSITORY,
    "find_tenant_id": set(),  # as find_tenant_state
    "list_counting_accounts": {"accounts_pkey"},
    "list_repositories_in_spans": _REPOSITORY,
    "find_tenant": {"tenants_name_key"},
    "find_tenant_state": set(),  # a function that looks into tenants_name_key, past the policies
    "find_admission": _REPOSITORY | {"tenant_usage_pkey"},
    "find_tag_like": {"tags_live_key"},
    "get_use": {"tenant_usage_pkey", "tenants_pkey"},
    "find_tag": {"tags_live_key", "manifests_pkey"},
    "find_parent": {"descriptors_digest_idx"},
    "list_tags": {"tags_live_key"},
    "list_tags_of_digest": {"tags_live_digest_idx"},
    "list_tag_moves": {"tags_pkey"},
    "resolve_tag": {"tags_pkey"},
    "list_manifests": {"manifests_pkey"},
    "list_referrers": {
        "descriptors_digest_idx",
        "descriptors_pkey",
        "manifests_pkey",
        "tags_live_key",
        "annotations_pkey",
    },
    "list_repositories": {"tenants_prefix_idx", "repositories_live_key"},
    "list_tenant_repositories": _REPOSITORY,
    "list_signatures": {"signatures_pkey"},
    "list_signature_relations": {"manifests_pkey", "signatures_pkey", "signing_manifests_pkey"},
    "ping": set(),
    "find_log_position": set(),
    # Locking
    "lock_layer": [{layer} for layer in _EITHER_LAYER],
    "lock_mountable_blob": [
        {"blobs_pkey", "repositories_live_key", "repositories_pkey", "layers_digest_idx", layer}
        for layer in _EITHER_LAYER
    ],
    "lock_references": [{"manifests_pkey", layer} for layer in _EITHER_LAYER],
    "lock_tag": {"tags_live_key"},
    "lock_slots": {"tenant_usage_pkey"},
    # Writing
    "add_usage": set(),
    "make_slots": set(),
    "share_out": {"tenant_usage_pkey", "tenants_pkey"},
    "advance_upload": {"uploads_pkey"},
    "create_tag": {"tags_pkey"},
    "delete_cosign_tags": {"signing_manifests_pkey"},
    "delete_layer": [{layer} for layer in _EITHER_LAYER],
    "delete_descriptors": {"descriptors_pkey"},
    "delete_signatures": {"signatures_pkey"},
    "delete_upload": {"uploads_pkey"},
    "ensure_tenant": set(),
    "end_tag": {"tags_live_key"},
    "end_tags_of_digest": {"tags_live_digest_idx"},
    "insert_annotations": set(),
    "insert_audit_events": set(),
    "insert_blob": set(),
    "insert_descriptors": set(),
    "insert_layer": set(),
    "insert_manifest": set(),
    "insert_repository": {"tenants_name_key"},
    "insert_signatures": set(),
    "insert_signing_manifest": set(),
    "insert_upload": set(),
    "mark_manifest_deleted": {"manifests_pkey"},
    "mark_repository_deleted": {"repositories_pkey", "manifests_pkey", "tags_live_key"},
    "point_cosign_tags": {"signing_manifests_pkey"},
    "point_tags": {"tags_pkey"},
    "release_layers": [{"descriptors_pkey", layer} for layer in _EITHER_LAYER],
    "replace_bytes": [{"blobs_pkey"}, {"blobs_store_key_idx"}],
    "replace_unsigned_payload": {"manifests_pkey"},
    "set_repository_public": {"repositories_pkey"},
}

BY_THE_OWNER: Final = {"list_counting_accounts", "list_repositories"}
"""Of those, what is asked about all tenants at once. What is cold is too."""

_COLLECTION: Final = "garbage collection: a walk over everything, a batch at a time"
_PURGE: Final = "garbage collection: rows of what was deleted, a batch at a time"
_SEALING: Final = "sealing the audit, once in a while, and checking it"
_EXPORT: Final = "old months of the audit leave: by the owner, once a month"
_COUNTING: Final = "what was pulled, for many pulls at once, every few seconds"
_ADMINISTRATION: Final = "administration: by the owner, one tenant or repository at a time"
_VERIFICATION: Final = "distsql verify: a walk over everything"

COLD: Final[dict[str, str]] = {
    **dict.fromkeys(
        (
            "delete_retention_policy",
            "end_tags",
            "insert_retention_policy",
            "insert_retention_rules",
            "list_retained_repositories",
            "list_retention_decisions",
            "list_retention_rules",
            "lock_manifests",
            "lock_tags",
        ),
        "retention: one repository at a time, all of it",
    ),
    "list_deletion_effects": "before a deletion, for people: functions, whose plans EXPLAIN doesn't show",
    "list_repository_deletion_effects": "before a deletion, for people: a walk over a repository",
    "list_tenant_deletion_effects": "before a deletion, for people: a walk over a tenant",
    "condemn_blobs": _COLLECTION,
    "correct_usage": _COLLECTION,
    "delete_condemned_blob": _COLLECTION,
    "delete_expired_uploads": _COLLECTION,
    "delete_garbage_layers": _COLLECTION,
    "delete_garbage_manifests": _COLLECTION,
    "find_store_keys": _COLLECTION,
    "list_condemned_blobs": _COLLECTION,
    "lock_garbage_blobs": _COLLECTION,
    "lock_garbage_layers": _COLLECTION,
    "lock_garbage_manifests": _COLLECTION,
    "find_gauges": "metrics: every few seconds at most, by the owner",
    "find_now": _SEALING,
    "list_audit_writers": _SEALING,
    "lock_sealer": _SEALING,
    "find_last_sealed": _SEALING,
    "seal_events": _SEALING,
    "list_seals": _SEALING,
    "list_roots": _SEALING,
    "insert_incidents": "refusals and logins, for many at once, every few seconds",
    "list_audit_months": _EXPORT,
    "list_audit_events": _EXPORT,
    "count_unsealed_events": _EXPORT,
    "mark_seals_exported": _EXPORT,
    "drop_audit_month": _EXPORT,
    "add_daily_pulls": _COUNTING,
    "add_manifest_pulls": _COUNTING,
    "add_tag_pulls": _COUNTING,
    "list_deleted_repositories": _PURGE,
    "list_empty_tenants": _PURGE,
    "mark_repositories_of_deleted_tenants": _PURGE,
    "purge_tenant_accounts": _PURGE,
    "purge_tenant_tenant_usage": _PURGE,
    "purge_tenant_tenants": _PURGE,
    "uncount": _PURGE,
    "purge_manifests": _PURGE,
    "purge_repository": _PURGE,
    "purge_repository_layers": _PURGE,
    "purge_repository_manifests": _PURGE,
    "purge_repository_tag_pulls": _PURGE,
    "purge_repository_tags": _PURGE,
    "purge_repository_uploads": _PURGE,
    "count_live_blobs": _VERIFICATION,
    "find_live_blob": _VERIFICATION,
    "list_all_manifests": _VERIFICATION,
    "list_live_blobs": _VERIFICATION,
    "list_missing_references": _VERIFICATION,
    **dict.fromkeys(
        (
            "arrive_at_paths",
            "find_longest_path",
            "find_repository_description",
            "find_taken_path",
            "find_tenant_description",
            "insert_tenant",
            "leave_paths",
            "list_tenants",
            "lock_repository",
            "lock_tenant",
            "mark_tenant_deleted",
            "rename_tenant",
            "set_repository_settings",
            "set_tenant_public",
            "set_tenant_settings",
            "suspend_tenant",
        ),
        _ADMINISTRATION,
    ),
    **dict.fromkeys(
        (
            "find_account_state",
            "find_credential",
            "find_first_repository",
            "find_public_repository",
            "list_accesses",
        ),
        "logins and tokens: what they find is remembered; the crowd has no accounts",
    ),
    **dict.fromkeys(
        (
            "delete_account",
            "delete_grants",
            "find_account",
            "insert_account",
            "insert_grants",
            "insert_signing_key",
            "list_accounts",
            "list_grants",
            "list_signing_keys",
            "list_uses",
            "raise_generation",
            "retire_signing_keys",
            "set_disabled",
            "set_last_used",
            "set_secret",
        ),
        _ADMINISTRATION,
    ),
    "list_holders": "distsql find: for people, across tenants",
}
