"""Retention: what a tenant and its repositories keep, and what goes by itself; told before, and done just so."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

from distsql.errors import DistsqlError, NameUnknownError, TenantUnknownError
from distsql.oci.digest import Digest
from distsql.oci.names import RepositoryName
from distsql.registry.context import Backend, RepositoryContext
from distsql.registry.deletion_effects import DeletionEffects
from distsql.registry.manifest_reviews import SOON_S
from distsql.registry.mass_deletions import delete_content
from distsql.registry.pulls import add_up
from distsql.registry.retention_rules import Policy, Rule
from distsql.sql import (
    audit,
    deletion_effects,
    manifest_deletions,
    mass_deletions,
    repositories,
    retention,
    retention_runs,
)
from distsql.sql.database import Database, transactional
from distsql.sql.manifest_deletions import ManifestKeyRow
from distsql.sql.repositories import RepositoryRow
from distsql.sql.retention import DecisionRow, RetainedRow
from distsql.sql.transactions import Transaction
from distsql.values import Caller

_log: Final = logging.getLogger("distsql")
_PAGE: Final = 100
_REASONS: Final = {
    "immutable": "the tag is immutable",
    "companion": "it belongs to {because_of}, which is here",
    "image": "its image is kept, which has other tags or is a child of {because_of}",
    "unmatched": "no rule is about it",
    "read-only": "it would go, but nothing may be written here",
    "undeletable": "it would go, but deletions are switched off",
    "suspended": "it would go, but the tenant is suspended",
}


@dataclass(frozen=True, slots=True)
class NamedPolicy:
    """A policy, and whose it is: a tenant, or ``tenant/repository``."""

    name: str
    id: int
    policy: Policy


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a tag, or of a manifest (``tag`` None), and why: in words, and by which rule of which policy."""

    row: DecisionRow
    reason: str
    rule: str | None

    @property
    def deletes(self) -> bool:
        """Whether it goes."""
        return self.row.deletes


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one repository: every decision, and what the deletions among them free, keep and break."""

    repository: str
    decisions: Sequence[Decision]
    effects: DeletionEffects

    @property
    def deleted(self) -> Sequence[Decision]:
        """What goes."""
        return [each for each in self.decisions if each.deletes]


class Retention:
    """The policies of all tenants; on behalf of an administrator, or of the server itself."""

    __slots__ = ("_backend", "_caller", "database")

    def __init__(self, backend: Backend, caller: Caller) -> None:
        self._backend = backend
        self._caller = caller
        self.database: Database = backend.everything

    # -- policies -----------------------------------------------------------------------------------------------------

    async def all(self, tenant: str | None = None) -> Sequence[NamedPolicy]:
        """All policies, or those of a tenant and its repositories."""
        return await self.database.read(_policies, tenant)

    @transactional
    async def set(self, tx: Transaction, name: str, policy: Policy | None) -> None:
        """Gives a tenant or ``tenant/repository`` this policy instead of its earlier one, or none.

        Raises `TenantUnknownError`, `NameInvalidError`, `NameUnknownError`.
        """
        tenant_id, repository_id = await self._find(tx, name)
        retention.delete_retention_policy(tx, tenant_id, repository_id)
        if policy is not None:
            await retention.insert_retention_policy(
                tx, tenant_id, repository_id, columns(policy), kind=policy.kind, actor=self._caller.actor
            )
        rules = [f"{rule.action} {rule}" for rule in policy.rules.values()] if policy else ["none"]
        audit.insert_audit_events(
            tx,
            tenant_id,
            "retention.set",
            caller=self._caller,
            repository=name if repository_id is not None else None,
            references=rules,
        )

    async def _find(self, tx: Transaction, name: str) -> tuple[int, int | None]:
        if "/" in name:
            row = await repositories.find_repository(tx, RepositoryName.parse(name))
            if row is None:
                raise NameUnknownError(f"There is no repository {name}", detail={"name": name})
            return row.tenant_id, row.id
        tenant_id = await repositories.find_tenant(tx, name)
        if tenant_id is None:
            raise TenantUnknownError(f"There is no tenant {name[:80]!r}: `distsql tenant create` makes it")
        return tenant_id, None

    # -- what they decide ---------------------------------------------------------------------------------------------

    async def preview(self, name: str) -> AsyncIterator[Outcome]:
        """What `run` would do just now: for a repository, or for each of a tenant's that a policy is for."""
        async for repository in self._retained(name):
            yield await self._preview(repository)

    async def run(self, name: str | None = None) -> AsyncIterator[Outcome]:
        """Deletes what the policies say, each repository in one transaction, and tells what was decided for it.

        Of one repository, of a tenant's, or of all that a policy is for. Raises `ReadOnlyError`.
        """
        async for repository in self._retained(name):
            context = RepositoryContext(
                self._backend, RepositoryName(repository.tenant, repository.path, repository.id), self._caller
            )
            context.check_writable()
            outcome = await self._run(repository, context, patient=True)
            if outcome is not None:
                yield outcome

    async def run_in_turn(self, *, interval: timedelta) -> None:
        """As `run`, of everything, if no server did so for the interval; ends when somebody else is at it."""
        if self._backend.read_only or not await self.database.transact(
            partial(retention_runs.claim_retention_run, interval=interval)
        ):
            return
        async for repository in self._retained(None):
            context = RepositoryContext(
                self._backend, RepositoryName(repository.tenant, repository.path, repository.id), self._caller
            )
            try:
                outcome = await self._run(repository, context, patient=False)
            except DistsqlError as error:
                _log.warning("retention of %s is left for the next time: %s", context.name, error)
                continue
            if outcome is None:
                return
            if outcome.deleted:
                _log.info("retention of %s deleted %d tags and manifests", context.name, len(outcome.deleted))

    async def _retained(self, name: str | None) -> AsyncIterator[RetainedRow]:
        await add_up(self.database)  # what was pulled lately is no candidate
        tenant, _, path = (name or "").partition("/")
        if name is not None:
            tenant_id, repository_id = await self.database.transact(partial(self._find, name=name))
            if repository_id is not None:
                yield RetainedRow(tenant_id, repository_id, tenant, path)
                return
        after = (-1, 0)
        while page := await self.database.read(
            retention.list_retained_repositories, tenant=tenant or None, after=after, limit=_PAGE
        ):
            for row in page:
                yield row
            after = page[-1].tenant_id, page[-1].id

    async def _preview(self, found: RetainedRow) -> Outcome:
        return await self._outcome(found, await self._decide(found))

    async def _decide(self, found: RetainedRow) -> list[DecisionRow]:
        terms = await self.database.read(retention.find_retention_terms, _repository(found))
        if terms is None:
            return []
        return await self.database.read(retention.list_retention_decisions, _repository(found), terms)

    async def _outcome(self, found: RetainedRow, rows: Sequence[DecisionRow]) -> Outcome:
        policies = {each.id: each for each in await self.database.read(_policies, found.tenant)}
        effects = await self.database.read(
            deletion_effects.list_deletion_effects,
            _repository(found),
            tags=[row.tag for row in rows if row.deletes and row.tag is not None],
            digests=[row.digest for row in rows if row.deletes and row.tag is None],
        )
        return Outcome(
            f"{found.tenant}/{found.path}", [_decision(row, policies) for row in rows], DeletionEffects(effects)
        )

    # -- and what is done ---------------------------------------------------------------------------------------------

    async def _run(self, found: RetainedRow, context: RepositoryContext, *, patient: bool) -> Outcome | None:
        """What was done, or None when somebody else is at it.

        One transaction deletes. What has to come before and may come afterwards is in others, and what is only read is
        read beside it, while it holds its locks: all in one would lock more than fifty tables and indexes.
        """
        while True:
            rows = await self._decide(found)
            keys = [ManifestKeyRow(found.tenant_id, found.id, each.digest) for each in _without_tag(rows)]
            begun = time.monotonic()
            if keys:
                await self.database.transact(partial(_release, keys))
            with suppress(_LateError):
                outcome = await self._delete(found, context, rows, begun, patient=patient)
                if keys and outcome is not None:
                    await self.database.transact(partial(manifest_deletions.take_signatures, keys=keys))
                return outcome

    @transactional
    async def _delete(
        self,
        tx: Transaction,
        found: RetainedRow,
        context: RepositoryContext,
        rows: Sequence[DecisionRow],
        begun: float,
        *,
        patient: bool,
    ) -> Outcome | None:
        if not await retention_runs.lock_retention(tx, patient=patient):
            return None
        if time.monotonic() - begun > SOON_S:
            raise _LateError
        repository = _repository(found)
        places: Mapping[Digest, str] = {}
        if any(row.deletes for row in rows):
            rows, places = await self._judge_locked(tx, found, rows)
        outcome = await self._outcome(found, rows)
        if outcome.deleted:
            actors = {id(each): f"retention:{each.rule}" for each in outcome.deleted}
            await delete_content(
                tx,
                context,
                repository,
                tags={each.row.tag: actors[id(each)] for each in outcome.deleted if each.row.tag is not None},
                digests={each.row.digest: actors[id(each)] for each in outcome.deleted if each.row.tag is None},
                places=places,
            )
        if outcome.deleted or patient:  # who is patient was told to run it, and that is remembered
            context.audit(tx, repository.tenant_id, "retention.run", references=[f"{len(outcome.deleted)} deleted"])
        return outcome

    async def _judge_locked(
        self, tx: Transaction, found: RetainedRow, rows: Sequence[DecisionRow]
    ) -> tuple[list[DecisionRow], Mapping[Digest, str]]:
        """Decides again what seems to go, once nobody else can change it; what only now would go waits for another run.

        A tag that moved meanwhile is a newer one, and judged so. Also where the manifests' rows are.
        """
        names = [row.tag for row in rows if row.deletes and row.tag is not None]
        digests = [row.digest for row in _without_tag(rows)]
        tags_locked, places = await mass_deletions.lock_content(tx, _repository(found), names=names, digests=digests)
        decided = [
            row._replace(deletes=False, reason="unmatched")
            if row.deletes and not (row.tag in tags_locked if row.tag is not None else row.digest in places)
            else row
            for row in await self._decide(found)  # beside the locks, and after them
        ]
        return decided, places


class _LateError(Exception):
    """What is to be deleted was released too long ago: others kept this run waiting."""


async def _release(keys: Sequence[ManifestKeyRow], tx: Transaction) -> None:
    """The grace of what the manifests need begins again."""
    manifest_deletions.release_layers(tx, keys)


def _repository(found: RetainedRow) -> RepositoryRow:
    return RepositoryRow(found.tenant_id, found.id, sparse=False)


def _without_tag(rows: Sequence[DecisionRow]) -> list[DecisionRow]:
    """Manifests that are to be deleted by themselves."""
    return [row for row in rows if row.deletes and row.tag is None]


async def _policies(tx: Transaction, tenant: str | None = None) -> list[NamedPolicy]:
    found: dict[int, NamedPolicy] = {}
    rules: dict[int, dict[int, Rule]] = {}
    for row in await retention.list_retention_rules(tx, tenant=tenant):
        name = row.tenant if row.path is None else f"{row.tenant}/{row.path}"
        of_policy = rules.setdefault(row.policy_id, {})
        of_policy[row.priority] = Rule(row.action, row.selects, tuple(row.patterns), row.criterion, row.latest, row.age)
        found[row.policy_id] = NamedPolicy(name, row.policy_id, Policy(of_policy, row.kind))
    return list(found.values())


def _decision(row: DecisionRow, policies: dict[int, NamedPolicy]) -> Decision:
    if row.policy_id is None or row.priority is None:
        return Decision(row, _REASONS[row.reason].format(because_of=row.because_of), None)
    policy = policies[row.policy_id]
    name, rule = f"{policy.name}#{row.priority}", policy.policy.rules[row.priority]
    if row.reason != "rule":
        return Decision(row, _REASONS[row.reason].format(because_of=row.because_of or "an index"), name)
    return Decision(row, f"{name}: {rule.action} {rule}", name)


def columns(policy: Policy) -> dict[str, list[object]]:
    """The rules as rows, by column."""
    rules = list(policy.rules.values())
    return {
        "priority": list(policy.rules),
        "action": [rule.action for rule in rules],
        "selection": [rule.selects for rule in rules],
        "pattern_list": [",".join(rule.patterns) for rule in rules],
        "criterion": [rule.criterion for rule in rules],
        "latest": [rule.latest for rule in rules],
        "age": [rule.age for rule in rules],
    }
