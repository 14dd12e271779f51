"""Finds PostgreSQL binaries, or runs a private PostgreSQL with them, for people who have no server of their own."""

from __future__ import annotations

from distsql.embedded.binaries import Binaries, find_binaries
from distsql.embedded.cluster import PrivatePostgres

__all__ = ["Binaries", "PrivatePostgres", "find_binaries"]
