"""Which manifests are signatures of other content, as cosign and notation push them.

Only what a manifest claims to be: whether a signature is true, and whose, is for whoever has the keys to trust.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from distsql.oci.digest import Digest
from distsql.oci.manifest import ParsedManifest

# The artifact types of manifests that sign their subject: notation's; cosign's when it signed by referrer for the first
# time; and Sigstore's bundles in all their versions, which cosign 3 writes.
_SIGNATURE_TYPE: Final = re.compile(
    r"application/(?:vnd\.cncf\.notary\.signature|vnd\.dev\.cosign\.artifact\.sig\.v1\+json"
    r"|vnd\.dev\.sigstore\.bundle\.v[0-9]+\.[0-9]+\+json)\Z"
)
# With sha512 the name would be longer than a tag may be: such content is signed by referrers only.
_COSIGN_TAG: Final = re.compile(r"sha256-([0-9a-f]{64})\.sig\Z")


def signed_by_referrer(manifest: ParsedManifest) -> Digest | None:
    """What the manifest signs, when it is a signature of its subject by its artifact type; else None."""
    if manifest.subject is None or not _SIGNATURE_TYPE.match(manifest.artifact_type or ""):
        return None
    return manifest.subject.digest


def signed_by_tags(tags: Iterable[str]) -> list[Digest]:
    """What a manifest signs by its tags: cosign's are called ``sha256-<hex>.sig`` after what is signed."""
    return [Digest.parse(f"sha256:{found[1]}") for found in map(_COSIGN_TAG.match, tags) if found]
