-- SPDX-License-Identifier: MIT
-- What a monitoring system asks the database, for /metrics of foloosi-webhook.
--
-- It is asked every few seconds, for ever, so it reads nothing that grows with the payments: what
-- waits is in partial indexes, and of events it looks at no more than the page that a consumer would be
-- offered next. Names of metrics and what they mean are in cgi-src/handler/stats.c.

create or replace function foloosi.monitor()
returns table (metric text, merchant text, detail text, value double precision)
language plpgsql stable security definer
set search_path = pg_catalog, foloosi, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off -- statistics of an hour ago may say that nothing waits
set jit = off -- which that makes believe that the query is expensive: seconds to compile, for milliseconds
as $$
#variable_conflict use_column
declare
    page constant int := 10000;
begin
    return query select 'foloosi_schema_version', null::text, null::text, foloosi.schema_version()::float8;

    -- Zeros too: a missing row would not tell "none waits" from "not measured".
    return query
        with w as materialized (
            select a.merchant::text as merchant, a.kind, count(*) as n, min(a.created_at) as oldest
            from foloosi.attention a group by 1, 2
            union all
            select m.merchant, k, 0, null
            from foloosi.merchants m, unnest(array['order', 'payback', 'delivery', 'refund', 'transaction', 'event', 'consumer']) k
        ), t as (
            select w.merchant, w.kind, sum(w.n)::float8 as n, coalesce(extract(epoch from now() - min(w.oldest)), 0)::float8 as age
            from w group by 1, 2
        )
        select 'foloosi_attention', t.merchant, t.kind, t.n from t
        union all
        select 'foloosi_attention_oldest_seconds', t.merchant, t.kind, greatest(t.age, 0) from t;

    return query
        with w as materialized (
            select p.merchant::text as merchant, p.state::text as state, count(*) as n, min(p.created_at) as oldest
            from foloosi.paybacks p where p.state in ('due', 'check') group by 1, 2
            union all
            select m.merchant, s, 0, null from foloosi.merchants m, unnest(array['due', 'check']) s
        ), t as (
            select w.merchant, w.state, sum(w.n)::float8 as n, coalesce(extract(epoch from now() - min(w.oldest)), 0)::float8 as age
            from w group by 1, 2
        )
        select 'foloosi_paybacks', t.merchant, t.state, t.n from t
        union all
        select 'foloosi_paybacks_oldest_seconds', t.merchant, t.state, greatest(t.age, 0) from t;

    -- From the order on, for a transaction that was not asked about yet has no row in verifications.
    return query
        with t as materialized (
            select o.merchant::text as merchant, count(*)::float8 as n,
                   extract(epoch from now() - min(coalesce(o.updated_at, o.created_at)))::float8 as age
            from foloosi.orders o where o.state = 'verifying' group by 1
        )
        select 'foloosi_verifications', m.merchant::text, null::text, coalesce(t.n, 0)
        from foloosi.merchants m left join t on t.merchant = m.merchant
        union all
        select 'foloosi_verifications_oldest_seconds', m.merchant, null, coalesce(greatest(t.age, 0), 0)
        from foloosi.merchants m left join t on t.merchant = m.merchant;

    return query
        with t as materialized (
            select o.merchant::text as merchant, count(*)::float8 as n,
                   extract(epoch from foloosi.clock() - min(o.cancel_at))::float8 as age
            from foloosi.orders o where o.state = 'pending' and o.cancel_at <= foloosi.clock() group by 1
        )
        select 'foloosi_orders_overdue', m.merchant::text, null::text, coalesce(t.n, 0)
        from foloosi.merchants m left join t on t.merchant = m.merchant
        union all
        select 'foloosi_orders_overdue_oldest_seconds', m.merchant, null, coalesce(greatest(t.age, 0), 0)
        from foloosi.merchants m left join t on t.merchant = m.merchant;

    return query select 'foloosi_events_last_id', null::text, null::text, coalesce((select max(e.id) from foloosi.events e), 0)::float8;

    return query
        select v.metric, c.merchant::text, c.consumer::text, v.value::float8
        from foloosi.consumers c,
            lateral (select count(*) as n
                     from (select from foloosi.dispatches d where d.consumer_id = c.id and d.state <> 'dead' limit page) d) waiting,
            lateral (select count(*) as n, min(e.id) as first_id
                     from foloosi.events e
                     where e.id > c.position and e.id <= c.position + page
                       and (c.merchant is null or e.merchant = c.merchant) and (c.types is null or e.type = any (c.types))) ahead,
            lateral (select least(ahead.first_id,
                         (select d.event_id from foloosi.dispatches d where d.consumer_id = c.id and d.state <> 'dead'
                          order by d.event_id limit 1)) as id) oldest,
            lateral (values
                ('foloosi_events_backlog', waiting.n + ahead.n),
                ('foloosi_events_oldest_seconds',
                 coalesce((select greatest(extract(epoch from now() - e.created_at), 0) from foloosi.events e where e.id = oldest.id), 0)),
                ('foloosi_events_dead',
                 (select count(*) from foloosi.dispatches d where d.consumer_id = c.id and d.state = 'dead')),
                ('foloosi_consumer_position', c.position),
                ('foloosi_consumer_failures', c.failures),
                ('foloosi_consumer_paused', (c.paused_until is not null)::int),
                ('foloosi_consumer_disabled', (c.disabled_at is not null)::int)) as v (metric, value);
end $$;
comment on function foloosi.monitor() is
'What waits, as numbers for a monitoring system. Returns rows of metric, merchant (null: all or none), detail (a kind, a state, a consumer''s name), value; ages in seconds. Calls: schema_version, clock. Tables: attention, merchants, paybacks, orders, consumers, dispatches, events (read).';
