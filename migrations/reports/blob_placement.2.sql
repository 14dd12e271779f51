comment on view report.blob_placement is 'Which byte store has a tenant''s content. Ask for a blob; adding up what a store has takes a second for 1,500,000 blobs.

select store, length, created_at from report.blob_placement
where tenant = ''acme'' and blob_key = report.digest(''sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'');';
