"""What can go wrong with a private PostgreSQL; every message ends with a way out."""

from __future__ import annotations

from distsql.errors import EmbeddedPostgresError


class NoBinariesError(EmbeddedPostgresError):
    """No usable PostgreSQL programs: none found, too old, or out of reach for the server's user."""


class NoClusterError(EmbeddedPostgresError):
    """There is no private PostgreSQL below this data folder (yet, or any more)."""


class ClusterInUseError(EmbeddedPostgresError):
    """Another process owns, or still runs, the private PostgreSQL of this data folder."""


class WrongVersionError(EmbeddedPostgresError):
    """The data were written by another major version of PostgreSQL than the programs at hand."""


class ClusterAccessError(EmbeddedPostgresError):
    """Users or permissions: somebody may not read, enter or own what he must."""


class ServerFailedError(EmbeddedPostgresError):
    """A program of PostgreSQL ended with an error, or didn't do in time what it was asked for."""
