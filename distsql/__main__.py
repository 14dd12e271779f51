"""``python -m distsql`` is ``distsql``."""

from distsql.cli import main

if __name__ == "__main__":
    main()
