"""What a pull is: a GET of a manifest. A HEAD only tells that its tag is in use; a blob counts by its bytes."""

from __future__ import annotations

from typing import Final

from distsql.api.requests import Request
from distsql.oci.names import DEFAULT_TENANT
from distsql.registry.pulls import Pulls

# Numbers, not names of the enumeration: to read one of those takes longer than all else that is done with it.
_GIVEN: Final = (200, 206)
_REDIRECTED: Final = 307
_BAD: Final = 400


def count(pulls: Pulls, request: Request) -> None:
    """Counts a request about a repository that was answered well, and what it gave out.

    Bytes are those that the answer begins to send: who hangs up halfway has had them for all that is known.
    """
    status = request.status
    if not 0 < status < _BAD:
        return
    name, pull = request.repository or "", request.pull
    if "/" not in name:
        name = f"{DEFAULT_TENANT}/{name}"
    kind = request.actor_kind
    if pull is None:
        pulls.add(name, kind, None, None, 0, 0, 0)
    elif request.method == "GET" and status in _GIVEN:
        pulls.add(name, kind, pull.tag, pull.digest, int(pull.digest is not None), request.sent_length, 0)
    else:
        redirected = request.method == "GET" and status == _REDIRECTED
        pulls.add(name, kind, pull.tag, None, 0, 0, pull.length if redirected else 0)
