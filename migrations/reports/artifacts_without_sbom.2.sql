-- Names of cosign's tags are made before they are compared: a comparison with what a function makes of another row is no
-- condition for an index where policies hold, for the function might tell of rows that nobody may see.
create or replace view report.artifacts_without_sbom with (security_invoker = true) as
select t.name as tenant, t.name || '/' || r.path as repository, g.name as tag, digest_text(g.digest) as digest
from tenants t
join repositories r on r.tenant_id = t.id and r.deleted_at is null
join tags g on g.tenant_id = r.tenant_id and g.repository_id = r.id and g.valid_to is null
where t.name is not null
and g.name !~ '^sha(256|512)-[0-9a-f]{64,128}(\.(sig|att|sbom))?$'
-- A referrer that says so by its type, or of a Sigstore bundle by what it states.
and not exists (
    select from descriptors d
    join manifests m on m.tenant_id = d.tenant_id and m.repository_id = d.repository_id and m.digest = d.manifest_digest
    where d.tenant_id = g.tenant_id and d.digest = g.digest and d.repository_id = g.repository_id
    and d.role = 'subject' and (
        m.artifact_type ~* '(spdx|cyclonedx|syft|sbom|in-toto|slsa|attestation)'
        or exists (
            select from annotations a
            where a.tenant_id = m.tenant_id and a.repository_id = m.repository_id and a.manifest_digest = m.digest
            and a.key in ('dev.sigstore.bundle.predicateType', 'in-toto.io/predicate-type')
            and a.value !~ '^https://sigstore.dev/cosign/sign/'
        )
    )
)
-- A tag of cosign's: the tagged digest's name with .att or .sbom behind it.
and not exists (
    select from (
        select replace(digest_text(g.digest), ':', '-') || ending as name from unnest(array['.att', '.sbom']) ending
        offset 0
    ) cosign
    cross join lateral (
        select from tags c
        where c.tenant_id = g.tenant_id and c.repository_id = g.repository_id and c.name = cosign.name
        and c.valid_to is null limit 1
    ) found
)
-- A child of an index that holds statements of in-toto, as BuildKit puts them there.
and not exists (
    select from descriptors d
    join descriptors s on s.tenant_id = d.tenant_id and s.repository_id = d.repository_id
        and s.manifest_digest = d.digest
    where d.tenant_id = g.tenant_id and d.repository_id = g.repository_id and d.manifest_digest = g.digest
    and d.role = 'manifest' and s.media_type = 'application/vnd.in-toto+json'
);
comment on view report.artifacts_without_sbom is 'Tagged images without an SBOM or an attestation: no referrer of such a type, no tag of cosign''s, no child of the index that BuildKit attests with.

select tag, digest from report.artifacts_without_sbom where repository = ''acme/web'';';
comment on column report.artifacts_without_sbom.tenant is 'Name of the tenant.';
comment on column report.artifacts_without_sbom.repository is 'Full name of the repository.';
comment on column report.artifacts_without_sbom.tag is 'A tag that points to it.';
comment on column report.artifacts_without_sbom.digest is 'The image.';
