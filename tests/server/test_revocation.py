"""Rights that are taken away by a command end in every `distsql serve` within seconds."""

from __future__ import annotations

import httpx

from tests.server.conftest import Start
from tests.server.processes import distsql, wait_until

CATALOG = "/v2/_catalog"


def test_in_two_servers(catalogue: tuple[str, ...], start_serve: Start) -> None:
    """Tokens of two accounts, shown to both servers all the time: the one's end, then the other's with its tenant."""

    def command(*arguments: str) -> str:
        done = distsql(*arguments, *catalogue)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    command("tenant", "create", "acme")
    secrets = {name: command("account", "create", name, "--grant", "acme/**:pull") for name in ("acme/ci", "acme/ann")}
    with (
        httpx.Client(base_url=start_serve(catalogue, "--auth", "token").url) as one,
        httpx.Client(base_url=start_serve(catalogue, "--auth", "token").url) as other,
    ):
        headers = {}
        for login, secret in secrets.items():
            answer = one.get("/token", params={"scope": "registry:catalog:*"}, auth=(login, secret))
            headers[login] = {"authorization": f"Bearer {answer.json()['token']}"}

        def statuses(login: str) -> list[int]:
            return [client.get(CATALOG, headers=headers[login]).status_code for client in (one, other)]

        assert statuses("acme/ci") == statuses("acme/ann") == [200, 200]
        command("account", "disable", "acme/ci")
        wait_until(lambda: statuses("acme/ci") == [401, 401], seconds=5, what="the end of its tokens")
        assert statuses("acme/ann") == [200, 200]
        command("tenant", "suspend", "acme")
        wait_until(lambda: statuses("acme/ann") == [403, 403], seconds=5, what="the suspension")
