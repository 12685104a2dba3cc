-- SPDX-License-Identifier: MIT
-- What each role may do, as data. Run again at every deploy, after functions and
-- views: it takes everything back from our roles and from PUBLIC and gives what
-- stands here, so this file is the whole truth. Objects in schema foloosi that
-- belong to another role are left alone.
--
-- A row may name what an older release has not got yet; a function's name must
-- be unique in the schema.

do $$
declare
    item record;
begin
    for item in
        select case relkind when 'S' then 'sequence' else 'table' end as kind, c.oid::regclass::text as name
        from pg_catalog.pg_class c
        where relnamespace = 'foloosi'::regnamespace and relowner = 'foloosi_owner'::regrole
            and relkind in ('r', 'p', 'v', 'm', 'S')
        union all
        select 'routine', p.oid::regprocedure::text
        from pg_catalog.pg_proc p
        where pronamespace = 'foloosi'::regnamespace and proowner = 'foloosi_owner'::regrole
        union all
        select 'schema', 'foloosi'
    loop
        execute format('revoke all on %s %s from public, foloosi_handler, foloosi_operator, foloosi_consumer, foloosi_worker, foloosi_monitor, foloosi_retention',
            item.kind, item.name);
    end loop;

    grant usage on schema foloosi to foloosi_handler, foloosi_operator, foloosi_consumer, foloosi_worker, foloosi_monitor, foloosi_retention;

    for item in
        select v.role, p.oid::regprocedure::text as name
        from (values
            ('foloosi_handler', 'record_deliveries'),
            ('foloosi_handler', 'schema_version'),
            ('foloosi_handler', 'schema_serves'),

            ('foloosi_operator', 'record_delivery'),
            ('foloosi_operator', 'set_merchant'),
            ('foloosi_operator', 'register_order'),
            ('foloosi_operator', 'resolve_order'),
            ('foloosi_operator', 'assign_transaction'),
            ('foloosi_operator', 'unassign_transaction'),
            ('foloosi_operator', 'settle_payback'),
            ('foloosi_operator', 'withdraw_payback'),
            ('foloosi_operator', 'reopen_payback'),
            ('foloosi_operator', 'record_refund'),
            ('foloosi_operator', 'cancel_due'),
            ('foloosi_operator', 'clean_key'),
            ('foloosi_operator', 'trim_white'), -- for clean_key()
            ('foloosi_operator', 'clock'), -- for the view attention, as the next one
            ('foloosi_operator', 'money_text'),
            ('foloosi_worker', 'cancel_due'),
            ('foloosi_operator', 'held_until'),
            ('foloosi_worker', 'held_until'),
            ('foloosi_operator', 'dismiss_attention'),
            ('foloosi_operator', 'event_payload'),
            ('foloosi_operator', 'transactions_of'),
            ('foloosi_operator', 'replay_delivery'),
            ('foloosi_operator', 'remind_paybacks'),
            ('foloosi_operator', 'replay_transfer'),
            ('foloosi_operator', 'explain_delivery'),
            ('foloosi_operator', 'schema_version'),

            ('foloosi_operator', 'monitor'),
            ('foloosi_monitor', 'monitor'),

            ('foloosi_operator', 'add_consumer'),
            ('foloosi_operator', 'drop_consumer'),
            ('foloosi_operator', 'disable_consumer'),
            ('foloosi_operator', 'enable_consumer'),
            ('foloosi_operator', 'retry_events'),
            ('foloosi_operator', 'discard_events'),

            ('foloosi_consumer', 'next_events'),
            ('foloosi_consumer', 'finish_events'),
            ('foloosi_consumer', 'retry_events'),
            ('foloosi_consumer', 'schema_version'),

            ('foloosi_worker', 'add_consumer'),
            ('foloosi_worker', 'next_events'),
            ('foloosi_worker', 'next_mails'),
            ('foloosi_worker', 'remind_paybacks'),
            ('foloosi_worker', 'settle_events'),
            ('foloosi_worker', 'next_verifications'),
            ('foloosi_worker', 'postpone_verification'),
            ('foloosi_worker', 'verify_transaction'),
            ('foloosi_worker', 'begin_reconciliation'),
            ('foloosi_worker', 'compare_transactions'),
            ('foloosi_worker', 'record_reconciled'),
            ('foloosi_worker', 'advance_reconciliation'),
            ('foloosi_worker', 'end_reconciliation'),
            ('foloosi_worker', 'schema_version'),

            -- how long is a person's decision, and so is an erasure; that it happens is a timer's
            ('foloosi_operator', 'set_retention'),
            ('foloosi_operator', 'erase_customer'),
            ('foloosi_retention', 'retain_months'),
            ('foloosi_retention', 'retain_bodies'),
            ('foloosi_retention', 'retain_default'),
            ('foloosi_retention', 'retain_personal'),
            ('foloosi_retention', 'schema_version')
        ) as v (role, function)
        join pg_catalog.pg_proc p on p.pronamespace = 'foloosi'::regnamespace and p.proname = v.function
        order by v.role, p.oid -- not as the plan has it: an ACL shows its grants in their order
    loop
        execute format('grant execute on routine %s to %I', item.name, item.role);
    end loop;

    for item in
        select c.oid::regclass::text as name
        from pg_catalog.pg_class c
        where relnamespace = 'foloosi'::regnamespace and relowner = 'foloosi_owner'::regrole
            and relkind in ('r', 'p', 'v', 'm')
    loop
        execute format('grant select on table %s to foloosi_operator', item.name);
    end loop;

    -- SELECT … FOR UPDATE asks for UPDATE on some column. A trigger refuses every
    -- UPDATE of id, so with this an operator holds a row still and writes nothing.
    for item in
        select c.oid::regclass::text as name
        from pg_catalog.pg_class c
        where c.oid in (to_regclass('foloosi.orders'), to_regclass('foloosi.transactions'))
    loop
        execute format('grant update (id) on table %s to foloosi_operator', item.name);
    end loop;
end
$$;

-- Partitions that do not exist yet.
alter default privileges for role foloosi_owner in schema foloosi grant select on tables to foloosi_operator;
