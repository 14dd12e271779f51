"""What a webhook is sent: an event in the format that it wants, signed as Standard Webhooks says. Pure values."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid5

from distsql.sql.webhooks import KINDS

FORMATS: Final = ("distribution", "cloudevents")
_CONTENT_TYPES: Final = {
    "distribution": "application/vnd.docker.distribution.events.v1+json",
    "cloudevents": "application/cloudevents+json",
}
_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32
# Of ids that this registry makes: the same event has the same one for ever.
_NAMESPACE: Final = UUID("b5b0e8a4-7a5a-4a53-9d57-0b7d1c7b6c4e")

Event = Mapping[str, Any]


class Message(NamedTuple):
    """A request's headers and body."""

    headers: dict[str, str]
    body: bytes


def new_secret() -> str:
    """What messages are signed with."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def message_id(tenant_id: int, event_at: datetime, event_id: int) -> str:
    """The same for each attempt, each replay, and each webhook: whoever has had it may leave it."""
    return str(uuid5(_NAMESPACE, f"{tenant_id}/{event_at.timestamp():.6f}/{event_id}"))


def make_message(event: Event, *, id: str, format: str, secret: str, now: datetime) -> Message:  # noqa: A002
    """The event, signed now."""
    write = _write_distribution if format == "distribution" else _write_cloudevent
    body = json.dumps(write(event, id), ensure_ascii=False, separators=(",", ":")).encode()
    timestamp = str(int(now.timestamp()))
    return Message(
        {
            "content-type": _CONTENT_TYPES[format],
            "webhook-id": id,
            "webhook-timestamp": timestamp,
            "webhook-signature": sign(secret, id, timestamp, body),
        },
        body,
    )


def sign(secret: str, id: str, timestamp: str, body: bytes) -> str:  # noqa: A002
    """``v1,`` and the HMAC-SHA256 of id, timestamp and body (Standard Webhooks, "Verifying webhook authenticity")."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    signed = hmac.digest(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


def _kind(event: Event) -> str:
    return next((kind for kind, actions in KINDS.items() if event["action"] in actions), "test")


def _target(event: Event) -> dict[str, Any]:
    found = {
        "mediaType": event.get("media_type"),
        "size": event.get("length"),
        "length": event.get("length"),
        "digest": event.get("digest"),
        "repository": event.get("repository"),
        "tag": event.get("reference"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _write_distribution(event: Event, id: str) -> dict[str, Any]:  # noqa: A002
    """As docker/distribution notifies ("Notifications", "Envelope")."""
    return {
        "events": [
            {
                "id": id,
                "timestamp": event["at"],
                "action": _kind(event),
                "target": _target(event),
                "request": {
                    "id": event.get("request_id", ""),
                    "addr": event.get("client_address", ""),
                    "useragent": event.get("user_agent", ""),
                },
                "actor": {"name": event["actor"]},
                "source": {"addr": "distsql"},
            }
        ]
    }


def _write_cloudevent(event: Event, id: str) -> dict[str, Any]:  # noqa: A002
    """CloudEvents 1.0 in its structured JSON form."""
    reference = event.get("reference")
    return {
        "specversion": "1.0",
        "id": id,
        "source": f"/distsql/{event['tenant']}",
        "type": f"distsql.{_kind(event)}",
        "time": event["at"],
        "subject": f"{event['repository']}:{reference}" if reference else event["repository"],
        "datacontenttype": "application/json",
        "data": {
            "action": event["action"],
            "actor": event["actor"],
            "target": _target(event),
            "request_id": event.get("request_id", ""),
        },
    }
