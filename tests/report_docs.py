"""``python -m tests.report_docs [--check]``: docs/reports.md, from the comments in a migrated catalogue."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

from psycopg.conninfo import make_conninfo

from distsql.sql.database import Database
from distsql.sql.reports import ReportRow, list_reports
from tests import postgres

PAGE: Final = Path(__file__).parents[1] / "docs" / "reports.md"
_HEAD: Final = """\
# Reports

Questions that the catalogue answers: views and functions of the schema `report`, in SQL, or on the command line as
`distsql report NAME`. Written by `./run.sh docs` from the comments in the catalogue (`migrations/reports`); edit those,
not this page. Columns are only ever added. `distsql report list` prints the names.

* `repository` is the full name, tenant included. Digests are text, `sha256:...`; where there are many, compare the
  column whose name ends in `_key` with `report.digest('sha256:...')`, which an index finds (on the command line a
  filter on the digest does that by itself).
* Sizes are bytes of blobs, not of manifests' own payloads: `stored_bytes` counts each blob of a tenant once,
  `logical_bytes` once in each repository, `exclusive_bytes` only what no other repository has.
* Who may ask: members of the role `distsql_auditor` see all tenants, a tenant's own role (`distsql tenant sql-access
  NAME`) its tenant only. Neither sees secrets.
* Interactive are all but `tenant_usage`, `repository_usage`, `media_types` and `chargeback`: asked about a tenant, a
  repository or a time, as their examples do, they answer within 100 ms at a million manifests. Those four add
  everything up that they are asked about, and take as long as that takes: of a tenant with 500,000 manifests
  `chargeback` 10 ms, `tenant_usage` a second, `media_types` ten, `repository_usage` fifteen (30 ms of one repository).

```
distsql report stale-tags --tenant acme 'idle_days>=90'
distsql report tag-history repository=acme/web tag=latest --format csv
distsql report resolve-tag --tenant acme repository=acme/web tag=latest at=2026-11-01 --json
```
"""


def page(reports: list[ReportRow]) -> str:
    """The page's text."""
    return "\n".join([_HEAD, *map(_section, reports)])


def _section(report: ReportRow) -> str:
    answers, example = report.comment.split("\n\n", 1)
    pairs = zip(report.arguments, report.argument_types, strict=True)
    arguments = f"({', '.join(f'{name} {kind}' for name, kind in pairs)})" if report.is_function else ""
    comments = report.column_comments or [""] * len(report.columns)
    columns = "\n".join(
        f"| {name} | {kind} | {comment} |"
        for name, kind, comment in zip(report.columns, report.column_types, comments, strict=True)
    )
    return (
        f"## {report.name}{arguments}\n\n{answers}\n\n| column | type | |\n|---|---|---|\n{columns}\n\n"
        f"```sql\n{example}\n```\n"
    )


async def _reports() -> list[ReportRow]:
    with postgres.running_server() as server, postgres.migrated_template(server) as name:
        database = Database(make_conninfo(server, dbname=name))
        try:
            return await database.read(list_reports)
        finally:
            await database.close()


def main(arguments: list[str]) -> int:
    """Writes the page, or with ``--check`` only says whether it is current."""
    text = page(asyncio.run(_reports()))
    if "--check" in arguments:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
            return 0
        sys.stderr.write("docs/reports.md is stale: run ./run.sh docs\n")
        return 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
