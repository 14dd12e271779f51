create view report.media_types with (security_invoker = true) as
select t.name as tenant, s.media_type, count(*) as count, sum(s.length)::bigint as bytes, s.kind
from tenants t
cross join lateral (
    select 'manifest' as kind, m.media_type, 0::bigint as length
    from repositories r
    join manifests m on m.tenant_id = r.tenant_id and m.repository_id = r.id and m.deleted_at is null
    where r.tenant_id = t.id and r.deleted_at is null
    union all
    select 'blob', u.media_type, b.length
    from blobs b
    left join (
        -- One type for each blob, so that no byte counts twice.
        select d.digest, min(d.media_type) as media_type
        from repositories r
        join descriptors d on d.tenant_id = r.tenant_id and d.repository_id = r.id
        where r.tenant_id = t.id and r.deleted_at is null and d.role in ('config', 'layer', 'blob')
        group by d.digest
    ) u on u.digest = b.digest
    where b.tenant_id = t.id and b.state = 'live'
) s
where t.id <> 0 and t.name is not null
group by t.id, t.name, s.kind, s.media_type;
comment on view report.media_types is 'What is stored, by type: manifests are counted in each repository, blobs once for each tenant. The bytes add up to stored_bytes.

select media_type, kind, count, bytes from report.media_types where tenant = ''acme'' order by bytes desc;';
comment on column report.media_types.tenant is 'Name of the tenant.';
comment on column report.media_types.media_type is 'As manifests say, of a blob with several the first in order; null: no manifest refers to the blob.';
comment on column report.media_types.count is 'How many manifests or blobs.';
comment on column report.media_types.bytes is 'Bytes of the blobs; 0 for manifests.';
comment on column report.media_types.kind is 'manifest or blob.';
