"""Refusals and logins, in the words of the audit."""

from __future__ import annotations

from typing import Final

from distsql import errors
from distsql.api.requests import Request, printable
from distsql.oci.digest import Digest
from distsql.oci.names import DEFAULT_TENANT
from distsql.registry.authorities import Account
from distsql.registry.incidents import Incidents
from distsql.values import Incident

_CAUSES: Final[tuple[tuple[type[errors.RefusedError], str], ...]] = (
    (errors.ReadOnlyError, "read-only"),
    (errors.TenantSuspendedError, "suspended"),
    (errors.QuotaExceededError, "quota"),
    (errors.TagImmutableError, "immutable"),
    (errors.CreationRefusedError, "creation"),
    (errors.DeletionRefusedError, "deletion"),
)
# What the handlers do, as the audit calls it when it is done. Of others it has the handler's name.
_ACTIONS: Final = {
    "get_manifest": "manifest.get",
    "put_manifest": "manifest.put",
    "delete_manifest": "manifest.delete",
    "get_blob": "blob.get",
    "delete_blob": "blob.delete",
    "mount_blob": "blob.mount",
    "begin_upload": "upload.begin",
    "append_to_upload": "upload.append",
    "finish_upload": "blob.put",
    "cancel_upload": "upload.cancel",
    "put_tag": "tag.put",
    "remove_repository": "repository.delete",
    "add_signatures": "signature.put",
    "token": "login",
}


def cause_of(error: errors.RefusedError) -> str:
    """Why it was refused, in a word."""
    return next((cause for kind, cause in _CAUSES if isinstance(error, kind)), "refused")


def tell(incidents: Incidents, request: Request) -> None:
    """Remembers that the request was refused, or that somebody logged in with it."""
    if request.logged_in is not None:
        incidents.add(_login(request, request.logged_in), request_id=request.request_id)
    if request.refusal is not None:
        incidents.add(_refusal(request, request.refusal), request_id=request.request_id)


def _login(request: Request, account: Account) -> Incident:
    return Incident(
        account.tenant,
        account.login,
        "login",
        "done",
        account_id=account.key[1],
        token_id=request.token_id,
        client_address=request.client_address,
        user_agent=printable(request.header(b"user-agent") or ""),
    )


def _refusal(request: Request, cause: str) -> Incident:
    repository, reference = (*request.arguments, None, None)[:2]
    if repository is not None:
        full = request.full_name(repository)
        repository = printable(full if "/" in full else f"{DEFAULT_TENANT}/{full}")
    # Told to the tenant whose name was tried.
    tenant = (repository or request.actor).partition("/")[0]
    return Incident(
        tenant,
        request.actor,
        _ACTIONS.get(request.route, request.route),
        "refused",
        cause,
        account_id=request.account_id,
        token_id=request.token_id,
        repository=repository,
        reference=printable(reference, 128) if reference is not None else None,
        digest=_digest(reference),
        client_address=request.client_address,
        user_agent=printable(request.header(b"user-agent") or ""),
    )


def _digest(reference: str | None) -> Digest | None:
    try:
        return Digest.parse(reference) if reference else None
    except errors.DigestInvalidError:
        return None
