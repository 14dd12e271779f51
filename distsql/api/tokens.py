"""The token endpoint, as Docker's clients use it: GET with Basic, and POST in the way of OAuth 2 (RFC 6749)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qs

from distsql.api.authorization import Authorizer, read_authorization, read_basic
from distsql.api.errors import error_response
from distsql.api.requests import ParameterInvalidError, Request, printable
from distsql.api.responses import Response, header, json_response
from distsql.api.scopes import RequestedScopes, parse_scopes, write_scopes
from distsql.errors import CredentialsInvalidError, ManifestTooLargeError
from distsql.registry.authorities import Account
from distsql.registry.tokens import token_id

_MAX_FORM: Final = 64 * 1024
_NO_STORE: Final = header(b"cache-control", "no-store")


async def answer_token_request(request: Request, authorizer: Authorizer) -> Response:
    """``GET`` and ``POST /token``: a token for as much of the scopes as the account may do, or everybody."""
    try:
        if request.method == "GET":
            return await _get(request, authorizer)
        if request.method == "POST":
            return await _post(request, authorizer)
    except CredentialsInvalidError as error:
        request.refusal = "credentials"
        challenge = header(b"www-authenticate", f'Basic realm="{authorizer.authenticator.service}"')
        return error_response(401, "UNAUTHORIZED", error.message, headers=(challenge, _NO_STORE))
    allowed = header(b"allow", "GET, POST")
    return error_response(405, "UNSUPPORTED", f"{request.method} is not for this path", headers=(allowed,))


async def _get(request: Request, authorizer: Authorizer) -> Response:
    kind, value = read_authorization(request)
    if kind == "bearer":
        raise CredentialsInvalidError("A token is asked for with a name and a secret")
    account = await _log_in(request, authorizer, *read_basic(value)) if kind else None
    offline = (request.parameter("offline_token") or "").lower() == "true"
    asked = parse_scopes(request.query.get("scope", []), request.full_name)
    return await _issue(request, authorizer, account, asked, offline=offline)


async def _post(request: Request, authorizer: Authorizer) -> Response:
    form = await _read_form(request)
    authenticator, grant_type = authorizer.authenticator, form.get("grant_type")
    if grant_type == "password":
        account = await _log_in(request, authorizer, form.get("username", ""), form.get("password", ""))
    elif grant_type == "refresh_token":
        account = await authenticator.read_refresh_token(form.get("refresh_token", ""))
    else:
        raise ParameterInvalidError("grant_type has to be password or refresh_token")
    asked = parse_scopes([form.get("scope", "")], request.full_name)
    offline = form.get("access_type") == "offline"
    return await _issue(request, authorizer, account, asked, offline=offline, refresh_token=form.get("refresh_token"))


async def _log_in(request: Request, authorizer: Authorizer, login: str, secret: str) -> Account:
    request.actor = printable(login)
    return await authorizer.authenticator.log_in(login, secret)


async def _read_form(request: Request) -> Mapping[str, str]:
    pieces = bytearray()
    async for piece in request.stream():
        pieces += piece
        if len(pieces) > _MAX_FORM:
            raise ManifestTooLargeError(f"The form is over {_MAX_FORM} bytes")
    try:
        fields = parse_qs(pieces.decode(), keep_blank_values=True, max_num_fields=50)
    except ValueError:
        raise ParameterInvalidError("The body is no form (application/x-www-form-urlencoded)") from None
    return {name: values[0] for name, values in fields.items()}


async def _issue(
    request: Request,
    authorizer: Authorizer,
    account: Account | None,
    asked: RequestedScopes,
    *,
    offline: bool,
    refresh_token: str | None = None,
) -> Response:
    now = datetime.now(UTC)
    catalog = asked.catalog and account is not None
    accesses = await authorizer.authorities.grant(account, asked.actions)
    text, expires_at = await authorizer.authenticator.issue(account, accesses, catalog=catalog)
    request.logged_in, request.token_id = account, token_id(text)
    if offline and account is not None and refresh_token is None:
        refresh_token = await authorizer.authenticator.issue_refresh_token(account)
    described = {
        "token": text,
        "access_token": text,
        "token_type": "Bearer",
        "scope": write_scopes(accesses.values(), catalog=catalog, written=asked.written),
        "expires_in": int((expires_at - now).total_seconds()),
        "issued_at": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    if refresh_token is not None:
        described["refresh_token"] = refresh_token
    return json_response(200, described, (_NO_STORE,))
