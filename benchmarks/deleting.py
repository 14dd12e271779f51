"""Deleting in a repository of very many tags, from a stock of manifests that are there for nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from benchmarks.clients import Script, expect, request, run_scripts
from benchmarks.content import MANY_TAGS, Content, digest_of, make_salt, put_manifest
from benchmarks.load import Load, Pace, Tally, run_clients, ticks
from benchmarks.servers import DockerRegistry, Server
from benchmarks.uploading import MakeLoad

STOCK: Final = 600
CLIENTS: Final = 8


class Victims:
    """Manifests with a tag each, by server: what a slow one has left over stays for its next round."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._stocks: dict[str, list[tuple[str, str]]] = {}

    def top_up(self, server: Server) -> None:
        stock = self.of(server)
        missing = iter(range(STOCK - len(stock)))
        run_scripts(server.port, [self._put(stock, missing) for _ in range(CLIENTS)], headers=server.basic)

    def of(self, server: Server) -> list[tuple[str, str]]:
        """Tag and digest."""
        return self._stocks.setdefault(server.name, [])

    def _put(self, stock: list[tuple[str, str]], numbers: Iterator[int]) -> Script:
        for _ in numbers:
            tag, manifest = f"x{make_salt().hex()}", self._content.make_manifest()
            expect((yield put_manifest(MANY_TAGS, tag, manifest)), 201, "PUT of a manifest")
            stock.append((tag, digest_of(manifest)))


def delete(victims: Victims, *, by_tag: bool) -> MakeLoad:
    """Until the time is over, or the stock."""

    def script(stock: list[tuple[str, str]], tally: Tally, seconds: float, *, tags: bool) -> Script:
        for _ in ticks(seconds):
            if not stock:
                return
            tag, digest = stock.pop()
            answer = yield request("DELETE", f"/v2/{MANY_TAGS}/manifests/{tag if tags else digest}")
            expect(answer, 202, "DELETE")
            tally.add()

    def load(server: Server, pace: Pace) -> Load:
        tags = by_tag and not isinstance(server, DockerRegistry)
        stock = victims.of(server)
        return run_clients(server, pace.connections, lambda tally: script(stock, tally, pace.seconds, tags=tags))

    return load
