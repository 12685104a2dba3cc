-- SPDX-License-Identifier: MIT
-- Function: foloosi.schema_version()
--
--   The version of this schema, so that a program refuses to work on one that
--   it does not know.
--
-- Parameters: none
-- Returns:    the number of the latest migration
-- Tables:     reads schema_migrations

create or replace function foloosi.schema_version()
returns int
language sql stable security definer
set search_path = foloosi, pg_temp
as $$
    select max(version) from foloosi.schema_migrations
$$;

comment on function foloosi.schema_version() is
    'The number of the latest migration: which schema this is.';

create or replace function foloosi.schema_serves()
returns int
language sql stable security definer
set search_path = foloosi, pg_temp
as $$
    select 1
$$;

comment on function foloosi.schema_serves() is
    'The version since which record_deliveries() is called as it is now: a handler that knows this or a later one may use a schema that is newer than it is.';
