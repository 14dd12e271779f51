from __future__ import annotations

from datetime import UTC, datetime

from distsql.sql import audit
from distsql.sql.repositories import RepositoryRow
from distsql.sql.transactions import Transaction
from distsql.values import Caller
from tests.sql.rows import digest, look

CALLER = Caller("ann", "192.0.2.1", "client/1.0 'quoted' \\", "request-1")


async def test_an_event_says_who_did_what_to_what(tx: Transaction, repository: RepositoryRow) -> None:
    audit.insert_audit_events(
        tx, repository.tenant_id, "tag.put", caller=CALLER, repository="acme/web", references=["v1"], digest=digest(1)
    )
    rows = await look(
        tx,
        "select tenant_id, actor, action, repository, reference, digest, outcome, client_address, user_agent, "
        "request_id from audit_events",
    )
    assert rows == [
        (
            repository.tenant_id,
            "ann",
            "tag.put",
            "acme/web",
            "v1",
            digest(1).packed,
            "done",
            CALLER.client_address,
            CALLER.user_agent,
            CALLER.request_id,
        )
    ]


async def test_one_event_for_each_reference(tx: Transaction) -> None:
    names = [f"v{number}" for number in range(100)]
    audit.insert_audit_events(tx, 0, "manifest.put", caller=CALLER, repository="acme/web", references=names)
    rows = await look(tx, "select reference, id from audit_events")
    assert sorted(reference for reference, _ in rows) == sorted(names)
    assert len({number for _, number in rows}) == len(names)


async def test_an_event_without_reference_and_digest(tx: Transaction) -> None:
    audit.insert_audit_events(tx, 0, "repository.delete", caller=Caller(), repository="acme/web")
    assert await look(tx, "select actor, reference, digest from audit_events") == [("anonymous", None, None)]


async def test_events_go_to_the_partition_of_their_month(tx: Transaction) -> None:
    audit.insert_audit_events(tx, 0, "test", caller=CALLER, repository="acme/web")
    found = await look(tx, "select tableoid::regclass::text from audit_events")
    assert found == [(f"audit_events_{datetime.now(UTC):%Y_%m}",)]
