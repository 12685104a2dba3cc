-- The ledger: what has been done to this schema. foloosictl migrate and
-- install.sql write it, each number in the transaction of its file.

do $$
begin
    if current_setting('server_version_num')::int < 150000 then
        raise exception 'PostgreSQL 15 or newer is needed, this is %', current_setting('server_version');
    end if;
    if current_setting('server_encoding') <> 'UTF8' then
        raise exception 'the database''s encoding is %, deliveries are UTF-8', current_setting('server_encoding')
            using hint = 'Create the database with: encoding ''UTF8'' template template0.';
    end if;
end
$$;

comment on schema foloosi is
    'Payments that Foloosi''s webhooks reported: merchants, orders, transactions, and what waits for a person (view attention).';

-- New functions may be executed by everybody unless this is said before they exist.
alter default privileges for role foloosi_owner revoke execute on functions from public;

create table foloosi.schema_migrations (
    version int constraint schema_migrations_pk primary key,
    name text not null,
    digest bytea not null constraint schema_migrations_digest_ck check (octet_length(digest) = 32),
    applied_at timestamptz not null default now()
);

comment on table foloosi.schema_migrations is
    'The numbered migrations that made this schema, one row a file of sql/migrations.';
comment on column foloosi.schema_migrations.version is 'The number that the file''s name begins with; the highest is the schema''s version.';
comment on column foloosi.schema_migrations.name is 'The rest of the file''s name.';
comment on column foloosi.schema_migrations.digest is 'SHA-256 of the file as it was applied: an applied file is never edited.';
comment on column foloosi.schema_migrations.applied_at is 'Start of the transaction that applied it.';

create table foloosi.schema_files (
    path text constraint schema_files_pk primary key,
    digest bytea not null constraint schema_files_digest_ck check (octet_length(digest) = 32),
    applied_at timestamptz not null default now()
);

comment on table foloosi.schema_files is
    'The functions, views and grants as foloosictl migrate last ran them, one row a file. Empty after an installation by psql: the next foloosictl migrate runs them once more.';
comment on column foloosi.schema_files.path is 'The file''s path below sql/.';
comment on column foloosi.schema_files.digest is 'SHA-256 of the file; when one differs, all are run again.';
comment on column foloosi.schema_files.applied_at is 'Start of the transaction that ran it.';
