comment on view report.never_pulled_repositories is 'Repositories that were pushed to, and never pulled from. What is stored in each is added up as it is shown, some 5 ms for 1000 blobs: ask for a page, or leave it out.

select repository, manifests, stored_bytes, last_pushed_at from report.never_pulled_repositories
where tenant = ''acme'' limit 10;';
