create view report.blob_placement with (security_invoker = true) as
select t.name as tenant, digest_text(b.digest) as blob_digest, b.length, coalesce(b.store, 'default') as store,
    b.created_at, b.digest as blob_key
from blobs b
join tenants t on t.id = b.tenant_id and t.name is not null
where b.state = 'live';
comment on view report.blob_placement is 'Which byte store has a tenant''s content.

select store, count(*) as blobs, sum(length) as bytes from report.blob_placement
where tenant = ''acme'' group by store;';
comment on column report.blob_placement.tenant is 'Name of the tenant.';
comment on column report.blob_placement.blob_digest is 'The blob.';
comment on column report.blob_placement.length is 'Its bytes.';
comment on column report.blob_placement.store is 'Name of the byte store (distsql store list); default: the one that the servers'' settings name.';
comment on column report.blob_placement.created_at is 'When the tenant first had it.';
comment on column report.blob_placement.blob_key is 'The blob as an index has it: compare it with report.digest(...).';
