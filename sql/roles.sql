-- SPDX-License-Identifier: MIT
-- Roles and the empty schema: the part of the installation that needs rights of
-- its own on the server. Everything after it is done as foloosi_owner.
--
-- The hard part: this file is run again at every deploy, by people with
-- different rights. What exists is left alone, so a session that may SET ROLE
-- foloosi_owner can run it once a superuser has been there; and what a DBA has
-- set by ALTER ROLE stays as it was set.
--
--   foloosi_owner     owns the schema and all in it. It has no login.
--   foloosi_handler   foloosi-webhook: executes record_deliveries(), schema_version() and schema_serves().
--   foloosi_operator  a person with psql: reads everything, decides by functions.
--   foloosi_consumer  the merchant's systems: event functions.
--   foloosi_monitor   /metrics of foloosi-webhook: executes monitor().
--   foloosi_worker    foloosi-worker: hands events out and applies the provider's word, by functions.
--   foloosi_retention foloosictl retain, from a timer: lets old bytes and personal fields go, by functions; reads nothing.
--
-- Passwords are not set here: use peer or certificate authentication, or
-- \password foloosi_handler in psql. grants.sql has what each role may do.

do $$
declare
    wanted record;
begin
    for wanted in
        select *
        from (values
            ('foloosi_owner', 'nologin', 'Owns schema foloosi. It has no login.'),
            ('foloosi_handler', 'login', 'foloosi-webhook: may record deliveries, and nothing else.'),
            ('foloosi_operator', 'login', 'A person with psql: reads schema foloosi, decides by its functions.'),
            ('foloosi_consumer', 'login', 'The merchant''s systems: may call the event functions of schema foloosi.'),
            ('foloosi_monitor', 'login', '/metrics of foloosi-webhook: may call monitor(), and nothing else.'),
            ('foloosi_worker', 'login', 'foloosi-worker: hands out events and applies the provider''s word, by functions.'),
            ('foloosi_retention', 'login', 'foloosictl retain: lets old bytes and personal fields go, by functions.')
        ) as v (role, login, comment)
        where not exists (select from pg_catalog.pg_roles r where r.rolname = v.role)
    loop
        begin
            execute format('create role %I %s', wanted.role, wanted.login);
            execute format('comment on role %I is %L', wanted.role, wanted.comment);
        exception
            -- Roles belong to the whole cluster, the migration's lock only to this
            -- database: an installation in another one may be faster.
            when duplicate_object or unique_violation then
                null;
        end;
    end loop;
end
$$;

-- A role that creates another without being a superuser is not its member yet (and since
-- PostgreSQL 16 not one that may SET ROLE).
do $$
declare
    needed constant text := case when current_setting('server_version_num')::int >= 160000
                                 then 'SET' else 'MEMBER' end;
begin
    if not pg_has_role('foloosi_owner', needed) then
        execute format('grant foloosi_owner to %I', current_user);
    end if;
exception
    when insufficient_privilege then
        raise exception '% may not act as foloosi_owner', current_user
            using hint = format('Ask a superuser for: grant foloosi_owner to %I', current_user);
end
$$;

-- The schema is made here and not in a migration so that foloosi_owner needs no
-- CREATE on the database.
do $$
declare
    owner text := (select nspowner::regrole::text from pg_catalog.pg_namespace where nspname = 'foloosi');
begin
    if owner is null then
        create schema foloosi authorization foloosi_owner;
    elsif owner <> 'foloosi_owner' then
        raise exception 'schema foloosi belongs to %, not to foloosi_owner', owner
            using hint = 'Rename that schema, or install in another database.';
    end if;
end
$$;

-- Settings of the roles.
--
-- The handler's times: half of its own deadline, so that what a merchant's slow trigger or a
-- lock held up can still be tried again, one at a time, beside the main stream.
-- Isolation: locks are followed by fresh reads; functions refuse anything else.
-- synchronous_commit: "recorded" means on disk here, and on the synchronous
-- standbys if there are any. A cluster may have it off for other programs.
--
-- What the worker notes of events on their way may be lost in a crash: they come again.
-- verify_transaction() sees to its own commit.
--
-- The log settings keep customers' data out of PostgreSQL's log when a statement
-- fails: the values stand in the message (invalid input syntax: "value"), in
-- DETAIL (Failing row contains ...), in CONTEXT, in the parameters and, when a
-- person calls functions from psql, in the statement itself.
-- log_min_messages = log keeps errors and warnings out whole: these programs
-- report their own, and a person at psql sees them. The others clean what
-- still may be logged, slow statements for one. Only a superuser may set them.
do $$
declare
    setting record;
    refused text[];
begin
    for setting in
        with wanted (role, name, value) as (
            values
                ('foloosi_handler', 'statement_timeout', '1500ms'),
                ('foloosi_handler', 'lock_timeout', '300ms'),
                ('foloosi_handler', 'default_transaction_isolation', 'read committed'),
                ('foloosi_operator', 'default_transaction_isolation', 'read committed'),
                ('foloosi_handler', 'idle_in_transaction_session_timeout', '10s'),
                ('foloosi_handler', 'synchronous_commit', 'on'),
                ('foloosi_worker', 'statement_timeout', '10s'),
                ('foloosi_worker', 'lock_timeout', '2s'),
                ('foloosi_worker', 'default_transaction_isolation', 'read committed'),
                ('foloosi_worker', 'idle_in_transaction_session_timeout', '10s'),
                ('foloosi_worker', 'synchronous_commit', 'off'),
                ('foloosi_monitor', 'statement_timeout', '1500ms'),
                ('foloosi_monitor', 'lock_timeout', '300ms'),
                ('foloosi_retention', 'idle_in_transaction_session_timeout', '1s') -- it may hold what deliveries wait for
            union all
            select role, name, value
            from (values ('foloosi_handler'), ('foloosi_operator'), ('foloosi_consumer'), ('foloosi_worker'), ('foloosi_monitor'), ('foloosi_retention')) as r (role),
                (values
                    ('log_min_messages', 'log'),
                    ('log_min_error_statement', 'panic'),
                    ('log_error_verbosity', 'terse'),
                    ('log_parameter_max_length', '0'),
                    ('log_parameter_max_length_on_error', '0')
                ) as v (name, value)
        )
        select w.*
        from wanted w join pg_catalog.pg_roles r on r.rolname = w.role
        where not exists (select from unnest(r.rolconfig) as c (setting) where starts_with(c.setting, w.name || '='))
        order by w.role, w.name
    loop
        begin
            execute format('alter role %I set %s = %L', setting.role, setting.name, setting.value);
        exception
            when insufficient_privilege then
                refused := refused || format('alter role %I set %s = %L;', setting.role, setting.name, setting.value);
        end;
    end loop;

    if refused is not null then
        raise warning 'not allowed to set % settings of the roles: without them personal data may reach the server''s log', cardinality(refused)
            using hint = 'Ask a superuser for: ' || array_to_string(refused, ' ');
    end if;
end
$$;
