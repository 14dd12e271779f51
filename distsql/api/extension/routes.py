"""The extension's resources, found by their templates; the discovery document lists the same templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from distsql.api.extension import blobs, manifests, repositories, restorations, tags
from distsql.api.permissions import Permission, needs
from distsql.api.requests import Handler, Methods, Request
from distsql.api.responses import Response, json_response

EXTENSION: Final = "_distsql"
_DESCRIPTION: Final = "What a relational catalogue knows and the OCI API doesn't ask: docs/extension.md of distsql"


@needs(Permission.LOGIN)
async def discover(request: Request) -> Response:
    """``GET /v2/_distsql/``: that this is distsql, and what it offers."""
    del request
    endpoints = [f"{EXTENSION}/{template}" for template in (*_OF_REGISTRY, *_OF_REPOSITORY)]
    return json_response(200, {"name": EXTENSION, "description": _DESCRIPTION, "endpoints": endpoints})


def _readable(handler: Handler) -> Methods:
    return {"GET": handler, "HEAD": handler}


_OF_REGISTRY: Final[Mapping[str, Methods]] = {
    "": _readable(discover),
    "holders/<digest>": _readable(repositories.list_holders),
}
_OF_REPOSITORY: Final[Mapping[str, Methods]] = {
    "": {"DELETE": repositories.remove_repository},
    "access": _readable(repositories.get_access),
    "deleted": _readable(restorations.list_deleted),
    "restore": {"POST": restorations.restore_repository},
    "manifests": _readable(manifests.list_manifests),
    "manifests/<digest>/tags": _readable(tags.list_tags_of_manifest),
    "manifests/<digest>/signatures": {
        **_readable(manifests.list_signatures),
        "POST": manifests.add_signatures,
    },
    "manifests/<digest>/trust": _readable(manifests.list_relations),
    "manifests/<digest>/restore": {"POST": restorations.restore_manifest},
    "tags/<tag>": {**_readable(tags.get_tag), "PUT": tags.put_tag},
    "tags/<tag>/history": _readable(tags.list_moves),
    "tags/<tag>/restore": {"POST": restorations.restore_tag},
    "tags/<tag>/rollback": {"POST": restorations.roll_back},
    "blobs/<digest>": {**_readable(blobs.get_blob), "PUT": blobs.mount_blob},
    "uploads/<uuid>": _readable(blobs.get_upload),
}


def find_resource(name: str, segments: Sequence[str]) -> tuple[Methods, tuple[str, ...]] | None:
    """The methods of a resource of the repository (without a name: of the registry), and the handlers' arguments."""
    for template, methods in (_OF_REPOSITORY if name else _OF_REGISTRY).items():
        arguments = _match(template.split("/"), segments or [""])
        if arguments is not None:
            return methods, (name, *arguments) if name else arguments
    return None


def _match(template: Sequence[str], segments: Sequence[str]) -> tuple[str, ...] | None:
    """What stands in the template's places, or None when the segments are of another resource."""
    if len(template) != len(segments):
        return None
    arguments = []
    for wanted, found in zip(template, segments, strict=True):
        if wanted.startswith("<"):
            arguments.append(found)
        elif wanted != found:
            return None
    return tuple(arguments)
