"""What a deletion would free, keep and break, answered by the database: for previews, refusals and reports alike.

Revises 0010.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# Bodies are parsed here and now (`begin atomic`): they mean these tables whatever the caller's search_path is.
#
# What rows are looked for is looked for one by one, by the index that is meant for it, whatever the statistics say: a
# lateral with a limit, or with `offset 0`, is no join to the planner. What is compared with all the rest is compared by
# hash: `not in`, and `(... in ...) is true`, which is no join either.
NEEDED_BY = """
create function needed_by(of_tenant_id bigint, of_repository_id bigint, of_digests bytea[])
returns table (digest bytea, manifest_digest bytea, role text)
language sql stable
begin atomic
    select d.digest, d.manifest_digest, d.role
    from unnest(of_digests) w(digest)
    cross join lateral (
        select d.digest, d.manifest_digest, d.role
        from descriptors d
        where d.tenant_id = of_tenant_id and d.digest = w.digest and d.repository_id = of_repository_id
            and d.role <> 'subject'
        offset 0
    ) d;
end
"""

DELETION_EFFECTS = """
create function deletion_effects(of_tenant_id bigint, of_repository_id bigint, of_tags text[], of_digests bytea[])
returns table (effect text, kind text, digest bytea, length bigint, because_of text)
language sql stable
begin atomic
with recursive
here as materialized (
    select t.name || '/' || r.path as name
    from repositories r join tenants t on t.id = r.tenant_id
    where r.tenant_id = of_tenant_id and r.id = of_repository_id
),
-- Manifests that are deleted whatever needs them.
forced as materialized (
    select m.digest from unnest(of_digests) w(digest)
    cross join lateral (
        select m.digest from manifests m
        where m.tenant_id = of_tenant_id and m.repository_id = of_repository_id and m.digest = w.digest
            and m.deleted_at is null
        offset 0
    ) m
),
-- Tags that end: by name, and with their manifest.
ending as materialized (
    select t.name, t.digest from unnest(of_tags) w(name)
    cross join lateral (
        select t.name, t.digest from tags t
        where t.tenant_id = of_tenant_id and t.repository_id = of_repository_id and t.name = w.name
            and t.valid_to is null
        limit 1
    ) t
    union
    select t.name, t.digest from forced f
    cross join lateral (
        select t.name, t.digest from tags t
        where t.tenant_id = of_tenant_id and t.repository_id = of_repository_id and t.live_digest = f.digest
        offset 0
    ) t
),
-- Everything below: children, what they have, and what says something about any of it.
candidates (digest) as (
    select f.digest from forced f
    union
    select e.digest from ending e
    union
    select below.digest from candidates c
    cross join lateral (
        select m.digest from descriptors d
        cross join lateral (
            select m.digest from manifests m
            where m.tenant_id = of_tenant_id and m.repository_id = of_repository_id and m.digest = d.digest
                and m.deleted_at is null
            limit 1
        ) m
        where d.tenant_id = of_tenant_id and d.repository_id = of_repository_id and d.manifest_digest = c.digest
            and d.role <> 'subject'
        union all
        select d.manifest_digest from descriptors d
        where d.tenant_id = of_tenant_id and d.digest = c.digest and d.repository_id = of_repository_id
            and d.role = 'subject'
    ) below
),
-- What keeps some of it from outside.
keepers as materialized (
    select c.digest, ':' || t.name as keeper from candidates c
    cross join lateral (
        select t.name from tags t
        where t.tenant_id = of_tenant_id and t.repository_id = of_repository_id and t.live_digest = c.digest
            and t.name not in (select e.name from ending e)
        order by t.name limit 1
    ) t
    union all
    select c.digest, '@' || digest_text(d.manifest_digest) from candidates c
    cross join lateral (
        select d.manifest_digest from descriptors d
        where d.tenant_id = of_tenant_id and d.digest = c.digest and d.repository_id = of_repository_id
            and d.role <> 'subject' and d.manifest_digest not in (select o.digest from candidates o)
        order by d.manifest_digest limit 1
    ) d
    union all
    select c.digest, '@' || digest_text(s.digest) from candidates c
    cross join lateral (
        select m.subject_digest from manifests m
        where m.tenant_id = of_tenant_id and m.repository_id = of_repository_id and m.digest = c.digest
            and m.subject_digest not in (select o.digest from candidates o)
        limit 1
    ) m
    cross join lateral (
        select s.digest from manifests s
        where s.tenant_id = of_tenant_id and s.repository_id = of_repository_id and s.digest = m.subject_digest
            and s.deleted_at is null
        limit 1
    ) s
),
kept (digest) as (
    select k.digest from keepers k where k.digest not in (select f.digest from forced f)
    union
    select below.digest from kept k
    cross join lateral (
        select d.digest from descriptors d
        where d.tenant_id = of_tenant_id and d.repository_id = of_repository_id and d.manifest_digest = k.digest
            and d.role <> 'subject'
        union all
        select d.manifest_digest from descriptors d
        where d.tenant_id = of_tenant_id and d.digest = k.digest and d.repository_id = of_repository_id
            and d.role = 'subject'
    ) below
    where (below.digest in (select c.digest from candidates c)) is true
        and below.digest not in (select f.digest from forced f)
),
gone as materialized (
    select c.digest from candidates c except select k.digest from kept k
),
-- Blobs that a manifest needs which goes, each once, and who needs them besides.
released as materialized (
    select distinct d.digest from gone g
    cross join lateral (
        select d.digest from descriptors d
        where d.tenant_id = of_tenant_id and d.repository_id = of_repository_id and d.manifest_digest = g.digest
            and d.role <> 'subject'
        offset 0
    ) d
),
blob_effects as (
    select b.digest, b.length,
        coalesce((select h.name from here h) || '@' || digest_text(other.manifest_digest), elsewhere.name) as keeper
    from released r
    cross join lateral (
        select b.digest, b.length from blobs b
        where b.tenant_id = of_tenant_id and b.digest = r.digest and b.state = 'live' limit 1
    ) b
    left join lateral (
        select d.manifest_digest from descriptors d
        where d.tenant_id = of_tenant_id and d.digest = r.digest and d.repository_id = of_repository_id
            and d.role <> 'subject' and d.manifest_digest not in (select g.digest from gone g)
        order by d.manifest_digest limit 1
    ) other on true
    left join lateral (
        select t.name || '/' || p.path as name
        from layers l
        join repositories p on p.tenant_id = l.tenant_id and p.id = l.repository_id and p.deleted_at is null
        join tenants t on t.id = l.tenant_id
        where l.tenant_id = of_tenant_id and l.digest = r.digest and l.repository_id <> of_repository_id
            and other.manifest_digest is null
        order by l.repository_id limit 1
    ) elsewhere on true
)
select case when keeper is null then 'freed' else 'kept' end, 'blob', b.digest, b.length, keeper from blob_effects b
union all
select 'freed', 'manifest', g.digest, null, null from gone g
union all
select 'kept', 'manifest', k.digest, null, (select h.name from here h) || min(k.keeper)
from keepers k
where (k.digest in (select e.digest from ending e)) is true and k.digest not in (select f.digest from forced f)
group by k.digest
union all
select 'broken', 'index', n.manifest_digest, null, (select h.name from here h) || '@' || min(digest_text(n.digest))
from needed_by(of_tenant_id, of_repository_id, of_digests) n
where (n.digest in (select f.digest from forced f)) is true and n.manifest_digest not in (select g.digest from gone g)
group by n.manifest_digest
union all
select 'broken', 'referrer', d.manifest_digest, null, (select h.name from here h) || '@' || digest_text(g.digest)
from gone g
cross join lateral (
    select d.manifest_digest from descriptors d
    where d.tenant_id = of_tenant_id and d.digest = g.digest and d.repository_id = of_repository_id
        and d.role = 'subject' and d.manifest_digest not in (select o.digest from gone o)
    offset 0
) d;
end
"""

REPOSITORY_DELETION_EFFECTS = """
create function repository_deletion_effects(of_tenant_id bigint, of_repository_id bigint)
returns table (effect text, kind text, digest bytea, length bigint, because_of text)
language sql stable
begin atomic
    select case when elsewhere.name is null then 'freed' else 'kept' end, 'blob', b.digest, b.length, elsewhere.name
    from layers l
    cross join lateral (
        select b.digest, b.length from blobs b
        where b.tenant_id = of_tenant_id and b.digest = l.digest and b.state = 'live' limit 1
    ) b
    left join lateral (
        select t.name || '/' || p.path as name
        from layers o
        join repositories p on p.tenant_id = o.tenant_id and p.id = o.repository_id and p.deleted_at is null
        join tenants t on t.id = o.tenant_id
        where o.tenant_id = of_tenant_id and o.digest = l.digest and o.repository_id <> of_repository_id
        order by o.repository_id limit 1
    ) elsewhere on true
    where l.tenant_id = of_tenant_id and l.repository_id = of_repository_id
    union all
    select 'freed', 'manifest', m.digest, null, null from manifests m
    where m.tenant_id = of_tenant_id and m.repository_id = of_repository_id and m.deleted_at is null;
end
"""

TENANT_DELETION_EFFECTS = """
create function tenant_deletion_effects(of_tenant_id bigint)
returns table (effect text, kind text, digest bytea, length bigint, because_of text)
language sql stable
begin atomic
    select 'freed', 'blob', b.digest, b.length, null from blobs b where b.tenant_id = of_tenant_id and b.state = 'live'
    union all
    select 'freed', 'manifest', m.digest, null, null from manifests m
    join repositories r on r.tenant_id = m.tenant_id and r.id = m.repository_id and r.deleted_at is null
    where m.tenant_id = of_tenant_id and m.deleted_at is null;
end
"""

WHAT_IF_DELETE = """
create function report.what_if_delete(tenant text, repository text default null, tag text default null)
returns table (effect text, digest text, length bigint, because_of text, kind text)
language sql stable
begin atomic
    with named as materialized (
        select t.id as tenant_id, r.id
        from tenants t
        left join repositories r on r.tenant_id = t.id and r.deleted_at is null
            and t.name || '/' || r.path = what_if_delete.repository
        where t.name = what_if_delete.tenant
    )
    select e.effect, digest_text(e.digest), e.length, e.because_of, e.kind
    from named n
    cross join lateral (
        select * from tenant_deletion_effects(n.tenant_id) where what_if_delete.repository is null
        union all
        select * from repository_deletion_effects(n.tenant_id, n.id) where what_if_delete.tag is null
        union all
        select * from deletion_effects(
            n.tenant_id, n.id,
            case when tag not like '%:%' then array[tag] end,
            case tag ^@ 'sha256:' when true then array['\\x01'::bytea || decode(substr(tag, 8), 'hex')] end
        ) where tag is not null
    ) e
    order by e.effect, e.kind, e.digest;
end
"""

WHY_KEPT = """
create function report.why_kept(tenant text, digest text)
returns table (repository text, manifest_digest text, tag text, role text)
language sql stable
begin atomic
    with recursive
    blob as materialized (
        select b.tenant_id, b.digest, b.state
        from tenants t
        join blobs b on b.tenant_id = t.id and b.digest = case
            when why_kept.digest ^@ 'sha256:' then '\\x01'::bytea || decode(substr(why_kept.digest, 8), 'hex')
            when why_kept.digest ^@ 'sha512:' then '\\x02'::bytea || decode(substr(why_kept.digest, 8), 'hex')
        end
        where t.name = why_kept.tenant
    ),
    holders as materialized (
        select l.tenant_id, l.repository_id, l.digest, r.deleted_at,
            why_kept.tenant || '/' || r.path as name
        from blob b
        cross join lateral (
            select l.tenant_id, l.repository_id, l.digest from layers l
            where l.tenant_id = b.tenant_id and l.digest = b.digest
            offset 0
        ) l
        join repositories r on r.tenant_id = l.tenant_id and r.id = l.repository_id
    ),
    needs as materialized (
        select h.tenant_id, h.repository_id, n.manifest_digest, min(n.role) as role
        from holders h
        cross join lateral (
            select d.manifest_digest, d.role from descriptors d
            where d.tenant_id = h.tenant_id and d.digest = h.digest and d.repository_id = h.repository_id
                and d.role <> 'subject'
            offset 0
        ) n
        group by h.tenant_id, h.repository_id, n.manifest_digest
    ),
    -- From each manifest up to what keeps it: indexes that it is a child of, and what it says something about.
    above (tenant_id, repository_id, manifest_digest, at) as (
        select n.tenant_id, n.repository_id, n.manifest_digest, n.manifest_digest from needs n
        union
        select a.tenant_id, a.repository_id, a.manifest_digest, up.at
        from above a
        cross join lateral (
            select d.manifest_digest as at from descriptors d
            where d.tenant_id = a.tenant_id and d.digest = a.at and d.repository_id = a.repository_id
                and d.role <> 'subject'
            union all
            select m.subject_digest from manifests m
            where m.tenant_id = a.tenant_id and m.repository_id = a.repository_id and m.digest = a.at
                and m.subject_digest is not null
        ) up
    ),
    named as materialized (
        select distinct a.repository_id, a.manifest_digest, t.name
        from above a
        cross join lateral (
            select t.name from tags t
            where t.tenant_id = a.tenant_id and t.repository_id = a.repository_id and t.live_digest = a.at
            offset 0
        ) t
    )
    select h.name, digest_text(n.manifest_digest), t.name,
        case when h.deleted_at is not null then 'deleted repository' else coalesce(n.role, 'grace') end
    from holders h
    left join needs n on n.repository_id = h.repository_id
    left join named t on t.repository_id = n.repository_id and t.manifest_digest = n.manifest_digest
    union all
    select null, null, null, case b.state when 'live' then 'unreferenced' else b.state end
    from blob b where not exists (select from holders)
    order by 1, 2, 3;
end
"""

FUNCTIONS = {
    "needed_by(bigint, bigint, bytea[])": (NEEDED_BY, "Which manifests of a repository need this content."),
    "deletion_effects(bigint, bigint, text[], bytea[])": (
        DELETION_EFFECTS,
        "What is freed, kept and broken when these tags and manifests of a repository are deleted, and nothing else.",
    ),
    "repository_deletion_effects(bigint, bigint)": (
        REPOSITORY_DELETION_EFFECTS,
        "What is freed and kept when a repository is deleted.",
    ),
    "tenant_deletion_effects(bigint)": (TENANT_DELETION_EFFECTS, "What is freed when a tenant is deleted."),
    "report.what_if_delete(text, text, text)": (
        WHAT_IF_DELETE,
        "What deleting a tag or a digest would free, keep and break; or a repository, or a tenant. Sizes are blobs''.",
    ),
    "report.why_kept(text, text)": (
        WHY_KEPT,
        "Why a blob is still here: what needs it, and the tags that keep that. Role grace: it waits to be collected.",
    ),
}


def upgrade() -> None:
    """Makes the functions, which look with the eyes of who asks."""
    for name, (definition, comment) in FUNCTIONS.items():
        op.execute(definition)
        op.execute(f"comment on function {name} is '{comment}'")
        if name.startswith("report."):
            op.execute(f"revoke all on function {name} from public")
            op.execute(f"grant execute on function {name} to distsql_auditor, distsql_reader")


def downgrade() -> None:
    """Drops them."""
    for name in reversed(FUNCTIONS):
        op.execute(f"drop function {name}")
