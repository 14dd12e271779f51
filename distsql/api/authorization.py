"""Who may do what over HTTP: the ``Authorization`` header, the challenge, and what is refused (PROTOCOL 0.6).

What a caller may not read is refused in words that don't depend on whether it exists: 401 with a challenge for
everybody who could come back with more (no token, or one for less), 403 DENIED for an account that showed its secret.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from distsql.api.errors import error_response
from distsql.api.permissions import Need, Permission
from distsql.api.requests import Request, printable
from distsql.api.responses import Response, header
from distsql.api.scopes import CATALOG, repository_scope
from distsql.errors import CredentialsInvalidError, NameInvalidError
from distsql.oci.names import DEFAULT_TENANT, RepositoryName
from distsql.registry.authentication import Authenticator, Shown
from distsql.registry.authorities import ALL_ACTIONS, Account, Authorities, GrantedAuthority
from distsql.registry.remembering import Remembered
from distsql.registry.tokens import ACCESS_LIFETIME, Token
from distsql.values import Action

TOKEN_PATH: Final = "/token"  # noqa: S105  # where tokens are had, not one
_MAX_HEADER: Final = 40 * 1024
_LOGIN_S: Final = 60
# Clients that pull ask for pull; what writes needs to look first.
_ASKED: Final[dict[Need, tuple[Action, ...]]] = {
    Action.PULL: (Action.PULL,),
    Action.PUSH: (Action.PULL, Action.PUSH),
    Action.DELETE: (Action.DELETE,),
    Action.ADMIN: (Action.ADMIN,),
}


class Identity(NamedTuple):
    """Who sends the request: by a token, or as an account that has shown its secret."""

    account: Account | None
    token: Token | None


class Authorizer:
    """Decides before a handler runs. ``public_url`` is where clients find the registry, empty: where they say.

    What a token allows in a repository was decided when it was issued, so it is remembered with the token: the requests
    that follow look up whether it counts still, and nothing else.
    """

    def __init__(self, authenticator: Authenticator, authorities: Authorities, *, public_url: str) -> None:
        self.authenticator = authenticator
        self.authorities = authorities
        self._public_url = public_url.rstrip("/")
        self._shown: Remembered[bytes, Shown] = Remembered()
        self._heard: Remembered[tuple[tuple[int, int], str], bool] = Remembered()

    def admits(self, request: Request, need: Need, arguments: Sequence[str]) -> bool:
        """Whether a caller is known to be one who may do this; then the request has its caller."""
        shown = self._shown.look(request.headers.get(b"authorization", b""))
        if shown is None or not isinstance(need, Action) or (need is Action.PUSH and request.scope["query_string"]):
            return False  # a push with a query is perhaps a mount, with a source
        authority, name = shown.authority, request.full_name(arguments[0])
        settled = authority.settled.get(name if "/" in name else f"{DEFAULT_TENANT}/{name}") if authority else None
        if authority is None or settled is None or need not in settled.actions or not self.authenticator.counts(shown):
            return False
        _set_caller(request, authority, shown.token)
        return True

    async def refuse(self, request: Request, need: Need, arguments: Sequence[str]) -> Response | None:
        """The answer to a caller who may not do this; None, and the request has its caller, for one who may."""
        names = _names(request, need, arguments)
        try:
            identity = await self._identify(request)
        except CredentialsInvalidError as error:
            request.refusal = "credentials"
            scopes = _scopes(request, need, names, arguments)
            return self._challenge(request, scopes, error="invalid_token", message=error.message)
        if identity is None:
            return self._challenge(request, _scopes(request, need, names, arguments))
        authority = await self._settle(identity, names)
        _set_caller(request, authority, identity.token)
        if not _allows(identity, authority, need, names):
            request.refusal = "rights"
            if identity.token is None:
                return error_response(403, "DENIED", "The account may not do this, or there is no such thing")
            return self._challenge(request, _scopes(request, need, names, arguments), error="insufficient_scope")
        return None

    async def _identify(self, request: Request) -> Identity | None:
        """Who it is, or None for somebody who doesn't say; `CredentialsInvalidError`."""
        kind, value = read_authorization(request)
        if kind == "bearer":
            shown = await self._read_token(request.headers[b"authorization"], value)
            return Identity(shown.account, shown.token)
        if kind == "basic":
            return Identity(await self._log_in(request, *read_basic(value)), None)
        return None

    async def _read_token(self, credentials: bytes, text: str) -> Shown:
        before = self._shown.look(credentials)
        shown = await self.authenticator.read_token(text, before=before)
        if shown is not before:
            if shown.account is not None:
                shown.authority = self.authorities.settle_for_long(shown.account, shown.token.accesses)
            seconds = ACCESS_LIFETIME.total_seconds()
            self._shown.add(credentials, shown, seconds=seconds, length=len(credentials))
        return shown

    async def _log_in(self, request: Request, login: str, secret: str) -> Account:
        """The account; the audit hears of it once in a while, and not of each request."""
        request.actor = printable(login)
        account = await self.authenticator.log_in(login, secret)
        if self._heard.find((account.key, request.client_address)) is None:
            self._heard.add((account.key, request.client_address), value=True, seconds=_LOGIN_S)
            request.logged_in = account
        return account

    async def _settle(self, identity: Identity, names: Sequence[RepositoryName]) -> GrantedAuthority:
        accesses = identity.token.accesses if identity.token else None
        if accesses is None:
            # As if a token were issued now for everything that the account may do there.
            accesses = await self.authorities.grant(identity.account, dict.fromkeys(names, ALL_ACTIONS))
        return await self.authorities.settle(identity.account, accesses, names)

    def _challenge(
        self, request: Request, scopes: Sequence[str], *, error: str = "", message: str = "Log in to do this"
    ) -> Response:
        """401, and where a token is to be had (RFC 6750, section 3; the token specification of distribution)."""
        wanted = f',scope="{" ".join(scopes)}"' if scopes else ""
        because = f',error="{error}"' if error else ""
        challenge = f'Bearer realm="{self.url(request)}{TOKEN_PATH}",service="{self.authenticator.service}"'
        return error_response(
            401, "UNAUTHORIZED", message, headers=(header(b"www-authenticate", f"{challenge}{wanted}{because}"),)
        )

    def url(self, request: Request) -> str:
        """Where this client finds the registry."""
        if self._public_url and not request.tenant:
            return self._public_url
        scheme = urlsplit(self._public_url).scheme or request.scope.get("scheme", "http")
        # A header of the client's own making, and for its own eyes: nothing that would end the quotes.
        host = (request.header(b"host") or "").translate(_UNQUOTED)
        return f"{scheme}://{host}"


def _set_caller(request: Request, authority: GrantedAuthority, token: Token | None) -> None:
    request.authority, request.actor, request.actor_kind = authority, authority.actor, authority.actor_kind
    if authority.account_id:
        request.account_id = authority.account_id
    if token is not None:
        request.token_id = token.id


_UNQUOTED: Final = {ord(character): None for character in '"\\,; \r\n'}


def service_name(public_url: str) -> str:
    """What tokens are for: the registry's host, or the program's name where no URL is set."""
    return urlsplit(public_url).netloc or "distsql"


def read_authorization(request: Request) -> tuple[str, str]:
    """The kind in lower case and the credentials; empty when there are none. `CredentialsInvalidError`."""
    text = request.header(b"authorization") or ""
    kind, _, value = text.partition(" ")
    if len(text) > _MAX_HEADER or (kind and kind.lower() not in {"basic", "bearer"}):
        raise CredentialsInvalidError("Authorization has to be Bearer or Basic")
    return kind.lower(), value.strip()


def read_basic(value: str) -> tuple[str, str]:
    """Name and secret (RFC 7617). `CredentialsInvalidError`."""
    try:
        name, colon, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        colon = ""
    if not colon:
        raise CredentialsInvalidError("Basic credentials have to be the base64 of NAME:SECRET")
    return name, secret


def _names(request: Request, need: Need, arguments: Sequence[str]) -> list[RepositoryName]:
    """The repositories that the request is about: its own, and the source of a mount."""
    if isinstance(need, Permission):
        return []
    own = RepositoryName.parse(request.full_name(arguments[0]))
    source = request.parameter("from") if need is Action.PUSH else None
    try:
        return [own, RepositoryName.parse(request.full_name(source))] if source else [own]
    except NameInvalidError:
        return [own]


def _scopes(request: Request, need: Need, names: Sequence[RepositoryName], arguments: Sequence[str]) -> list[str]:
    """What to ask for in order to do this."""
    if isinstance(need, Permission):
        return [CATALOG] if need is Permission.CATALOG else []
    # A push begins with HEAD of its blobs, and some clients keep the token that they get for it until the end.
    begins = request.method == "HEAD" and len(arguments) > 1 and ":" in arguments[1]
    asked = _ASKED[Action.PUSH if begins and need is Action.PULL else need]
    # As the client writes its name: some compare.
    own = repository_scope(arguments[0], *asked)
    return [own, *(repository_scope(request.shown_name(str(name)), Action.PULL) for name in names[1:])]


def _allows(identity: Identity, authority: GrantedAuthority, need: Need, names: Sequence[RepositoryName]) -> bool:
    if isinstance(need, Action):
        return authority.allows(names[0], need)
    return need is Permission.LOGIN or identity.token is None or identity.token.catalog
