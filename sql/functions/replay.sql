-- SPDX-License-Identifier: MIT
-- A delivery once more, by a person: for good (replay_transfer), or only to see what it would do
-- (explain_delivery). replay_delivery() in record_deliveries.sql is the short way for what the database or a trigger refused.
--
-- Both take the transfer as foloosictl's decoder read it from the bytes: by the rules and the order key that
-- the handler goes by, which SQL does not know.
--
-- explain_delivery() is a rehearsal: it does all of it, triggers included, looks at what is there then,
-- and raises an exception that only rolls back. What plpgsql remembers in variables survives that.
-- Numbers that were drawn are gone; consumers of events know such gaps.

create or replace function foloosi.replay_transfer(
    id bigint, transaction_status text, order_ref text default null, transaction_no text default null,
    payment_reference text default null, amount numeric default null, currency text default null,
    transaction_message text default null, optional1 text default null, optional2 text default null,
    optional3 text default null, customer_email text default null, customer_mobile text default null,
    card_last_four text default null, unprefixed text default null)
returns table (outcome text, order_named text, order_state text, reason text, delivery_id bigint)
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    d    foloosi.deliveries;
    body bytea;
begin
    select x.* into d from foloosi.deliveries x where x.id = $1;
    if d.id is null then
        raise exception 'there is no delivery %', $1 using errcode = 'no_data_found';
    end if;
    if d.outcome not in ('rejected', 'ignored') and (d.outcome <> 'review' or d.reason not in ('hook_failed', 'refused')) then
        raise exception 'delivery % was not rejected, ignored or refused: it is %', d.id, d.outcome
            using errcode = 'object_not_in_prerequisite_state', hint = 'What is recorded counts once, however often it comes.';
    end if;
    select b.body into body from foloosi.bodies b where b.delivery_id = d.id order by b.created_at limit 1;
    if body is null then
        raise exception 'the bytes of delivery % are gone', d.id using errcode = 'no_data_found';
    end if;
    return query select r.outcome, r.order_ref, r.order_state, r.reason, r.delivery_id from foloosi.record_deliveries(
        array[1], array[d.merchant::text], array[$3], array[sha256(body)], array[body], array[null::text],
        array['replay ' || session_user], array[$2], array[$4], array[$5], array[$6], array[$7], array[$8], array[$9],
        array[$10], array[$11], array[$12], array[$13], array[$14], array[$15]) r;
end $$;
comment on function foloosi.replay_transfer(bigint, text, text, text, text, numeric, text, text, text, text, text, text, text, text, text) is
'Try a rejected, ignored or refused delivery again, as foloosictl replay read its stored bytes now. Parameters: delivery''s id; the transfer''s fields and the order, as in record_deliveries(). Returns the answer of record_deliveries(). Errors: no such delivery; it was recorded; its bytes are gone. Calls: record_deliveries. Tables: deliveries, bodies (read).';

create or replace function foloosi.rows_of_delivery(
    p_merchant text, p_digest bytea, p_orders text[], p_transaction_id bigint, p_delivery_id bigint, p_event_id bigint)
returns table (relation text, key text, content jsonb)
language sql stable
set search_path = pg_catalog, foloosi, pg_temp
as $$
    with t as materialized (
        select x.* from foloosi.transactions x where x.id = p_transaction_id
        union
        select x.* from unnest(p_orders) n, foloosi.transactions_of(p_merchant, n) x
    )
    select 'deliveries', d.id::text, to_jsonb(d) - 'digest'
    from foloosi.deliveries d where d.digest = substr(p_digest, 1, 16) and d.merchant = p_merchant
    union all
    select 'transactions', t.id::text, to_jsonb(t) || jsonb_strip_nulls(jsonb_build_object(
        'customer_email', '(personal) ' || left(md5(t.customer_email), 4), 'customer_mobile', '(personal) ' || left(md5(t.customer_mobile), 4),
        'card_last_four', '(personal) ' || left(md5(t.card_last_four), 4)))
    from t
    union all
    select 'refunds', r.id::text, to_jsonb(r) from t join foloosi.refunds r on r.transaction_id = t.id
    union all
    select 'orders', o.id::text, to_jsonb(o) from foloosi.orders o where o.merchant = p_merchant and o.order_ref = any (p_orders)
    union all
    select 'other_transactions', x.transaction_id::text, to_jsonb(x) from foloosi.other_transactions x
    where x.order_ref = any (p_orders) and x.merchant = p_merchant
    union all
    select 'paybacks', p.id::text, to_jsonb(p) from t join foloosi.paybacks p on p.transaction_id = t.id
    union all
    select 'events', e.id::text, to_jsonb(e) from foloosi.events e
    where e.id > p_event_id and e.merchant = p_merchant and (e.transaction_id = p_transaction_id or e.order_ref = any (p_orders))
    union all
    select 'bodies', b.delivery_id::text, jsonb_build_object('delivery_id', b.delivery_id, 'bytes', length(b.body))
    from foloosi.bodies b where b.delivery_id = p_delivery_id and b.created_at >= now()
    union all
    select 'rejections', r.hour::text, to_jsonb(r) from foloosi.rejections r
    where r.merchant = p_merchant and r.hour = date_trunc('hour', now())
$$;
comment on function foloosi.rows_of_delivery(text, bytea, text[], bigint, bigint, bigint) is
'The rows that a delivery can change, as they are now; personal fields only as a mark that shows a change. Parameters: merchant, digest, orders, transaction, delivery, the last event before. Calls: transactions_of. Tables: deliveries, transactions, refunds, orders, other_transactions, paybacks, events, bodies, rejections (read).';

create or replace function foloosi.explain_delivery(
    merchant text, transaction_status text, order_ref text default null, transaction_no text default null,
    payment_reference text default null, amount numeric default null, currency text default null,
    transaction_message text default null, optional1 text default null, optional2 text default null,
    optional3 text default null, customer_email text default null, customer_mobile text default null,
    card_last_four text default null, body bytea default null, fault text default null, replay boolean default false, unprefixed text default null)
returns table (relation text, key text, before jsonb, after jsonb)
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    v_digest bytea := sha256(coalesce($15, ''));
    event_id bigint := (select coalesce(max(e.id), 0) from foloosi.events e);
    touched  jsonb := (select coalesce(jsonb_object_agg(s.relid, s.n_tup_ins + s.n_tup_upd + s.n_tup_del), '{}')
                       from pg_stat_xact_user_tables s where s.schemaname <> 'foloosi');
    answer   record;
    found_id bigint;
    orders   text[]; -- that it may concern
    was      jsonb;
    became   jsonb;
    others   jsonb;
begin
    begin
        select r.* into answer from foloosi.record_deliveries(
            array[1], array[$1], array[$3], array[v_digest], array[coalesce($15, '')], array[$16],
            array[case when $17 then 'replay ' || session_user end], array[$2], array[$4], array[$5], array[$6], array[$7], array[$8],
            array[$9], array[$10], array[$11], array[$12], array[$13], array[$14], array[$18]) r;
        select d.transaction_id into found_id from foloosi.deliveries d where d.digest = substr(v_digest, 1, 16) and d.merchant = $1;
        orders := array(
            select n from unnest(array[answer.order_ref, $3, (select t.order_ref::text from foloosi.transactions t where t.id = found_id)]) n where n is not null
            union
            select b.order_ref::text from foloosi.reference_owner($1, $5) b where b.order_ref is not null);
        select jsonb_agg(to_jsonb(x)) into became
        from foloosi.rows_of_delivery($1, v_digest, orders, found_id, answer.delivery_id, event_id) x;
        select jsonb_agg(jsonb_build_object('relation', s.schemaname || '.' || s.relname, 'writes', s.n_tup_ins + s.n_tup_upd + s.n_tup_del
                   - coalesce((touched ->> s.relid::text)::bigint, 0))) into others
        from pg_stat_xact_user_tables s
        where s.schemaname <> 'foloosi'
            and s.n_tup_ins + s.n_tup_upd + s.n_tup_del > coalesce((touched ->> s.relid::text)::bigint, 0);
        raise exception 'rehearsed' using errcode = 'FWEND';
    exception when sqlstate 'FWEND' then
        null; -- all of it is rolled back
    end;
    select jsonb_agg(to_jsonb(x)) into was
    from foloosi.rows_of_delivery($1, v_digest, orders, found_id, answer.delivery_id, event_id) x;

    return query
    select 'answer', null::text, null::jsonb, to_jsonb(answer) - 'ordinal' - 'merchant_known'
    union all
    select * from (
        select coalesce(b.relation, w.relation), coalesce(b.key, w.key), w.content, b.content
        from jsonb_to_recordset(coalesce(was, '[]')) as w (relation text, key text, content jsonb)
        full join jsonb_to_recordset(coalesce(became, '[]')) as b (relation text, key text, content jsonb)
            on b.relation = w.relation and b.key = w.key
        where w.content is distinct from b.content
        order by 1, 2) x
    union all
    select o.relation, null, null, jsonb_build_object('rows written', o.writes)
    from jsonb_to_recordset(coalesce(others, '[]')) as o (relation text, writes bigint);
end $$;
comment on function foloosi.explain_delivery(text, text, text, text, text, numeric, text, text, text, text, text, text, text, text, bytea, text, boolean, text) is
'What would this delivery do now? Does it and rolls it back. Parameters: as record_delivery(); body: its bytes; fault: why the handler would reject it; replay: as replay_transfer() would do it. Returns the answer of record_deliveries() as the relation "answer", then each row that would change, before and after (null: there is none), and how many rows the merchant''s triggers would write to each table outside of the schema. Calls: record_deliveries, reference_owner, rows_of_delivery. Tables: deliveries, transactions, events (read).';
