-- From the repository to its signatures: the way round, a filter on the repository would read everybody's.
create or replace view report.signatures with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository, digest_text(s.signed) as digest, s.kind,
    digest_text(s.signature) as signature_digest, s.created_at, s.signed as signed_key
from tenants t
join repositories r on r.tenant_id = t.id and r.deleted_at is null
cross join lateral (
    select j.manifest_digest as signed, 'jws' as kind, j.digest as signature, j.created_at
    from signatures j where j.tenant_id = r.tenant_id and j.repository_id = r.id
    union all
    select g.subject_digest, g.kind, g.manifest_digest, g.created_at
    from signing_manifests g
    cross join lateral (
        select m.digest from manifests m
        where m.tenant_id = g.tenant_id and m.repository_id = g.repository_id and m.digest = g.manifest_digest
        and m.deleted_at is null
        limit 1
    ) m
    where g.tenant_id = r.tenant_id and g.repository_id = r.id
) s
where t.name is not null;
