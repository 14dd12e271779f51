"""`python -m benchmarks.served_records`: what counting pulls costs the requests of a server as it is run.

Pulls by tag (20,000 at random) and by digest, from a `distsql serve` that counts and one that doesn't, in
turn: requests a second and CPU of the whole process tree, with all that is done in the background.
`benchmarks/records.py` looks closer, without a web server, and at pushes too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.__main__ import FULL, SMOKE, make_folder
from benchmarks.content import Content
from benchmarks.filling import fill
from benchmarks.load import Pace
from benchmarks.operations import list_operations
from benchmarks.report import Report, print_tables
from benchmarks.rounds import compare
from benchmarks.servers import Distsql, Uncounted

_MANY_TAGS: Final = replace(SMOKE, tags=FULL.tags)
OPERATIONS: Final = ("manifest GET by tag", "manifest GET by digest")


def measure(folder: Path, *, rounds: int, seconds: float, smoke: bool) -> Report:
    """Both servers, filled alike."""
    content, pace = Content(SMOKE if smoke else _MANY_TAGS), Pace(seconds, 16)
    servers = [Distsql("counting", folder / "counting"), Uncounted("not counting", folder / "plain")]
    with ExitStack() as stack, Console(stderr=True).status("") as status:
        for server in servers:
            status.update(f"filling {server.name}")
            fill(stack.enter_context(server), content)
        every = list_operations(content, 1, folder / "images", other=servers[0])
        operations = [one for one in every if one.name in OPERATIONS]
        results = [
            compare(one, servers, pace, rounds=rounds, tell=status.update, warm_up=not smoke) for one in operations
        ]
    settings = {"rounds": rounds, "seconds": seconds}
    return Report(settings, ["counting"], ["not counting"], results, [], [])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.served_records", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=5.5, help="of a round: pulls are written every five seconds")
    parser.add_argument("--smoke", action="store_true", help="little content: does it work?")
    options = parser.parse_args(arguments)
    with make_folder() as folder:
        report = measure(folder, rounds=options.rounds, seconds=options.seconds, smoke=options.smoke)
    print_tables(report, Console(width=None if sys.stdout.isatty() else 190))
    return 0


if __name__ == "__main__":
    sys.exit(main())
