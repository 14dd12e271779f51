create function report.digest(written text) returns bytea language sql immutable strict parallel safe
return case split_part(written, ':', 1) when 'sha256' then '\x01'::bytea when 'sha512' then '\x02'::bytea end
    || decode(split_part(written, ':', 2), 'hex');
comment on function report.digest(text) is 'A digest as the catalogue keeps it, to look for in columns that end in _key: an index finds it there.

select tenant, repository, manifest_digest from report.blob_usage where blob_key = report.digest(''sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'');';
