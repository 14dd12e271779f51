"""Random lives of upload sessions, told to the API and to a model in plain Python: both must always agree (issue 4)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    multiple,
    rule,
    run_state_machine_as_test,
)

from distsql.api.application import Application
from distsql.api.requests import Limits
from distsql.app import Registry
from distsql.settings import Settings
from tests.api.contents import ABSENT, digest_of
from tests.api.exchange import Answer, Body, cut, exchange, truncated, whole

TENANTS: Final = ("acme", "umbrella")
# Half of each is never one byte: a Range of "0-0" is said of none and of one alike (row 2.1).
SIZES: Final = st.one_of(
    st.sampled_from([0, 1]), st.integers(4, 30), st.sampled_from([65_535, 65_536, 65_537, 150_000])
)
ALGORITHMS: Final = st.sampled_from(["sha256", "sha512"])
MALFORMED: Final = ["", "sha256", "sha256:abc", "sha256:" + "A" * 64, "md5:" + "0" * 32, "sha512:" + "0" * 64]

Place = Literal["none", "right", "gap", "repeat", "inverted", "unreadable"]
PLACES: Final = st.sampled_from(["none", "none", "right", "right", "gap", "repeat", "inverted", "unreadable"])
Arrival = Literal["sized", "streamed", "cut", "truncated"]
ARRIVALS: Final = st.sampled_from(["sized", "streamed", "sized", "streamed", "cut", "truncated"])
Claim = Literal["right", "wrong", "malformed", "missing"]
CLAIMS: Final = st.sampled_from(["right", "right", "right", "wrong", "malformed", "missing"])


@dataclass
class Session:
    """What a client knows of its upload: where it is, under all names that it ever had, and what it has brought."""

    repository: str
    locations: list[str]
    content: bytes = b""
    alive: bool = True


@dataclass
class World:
    """The application, on a loop of its own, for the machine isn't async; ``examples`` keeps machines apart."""

    runner: asyncio.Runner
    application: Application
    examples: int = 0

    def send(self, method: str, url: str, body: Body | None = None, **headers: str) -> Answer:
        written = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.runner.run(exchange(self.application, method, url, body=body, headers=written))


@dataclass
class Model:
    blobs: dict[str, dict[str, bytes]] = field(default_factory=dict)  # by repository, by digest

    def mountable(self, target: str, digest: str, source: str | None) -> bytes | None:
        """Content that the target may take over: of its own tenant, and from the source where there is one."""
        for repository, held in self.blobs.items():
            same_tenant = repository.partition("/")[0] == target.partition("/")[0]
            if same_tenant and source in {None, repository} and digest in held:
                return held[digest]
        return None


class UploadMachine(RuleBasedStateMachine):
    """Each rule is one request; what it has to be answered follows from the model alone."""

    sessions: Bundle[Session] = Bundle("sessions")

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        world.examples += 1
        # Tenants of its own: nothing tells the empty blob of one machine from another's.
        self.repositories = [f"{tenant}-{world.examples}/{each}" for tenant in TENANTS for each in "ab"]
        self.model = Model({name: {} for name in self.repositories})
        self.known: list[Session] = []
        self.written = 0

    # -- what is sent -------------------------------------------------------------------------------------------------

    def piece(self, size: int) -> bytes:
        """Content that no other piece has, unless it is empty: blobs are shared within a tenant."""
        self.written += 1
        stamp = b"%d.%d " % (self.world.examples, self.written)
        return (stamp * (size // len(stamp) + 1))[:size]

    @staticmethod
    def body(content: bytes, arrival: Arrival) -> tuple[Body, dict[str, str]]:
        half = len(content) // 2
        length = {"content_length": str(len(content))}
        match arrival:
            case "sized":
                return whole(content[:half], content[half:]), length
            case "streamed":
                return whole(content[:half], b"", content[half:]), {}
            case "cut":
                return cut(content[:half]), {}
            case "truncated":
                return truncated(content[:half]), length

    @staticmethod
    def place(session: Session, content: bytes, place: Place) -> tuple[dict[str, str], int]:
        """The Content-Range, and the status that it alone leads to (0: none)."""
        offset, size = len(session.content), len(content)
        starts = {"right": offset, "gap": offset + 7, "repeat": offset - 1}
        if place == "unreadable":
            return {"content_range": "from here on"}, 400
        if place == "inverted" and offset:
            return {"content_range": f"{offset}-{offset - 1}"}, 416
        start = starts.get(place, -1)
        if start < 0 or not size:
            return {}, 0
        return {"content_range": f"{start}-{start + size - 1}"}, 0 if place == "right" else 416

    @staticmethod
    def claim(content: bytes, claim: Claim, algorithm: str, malformed: str) -> str:
        match claim:
            case "right":
                return f"?digest={digest_of(content, algorithm)}"
            case "wrong":
                return f"?digest={digest_of(content + b'!', algorithm)}"
            case "malformed":
                return f"?digest={malformed}"
            case "missing":
                return ""

    # -- what has to be answered --------------------------------------------------------------------------------------

    def begun(self, answer: Answer, repository: str) -> Session:
        assert answer.status == 202
        assert answer.headers["range"] == "0-0"
        session = Session(repository, [answer.headers["location"]])
        self.known.append(session)
        return session

    def check_created(self, answer: Answer, repository: str, digest: str, content: bytes) -> None:
        assert answer.status == 201
        assert answer.headers["location"] == f"/v2/{repository}/blobs/{digest}"
        assert answer.headers["docker-content-digest"] == digest
        self.model.blobs[repository][digest] = content

    def check_offset(self, session: Session, *, brought: bytes = b"") -> None:
        """GET agrees with the model. Of what a broken body ``brought``, any beginning may have stayed."""
        answer = self.world.send("GET", session.locations[0])
        assert answer.status == 204
        offset = int(answer.headers["range"].partition("-")[2])
        if brought:
            reached = max(offset + 1 if offset else 0, len(session.content))
            assert reached <= len(session.content + brought)
            session.content = (session.content + brought)[:reached]
        assert answer.headers["range"] == f"0-{max(len(session.content) - 1, 0)}"

    # -- beginning ----------------------------------------------------------------------------------------------------

    @rule(target=sessions, at=st.integers(0, 3), algorithm=st.sampled_from([None, "sha256", "sha512", "", "crc32"]))
    def begin(self, at: int, algorithm: str | None) -> Session | MultipleResults[Session]:
        repository = self.repositories[at]
        query = "" if algorithm is None else f"?digest-algorithm={algorithm}"
        answer = self.world.send("POST", f"/v2/{repository}/blobs/uploads/{query}")
        if algorithm == "crc32":
            assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
            return multiple()
        return self.begun(answer, repository)

    @rule(
        at=st.integers(0, 3),
        size=SIZES,
        arrival=ARRIVALS,
        claim=st.sampled_from(["right", "right", "wrong", "malformed"]),
        algorithm=ALGORITHMS,
        malformed=st.sampled_from(MALFORMED),
    )
    def push_whole(self, at: int, size: int, arrival: Arrival, claim: Claim, algorithm: str, malformed: str) -> None:
        repository, content = self.repositories[at], self.piece(size)
        query = self.claim(content, claim, algorithm, malformed)
        body, headers = self.body(content, arrival)
        answer = self.world.send("POST", f"/v2/{repository}/blobs/uploads/{query}", body, **headers)
        if claim == "malformed":
            assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
        elif arrival == "cut" or (arrival == "truncated" and size):
            assert (answer.status, answer.codes) == (400, ["SIZE_INVALID"])
        elif claim == "wrong":
            assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
        else:
            self.check_created(answer, repository, digest_of(content, algorithm), content)

    @rule(
        target=sessions,
        at=st.integers(0, 3),
        source=st.none() | st.integers(0, 3),
        which=st.integers(0, 20),
        malformed=st.none() | st.sampled_from(MALFORMED),
    )
    def mount(
        self, at: int, source: int | None, which: int, malformed: str | None
    ) -> Session | MultipleResults[Session]:
        repository = self.repositories[at]
        digests = [digest for held in self.model.blobs.values() for digest in held] + [ABSENT]
        digest = digests[which % len(digests)] if malformed is None else malformed
        origin = None if source is None else self.repositories[source]
        query = f"?mount={digest}" + (f"&from={origin}" if origin else "")
        answer = self.world.send("POST", f"/v2/{repository}/blobs/uploads/{query}")
        if malformed is not None:
            assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
            return multiple()
        content = self.model.mountable(repository, digest, origin)
        if content is None:
            return self.begun(answer, repository)
        self.check_created(answer, repository, digest, content)
        return multiple()

    # -- going on -----------------------------------------------------------------------------------------------------

    @rule(session=sessions, size=SIZES, place=PLACES, arrival=ARRIVALS)
    def append(self, session: Session, size: int, place: Place, arrival: Arrival) -> None:
        content = self.piece(size)
        ranged, refusal = self.place(session, content, place)
        body, sized = self.body(content, arrival)
        answer = self.world.send("PATCH", session.locations[-1], body, **ranged, **sized)
        if not session.alive:
            assert (answer.status, answer.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"])
        elif refusal:
            self.check_refused(answer, session, refusal)
        elif arrival == "cut" or (arrival == "truncated" and size):
            assert (answer.status, answer.codes) == (400, ["SIZE_INVALID"])
            self.check_offset(session, brought=content[: size // 2])
        else:
            session.content += content
            assert answer.status == 202
            assert answer.headers["range"] == f"0-{max(len(session.content) - 1, 0)}"
            session.locations.append(answer.headers["location"])

    def check_refused(self, answer: Answer, session: Session, status: int) -> None:
        code = {416: "BLOB_UPLOAD_INVALID", 400: "SIZE_INVALID"}[status]
        assert (answer.status, answer.codes) == (status, [code])
        if status == 416:
            assert answer.headers["range"] == f"0-{max(len(session.content) - 1, 0)}"
        self.check_offset(session)

    @rule(session=sessions, earlier=st.integers(0, 20), method=st.sampled_from(["GET", "HEAD"]))
    def ask(self, session: Session, earlier: int, method: str) -> None:
        answer = self.world.send(method, session.locations[earlier % len(session.locations)])
        assert answer.status == (204 if session.alive else 404)
        if session.alive:
            assert answer.headers["range"] == f"0-{max(len(session.content) - 1, 0)}"

    # -- ending -------------------------------------------------------------------------------------------------------

    @rule(
        session=sessions,
        size=SIZES,
        place=PLACES,
        arrival=ARRIVALS,
        claim=CLAIMS,
        algorithm=ALGORITHMS,
        malformed=st.sampled_from(MALFORMED),
        earlier=st.integers(0, 20),
    )
    def finish(
        self,
        session: Session,
        size: int,
        place: Place,
        arrival: Arrival,
        claim: Claim,
        algorithm: str,
        malformed: str,
        earlier: int,
    ) -> None:
        content = self.piece(size)
        ranged, refusal = self.place(session, content, place)
        body, sized = self.body(content, arrival)
        complete = session.content + content
        query = self.claim(complete, claim, algorithm, malformed)
        location = session.locations[earlier % len(session.locations)]
        answer = self.world.send("PUT", location + query, body, **ranged, **sized)
        if claim in {"malformed", "missing"}:
            assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
        elif not session.alive:
            assert (answer.status, answer.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"])
        elif refusal:
            self.check_refused(answer, session, refusal)
        elif arrival == "cut" or (arrival == "truncated" and size):
            assert (answer.status, answer.codes) == (400, ["SIZE_INVALID"])
            self.check_offset(session, brought=content[: size // 2])
        elif claim == "wrong":
            assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
            self.check_offset(session)
        else:
            session.alive = False
            self.check_created(answer, session.repository, digest_of(complete, algorithm), complete)

    @rule(session=sessions)
    def cancel(self, session: Session) -> None:
        answer = self.world.send("DELETE", session.locations[0])
        assert answer.status == (204 if session.alive else 404)
        session.alive = False

    # -- what holds at any time ---------------------------------------------------------------------------------------

    @rule(at=st.integers(0, 3), which=st.integers(0, 20))
    def read(self, at: int, which: int) -> None:
        """A blob is where it was pushed or mounted to, whole, and nowhere else."""
        repository = self.repositories[at]
        digests = [digest for held in self.model.blobs.values() for digest in held] + [ABSENT]
        digest = digests[which % len(digests)]
        answer = self.world.send("GET", f"/v2/{repository}/blobs/{digest}")
        content = self.model.blobs[repository].get(digest)
        assert answer.status == (404 if content is None else 200)
        if content is not None:
            assert answer.body == content

    def teardown(self) -> None:
        for session in self.known:
            if session.alive:
                self.check_offset(session)
            else:
                assert self.world.send("GET", session.locations[0]).status == 404
        for repository, held in self.model.blobs.items():
            for digest, content in held.items():
                assert self.world.send("GET", f"/v2/{repository}/blobs/{digest}").body == content


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    with asyncio.Runner() as runner:
        registry = Registry(settings)
        runner.run(registry.open())
        try:
            yield World(runner, Application(registry, limits=Limits(), access_log=None))
        finally:
            runner.run(registry.close())


def test_uploads_agree_with_the_model(world: World) -> None:
    """2.1 to 2.13 in any order: POST, PATCH, GET, PUT and DELETE, with all that can be wrong about them."""

    class Machine(UploadMachine):
        def __init__(self) -> None:
            super().__init__(world)

    run_state_machine_as_test(
        Machine,
        settings=hypothesis_settings(
            max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
