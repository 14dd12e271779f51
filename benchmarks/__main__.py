"""`python -m benchmarks`: start the registries, fill them alike, compare them operation by operation, report."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.clients import LoadFailed
from benchmarks.content import Content, Sizes
from benchmarks.filling import fill
from benchmarks.load import Pace
from benchmarks.memory import Growth, measure_growth
from benchmarks.operation import Operation
from benchmarks.operations import list_operations
from benchmarks.report import Footprint, Report, describe_result, print_tables, to_json, to_markdown
from benchmarks.rounds import Result, compare
from benchmarks.servers import (
    BARE,
    GUARDED,
    OPEN,
    BareRegistry,
    Distsql,
    DockerRegistry,
    GuardedDistsql,
    Server,
    ServerFailed,
)

MIB: Final = 1 << 20
FULL: Final = Sizes(large=64 * MIB, medium=MIB, layer=4 * MIB, chunked=256 * MIB, tags=20_000, repositories=5_000)
SMOKE: Final = Sizes(large=2 * MIB, medium=MIB, layer=1 << 15, chunked=4 * MIB, tags=300, repositories=50)
GROWTH: Final = "growth"
MEMORY: Final = Path("/dev/shm")
ROOM: Final = 1024 * MIB
PROGRAMS: Final = ("docker-registry", "wrk", "ab", "skopeo")

progress: Final = Console(stderr=True)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds of each server, after a warm-up")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a round (large uploads are counted instead)")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--uploads", type=int, default=32, help="large blobs that a round uploads")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="operations whose name contains this, or `growth`")
    parser.add_argument(
        "--auth",
        choices=("none", "token", "both"),
        default="both",
        help="distsql as it is measured: nobody logs in, everybody does, or once each",
    )
    parser.add_argument(
        "--peer-gogc", type=int, metavar="N", default=800, help="of a second docker-registry; 0: there is none"
    )
    parser.add_argument("--smoke", action="store_true", help="little content, no warm-up: does everything work?")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument(
        "--ours",
        choices=("distsql", "docker-registry"),
        default="distsql",
        help="docker-registry: compare the peer with itself, which shows how much of a ratio is noise",
    )
    return parser.parse_args(arguments)


def make_ours(arguments: argparse.Namespace, folder: Path) -> list[Server]:
    # The folders' names: none is the beginning of another, for a server's processes are those that name its folder.
    if arguments.ours != "distsql":
        return [DockerRegistry("itself", folder / "itself")]
    ours: list[Server] = []
    if arguments.auth != "token":
        ours.append(Distsql(OPEN, folder / "open"))
    if arguments.auth != "none":
        ours.append(GuardedDistsql(GUARDED, folder / "tokens"))
    return ours


def make_peers(arguments: argparse.Namespace, folder: Path) -> list[Server]:
    peers: list[Server] = [DockerRegistry("docker-registry", folder / "docker-registry")]
    if arguments.peer_gogc:
        environment = {"GOGC": str(arguments.peer_gogc)}
        name = f"docker-registry GOGC={arguments.peer_gogc}"
        peers.append(DockerRegistry(name, folder / "gogc", environment=environment))
    return peers


def choose(operations: list[Operation], only: list[str] | None) -> list[Operation]:
    unknown = [part for part in only or () if part != GROWTH and not any(part in one.name for one in operations)]
    if unknown:
        raise SystemExit(f"no operation is named {unknown[0]!r}: {', '.join(one.name for one in operations)}, {GROWTH}")
    return [one for one in operations if only is None or any(part in one.name for part in only)]


def run_comparison(arguments: argparse.Namespace, folder: Path) -> tuple[list[Result], list[Footprint]]:
    content = Content(SMOKE if arguments.smoke else FULL)
    pace = Pace(arguments.seconds, arguments.connections)
    with ExitStack() as stack, progress.status("", refresh_per_second=2) as status:
        clients_folder = stack.enter_context(make_clients_folder())
        other = BareRegistry("another registry", folder / "another")
        operations = choose(list_operations(content, arguments.uploads, clients_folder, other), arguments.only)
        if not operations:
            return [], []
        servers = [*make_ours(arguments, folder), *make_peers(arguments, folder)]
        for server in servers:
            status.update(f"filling {server.name}")
            fill(stack.enter_context(server), content)
        bare: list[Server] = []
        if any(operation.with_bare for operation in operations):
            stack.enter_context(other)
            bare.append(stack.enter_context(BareRegistry(BARE, folder / "bare")))
        results = []
        run = partial(compare, rounds=arguments.rounds, tell=status.update, warm_up=not arguments.smoke)
        for operation in operations:
            results.append(run(operation, [*servers, *(bare if operation.with_bare else ())], pace))
            progress.print(describe_result(results[-1]), highlight=False)
        return results, [_footprint(server) for server in servers]


def run_growth(arguments: argparse.Namespace, folder: Path) -> list[Growth]:
    """Each server on its own, and fresh: one that has already served is as big as it gets."""
    if arguments.only is not None and GROWTH not in arguments.only:
        return []
    size = (SMOKE if arguments.smoke else FULL).large
    growths = []
    for server in (make_ours(arguments, folder)[0], make_peers(arguments, folder)[0]):
        with server, progress.status(f"growth of {server.name}"):
            growths.append(measure_growth(server, size))
    return growths


def run(arguments: argparse.Namespace) -> Report:
    with make_folder() as folder:
        growths = run_growth(arguments, folder)
        results, footprints = run_comparison(arguments, folder)
    settings = {name: getattr(arguments, name) for name in ("rounds", "seconds", "connections", "uploads", "smoke")}
    ours, peers = ([server.name for server in make(arguments, Path())] for make in (make_ours, make_peers))
    return Report(settings, ours, peers, results, footprints, growths)


@contextmanager
def make_folder() -> Iterator[Path]:
    """Open to all: a private PostgreSQL that isn't root's has to get in, or it moves elsewhere."""
    with tempfile.TemporaryDirectory(prefix="distsql-benchmarks-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def make_clients_folder() -> Iterator[Path]:
    """Of real clients' files: in memory where there is room, for their disk isn't what is measured."""
    has_room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    with tempfile.TemporaryDirectory(prefix="distsql-clients-", dir=MEMORY if has_room else None) as name:
        yield Path(name)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that the servers are stopped
    arguments = parse_arguments()
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        progress.print(f"missing: {', '.join(missing)}; `./run.sh clients` gets them")
        return 2
    try:
        report = run(arguments)
    except (LoadFailed, ServerFailed) as error:
        progress.print(f"benchmark failed: {error}", markup=False)
        return 1
    # Into a file or a pipe: as wide as the tables.
    print_tables(report, Console(width=None if sys.stdout.isatty() else 190))
    if arguments.json:
        arguments.json.write_text(to_json(report))
    if arguments.markdown:
        arguments.markdown.write_text(to_markdown(report))
    return 0


def _footprint(server: Server) -> Footprint:
    memory = server.memory()
    return Footprint(server.name, memory.own_peak, memory.postgres)


if __name__ == "__main__":
    sys.exit(main())
