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
    "find_upload": _REPOSITORY | {"uploads_pkey"},
    "find_repository": _REPOSITORY,
    "find_tenant": {"tenants_name_key"},
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
    # Locking
    "lock_layer": [{layer} for layer in _EITHER_LAYER],
    "lock_mountable_blob": [
        {"blobs_pkey", "repositories_live_key", "repositories_pkey", "layers_digest_idx", layer}
        for layer in _EITHER_LAYER
    ],
    "lock_references": [{"manifests_pkey", layer} for layer in _EITHER_LAYER],
    "lock_tag": {"tags_live_key"},
    # Writing
    "advance_upload": {"uploads_pkey"},
    "create_tag": {"tags_pkey"},
    "delete_cosign_tags": {"signing_manifests_pkey"},
    "delete_layer": [{layer} for layer in _EITHER_LAYER],
    "delete_descriptors": {"descriptors_pkey"},
    "delete_signatures": {"signatures_pkey"},
    "delete_upload": {"uploads_pkey"},
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
    "insert_tenant": {"tenants_name_key"},
    "insert_upload": set(),
    "mark_manifest_deleted": {"manifests_pkey"},
    "mark_repository_deleted": {"repositories_pkey"},
    "point_cosign_tags": {"signing_manifests_pkey"},
    "point_tags": {"tags_pkey"},
    "release_layers": [{"descriptors_pkey", layer} for layer in _EITHER_LAYER],
    "replace_bytes": [{"blobs_pkey"}, {"blobs_store_key_idx"}],
    "replace_unsigned_payload": {"manifests_pkey"},
    "set_sparse": {"repositories_pkey"},
}

_COLLECTION: Final = "garbage collection: a walk over everything, a batch at a time"
_PURGE: Final = "garbage collection: rows of what was deleted, a batch at a time"
_VERIFICATION: Final = "distsql verify: a walk over everything"

COLD: Final[dict[str, str]] = {
    "condemn_blobs": _COLLECTION,
    "delete_condemned_blob": _COLLECTION,
    "delete_expired_uploads": _COLLECTION,
    "delete_garbage_layers": _COLLECTION,
    "delete_garbage_manifests": _COLLECTION,
    "find_store_keys": _COLLECTION,
    "list_condemned_blobs": _COLLECTION,
    "lock_garbage_blobs": _COLLECTION,
    "lock_garbage_layers": _COLLECTION,
    "lock_garbage_manifests": _COLLECTION,
    "list_deleted_repositories": _PURGE,
    "purge_manifests": _PURGE,
    "purge_repository": _PURGE,
    "purge_repository_layers": _PURGE,
    "purge_repository_manifests": _PURGE,
    "purge_repository_tags": _PURGE,
    "purge_repository_uploads": _PURGE,
    "count_live_blobs": _VERIFICATION,
    "find_live_blob": _VERIFICATION,
    "list_all_manifests": _VERIFICATION,
    "list_live_blobs": _VERIFICATION,
    "list_missing_references": _VERIFICATION,
    "list_holders": "distsql find: for people, across tenants",
}
