"""``alembic check`` against a database that the migrations made: metadata and migrations have not drifted apart."""

from __future__ import annotations

import os
import subprocess
import sys

from tests import postgres


def main() -> int:
    """Gives alembic's exit status."""
    with postgres.running_server() as server, postgres.new_database(server) as url:
        environment = {**os.environ, "DISTSQL_DATABASE_URL": url}
        for command in (["upgrade", "head"], ["check"]):
            done = subprocess.run([sys.executable, "-m", "alembic", *command], env=environment, check=False)
            if done.returncode:
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
