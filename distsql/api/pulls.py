"""What a pull is: a GET of a manifest. A HEAD only tells that its tag is in use; a blob counts by its bytes."""

from __future__ import annotations

from typing import Final

from distsql.api.requests import Request
from distsql.registry.pulls import Pulls

# Numbers, not names of the enumeration: to read one of those takes longer than all else that is done with it.
_GIVEN: Final = (200, 206)
_REDIRECTED: Final = 307
_BAD: Final = 400


def count(pulls: Pulls, request: Request) -> None:
    """Counts a request about a repository that was answered well, and what it gave out.

    Bytes are those that the answer begins to send: who hangs up halfway has had them for all that is known.
    """
    status, name, pull = request.status, request.repository, request.pull
    if not 0 < status < _BAD or name is None:
        return
    if pull is None:
        pulls.add(name, request.actor_kind, None, None, 0, 0, 0)
    elif status in _GIVEN and request.method == "GET":
        digest = pull.digest
        pulls.add(name, request.actor_kind, pull.tag, digest, 0 if digest is None else 1, request.sent_length, 0)
    else:
        redirected = status == _REDIRECTED and request.method == "GET"
        pulls.add(name, request.actor_kind, pull.tag, None, 0, 0, pull.length if redirected else 0)
