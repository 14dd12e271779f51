"""Tenants by host name: with ``--tenant-domain registry.example`` names at ``acme.registry.example`` are acme's.

A host says in which tenant a name is, and nothing about its caller: what is allowed is decided about the full name.
So a Host of somebody's own making leads where the full name leads, and no further. ``X-Forwarded-Host`` is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from distsql.errors import NameInvalidError
from distsql.oci.names import RepositoryName

# A name, perhaps with the dot of the root at its end, and a port. \Z and not $: a newline is part of no host.
_HOST: Final = re.compile(r"([a-z0-9._-]{1,253}?)\.?(?::[0-9]{1,5})?\Z", re.ASCII)


class TenantHosts:
    """The hosts below one domain, or none at all when it is empty."""

    __slots__ = ("_suffix",)

    def __init__(self, domain: str) -> None:
        self._suffix = f".{domain}" if domain else ""

    def tenant_of(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The tenant that a request's Host names; empty for any other host.

        Raises `NameInvalidError` for a host of the domain that no tenant can have, and for more hosts than one.
        """
        if not self._suffix:
            return ""
        hosts = [value.decode("latin-1").strip().lower() for name, value in headers if name == b"host"]
        if len(hosts) > 1:
            raise NameInvalidError("The request names several hosts (RFC 9112, section 3.2)")
        host = hosts[0] if hosts else ""
        match = _HOST.match(host)
        if match is None and self._suffix in host:
            raise _invalid(host)
        if match is None or not match[1].endswith(self._suffix):
            return ""
        return _checked(match[1].removesuffix(self._suffix))


def _checked(tenant: str) -> str:
    try:
        if RepositoryName.parse(f"{tenant}/x").tenant == tenant:
            return tenant
    except NameInvalidError:
        pass
    raise _invalid(tenant)


def _invalid(host: str) -> NameInvalidError:
    return NameInvalidError(f"{host[:80]!r} names no tenant: in a host it is one component of a repository's name")
