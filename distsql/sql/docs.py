"""``python -m distsql.sql.docs [--check]``: docs/queries.md, every statement by name, written from the code."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path
from typing import Final

import distsql.sql
from distsql.sql.statements import registered

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "queries.md"

_HEAD: Final = """\
# Queries

Every statement that distsql runs, by the name that is in its metrics and in `distsql/sql/`. Written by `./run.sh docs`
from the code; edit the code, not this page.
"""


def load_statements() -> None:
    """Imports every module of ``distsql.sql``, so that all their statements are registered."""
    for module in pkgutil.iter_modules(distsql.sql.__path__):
        importlib.import_module(f"distsql.sql.{module.name}")


def page() -> str:
    """The page's text."""
    load_statements()
    parts = [_HEAD]
    for name, statement in sorted(registered.items()):
        lines = "\n".join(line.rstrip() for line in statement.sql.splitlines())
        parts.append(f"## {name}\n\n{statement.purpose}\n\n```sql\n{lines}\n```\n")
    return "\n".join(parts)


def main(arguments: list[str]) -> int:
    """Writes the page, or with ``--check`` only says whether it is current."""
    text = page()
    if "--check" in arguments:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
            return 0
        sys.stderr.write("docs/queries.md is stale: run ./run.sh docs\n")
        return 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
