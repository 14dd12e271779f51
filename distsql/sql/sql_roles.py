"""Roles of PostgreSQL's own that read reports: all tenants' auditors, and one role for each tenant that wants it."""

from __future__ import annotations

from typing import Final

AUDITOR_ROLE: Final = "distsql_auditor"
"""Reads every tenant's rows, and nothing that is secret. Nobody logs in as it: people's roles are made members."""

READER_ROLE: Final = "distsql_reader"
"""What tenants' own roles are members of. It sees what belongs to the tenant of the role that asks."""
