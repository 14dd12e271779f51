create view report.garbage with (security_invoker = true) as
select coalesce(t.name, t.deleted_name) as tenant, digest_text(w.digest) as digest, w.length, w.state, w.eligible_at,
    case
        when w.state = 'condemned' and w.eligible_at > now() then 'its bytes are kept for a recovery'
        when w.state = 'condemned' then 'its bytes go with the next collection'
        when w.kind in ('deleted_manifest', 'repository', 'tenant') and w.eligible_at > now() then 'can be restored until then'
        when w.kind = 'subject' then 'what says something about it follows'
        when w.eligible_at > now() then 'young: something may come that needs it'
        else 'goes with the next collection unless something needs it'
    end as reason,
    coalesce(t.name, t.deleted_name) || '/' || r.path as repository, w.kind
from (
    select q.tenant_id, q.kind, nullif(q.repository_id, 0) as repository_id, q.digest,
        coalesce(b.length, case when q.kind in ('layer', 'blob') then 0 end) as length, 'queued' as state,
        q.queued_at + case when q.kind in ('deleted_manifest', 'repository', 'tenant') then p.restore_period
            when q.kind = 'subject' then interval '0' else p.grace end as eligible_at
    from garbage_queue q
    left join collection_periods() p on true
    left join blobs b on q.kind in ('layer', 'blob') and b.tenant_id = q.tenant_id and b.digest = q.digest
    where q.kind <> 'untagged'
    union all
    select c.tenant_id, case when c.complete then 'blob' else 'upload' end, null, c.digest, c.length, 'condemned',
        c.condemned_at + p.recovery_window
    from condemned_bytes c
    left join collection_periods() p on true
) w
left join tenants t on t.id = w.tenant_id
left join repositories r on r.tenant_id = w.tenant_id and r.id = w.repository_id;
comment on view report.garbage is 'What waits for collection, and why it isn''t gone yet. What is queued is looked at when its time comes: it stays if something needs it by then.

select digest, length, state, eligible_at, reason from report.garbage where tenant = ''acme'' order by eligible_at limit 100;';
comment on column report.garbage.tenant is 'Name of the tenant, of a deleted one its last.';
comment on column report.garbage.digest is 'The blob or manifest; null: a whole repository or tenant, or an unfinished upload.';
comment on column report.garbage.length is 'Bytes of a blob or an upload; null for other things.';
comment on column report.garbage.state is 'queued: to be looked at; condemned: no row needs it, and its bytes go.';
comment on column report.garbage.eligible_at is 'From when on a collection may take it; null: nothing was ever collected, so no periods are known.';
comment on column report.garbage.reason is 'Why it isn''t gone yet.';
comment on column report.garbage.repository is 'Full name of the repository that it was left in, if it was one.';
comment on column report.garbage.kind is 'What it is: layer (a blob in a repository), blob, manifest, deleted_manifest, subject, repository, tenant, upload.';
