"""Retention policies, and what they decide: by a function, so that previews, runs and reports have one answer.

Revises 0014.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"
MINE = "(select r.tenant_id from sql_roles r where r.role_name = current_user::text and r.closed_at is null)"
READERS = "distsql_auditor, distsql_reader"
READABLE = {
    "retention_policies": "tenant_id, id, repository_id, kind, set_at, set_by",
    "retention_rules": "tenant_id, policy_id, priority, action, selects, patterns, criterion, latest, age",
}

# Everything is compared with everything of one repository, and the planner can't know how large it is: nested loops
# would take the square of it (indexes are still looked into one by one where nothing else is possible).
DECISIONS = r"""
create function retention_decisions(of_tenant_id bigint, of_repository_id bigint)
returns table (
    tag text, digest bytea, pushed_at timestamptz, pulled_at timestamptz, deletes boolean, reason text,
    policy_id bigint, priority integer, because_of text
)
language sql stable set enable_nestloop = off
begin atomic
with
here as materialized (
    select
        case
            when t.suspended_at is not null then 'suspended'
            when t.read_only or r.read_only then 'read-only'
            when not (t.deletable and r.deletable) then 'undeletable'
        end as refusal,
        array(
            select replace(replace(replace(p, '_', '\_'), '*', '%'), '?', '_')
            from unnest(t.immutable_tags || r.immutable_tags) p
        ) as immutable_tags
    from repositories r join tenants t on t.id = r.tenant_id
    where r.tenant_id = of_tenant_id and r.id = of_repository_id and r.deleted_at is null
),
rules as materialized (
    select p.id as policy_id, p.kind, u.priority, u.action, u.selects, u.criterion, u.latest, now() - u.age as since,
        array(select replace(replace(replace(each, '_', '\_'), '*', '%'), '?', '_') from unnest(u.patterns) each)
            as patterns
    from retention_policies p
    join retention_rules u on u.tenant_id = p.tenant_id and u.policy_id = p.id
    where p.tenant_id = of_tenant_id and (p.repository_id is null or p.repository_id = of_repository_id)
),
live as materialized (
    select m.digest, m.subject_digest, m.pushed_at, p.last_pulled_at as pulled_at
    from manifests m
    left join manifest_pulls p
        on p.tenant_id = m.tenant_id and p.repository_id = m.repository_id and p.digest = m.digest
    where m.tenant_id = of_tenant_id and m.repository_id = of_repository_id and m.deleted_at is null
),
signed as materialized (
    select s.manifest_digest as digest from signatures s
    where s.tenant_id = of_tenant_id and s.repository_id = of_repository_id
    union
    select s.subject_digest from signing_manifests s join live l on l.digest = s.manifest_digest
    where s.tenant_id = of_tenant_id and s.repository_id = of_repository_id
),
-- Whatever belongs to something else goes when that goes: children of an index, referrers of what is there.
owned as materialized (
    select l.digest, parent.digest as owner from live l
    cross join lateral (
        select d.manifest_digest as digest from descriptors d
        where d.tenant_id = of_tenant_id and d.digest = l.digest and d.repository_id = of_repository_id
            and d.role <> 'subject'
        limit 1
    ) parent
    union all
    select l.digest, l.subject_digest from live l where l.subject_digest in (select s.digest from live s)
),
-- So do tags that clients call after content (cosign's, the referrers tag schema's), while that is there.
named as materialized (
    select g.name, g.digest, g.valid_from as pushed_at, p.last_pulled_at as pulled_at, about.digest as about
    from tags g
    left join tag_pulls p on p.tenant_id = g.tenant_id and p.repository_id = g.repository_id and p.name = g.name
    left join live about on about.digest = case
        when g.name ~ '^sha256-[0-9a-f]{64}(\.[a-z]+)?$' then '\x01'::bytea || decode(substr(g.name, 8, 64), 'hex')
    end
    where g.tenant_id = of_tenant_id and g.repository_id = of_repository_id and g.valid_to is null
),
images as materialized (
    select l.digest, l.pushed_at, l.pulled_at, n.tags, coalesce(cardinality(n.own_tags), 0) > 0 as tagged
    from live l
    left join (
        select n.digest, array_agg(n.name) as tags, array_agg(n.name) filter (where n.about is null) as own_tags
        from named n group by n.digest
    ) n on n.digest = l.digest
    -- Tagged as somebody's signature only, it is no image; without a tag and somebody's part neither.
    where coalesce(cardinality(n.own_tags), 0) > 0
        or (n.tags is null and l.digest not in (select o.digest from owned o))
),
untagged as materialized (
    select g.digest, max(g.valid_to) as since from tags g
    where g.tenant_id = of_tenant_id and g.repository_id = of_repository_id and g.valid_to is not null
    group by g.digest
),
-- What policies of one's own judge one by one: tags, and images without any, whose time begins when they lost the last.
units as materialized (
    select n.name, n.digest, n.pushed_at, n.pulled_at, n.digest in (select s.digest from signed s) as signed
    from named n where n.about is null
    union all
    select null, i.digest, greatest(i.pushed_at, u.since), i.pulled_at, i.digest in (select s.digest from signed s)
    from images i left join untagged u on u.digest = i.digest where not i.tagged
),
own as materialized (
    select r.policy_id, r.priority, r.action, u.name, u.digest,
        case r.criterion
            when 'all' then r.action = 'keep'
            when 'latest' then r.latest >= row_number() over (
                partition by r.policy_id, r.priority order by u.pushed_at desc, u.name desc, u.digest desc
            )
            when 'pushed' then u.pushed_at > r.since
            when 'used' then greatest(u.pushed_at, u.pulled_at) > r.since
            when 'signed' then u.signed
        end as fulfilled
    from rules r
    join units u on case r.selects
        when 'tagged' then u.name like any (r.patterns)
        when 'untagged' then u.name is null
        else true
    end
    where r.kind = 'own'
),
own_verdicts as materialized (
    select distinct on (o.name, o.digest) o.name, o.digest, o.action = 'delete' as deletes, o.policy_id, o.priority
    from own o where o.fulfilled = (o.action = 'keep')
    order by o.name, o.digest, o.action = 'delete', o.policy_id, o.priority
),
-- All rules see all images; the first that selects an image decides, whatever it decides.
ecr as materialized (
    select r.policy_id, r.priority, i.digest,
        case r.criterion
            when 'latest' then r.latest >= row_number() over (
                partition by r.policy_id, r.priority order by i.pushed_at desc, i.digest desc
            )
            when 'pushed' then i.pushed_at > r.since
            when 'used' then greatest(i.pushed_at, i.pulled_at) > r.since
        end as fulfilled
    from rules r
    join images i on case r.selects
        when 'tagged' then i.tagged and not exists (
            select from unnest(r.patterns) p where not exists (select from unnest(i.tags) g where g like p)
        )
        when 'untagged' then not i.tagged
        else true
    end
    where r.kind = 'ecr'
),
ecr_verdicts as materialized (
    select distinct on (v.digest) v.digest, not v.fulfilled as deletes, v.policy_id, v.priority
    from (
        select distinct on (e.policy_id, e.digest) e.policy_id, e.priority, e.digest, e.fulfilled
        from ecr e order by e.policy_id, e.digest, e.priority
    ) v
    order by v.digest, v.fulfilled, v.policy_id
),
-- What nothing may delete, or a policy keeps.
fixed as materialized (
    select n.name, n.digest,
        case when n.name like any (h.immutable_tags) then 'immutable' when n.about is not null then 'companion' end
            as reason,
        n.about
    from named n cross join here h
    where n.name like any (h.immutable_tags) or n.about is not null
),
expired as materialized (
    select e.digest, e.policy_id, e.priority from ecr_verdicts e
    where e.deletes
        and e.digest not in (select o.digest from owned o)
        and e.digest not in (select f.digest from fixed f)
        and e.digest not in (select o.digest from own_verdicts o where not o.deletes)
),
judged as (
    select n.name, n.digest, n.pushed_at, n.pulled_at,
        case
            when f.reason is not null then false
            when o.deletes is false then false
            else o.deletes is true or x.digest is not null
        end as deletes,
        case
            when f.reason is not null then f.reason
            when o.policy_id is not null or x.digest is not null or (e.policy_id is not null and not e.deletes)
                then 'rule'
            when e.deletes then 'image'
            else 'unmatched'
        end as reason,
        case
            when f.reason is not null then null when o.policy_id is not null then o.policy_id else e.policy_id
        end as policy_id,
        case
            when f.reason is not null then null when o.policy_id is not null then o.priority else e.priority
        end as priority,
        f.about as because_of
    from (
        select n.name, n.digest, n.pushed_at, n.pulled_at from named n
        union all
        select null, i.digest, i.pushed_at, i.pulled_at from images i
        where not i.tagged or i.digest in (select x.digest from expired x)
    ) n
    left join own_verdicts o on o.digest = n.digest and coalesce(o.name, '') = coalesce(n.name, '')
    left join ecr_verdicts e on e.digest = n.digest
    left join expired x on x.digest = n.digest
    left join fixed f on f.name = n.name
)
select j.name, j.digest, j.pushed_at, j.pulled_at, j.deletes and h.refusal is null,
    case when j.deletes then coalesce(h.refusal, j.reason) else j.reason end,
    j.policy_id, j.priority,
    coalesce(digest_text(j.because_of), case when j.reason = 'image' then o.owner end)
from judged j
cross join here h
left join (select o.digest, min(digest_text(o.owner)) as owner from owned o group by o.digest) o on o.digest = j.digest
order by j.name nulls last, j.digest;
end
"""
COMMENT = (
    "What becomes of each tag of a repository, and of each untagged manifest that belongs to nothing else (tag null; "
    "also the manifest of tags that an imported policy deletes), by the policies of it and of its tenant, and why."
)


def _key(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, comment=comment)


def _make_policies() -> None:
    op.create_table(
        "retention_policies",
        _key("tenant_id", "The tenant: tenants.id."),
        sa.Column(
            "id",
            sa.BigInteger(),
            sa.Identity(always=False),
            nullable=False,
            comment="Joins with policy_id, and tenant_id.",
        ),
        sa.Column(
            "repository_id",
            sa.BigInteger(),
            nullable=True,
            comment="The repository: repositories.id; none: all of the tenant's.",
        ),
        sa.Column(
            "kind",
            sa.Text(),
            nullable=False,
            comment="own: of tags, and keep wins; ecr: of images with all their tags, and the first rule that selects "
            "one decides.",
        ),
        sa.Column(
            "set_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was set.",
        ),
        sa.Column("set_by", sa.Text(), nullable=False, comment="Who set it."),
        sa.CheckConstraint("kind in ('own', 'ecr')", name=op.f("retention_policies_kind_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name="retention_policies_tenant_id_fkey", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "repository_id"],
            ["repositories.tenant_id", "repositories.id"],
            name="retention_policies_tenant_id_repository_id_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="retention_policies_pkey"),
        sa.UniqueConstraint(
            "tenant_id",
            "repository_id",
            name="retention_policies_tenant_id_repository_id_key",
            postgresql_nulls_not_distinct=True,
        ),
        comment="What a tenant, or one of its repositories, keeps and deletes by itself.",
    )


def _make_rules() -> None:
    op.create_table(
        "retention_rules",
        _key("tenant_id", "The tenant: tenants.id."),
        _key("policy_id", "The policy: retention_policies.id."),
        sa.Column("priority", sa.Integer(), nullable=False, comment="Its place in the policy."),
        sa.Column(
            "action",
            sa.Text(),
            nullable=False,
            comment="keep: what fulfils the criterion; delete: what doesn't.",
        ),
        sa.Column("selects", sa.Text(), nullable=False, comment="What it is about: tagged, untagged, any."),
        sa.Column(
            "patterns",
            sa.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="Of tags: * is any text, ? any character. One has to fit a tag; of an image (ecr) each.",
        ),
        sa.Column(
            "criterion",
            sa.Text(),
            nullable=False,
            comment="all: no other; latest: among so many that were pushed last; pushed, used (pushed or pulled): "
            "within the age; signed.",
        ),
        sa.Column("latest", sa.Integer(), nullable=True, comment="How many."),
        sa.Column("age", sa.Interval(), nullable=True, comment="How long ago at most."),
        sa.CheckConstraint("action in ('keep', 'delete')", name=op.f("retention_rules_action_check")),
        sa.CheckConstraint("selects in ('tagged', 'untagged', 'any')", name=op.f("retention_rules_selects_check")),
        sa.CheckConstraint(
            "criterion in ('all', 'latest', 'pushed', 'used', 'signed')", name=op.f("retention_rules_criterion_check")
        ),
        sa.CheckConstraint("(latest is not null) = (criterion = 'latest')", name=op.f("retention_rules_latest_check")),
        sa.CheckConstraint(
            "(age is not null) = (criterion in ('pushed', 'used'))", name=op.f("retention_rules_age_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "policy_id"],
            ["retention_policies.tenant_id", "retention_policies.id"],
            name="retention_rules_tenant_id_policy_id_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "policy_id", "priority", name="retention_rules_pkey"),
        comment="The rules of retention policies.",
    )


def upgrade() -> None:
    """Makes the tables, which are set by the owner only, and the function."""
    _make_policies()
    _make_rules()
    for table, columns in READABLE.items():
        op.execute(f"create policy tenant on {table} to distsql_serve using (tenant_id = {TENANT})")
        op.execute(f"create policy owner on {table} to current_user using (true)")
        op.execute(f"alter table {table} enable row level security, force row level security")
        op.execute(f"grant select on {table} to distsql_serve")
        op.execute(f"create policy auditor on {table} for select to distsql_auditor using (true)")
        op.execute(f"create policy reader on {table} for select to distsql_reader using (tenant_id = {MINE})")
        op.execute(f"grant select ({columns}) on {table} to {READERS}")
    op.execute(DECISIONS)
    op.execute(f"comment on function retention_decisions(bigint, bigint) is '{COMMENT}'")


def downgrade() -> None:
    """Forgets the policies; what they deleted stays so."""
    op.execute("drop function retention_decisions(bigint, bigint)")
    op.drop_table("retention_rules")
    op.drop_table("retention_policies")
