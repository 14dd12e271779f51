"""What tenants use, and their quotas: statements.

Use is the sum over a few rows of `tenant_usage`, its slots. A transaction adds what it brings or takes to one of them,
as the last thing that it does: pushes of one tenant wait for each other only where they happen to count in the same.

Under a quota a slot may give away only what is free in it: a constraint keeps that from falling below 0, so no two
transactions together can exceed the quota. What goes away is free in no slot until it is needed: a transaction that
found too little begins again once `share_out` has given all that is free in the tenant to the slots, and then, if that
was still too little, to a single one, in which everybody waits who is as near the limit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Integer,
    case,
    cast,
    func,
    literal_column,
    null,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import Insert, insert

from distsql.errors import QuotaExceededError
from distsql.sql.statements import TENANT_ID, Nothing, parameter, statement
from distsql.sql.tables import tenants
from distsql.sql.tenant_tables import tenant_usage

if TYPE_CHECKING:
    from distsql.sql.database import Database
    from distsql.sql.transactions import Transaction

Result = TypeVar("Result")

SLOTS: Final = 16
"""Of each tenant. More cost little, but what is free is divided among them."""
SHARED_SLOT: Final = 0
"""Where everybody counts who has not found enough elsewhere."""

MEASURES: Final = ("stored_bytes", "repositories", "manifests", "tags")
_QUOTAS: Final = {
    "stored_bytes": "quota_bytes",
    "repositories": "quota_repositories",
    "manifests": "quota_manifests",
    "tags": "quota_tags",
}
_FREE: Final = {
    "stored_bytes": "free_bytes",
    "repositories": "free_repositories",
    "manifests": "free_manifests",
    "tags": "free_tags",
}
SLOT: Final = parameter("slot", Integer())
_ZERO: Final = literal_column("0", BigInteger())


class UseRow(NamedTuple):
    """What a tenant uses."""

    stored_bytes: int
    repositories: int
    manifests: int
    tags: int


class TenantUseRow(NamedTuple):
    """What a tenant uses, and what it may."""

    stored_bytes: int
    repositories: int
    manifests: int
    tags: int
    quota_bytes: int | None
    quota_repositories: int | None
    quota_manifests: int | None
    quota_tags: int | None


def adding(new: Insert) -> Insert:
    """The insert of a slot adds to the one that is there; what is free there gets less by what is more."""
    free = {
        _FREE[measure]: tenant_usage.c[_FREE[measure]] - func.greatest(new.excluded[measure], _ZERO)
        for measure in MEASURES
    }
    return new.on_conflict_do_update(
        index_elements=[tenant_usage.c.tenant_id, tenant_usage.c.slot],
        set_={**{measure: tenant_usage.c[measure] + new.excluded[measure] for measure in MEASURES}, **free},
    )


_counts = insert(tenant_usage).values(
    tenant_id=TENANT_ID, slot=SLOT, **{measure: parameter(measure, BigInteger()) for measure in MEASURES}
)

ADD_USAGE: Final = statement(
    "add_usage",
    "What a transaction brings to a tenant, or takes from it, is counted in one of the slots.",
    adding(_counts),
    Nothing,
)


def add_usage(
    tx: Transaction,
    tenant_id: int,
    *,
    stored_bytes: int = 0,
    repositories: int = 0,
    manifests: int = 0,
    tags: int = 0,
) -> None:
    """Counts what came (or, below 0, went). Comes last: others of the tenant may wait for the slot."""
    if stored_bytes or repositories or manifests or tags:
        tx.queue(
            ADD_USAGE,
            tenant_id=tenant_id,
            slot=tx.slot,
            stored_bytes=stored_bytes,
            repositories=repositories,
            manifests=manifests,
            tags=tags,
        )


CORRECT_USAGE: Final = statement(
    "correct_usage",
    "What was counted wrongly is counted right, whatever the quota: nothing new comes with it.",
    _counts.on_conflict_do_update(
        index_elements=[tenant_usage.c.tenant_id, tenant_usage.c.slot],
        set_={measure: tenant_usage.c[measure] + _counts.excluded[measure] for measure in MEASURES},
    ),
    Nothing,
)


def correct_usage(
    tx: Transaction, tenant_id: int, *, stored_bytes: int = 0, repositories: int = 0, manifests: int = 0, tags: int = 0
) -> None:
    """Mends the count of what is there already; no quota refuses that."""
    if stored_bytes or repositories or manifests or tags:
        tx.queue(
            CORRECT_USAGE,
            tenant_id=tenant_id,
            slot=tx.slot,
            stored_bytes=stored_bytes,
            repositories=repositories,
            manifests=manifests,
            tags=tags,
        )


# -- near the limit ---------------------------------------------------------------------------------------------------

_slots = (
    func.generate_series(_ZERO, literal_column(str(SLOTS - 1), BigInteger())).table_valued("slot").render_derived("new")
)

MAKE_SLOTS: Final = statement(
    "make_slots",
    "All slots of a tenant, so that each can be given its part.",
    insert(tenant_usage)
    .from_select(["tenant_id", "slot"], select(TENANT_ID, cast(_slots.c.slot, Integer)))
    .on_conflict_do_nothing(),
    Nothing,
)

LOCK_SLOTS: Final = statement(
    "lock_slots",
    "Nobody counts in this tenant until the end of the transaction.",
    select(tenant_usage.c.slot)
    .where(tenant_usage.c.tenant_id == TENANT_ID)
    .order_by(tenant_usage.c.slot)
    .with_for_update(),
    Nothing,
)

_sums = (
    select(*(func.sum(tenant_usage.c[measure]).cast(BigInteger).label(measure) for measure in MEASURES))
    .where(tenant_usage.c.tenant_id == TENANT_ID)
    .subquery("use")
)
_limits = select(*(tenants.c[quota] for quota in _QUOTAS.values())).where(tenants.c.id == TENANT_ID).subquery("quota")
_TO_ONE: Final = parameter("to_one", Boolean())
_slot_count = literal_column(str(SLOTS), BigInteger())
_ONE: Final = literal_column("1", BigInteger())


def _share(measure: str) -> ColumnElement[Any]:
    """What a slot may give away: its part of what is free, of which the shared slot has the rest."""
    quota, use = _limits.c[_QUOTAS[measure]], _sums.c[measure]
    free = func.greatest(quota - use, _ZERO, type_=BigInteger())
    # Above 90 % the parts would be too small for anything: all of it is in the shared slot.
    part = case((_TO_ONE | (free < quota // literal_column("10", BigInteger())), _ZERO), else_=free // _slot_count)
    shared = tenant_usage.c.slot == literal_column(str(SHARED_SLOT), Integer())
    return case((quota.is_(None), null()), (shared, free - part * (_slot_count - _ONE)), else_=part)


SHARE_OUT: Final = statement(
    "share_out",
    "What is free in a tenant is divided among its slots, or given to one.",
    update(tenant_usage)
    .where(tenant_usage.c.tenant_id == TENANT_ID)
    .values({_FREE[measure]: _share(measure) for measure in MEASURES}),
    Nothing,
)

GET_USE: Final = statement(
    "get_use",
    "What a tenant uses, and what it may.",
    select(*(func.coalesce(_sums.c[measure], _ZERO) for measure in MEASURES), *_limits.c).select_from(
        _sums.join(_limits, true())
    ),
    TenantUseRow,
)


async def share_out(tx: Transaction, tenant_id: int, *, to_one: bool) -> None:
    """Gives all that is free in the tenant to its slots, or to the `SHARED_SLOT` alone."""
    tx.queue(MAKE_SLOTS, tenant_id=tenant_id)
    tx.queue(LOCK_SLOTS, tenant_id=tenant_id)
    tx.queue(SHARE_OUT, tenant_id=tenant_id, to_one=to_one)


async def get_use(tx: Transaction, tenant_id: int) -> TenantUseRow:
    """What the tenant uses, and its quotas."""
    row = await tx.one(GET_USE, tenant_id=tenant_id)
    if row is None:
        raise AssertionError("sums give a row")
    return row


_WORDS: Final = {
    "stored_bytes": "bytes of blobs",
    "repositories": "repositories",
    "manifests": "manifests",
    "tags": "tags",
}


async def transact_near_limit(
    database: Database, tenant: str, work: Callable[[Transaction], Awaitable[Result]]
) -> Result:
    """Runs the work where all that is free in the tenant has been gathered.

    Others may be faster than it, so it is tried again. `QuotaExceededError` tells use and limit.
    """
    tenant_id = await database.tenant_id(tenant)
    if tenant_id is None:
        raise AssertionError("what isn't there has no quota")
    measure = ""
    for to_one in (False, True, True):
        await database.transact(partial(share_out, tenant_id=tenant_id, to_one=to_one), tenant=tenant)
        try:
            return await database.transact(work, tenant=tenant, slot=SHARED_SLOT)
        except QuotaExceededError as error:
            measure = error.message  # see constraints.py
    raise _refusal(measure, await database.read_as(tenant_id, get_use, tenant_id))


def _refusal(measure: str, use: TenantUseRow) -> QuotaExceededError:
    used, limit = getattr(use, measure), getattr(use, _QUOTAS[measure])
    return QuotaExceededError(
        f"The tenant uses {used} of the {limit} {_WORDS[measure]} in its quota, and this would be too many: "
        "delete something, or ask the registry's operator for more",
        detail={"measure": measure, "use": used, "limit": limit},
    )
