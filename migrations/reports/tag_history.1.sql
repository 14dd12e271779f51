create view report.tag_history with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository, g.name as tag, digest_text(g.digest) as digest,
    digest_text(earlier.digest) as previous_digest, g.valid_from, g.valid_to, g.actor, g.ended_by
from tenants t
join repositories r on r.tenant_id = t.id and r.deleted_at is null
join tags g on g.tenant_id = r.tenant_id and g.repository_id = r.id
left join lateral (
    select p.digest, p.valid_to from tags p
    where p.tenant_id = g.tenant_id and p.repository_id = g.repository_id and p.name = g.name
    and p.valid_from < g.valid_from
    order by p.valid_from desc limit 1
) earlier on earlier.valid_to = g.valid_from
where t.name is not null;
comment on view report.tag_history is 'Who moved or deleted a tag, from what to what, and when: a row for everything that a tag ever pointed to.

select digest, previous_digest, valid_from, actor, valid_to, ended_by from report.tag_history
where repository = ''acme/web'' and tag = ''latest'' order by valid_from;';
comment on column report.tag_history.tenant is 'Name of the tenant.';
comment on column report.tag_history.repository is 'Full name of the repository.';
comment on column report.tag_history.tag is 'Name of the tag.';
comment on column report.tag_history.digest is 'What it pointed to.';
comment on column report.tag_history.previous_digest is 'What it was moved from; null: it was made.';
comment on column report.tag_history.valid_from is 'Since when it pointed there.';
comment on column report.tag_history.valid_to is 'Until when, exclusive; null: it still does.';
comment on column report.tag_history.actor is 'Who pointed it there.';
comment on column report.tag_history.ended_by is 'Who moved it on or deleted it; null: nobody did.';
