-- What deleting tags and manifests of a repository would do, as collections judge it: where untagged manifests are kept,
-- only referrers follow what is deleted.
create or replace function deletion_effects(
    of_tenant_id bigint, of_repository_id bigint, of_tags text[], of_digests bytea[]
)
returns table (effect text, kind text, digest bytea, length bigint, because_of text)
language sql stable
begin atomic
with recursive
here as materialized (
    select t.name || '/' || r.path as name, coalesce(r.untagged, t.untagged) = 'collect' as collects
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
    select e.digest from ending e where (select h.collects from here h)
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
            and d.role <> 'subject' and (select h.collects from here h)
        union all
        select d.manifest_digest from descriptors d
        where d.tenant_id = of_tenant_id and d.digest = c.digest and d.repository_id = of_repository_id
            and d.role = 'subject'
    ) below
),
asked as materialized (
    select c.digest from candidates c union select e.digest from ending e
),
-- What keeps some of it from outside.
keepers as materialized (
    select c.digest, ':' || t.name as keeper from asked c
    cross join lateral (
        select t.name from tags t
        where t.tenant_id = of_tenant_id and t.repository_id = of_repository_id and t.live_digest = c.digest
            and t.name not in (select e.name from ending e)
        order by t.name limit 1
    ) t
    union all
    select c.digest, '@' || digest_text(d.manifest_digest) from asked c
    cross join lateral (
        select d.manifest_digest from descriptors d
        where d.tenant_id = of_tenant_id and d.digest = c.digest and d.repository_id = of_repository_id
            and d.role <> 'subject' and d.manifest_digest not in (select o.digest from candidates o)
        order by d.manifest_digest limit 1
    ) d
    union all
    select c.digest, '@' || digest_text(s.digest) from asked c
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
    union all
    select e.digest, null from ending e where e.digest not in (select c.digest from candidates c)
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
select 'kept', 'manifest', k.digest, null,
    coalesce((select h.name from here h) || min(k.keeper), 'untagged manifests are kept')
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
