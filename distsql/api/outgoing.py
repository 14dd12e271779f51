"""Requests that the registry itself sends, to addresses that its tenants name: so it looks before it connects.

One POST on one connection. A name is resolved once, each address is judged, and the connection goes to the address that
was judged: a name that leads elsewhere a moment later leads nowhere. Redirects are answers like any other, never
followed. What comes back is read up to its status, within a limit of bytes and of time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from distsql.errors import AddressRefusedError, DeliveryFailedError

_PORTS: Final = {"http": 80, "https": 443}
_MOST_ANSWER: Final = 16 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r?\n)")
# Prefixes in which an IPv4 address is written as an IPv6 one; is_global doesn't look into all of them.
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_target(url: str) -> SplitResult:
    """The URL in its parts. Raises `AddressRefusedError` unless it is one that something may be sent to."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise AddressRefusedError(f"{url[:80]!r} is no URL: {error}") from None
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise AddressRefusedError(f"{url[:80]!r} has to be an http or https URL")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise AddressRefusedError(f"{parts.hostname}: a URL with a user's name or a fragment is not taken")
    if not url.isascii() or not url.isprintable() or any(character in url for character in ' "\\<>'):
        raise AddressRefusedError(f"{url[:80]!a} has characters that no URL has: encode them")
    return parts


def is_public(address: _Address) -> bool:
    """Whether the address is of the internet, in whatever form it is written."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


class Sender:
    """Sends one thing at a time. ``allowed`` are names of hosts that may be in a private network."""

    def __init__(self, *, allowed: Collection[str] = (), timeout_s: float = 10) -> None:
        self._allowed = frozenset(name.lower() for name in allowed)
        self._timeout_s = timeout_s

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The answer's status. Raises `AddressRefusedError`, and `DeliveryFailedError` when there was none."""
        parts = check_target(url)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        try:
            async with asyncio.timeout(self._timeout_s):
                address = await self._resolve(host, port)
                return await self._exchange(parts, address, port, _request(parts, headers, body))
        except TimeoutError:
            raise DeliveryFailedError(f"{host} took longer than {self._timeout_s:g} s") from None
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError, ValueError) as error:
            raise DeliveryFailedError(f"{host}: {error}") from error

    async def _resolve(self, host: str, port: int) -> str:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(address[0]).partition("%")[0] for *_, address in found]
        refused = [text for text in addresses if not is_public(ipaddress.ip_address(text))]
        if refused and host.lower() not in self._allowed:
            raise AddressRefusedError(
                f"{host} is {refused[0]}, which is not an address of the internet: the operator may allow it by name "
                "(DISTSQL_WEBHOOK_ALLOW)"
            )
        return addresses[0]

    async def _exchange(self, parts: SplitResult, address: str, port: int, request: bytes) -> int:
        secure = ssl.create_default_context() if parts.scheme == "https" else None
        reader, writer = await asyncio.open_connection(
            address, port, ssl=secure, server_hostname=parts.hostname if secure else None, limit=_MOST_ANSWER
        )
        try:
            writer.write(request)
            await writer.drain()
            status = _STATUS.match(await reader.readline())
            if status is None:
                raise DeliveryFailedError(f"{parts.hostname} doesn't answer in HTTP")
            return int(status[1])
        finally:
            writer.close()


def _request(parts: SplitResult, headers: Mapping[str, str], body: bytes) -> bytes:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    lines = [
        f"POST {path} HTTP/1.1",
        f"host: {host}{f':{parts.port}' if parts.port else ''}",
        "connection: close",
        "user-agent: distsql",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body
