-- Lengths are looked up last, of the rows that are shown only.
create or replace view report.garbage with (security_invoker = true) as
select coalesce(t.name, t.deleted_name) as tenant, digest_text(w.digest) as digest,
    case w.state when 'condemned' then w.length else (
        select b.length from blobs b
        where b.tenant_id = w.tenant_id and b.digest = w.digest and w.kind in ('layer', 'blob')
    ) end as length,
    w.state, w.eligible_at,
    case
        when w.state = 'condemned' and w.eligible_at > now() then 'its bytes are kept for a recovery'
        when w.state = 'condemned' then 'its bytes go with the next collection'
        when w.kind in ('deleted_manifest', 'repository') and w.eligible_at > now() then 'can be restored until then'
        when w.kind = 'subject' then 'what says something about it follows'
        when w.kind = 'tenant' and w.eligible_at > now() then 'its repositories are deleted then'
        when w.kind = 'tenant' then 'goes once nothing of it is left'
        when w.eligible_at > now() then 'young: something may come that needs it'
        else 'goes with the next collection unless something needs it'
    end as reason,
    coalesce(t.name, t.deleted_name) || '/' || r.path as repository, w.kind
from (
    select q.tenant_id, q.kind, nullif(q.repository_id, 0) as repository_id, q.digest,
        null::bigint as length, 'queued' as state,
        q.queued_at + case when q.kind in ('deleted_manifest', 'repository') then p.restore_period
            when q.kind = 'blob' then interval '0' else p.grace end as eligible_at
    from garbage_queue q
    left join collection_periods() p on true
    where q.kind <> 'untagged'
    union all
    select c.tenant_id, case when c.complete then 'blob' else 'upload' end, null, c.digest, c.length, 'condemned',
        c.condemned_at + p.recovery_window
    from condemned_bytes c
    left join collection_periods() p on true
) w
left join tenants t on t.id = w.tenant_id
left join repositories r on r.tenant_id = w.tenant_id and r.id = w.repository_id;
comment on column report.garbage.length is 'Bytes of a blob or an upload; null for other things, and for a blob that is gone already.';
