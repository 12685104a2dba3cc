-- SPDX-License-Identifier: MIT
-- write(): make decided deliveries true. One statement a table, skipped when it has
-- nothing to do; all in the caller's transaction.

create or replace function foloosi.write(inout decided foloosi.element[], plain boolean default false)
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    n                int := cardinality(decided);
    -- how many there are of each, or whether there is one; as it is if plain
    new_transactions int := n;
    transactions     int := 0;
    learned          boolean := false;
    contradicted     boolean := false;
    refunds          boolean := false;
    new_orders       int := n;
    orders           int := 0;
    others           boolean := false;
    align            boolean := false;
    events           int := n;
    new_deliveries   boolean := true;
    deliveries       boolean := false;
    written          int;
    grew             bigint[] := '{}'; -- transactions of which more went back than was known
    named            bigint[];         -- transactions that get the order that they lacked
    r                record;
begin
    if plain is not true then
        select count(*) filter (where e.transaction_write = 'insert'), count(*) filter (where e.transaction_write = 'update'),
               bool_or(e.transaction_write = 'learn'), bool_or(e.contradicted), bool_or(e.refund is not null),
               count(*) filter (where e.order_write = 'insert'), count(*) filter (where e.order_write = 'update'),
               bool_or(e.other), bool_or(e.align), count(e.event),
               bool_or(e.assigned is null and e.delivery_new), bool_or(e.assigned is null and not e.delivery_new)
          into new_transactions, transactions, learned, contradicted, refunds, new_orders, orders, others, align, events, new_deliveries, deliveries
        from unnest(decided) e;
    end if;

    if new_transactions > 0 then
        insert into foloosi.transactions (
            id, merchant, transaction_no, payment_reference, order_ref, state, transaction_status, amount, currency,
            transaction_message, optional1, optional2, optional3, customer_email, customer_mobile, card_last_four, order_withheld, money_left)
        select transaction_id, merchant, transaction_no, payment_reference, transaction_order, transaction_state, status,
               case when status <> 'refund' then amount end, case when status <> 'refund' then currency end,
               message, optional1, optional2, optional3, email, mobile, card, order_withheld,
               foloosi.left_of(transaction_state, amount, null)
        from unnest(decided) where transaction_write = 'insert';
        get diagnostics written = row_count;
        if written <> new_transactions then
            raise exception 'a trigger on foloosi.transactions suppressed a transaction' using errcode = 'triggered_action_exception';
        end if;
    end if;
    if transactions > 0 or learned then
        named := array(select t.id from unnest(decided) e join foloosi.transactions t on t.id = e.transaction_id
                       where (e.transaction_write = 'update' or e.transaction_write = 'learn' and e.rule = 24)
                         and e.transaction_order is not null and t.order_ref is null);
    end if;
    -- what the provider says now replaces what it said; what it leaves out stays
    if transactions > 0 then
        update foloosi.transactions t
        set transaction_no = coalesce(t.transaction_no, e.transaction_no),
            payment_reference = case when e.rule = 19 then t.payment_reference else coalesce(t.payment_reference, e.payment_reference) end,
            order_ref = e.transaction_order, state = e.transaction_state, transaction_status = e.status,
            amount = coalesce(e.amount, t.amount), currency = coalesce(e.currency, t.currency),
            transaction_message = coalesce(e.message, t.transaction_message),
            optional1 = coalesce(case when t.masked_at is null then e.optional1 end, t.optional1), -- masked stays masked
            optional2 = coalesce(case when t.masked_at is null then e.optional2 end, t.optional2),
            optional3 = coalesce(case when t.masked_at is null then e.optional3 end, t.optional3),
            customer_email = coalesce(case when t.masked_at is null then e.email end, t.customer_email),
            customer_mobile = coalesce(case when t.masked_at is null then e.mobile end, t.customer_mobile),
            card_last_four = coalesce(case when t.masked_at is null then e.card end, t.card_last_four),
            order_withheld = e.order_withheld, updated_at = now(),
            captured_at = case when e.transaction_state = 'captured' and t.state <> 'captured' then foloosi.clock() else t.captured_at end
        from unnest(decided) e where e.transaction_write = 'update' and t.id = e.transaction_id;
        get diagnostics written = row_count;
        if written <> transactions then
            raise exception 'a trigger on foloosi.transactions suppressed a change' using errcode = 'triggered_action_exception';
        end if;
    end if;
    if named <> '{}' then
        -- the delivery that named none waits no longer
        update foloosi.deliveries d set attention = false
        where d.transaction_id = any (named) and d.reason = 'no_order_key' and d.attention;
    end if;
    if learned then
        update foloosi.transactions t
        set transaction_no = coalesce(t.transaction_no, e.transaction_no),
            payment_reference = coalesce(t.payment_reference, e.payment_reference),
            order_ref = case when e.rule = 24 then e.transaction_order else t.order_ref end, updated_at = now()
        from unnest(decided) e where e.transaction_write = 'learn' and t.id = e.transaction_id;
    end if;
    if contradicted then
        update foloosi.transactions t set contradicted = true, updated_at = now()
        from unnest(decided) e
        left join lateral foloosi.reference_owner(e.merchant, case when e.rule = 19 then e.payment_reference end) b on true
        cross join lateral unnest(array[e.transaction_id, b.id]) x (id)
        where e.contradicted and t.id = x.id and not t.contradicted;
    end if;
    if refunds then
        insert into foloosi.refunds (merchant, transaction_id, delivery_id, order_named, payment_reference, amount, currency, source, believed, awaits_reference)
        select e.merchant, e.transaction_id, e.delivery_id, e.order_key, e.payment_reference, e.amount, e.currency,
               case when e.source like 'reconcile%' then 'provider' else 'delivery' end, e.refund = 'counted',
               e.payment_reference is not null and not exists (select from foloosi.reference_owner(e.merchant, e.payment_reference))
        from unnest(decided) e where e.refund is not null order by e.i;
    end if;
    if plain is not true and exists (select from foloosi.refunds r where r.awaits_reference) then
        update foloosi.refunds r set awaits_reference = false
        from unnest(decided) e
        where r.awaits_reference and r.payment_reference = e.payment_reference and r.merchant = e.merchant
          and exists (select from foloosi.reference_owner(e.merchant, e.payment_reference));
    end if;
    -- of what was known before, a refund may be known; of what is captured now, all may be left
    if refunds or transactions > 0 then
        grew := foloosi.count_refunds(array(select e.transaction_id from unnest(decided) e
                                            where e.refund is not null or e.transaction_write = 'update'));
    end if;

    if new_orders > 0 then
        insert into foloosi.orders (id, merchant, order_ref, state, transaction_id, amount, currency, reason, late, cancel_at, money_left)
        select case when delivery_new then delivery_id + 2 else nextval('foloosi.id_seq') end, -- as decide() draws them
               merchant, order_named, order_state, transaction_id, order_amount, order_currency, reason, order_late, order_cancel_at,
               case when transaction_state = 'captured' then case when currency = order_currency then amount else 0 end end
        from unnest(decided) where order_write = 'insert';
        get diagnostics written = row_count;
        if written <> new_orders then
            raise exception 'a trigger on foloosi.orders suppressed an order' using errcode = 'triggered_action_exception';
        end if;
    end if;
    if orders > 0 then
        update foloosi.orders o
        set state = e.order_state, transaction_id = e.transaction_id, amount = e.order_amount, currency = e.order_currency,
            reason = e.reason, late = e.order_late, cancel_at = e.order_cancel_at, updated_at = now(),
            money_left = case when e.transaction_state = 'captured'
                              then coalesce(o.money_left, 0) + case when e.currency = e.order_currency then e.amount else 0 end else o.money_left end
        from unnest(decided) e
        where e.order_write = 'update' and o.order_ref = e.order_named and o.merchant = e.merchant
          and o.state = e.order_state_before;
        get diagnostics written = row_count;
        if written <> orders then -- another session wrote without the locks, or a trigger suppressed it: look
            if exists (select from unnest(decided) e join foloosi.orders o on o.order_ref = e.order_named and o.merchant = e.merchant
                       where e.order_write = 'update' and o.state = e.order_state_before and o.transaction_id is distinct from e.transaction_id) then
                raise exception 'a trigger on foloosi.orders suppressed a change' using errcode = 'triggered_action_exception';
            end if;
            raise exception 'an order is not in the state that was decided upon' using errcode = 'serialization_failure';
        end if;
    end if;

    if others then
        insert into foloosi.other_transactions (order_ref, merchant, transaction_id, renewal, awaits_order)
        select r.order_ref, e.merchant, e.transaction_id, e.renewal,
               not exists (select from foloosi.orders o where o.order_ref = r.order_ref and o.merchant = e.merchant)
        from unnest(decided) e cross join lateral (select coalesce(e.order_key, e.transaction_order) as order_ref) r where e.other
        on conflict (order_ref, merchant, transaction_id) do update set renewal = excluded.renewal where excluded.renewal;
    end if;

    if events > 0 then
        insert into foloosi.events (merchant, type, order_ref, transaction_id, reason)
        select merchant, event, transaction_order, transaction_id, reason
        from unnest(decided) where event is not null order by i;
        get diagnostics written = row_count;
        if written <> events then
            raise exception 'a trigger on foloosi.events suppressed an event' using errcode = 'triggered_action_exception';
        end if;
    end if;

    if align and new_orders > 0 then
        update foloosi.other_transactions x set awaits_order = false
        from unnest(decided) e
        where e.align and e.order_write = 'insert' and x.awaits_order and x.order_ref = e.order_named and x.merchant = e.merchant;
    end if;
    if align then
        for r in
            select e.ordinality::int as n, p.state_before, p.state
            from unnest(foloosi.align_orders(array(
                    select row(e.merchant, a.order_ref, case when a.own then e.transaction_id end, case when a.own then e.payback end, null)::foloosi.alignment
                    from unnest(decided) e
                    cross join lateral (
                        select e.transaction_order as order_ref, true as own where e.rule <> 23 and e.transaction_order is not null
                        union all -- a refund that found no transaction is a doubt for those that it may mean
                        select e.order_key, false where e.rule = 23 and e.order_key is not null
                        union
                        select b.order_ref, false from foloosi.reference_owner(e.merchant, e.payment_reference) b
                        where e.rule in (19, 23) and b.order_ref is not null
                        union -- a third delivery links two: of each, all is to check
                        select t.order_ref, false from foloosi.transactions t where e.rule = 19 and t.id = e.transaction_id and t.order_ref is not null) a
                    where e.align), grew)) p
            join unnest(decided) with ordinality e on e.align and e.order_named = p.order_ref and e.merchant = p.merchant
        loop
            -- a direct effect and this one are one change to the reader
            decided[r.n].order_state := r.state;
            if r.state <> r.state_before and decided[r.n].order_write is null then
                decided[r.n].order_write := 'aligned';
                decided[r.n].order_state_before := r.state_before;
            end if;
        end loop;
    end if;
    if align then
        -- a contradiction waits in its payback, where there is one
        for r in
            select e.ordinality::int as n from unnest(decided) with ordinality e
            where e.rule = 7 and exists (select from foloosi.paybacks p where p.transaction_id = e.transaction_id and p.state = 'check')
        loop
            decided[r.n].attention := false;
        end loop;
    end if;

    if new_deliveries then
        insert into foloosi.deliveries (
            id, merchant, digest, outcome, rule, reason, detail, attention, transaction_id, order_ref,
            order_moved, order_state_before, order_state, source)
        select delivery_id, merchant, digest, outcome, rule, reason, detail, attention, transaction_id, order_named,
               order_write is not null, order_state_before, order_state, source
        from unnest(decided) where assigned is null and delivery_new;
    end if;
    if deliveries then
        -- a repeat (rule 1) is counted; a rejected or ignored one that came again was tried afresh
        update foloosi.deliveries d
        set repeats = least(d.repeats + 1::bigint, 2147483647), last_seen_at = now()
        from unnest(decided) e
        where e.assigned is null and not e.delivery_new and d.digest = e.digest and d.merchant = e.merchant and e.rule = 1;
        update foloosi.deliveries d
        set repeats = least(d.repeats::bigint + case when e.source like 'replay%' then 0 else 1 end, 2147483647), last_seen_at = now(), outcome = e.outcome, rule = e.rule, reason = e.reason,
            detail = e.detail, attention = e.attention, transaction_id = e.transaction_id, order_ref = e.order_named,
            order_moved = e.order_write is not null, order_state_before = e.order_state_before, order_state = e.order_state
        from unnest(decided) e
        where e.assigned is null and not e.delivery_new and d.digest = e.digest and d.merchant = e.merchant and e.rule is distinct from 1;
    end if;
end $$;
comment on function foloosi.write(foloosi.element[], boolean) is
'Write what decide() decided, and bring the orders in line with it. Parameters: decided, plain: as decide() returns them (false: look what there is to write). Returns it with the states that the orders have then. Calls: left_of, count_refunds, align_orders, reference_owner, clock. Tables: transactions, refunds, orders, other_transactions, events, deliveries (written), paybacks (read).';

create or replace function foloosi.write_rejected(inout batch foloosi.element[])
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    this_hour timestamptz := date_trunc('hour', now());
    quota     record; -- of the merchant at hand
    fresh     int;    -- rejected deliveries of the batch that were not known
    element   foloosi.element;
    known     record;
begin
    -- The counter of a merchant is locked like an order: tried, not waited for.
    for n in 1 .. array_length(batch, 1) loop
        if not pg_try_advisory_xact_lock(foloosi.lock_key('rejections', batch[n].merchant, '')) then
            batch[n].outcome := 'busy';
        end if;
    end loop;
    insert into foloosi.rejections as r (merchant, hour)
    select distinct e.merchant, this_hour from unnest(batch) e where e.outcome is null and e.merchant is not null order by e.merchant
    on conflict (merchant, hour) do nothing;

    for quota in
        select r.merchant, r.kept, coalesce(m.rejected_per_hour, 1000) as allowed, m.merchant is not null as merchant_known
        from foloosi.rejections r left join foloosi.merchants m on m.merchant = r.merchant
        where r.hour = this_hour and r.merchant in (select e.merchant from unnest(batch) e)
        order by r.merchant
    loop
        fresh := 0;
        for n in 1 .. array_length(batch, 1) loop
            element := batch[n];
            continue when element.merchant <> quota.merchant or element.outcome is not null;
            element.outcome := 'rejected';
            element.merchant_known := quota.merchant_known;
            element.delivery_new := false;
            -- It has no part in its order, so it does not say the order's state: that would be another after a batch than alone.
            select d.id, d.outcome, d.order_ref, o.state into known
            from foloosi.deliveries d left join foloosi.orders o on o.order_ref = d.order_ref and o.merchant = d.merchant
            where d.digest = element.digest and d.merchant = element.merchant;
            if found then
                element.delivery_id := known.id;
                if known.outcome in ('rejected', 'ignored') then
                    update foloosi.deliveries d
                    set repeats = least(d.repeats + 1::bigint, 2147483647), last_seen_at = now(), outcome = 'rejected', rule = 0, reason = null,
                        detail = element.fault, attention = d.attention or d.outcome = 'ignored', transaction_id = null,
                        order_ref = element.order_ref, order_state = null
                    where d.digest = element.digest and d.merchant = element.merchant;
                else
                    element.outcome := 'duplicate';
                    element.order_named := known.order_ref;
                    element.order_state := known.state;
                    update foloosi.deliveries d set repeats = least(d.repeats + 1::bigint, 2147483647), last_seen_at = now() where d.digest = element.digest and d.merchant = element.merchant;
                end if;
            else
                fresh := fresh + 1;
                if quota.kept + fresh <= quota.allowed then
                    element.delivery_id := nextval('foloosi.id_seq');
                    element.delivery_new := true;
                    insert into foloosi.deliveries (id, merchant, digest, outcome, rule, detail, attention, order_ref, source)
                    values (element.delivery_id, element.merchant, element.digest, 'rejected', 0, element.fault, true, element.order_ref, element.source);
                end if;
            end if;
            batch[n] := element;
        end loop;
        if fresh > 0 then
            update foloosi.rejections r
            set kept = least(r.kept + fresh, greatest(r.kept, quota.allowed)),
                dropped = r.dropped + r.kept + fresh - least(r.kept + fresh, greatest(r.kept, quota.allowed))
            where r.merchant = quota.merchant and r.hour = this_hour;
        end if;
    end loop;
end $$;
comment on function foloosi.write_rejected(foloosi.element[]) is
'Keep what the handler rejected, up to the merchant''s quota of the hour; beyond it only count. Parameters: batch. Returns it with outcome and delivery_id (null: only counted; busy: another session is counting). Tables: rejections, deliveries (written), merchants, orders (read).';
