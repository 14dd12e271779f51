"""Which statements run with requests, by which indexes; and which ones don't, with the reason."""

from __future__ import annotations

from typing import Final

# Where the planner may choose between two that hold the same columns, both are there.
_REPOSITORY: Final = {"tenants_name_key", "repositories_live_key"}
_EITHER_LAYER: Final = ("layers_pkey", "layers_digest_idx")
# Of a tenant with few accounts, the planner may take either index to all of them.
_EITHER_ACCOUNT: Final = ("accounts_pkey", "accounts_tenant_id_name_key")

# The tenant's row by its id or its name: both are asked for.
_EITHER_TENANT: Final = ("tenants_pkey", "tenants_name_key")

HOT: Final[dict[str, set[str] | list[set[str]]]] = {
    # Reading
    "find_tagged_manifest": _REPOSITORY | {"tags_live_key", "manifests_pkey"},
    "find_manifest": _REPOSITORY | {"manifests_pkey"},
    "find_layer": [_REPOSITORY | {layer, "blobs_pkey"} for layer in _EITHER_LAYER],
    "find_layer_risk": [_REPOSITORY | {layer, "blobs_pkey", "descriptors_digest_idx"} for layer in _EITHER_LAYER],
    "find_tagged_manifest_across_tenants": [
        {tenant, "repositories_live_key", "tags_live_key", "manifests_pkey"} for tenant in _EITHER_TENANT
    ],
    "find_manifest_across_tenants": [{tenant, "repositories_live_key", "manifests_pkey"} for tenant in _EITHER_TENANT],
    "find_layer_across_tenants": [
        {tenant, "repositories_live_key", layer, "blobs_pkey"} for tenant in _EITHER_TENANT for layer in _EITHER_LAYER
    ],
    "find_layer_risk_across_tenants": [
        {tenant, "repositories_live_key", layer, "blobs_pkey", "descriptors_digest_idx"}
        for tenant in _EITHER_TENANT
        for layer in _EITHER_LAYER
    ],
    "find_hold": [
        {"manifests_pkey", "tags_live_digest_idx", "descriptors_digest_idx"},
    ],
    "find_upload": [_REPOSITORY | {"uploads_pkey", account} for account in _EITHER_ACCOUNT],
    "find_repository": _REPOSITORY,
    "find_tenant_id": set(),  # as find_tenant_state
    "list_access_changes": {"access_changes_transaction_id_idx"},
    "list_repositories_in_spans": _REPOSITORY,
    "find_tenant": {"tenants_name_key"},
    "find_tenant_state": set(),  # a function that looks into tenants_name_key, past the policies
    "find_admission": _REPOSITORY | {"tenant_usage_pkey"},
    "find_tag_like": {"tags_live_key"},
    "get_use": {"tenant_usage_pkey", "tenants_pkey"},
    "find_tag": {"tags_live_key", "manifests_pkey"},
    "find_parent": {"descriptors_digest_idx"},
    "list_tags": _REPOSITORY | {"tags_live_key"},
    "list_tags_of_digest": {"tags_live_digest_idx"},
    "list_tag_moves": {"tags_pkey"},
    "resolve_tag": {"tags_pkey"},
    "list_manifests": {"manifests_pkey"},
    "list_referrers": _REPOSITORY
    | {
        "descriptors_digest_idx",
        "descriptors_pkey",
        "manifests_pkey",
        "tags_live_key",
        "annotations_pkey",
    },
    "list_repositories": {"tenants_prefix_idx", "repositories_live_key"},
    "list_tenant_repositories": _REPOSITORY,
    "list_signatures": {"manifests_pkey", "signatures_pkey"},
    "list_signature_relations": {"manifests_pkey", "signatures_pkey", "signing_manifests_pkey"},
    "ping": set(),
    "find_log_position": set(),
    # Undo, where there may be many
    "list_followers": {"kept_references_digest_idx", "manifests_pkey"},
    "list_tags_ended_with": {"tags_pkey"},
    # Locking
    "lock_layer": [{layer} for layer in _EITHER_LAYER],
    "lock_mountable_blob": [{"blobs_pkey", "repositories_live_key", layer} for layer in _EITHER_LAYER],
    "lock_blob_of_any": {"blobs_pkey", "repositories_pkey", "layers_digest_idx"},
    "lock_manifest": {"manifests_pkey"},
    "lock_references": [{"manifests_pkey", layer} for layer in _EITHER_LAYER],
    "lock_tag": {"tags_live_key"},
    "lock_slots": {"tenant_usage_pkey"},
    # Writing
    "add_usage": set(),
    "make_slots": set(),
    "share_out": {"tenant_usage_pkey", "tenants_pkey"},
    "advance_upload": {"uploads_pkey"},
    "condemn_upload": set(),
    "create_tags": {"tags_pkey"},
    "delete_cosign_tags": {"signing_manifests_pkey"},
    "delete_layer": [{layer} for layer in _EITHER_LAYER],
    "delete_descriptors": [{"descriptors_pkey", layer} for layer in _EITHER_LAYER],
    "delete_upload": {"uploads_pkey"},
    "ensure_tenant": set(),
    "end_tag": {"tags_live_key"},
    "insert_annotations": set(),
    "insert_audit_events": set(),
    "insert_blob": set(),
    "insert_descriptors": set(),
    "insert_layer": set(),
    "insert_manifests": set(),
    "insert_bare_manifests": set(),
    "insert_manifest_labels": set(),
    "insert_repository": {"tenants_name_key"},
    "insert_repository_of_tenant": set(),
    "insert_signatures": set(),
    "insert_signing_manifest": set(),
    "insert_upload": set(),
    "mark_manifest_deleted": {"signatures_pkey", "tags_live_digest_idx"},
    "mark_repository_deleted": {"repositories_pkey", "manifests_pkey", "tags_live_key"},
    "queue": set(),
    "move_cosign_tags": {"signing_manifests_pkey"},
    "point_cosign_tags": set(),
    "point_tags": {"tags_pkey"},
    "point_tags_and_queue": {"tags_pkey"},
    "promise_manifest": {"manifests_pkey"},
    "renew_layer": [{layer} for layer in _EITHER_LAYER],
    "replace_bytes": [{"blobs_pkey"}, {"blobs_store_key_idx"}],
    "replace_unsigned_payload": {"manifests_pkey"},
    "set_repository_public": {"repositories_pkey"},
}

# What each server does every DISTSQL_GC_INTERVAL, for all tenants: it has to find what is due, and what needs that, by
# indexes, or an idle registry's collection costs more the larger it is.
COLLECTING: Final[dict[str, set[str] | list[set[str]]]] = {
    "try_collecting": set(),
    "wait_to_collect": set(),
    "set_periods": set(),
    # What is due
    "take_queued": {"garbage_queue_queued_at_idx"},
    "finish_queued": {"garbage_queue_pkey"},
    "put_off_queued": {"garbage_queue_pkey"},
    "delete_expired_uploads": {"uploads_expires_at_idx", "uploads_pkey"},
    "list_condemned_bytes": {"condemned_bytes_condemned_at_idx"},
    "forget_bytes": {"condemned_bytes_pkey"},
    "forget_blobs": {"blobs_store_key_idx"},
    # Blobs of repositories, and of tenants
    "lock_layers": [{layer} for layer in _EITHER_LAYER],
    "judge_layers": [{"descriptors_digest_idx", layer} for layer in _EITHER_LAYER],
    "delete_garbage_layers": [{layer} for layer in _EITHER_LAYER],
    "lock_blobs": {"blobs_pkey"},
    "judge_blobs": {"blobs_pkey", "kept_references_digest_idx", "layers_digest_idx"},
    "condemn_blobs": {"blobs_pkey"},
    # Manifests
    "judge_manifests": {
        "descriptors_digest_idx",
        "manifests_pkey",
        "repositories_live_key",
        "tags_live_digest_idx",
        "tags_pkey",
        "tenants_pkey",
    },
    "lock_candidates": {"manifests_pkey"},
    "list_unheld_followers": {"descriptors_digest_idx", "manifests_pkey", "tags_live_digest_idx"},
    "judge_locked": {"descriptors_digest_idx", "manifests_pkey", "tags_live_digest_idx", "tags_pkey"},
    "mark_manifests_deleted": set(),  # by their places
    "delete_descriptors_of_many": {"descriptors_pkey"},
    "lock_deleted": {"manifests_pkey"},
    "take_signatures": {"manifests_pkey", "signatures_pkey"},
    "release_layers_of_many": {"descriptors_pkey", "layers_pkey"},
    "purge_manifests": {"manifests_pkey"},
    "release_kept": {"kept_references_pkey"},
    "list_repository_names": {"repositories_pkey", "tenants_pkey"},
    "insert_named_events": set(),
    "correct_usage": set(),
    # Repositories that were deleted, in batches of some hundred rows of perhaps millions
    "begin_purge": {"repositories_pkey"},
    "find_empty_tenant": {"blobs_pkey", "repositories_pkey", "tenants_pkey"},
    "purge_repository_kept_references": {"kept_references_pkey"},
    "purge_repository_layers": {"layers_pkey"},
    "mark_manifests_purged": {"manifests_pkey"},
    "list_purged_manifests": {"manifests_pkey"},
    "purge_repository_manifests": {"manifests_pkey"},
    "purge_repository_tags": {"tags_pkey"},
    "uncount": {"repositories_pkey"},
}

BY_THE_OWNER: Final = {"list_access_changes", "list_repositories"}
"""Of those, what is asked about all tenants at once. What is cold is too."""

SWEEP: Final = "collect-garbage --full: a walk over everything, a batch at a time"
PURGE: Final = "garbage collection: rows of a whole repository or tenant, a batch at a time, once in its life"
_DELIVERY: Final = "events for webhooks: once a second, after the changes, by the owner"
_SEALING: Final = "sealing the audit, once in a while, and checking it"
_EXPORT: Final = "old months of the audit leave: by the owner, once a month"
_COUNTING: Final = "what was pulled, for many pulls at once, every few seconds"
_TURNS: Final = "whose turn it is of all servers: every few seconds, one row"
_ADMINISTRATION: Final = "administration: by the owner, one tenant or repository at a time"
_VERIFICATION: Final = "distsql verify: a walk over everything"

_UNDO: Final = "undo: for people, one thing at a time"
_UNDO_OF_EARLIER: Final = "undo of what a version before 0036 deleted: a walk over the repository"

COLD: Final[dict[str, str]] = {
    "find_deleted_manifest": _UNDO,
    "list_deleted_things": _UNDO,
    "list_deleted_of_repository": _UNDO,
    "search_followers": _UNDO_OF_EARLIER,
    "search_tags_ended_with": _UNDO_OF_EARLIER,
    "lock_deleted_manifest": _UNDO,
    "relink_layers": _UNDO,
    "restore_repository": _UNDO,
    "revive_manifest": _UNDO,
    **dict.fromkeys(
        (
            "delete_retention_policy",
            "end_tags",
            "insert_retention_policy",
            "insert_events_of_repository",
            "insert_retention_rules",
            "list_retained_repositories",
            "find_retention_terms",
            "list_retention_decisions",
            "list_retention_rules",
            "claim_retention_run",
            "lock_retention",
            "try_lock_retention",
            "lock_manifests",
            "lock_tags",
        ),
        "retention: one repository at a time, all of it",
    ),
    "list_deletion_effects": "before a deletion, for people, and each of retention's: a test of its own has its plan",
    "list_repository_deletion_effects": "before a deletion, for people: a walk over a repository",
    "list_tenant_deletion_effects": "before a deletion, for people: a walk over a tenant",
    "list_swept_repositories": SWEEP,
    **dict.fromkeys(
        ("foresee_followers", "foresee_manifests", "list_due", "list_foreseen_children", "preview_collection"),
        "collect-garbage --dry-run: for people, all that is queued at once",
    ),
    "queue_untagged": "a tenant or repository begins to collect what is untagged: a walk over it, once",
    "sweep_blobs": SWEEP,
    "sweep_repository": SWEEP,
    "sweep_tenants": SWEEP,
    "find_store_keys": "collect-garbage --full and verify: a walk over everything that is stored",
    "find_gauges": "metrics: every few seconds at most, by the owner",
    "insert_webhook": _ADMINISTRATION,
    "delete_webhook": _ADMINISTRATION,
    "list_webhooks": _ADMINISTRATION,
    "find_target": _ADMINISTRATION,
    "list_dead_deliveries": _ADMINISTRATION,
    "replay_events": _ADMINISTRATION,
    "find_webhook": _DELIVERY,
    "queue_events": _DELIVERY,
    "advance_webhooks": _DELIVERY,
    "claim_deliveries": _DELIVERY,
    "end_delivery": _DELIVERY,
    "forget_deliveries": _DELIVERY,
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
    **dict.fromkeys(
        (
            "add_daily_pulls",
            "add_manifest_pulls",
            "add_tag_pulls",
            "delete_pull_batches",
            "insert_pull_batch",
            "list_pull_batches",
            "lock_pull_batches",
        ),
        _COUNTING,
    ),
    "claim_turn": _TURNS,
    "keep_turn": _TURNS,
    "find_reached": _TURNS,
    "keep_reached": _TURNS,
    "mark_repositories_of_tenant": PURGE,
    "purge_tenant_accounts": PURGE,
    "purge_tenant_tenant_usage": PURGE,
    "purge_tenant_tenants": PURGE,
    "purge_repository": PURGE,
    "purge_repository_tag_pulls": PURGE,
    "purge_repository_uploads": PURGE,
    **dict.fromkeys(
        (
            "begin_verification",
            "count_content",
            "forget_verifications",
            "insert_finding",
            "list_findings",
            "relink_bytes",
            "relink_layer",
            "resume_verification",
            "save_verification",
        ),
        _VERIFICATION,
    ),
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
            "delete_access_changes",
            "delete_account",
            "delete_grants",
            "find_account",
            "insert_access_change",
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
    **dict.fromkeys(
        (
            "bind_sql_role",
            "condemn_moved_bytes",
            "count_misplaced_blobs",
            "count_misplaced_uploads",
            "insert_store",
            "list_misplaced_blobs",
            "list_stores",
            "mark_bytes_lost",
            "move_blob",
            "close_sql_role",
            "drop_sql_role",
            "end_sql_sessions",
            "find_sql_role",
            "make_sql_role",
            "open_sql_role",
            "unbind_sql_role",
        ),
        _ADMINISTRATION,
    ),
    "find_blob_key": "bytes that a move between stores took away under a reader",
    "list_reports": "distsql report list: PostgreSQL's own catalogue",
    **dict.fromkeys(
        ("forget_image_configs", "forget_manifest_labels", "forget_tag_pulls", "list_images"),
        "a few times a day, a page after the other",
    ),
    "list_late_configs": "labels whose reader was killed: every two minutes; a test of its own has its plan",
    **dict.fromkeys(
        ("find_unread_configs", "insert_image_configs", "insert_image_labels"),
        "labels of images: after pushes, for many at once",
    ),
    "roll_up_days": "reports: once an hour, for days that are over",
    "list_holders": "distsql find: for people, across tenants",
}
