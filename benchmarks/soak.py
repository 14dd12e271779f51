"""`python -m benchmarks.soak`: several servers on one catalogue and store, one of which is killed every few seconds.

Clients push (each piece of an upload to any server), pull, delete and mount, and remember what was acknowledged. In the
end all of that has to be there, and `distsql verify --bytes` to find nothing. `--store s3` keeps the bytes in an object
store, which clients are sent to; large blobs are then larger than its parts.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

import httpx
from rich.console import Console

from benchmarks.__main__ import make_folder
from benchmarks.fleets import Member, running_fleet
from tests.objectstore import running_store

IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"
PATIENCE_S: Final = 120
SIZES: Final[tuple[int, ...]] = (100, 30_000, 150_000)
LARGE: Final = 9_500_000
"""More than a part of an object store."""
_PIECE: Final = 40_000
_PIECES: Final = 5


def digest_of(data: bytes) -> str:
    """As clients write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Told:
    """What the servers acknowledged, and what they answered."""

    images: dict[tuple[str, str], tuple[bytes, list[bytes]]] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


class Client:
    """One of many, with a repository of its own; it asks another server each time."""

    def __init__(self, number: int, urls: Sequence[str], told: Told, *, sizes: Sequence[int] = SIZES) -> None:
        self.name, self._urls, self._told, self._sizes = f"soak/c{number}", urls, told, sizes
        self._chance, self._number = random.Random(number), 0
        self._http = httpx.AsyncClient(timeout=30, follow_redirects=True)

    async def ask(self, method: str, path: str, **options: object) -> httpx.Response | None:
        """The answer of some server; None when it died meanwhile, or can't just now: the outcome is open."""
        url = self._chance.choice(self._urls)
        try:
            answer = await self._http.request(method, url + path, **options)  # type: ignore[arg-type]
        except httpx.TransportError:
            self._told.done["no answer"] += 1
        else:
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return answer
            self._told.done["503"] += 1
            if "retry-after" not in answer.headers:
                self._told.problems.append(f"503 without Retry-After: {method} {path}")
        await asyncio.sleep(self._chance.uniform(0.02, 0.2))
        return None

    async def insist(self, method: str, path: str, **options: object) -> httpx.Response:
        """For what may be asked twice."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if (answer := await self.ask(method, path, **options)) is not None:
                return answer
        raise TimeoutError(f"no server answered {method} {path} for {PATIENCE_S} s")

    async def run(self, until: float) -> None:
        async with self._http:
            while time.monotonic() < until:
                work = self._chance.choices([self.push, self.pull, self.delete, self.mount], [4, 4, 1, 1])[0]
                await work()

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def push(self) -> None:
        self._number += 1
        blobs = [self._chance.randbytes(self._chance.choice(self._sizes)) for _ in range(2)]
        for blob in blobs:
            await self._push_blob(blob)
        described = [
            {"mediaType": "application/octet-stream", "digest": digest_of(blob), "size": len(blob)} for blob in blobs
        ]
        manifest = {"schemaVersion": 2, "mediaType": IMAGE, "config": described[0], "layers": described[1:]}
        payload, tag = json.dumps(manifest).encode(), f"t{self._number}"
        path, headers = f"/v2/{self.name}/manifests/{tag}", {"content-type": IMAGE}
        answer = await self.insist("PUT", path, content=payload, headers=headers)
        if self._expect(answer, 201):
            self._told.images[self.name, tag] = payload, blobs

    async def _push_blob(self, blob: bytes) -> None:
        while not await self._try_to_push(blob):
            self._told.done["uploads begun anew"] += 1

    async def _try_to_push(self, blob: bytes) -> bool:
        session = httpx.URL((await self.insist("POST", f"/v2/{self.name}/blobs/uploads/")).headers["location"]).path
        position, step = 0, max(_PIECE, len(blob) // _PIECES)
        while position < len(blob):
            piece = blob[position : position + step]
            headers = {"content-range": f"{position}-{position + len(piece) - 1}"}
            answer = await self.ask("PATCH", session, content=piece, headers=headers)
            if answer is not None and self._expect(answer, 202, 416, 409):
                position = _position(answer) if answer.status_code == httpx.codes.ACCEPTED else position
            if answer is None or answer.status_code != httpx.codes.ACCEPTED:
                told = await self.insist("GET", session)
                if told.status_code != httpx.codes.NO_CONTENT:
                    return False
                self._told.done["uploads gone on with elsewhere"] += 1
                position = _position(told)
        finished = await self.ask("PUT", session, params={"digest": digest_of(blob)})
        if finished is not None:
            return self._expect(finished, 201, 404, 416, 409) and finished.status_code == httpx.codes.CREATED
        answer = await self.insist("HEAD", f"/v2/{self.name}/blobs/{digest_of(blob)}")
        return answer.status_code == httpx.codes.OK

    async def pull(self) -> None:
        if not self._told.images:
            return
        name, tag = self._chance.choice(list(self._told.images))
        await pull(self, name, tag, self._told)
        self._told.done["pulls"] += 1

    async def delete(self) -> None:
        mine = [each for each in self._told.images if each[0] == self.name]
        if not mine:
            return
        chosen = self._chance.choice(mine)
        payload, _ = self._told.images.pop(chosen)
        answer = await self.insist("DELETE", f"/v2/{self.name}/manifests/{digest_of(payload)}")
        if self._expect(answer, 202, 404):
            gone = await self.insist("GET", f"/v2/{self.name}/manifests/{chosen[1]}")
            self._expect(gone, 404)

    async def mount(self) -> None:
        if not self._told.images:
            return
        source, tag = self._chance.choice(list(self._told.images))
        digest = digest_of(self._told.images[source, tag][1][0])
        answer = await self.insist("POST", f"/v2/{self.name}/blobs/uploads/", params={"mount": digest, "from": source})
        if self._expect(answer, 201, 202) and answer.status_code == httpx.codes.CREATED:
            self._told.done["mounts"] += 1
            self._expect(await self.insist("HEAD", f"/v2/{self.name}/blobs/{digest}"), 200)

    def _expect(self, answer: httpx.Response, *statuses: int) -> bool:
        self._told.done[f"{answer.request.method} {answer.status_code}"] += 1
        if answer.status_code not in statuses:
            request = answer.request
            self._told.problems.append(f"{request.method} {request.url}: {answer.status_code} {answer.text[:300]}")
        return answer.status_code in statuses


def _position(answer: httpx.Response) -> int:
    """Where an upload stands; no piece has one byte only."""
    last = int(answer.headers["range"].partition("-")[2])
    return last + 1 if last else 0


async def pull(client: Client, name: str, tag: str, told: Told) -> None:
    """Everything of an image, which its owner may delete meanwhile."""
    payload, blobs = told.images[name, tag]
    answer = await client.insist("GET", f"/v2/{name}/manifests/{tag}")
    found = [answer.content]
    for blob in blobs:
        answer = await client.insist("GET", f"/v2/{name}/blobs/{digest_of(blob)}")
        found.append(answer.content)
    if found != [payload, *blobs] and (name, tag) in told.images:
        told.problems.append(f"{name}:{tag} was acknowledged, and can't be pulled")


async def _kill_in_turn(fleet: Sequence[Member], *, every_s: float, until: float, told: Told) -> None:
    lives = dict.fromkeys(fleet, 1)
    while time.monotonic() + every_s < until:
        await asyncio.sleep(every_s)
        member = random.choice(fleet)
        await asyncio.to_thread(member.kill)
        member.start()
        lives[member] += 1
        told.done["servers killed"] += 1
        await asyncio.to_thread(member.wait_ready, lives[member])


async def soak(
    fleet: Sequence[Member], *, clients: int, seconds: float, kill_every_s: float, sizes: Sequence[int] = SIZES
) -> Told:
    """Runs the load to its end, then pulls everything that was acknowledged."""
    told, urls = Told(), [member.url for member in fleet]
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(Client(number, urls, told, sizes=sizes).run(until))
        group.create_task(_kill_in_turn(fleet, every_s=kill_every_s, until=until, told=told))
    last = Client(clients, urls, told)
    for name, tag in list(told.images):
        await pull(last, name, tag, told)
    await last.close()
    return told


def verify(catalogue: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """What `distsql verify --bytes` says."""
    command = [sys.executable, "-m", "distsql", "verify", "--bytes", *catalogue]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--kill-every", type=float, default=5, metavar="SECONDS")
    parser.add_argument("--store", choices=("folder", "s3"), default="folder")
    arguments = parser.parse_args()
    console = Console()
    with ExitStack() as stack:
        folder, storage, sizes = stack.enter_context(make_folder()), "", SIZES
        if arguments.store == "s3":
            storage, sizes = stack.enter_context(running_store()).url(), (*SIZES * 6, LARGE)
        fleet, catalogue = stack.enter_context(running_fleet(folder, arguments.servers, storage=storage))
        told = asyncio.run(
            soak(
                fleet,
                clients=arguments.clients,
                seconds=arguments.seconds,
                kill_every_s=arguments.kill_every,
                sizes=sizes,
            )
        )
        verified = verify(catalogue)
    for what, times in sorted(told.done.items()):
        console.print(f"{times:8}  {what}")
    console.print(f"{len(told.images):8}  images acknowledged, all of them pulled at the end")
    console.print(*told.problems[:20], verified.stdout, verified.stderr, sep="\n")
    return 1 if told.problems or verified.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
