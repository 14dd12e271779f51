"""`python -m benchmarks.uncounted serve ...`: distsql as it is, but for pulls, which it doesn't count.

Its workers import this module as the main process does, so they leave it out too.
"""

from __future__ import annotations

import sys
from typing import Any

from distsql import app
from distsql.api.application import Application
from distsql.cli import main


def _uncounting(*arguments: Any, **options: Any) -> Application:
    options.pop("pulls")
    return Application(*arguments, **options)


setattr(app, "Application", _uncounting)  # noqa: B010  # the module exports it to nobody else

if __name__ == "__main__":
    sys.exit(main())
