"""Statements: SQL that SQLAlchemy writes once in a process, and the shape of its rows.

An async SQLAlchemy engine costs about 300 microseconds of CPU for each query; its compiled string on a psycopg cursor
costs 2 more than a string written by hand. So statements are compiled here and run by ``database.py``. Each when it is
first run: all of them at import would make every command, and every process of a server, start a third of a second
later, and most run only a few.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, TypeVar

from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    Boolean,
    ColumnElement,
    FromClause,
    Insert,
    Join,
    TableValuedAlias,
    Text,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.types import TypeEngine

from distsql.oci.digest import Digest
from distsql.oci.names import RepositoryName
from distsql.sql.parameters import Forms, forms_of
from distsql.sql.tables import repositories, tenants
from distsql.sql.types import DigestType

Row = TypeVar("Row")
Rows = list[tuple[Any, ...]]
"""As they come from PostgreSQL, before a statement makes its own of them."""

_DIALECT: Final = PGDialect_psycopg()  # type: ignore[no-untyped-call]


class Nothing(NamedTuple):
    """The row of a statement that gives none."""


@dataclass(frozen=True, slots=True, eq=False)
class Statement(Generic[Row]):
    """A named statement; its rows come back as the NamedTuple it was made with, digests in them as `Digest`."""

    name: str
    purpose: str
    sql: str
    make_row: Callable[[Sequence[Any]], Row]
    numbered_sql: bytes
    """The same with ``$1``, ``$2`` ... for the parameters named in ``order``: what goes over the wire by itself."""
    order: tuple[str, ...]
    asked: tuple[str, ...] = ()
    """What each of several who ask at once gives: parameters that are lists, called so with an s (see `askers`)."""
    forms: Forms | None = None
    """How its parameters are written; None where psycopg has to find out, from the values."""
    across: Statement[Row] | None = None
    """The same for several who ask as different tenants, of which it sets each in its turn (see `asked_statement`)."""
    sets_tenant: bool = False
    shared: tuple[str, ...] = ()
    """Which of its parameters are the same for all who ask at once."""

    def lists(
        self, askers: Sequence[Mapping[str, Any]], told: Mapping[str, list[Any]] = MappingProxyType({})
    ) -> dict[str, list[Any]]:
        """The parameters that are lists, of what each gives who asks, or what is ``told`` of them.

        All others they have in common.
        """
        return {f"{name}s": told[name] if name in told else [each[name] for each in askers] for name in self.asked}

    def common(self, parameters: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
        """Those of the parameters that all have in common who ask at once."""
        return tuple([(name, parameters[name]) for name in self.shared])

    def pack(self, parameters: Mapping[str, Any]) -> list[bytes | None]:
        """The values of `forms`, in their order. Raises what a value raises that has no form in SQL."""
        forms = self.forms
        if forms is None:
            raise TypeError(f"{self.name} doesn't say of which types its parameters are")
        return [
            None if (value := parameters[name]) is None else pack(value)
            for name, pack in zip(self.order, forms.packs, strict=True)
        ]


registered: Final[dict[str, Statement[Any]]] = {}
"""Every statement by its name: for docs/queries.md, EXPLAIN tests and metrics."""


def statement(
    name: str,
    purpose: str,
    clause: ClauseElement,
    row_type: type[Row],
    *,
    asked: TableValuedAlias | None = None,
    across: Statement[Row] | None = None,
) -> Statement[Row]:
    """A statement under the name of the function that runs it.

    One that several ask at once is ``asked`` by these `askers`: the first of its columns has to be their number, which
    is no part of the row; see `asked_statement`.
    """
    if name in registered:
        raise ValueError(f"two statements are called {name}")
    given = tuple(each.name for each in asked.c if each.name != ASKER) if asked is not None else ()
    made = registered[name] = _Unwritten(name, purpose, given, across, clause, row_type)
    return made


class _Unwritten(Statement[Row]):
    """A statement that is written when something of it is asked for that isn't there; from then on it is as any."""

    __slots__ = ("_clause", "_row_type")
    _clause: ClauseElement
    _row_type: type[Row]

    def __init__(  # for `statement` only
        self,
        name: str,
        purpose: str,
        asked: tuple[str, ...],
        across: Statement[Row] | None,
        clause: ClauseElement,
        row_type: type[Row],
    ) -> None:
        self._fill(name=name, purpose=purpose, asked=asked, across=across, sets_tenant=WHO in asked)
        self._fill(_clause=clause, _row_type=row_type)

    def __getattr__(self, attribute: str) -> object:
        """What Python asks for only while it isn't there."""
        if attribute not in _WRITTEN:
            raise AttributeError(attribute)
        self._write()
        found: object = object.__getattribute__(self, attribute)
        return found

    def _write(self) -> None:
        clause = self._clause
        if isinstance(clause, Insert) and not clause.exported_columns:
            clause = clause.inline()  # else SQLAlchemy lets it return the new primary key
        compiled: Any = clause.compile(dialect=_DIALECT)
        sql = str(compiled)
        numbered_sql, order = _numbered(sql)
        forms = forms_of(compiled.binds[each].type for each in order)
        make_row = _row_maker(clause, self._row_type, skip=bool(self.asked))
        lists = {f"{name}s" for name in self.asked}
        shared = tuple(name for name in order if name not in lists)
        self._fill(sql=sql, make_row=make_row, numbered_sql=numbered_sql, order=order, forms=forms, shared=shared)

    def _fill(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)  # frozen for everybody else


_WRITTEN: Final = frozenset({"sql", "make_row", "numbered_sql", "order", "forms", "shared"})


def asked_statement(
    name: str,
    purpose: str,
    write: Callable[[TableValuedAlias], ClauseElement],
    row_type: type[Row],
    *,
    asking: Mapping[str, TypeEngine[Any]],
) -> Statement[Row]:
    """Two statements, for several who ask about names at once: as the same tenant, and as different ones (``across``).

    ``write`` writes each, over `named_repository`, for the `askers` that it gets; ``asking`` are the parameters that
    each of them has for itself.
    """
    asked, several = askers(asking), askers({WHO: BigInteger(), BY_NAME: Boolean(), "tenant": Text(), **asking})
    told = f"The same asked as several tenants, of which each row sees its own (see {name})."
    across = statement(f"{name}_across_tenants", told, write(several), row_type, asked=several)
    return statement(name, purpose, write(asked), row_type, asked=asked, across=across)


def unnamed(name: str, sql: str) -> Statement[tuple[Any, ...]]:
    """A statement for one occasion, with ``%(name)s`` for its parameters; metrics know it by the name."""
    return Statement(name, "", sql, tuple, *_numbered(sql))


_PLACES: Final = re.compile(r"%%|%\((\w+)\)s")


def _numbered(sql: str) -> tuple[bytes, tuple[str, ...]]:
    """The same with numbers, and the parameters' names in their order.

    SQLAlchemy could write that as well, but each process would start later by the time that all statements take.
    """
    numbers: dict[str, int] = {}

    def number(place: re.Match[str]) -> str:
        return "%" if place[1] is None else f"${numbers.setdefault(place[1], len(numbers) + 1)}"

    return _PLACES.sub(number, sql).encode(), tuple(numbers)


def _row_maker(clause: ClauseElement, row_type: type[Row], *, skip: bool) -> Callable[[Sequence[Any]], Row]:
    columns = list(clause.exported_columns)[skip:] if hasattr(clause, "exported_columns") else []
    digests = [at for at, column in enumerate(columns) if isinstance(column.type, DigestType)]
    make: Callable[[Sequence[Any]], Row] = row_type._make  # type: ignore[attr-defined]  # every row is a NamedTuple
    if not digests:
        return make

    def make_with_digests(values: Sequence[Any]) -> Row:
        converted = list(values)
        for at in digests:
            if converted[at] is not None:
                converted[at] = Digest(converted[at])
        return make(converted)

    return make_with_digests


# -- parameters that many statements share: one name, one type ------------------------------------------------------


def parameter(name: str, type_: TypeEngine[Any]) -> BindParameter[Any]:
    """A named parameter of a type; the value comes with each run."""
    return bindparam(name, type_=type_)


TENANT: Final = parameter("tenant", Text())
PATH: Final = parameter("path", Text())
TENANT_ID: Final = parameter("tenant_id", BigInteger())
REPOSITORY_ID: Final = parameter("repository_id", BigInteger())
DIGEST: Final = parameter("digest", DigestType())
DIGESTS: Final = parameter("digests", ARRAY(DigestType()))
ONLY_ID: Final = parameter("only_id", BigInteger())
LIMIT: Final = parameter("limit", BigInteger())
ACTOR: Final = parameter("actor", Text())
ONE: Final = literal_column("1", BigInteger())
ASKER: Final = "asker"
WHO: Final = "who"
BY_NAME: Final = "by_name"


def named_repository(asked: TableValuedAlias | None = None) -> tuple[Join[Any], FromClause]:
    """From the parameters of `name_parameters`: what to join the next step to, and the repository's one row.

    With those who ``asked``, that of each: all ask about the same tenant, of which they see the rows; or each as a
    tenant of its own, which is set before its row's first step, and is all that the following steps see.

    A chain of laterals with limits keeps the order of the steps whatever the statistics say; as a plain join the
    planner may turn it into a sequential scan when a tenant is small.
    """
    start, tenant = _named_tenant(asked)
    path, only_id = (PATH, ONLY_ID) if asked is None else (asked.c.path, asked.c.only_id)
    repository = (
        select(
            repositories.c.tenant_id,
            repositories.c.id,
            repositories.c.sparse,
            (tenant.c.read_only | repositories.c.read_only).label("read_only"),
            tenant.c.suspended_at.is_not(None).label("suspended"),
            (func.coalesce(repositories.c.untagged, tenant.c.untagged) == literal_column("'collect'", Text())).label(
                "collecting"
            ),
        )
        .where(
            repositories.c.tenant_id == tenant.c.id,
            repositories.c.path == path,
            repositories.c.deleted_at.is_(None),
            or_(only_id.is_(None), repositories.c.id == only_id),
        )
        .limit(ONE)
        .lateral("repository")
    )
    return start.join(repository, true()), repository


def _named_tenant(asked: TableValuedAlias | None) -> tuple[FromClause, FromClause]:
    """What the repository is joined to, and in it the row of its tenant."""
    found = select(tenants.c.id, tenants.c.read_only, tenants.c.suspended_at, tenants.c.untagged).limit(ONE)
    if asked is None or WHO not in asked.c:
        tenant = found.where(tenants.c.name == TENANT).subquery("tenant")
        return (tenant if asked is None else tenant.join(asked, true())), tenant
    setting = _setting_tenant(asked.c[WHO])
    # By what the setting gives: it has been set when the first policy is asked. And no row is any but its asker's,
    # whichever tenant was set: were one of the two wrong, nothing would be seen.
    own = found.where(
        tenants.c.id == cast(setting.c[WHO], BigInteger),
        tenants.c.name == asked.c.tenant,
        # Of an account's tenant that is known elsewhere; of one that is told by its name it is looked up here.
        or_(not_(asked.c[BY_NAME]), tenants.c.suspended_at.is_(None)),
    )
    each = own.lateral("tenant")
    return asked.join(setting, true()).join(each, true()), each


def _setting_tenant(who: ColumnElement[Any]) -> FromClause:
    """Sets whose rows are shown, until the next one does or the transaction ends, and gives the tenant's id as text."""
    name = literal_column("'app.tenant_id'", Text())
    told = func.set_config(name, cast(who, Text), true(), type_=Text())
    return select(told.label(WHO)).correlate(who.table).lateral("setting")


def askers(columns: Mapping[str, TypeEngine[Any]]) -> TableValuedAlias:
    """What each of several asks who ask about a name at the same time, a row for each, numbered (`gathering.py`).

    Ten who ask in one statement cost PostgreSQL two times what one does.
    """
    named: dict[str, TypeEngine[Any]] = {"path": Text(), "only_id": BigInteger(), **columns}
    arrays = [parameter(f"{name}s", ARRAY(type_)) for name, type_ in named.items()]
    values = func.unnest(*arrays).table_valued(
        *(column(name, type_) for name, type_ in named.items()), with_ordinality=ASKER
    )
    return values.render_derived(name="asked")


def name_parameters(name: RepositoryName) -> dict[str, object]:
    """What a statement over `named_repository` is told of the name."""
    return {"tenant": name.tenant, "path": name.path, "only_id": name.repository_id}


def unnested(columns: Mapping[str, TypeEngine[Any]], *, suffix: str = "s") -> TableValuedAlias:
    """Rows from array parameters, one for each column, called after it with the suffix: ``position``, ``positions``.

    Three rows and three hundred are the same statement.
    """
    arrays = [parameter(f"{name}{suffix}", ARRAY(type_)) for name, type_ in columns.items()]
    values = func.unnest(*arrays).table_valued(*(column(name, type_) for name, type_ in columns.items()), name="new")
    return values.render_derived()
