create view report.signatures with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository, digest_text(s.signed) as digest, s.kind,
    digest_text(s.signature) as signature_digest, s.created_at, s.signed as signed_key
from (
    select j.tenant_id, j.repository_id, j.manifest_digest as signed, 'jws' as kind, j.digest as signature, j.created_at
    from signatures j
    union all
    select g.tenant_id, g.repository_id, g.subject_digest, g.kind, g.manifest_digest, g.created_at
    from signing_manifests g
    join manifests m on m.tenant_id = g.tenant_id and m.repository_id = g.repository_id
        and m.digest = g.manifest_digest and m.deleted_at is null
) s
join repositories r on r.tenant_id = s.tenant_id and r.id = s.repository_id and r.deleted_at is null
join tenants t on t.id = s.tenant_id and t.name is not null;
comment on view report.signatures is 'All signatures of whatever kind, in one shape. What is signed may be absent.

select digest, kind, signature_digest, created_at from report.signatures where repository = ''acme/web'';';
comment on column report.signatures.tenant is 'Name of the tenant.';
comment on column report.signatures.repository is 'Full name of the repository.';
comment on column report.signatures.digest is 'What is signed.';
comment on column report.signatures.kind is 'jws: inside Docker schema 1; cosign: by a tag; referrer: by a subject and an artifact type.';
comment on column report.signatures.signature_digest is 'The signature: of a jws its own bytes, else the manifest that signs.';
comment on column report.signatures.created_at is 'When it came to sign.';
comment on column report.signatures.signed_key is 'What is signed as an index has it: compare it with report.digest(...).';
