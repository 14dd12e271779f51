create function report.resolve_tag(tenant text, repository text, tag text, at timestamptz) returns table (digest text)
language sql stable
begin atomic
    select digest_text(g.digest)
    from tenants t
    join repositories r on r.tenant_id = t.id and r.deleted_at is null
    join tags g on g.tenant_id = r.tenant_id and g.repository_id = r.id
    where t.name = resolve_tag.tenant
    and r.path = substr(resolve_tag.repository, length(resolve_tag.tenant) + 2)
    and starts_with(resolve_tag.repository, resolve_tag.tenant || '/')
    and g.name = resolve_tag.tag and g.valid_from <= resolve_tag.at
    and (g.valid_to is null or g.valid_to > resolve_tag.at);
end;
comment on function report.resolve_tag(text, text, text, timestamptz) is 'What a tag pointed to at an instant: no row when it wasn''t there. The repository is the full name.

select digest from report.resolve_tag(''acme'', ''acme/web'', ''latest'', now() - interval ''7 days'');';
