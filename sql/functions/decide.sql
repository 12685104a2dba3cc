-- SPDX-License-Identifier: MIT
-- decide(): the order rules, row by row. This is the heart of the schema; the README's table
-- "Order rules" has the same numbers.
--
-- It reads and decides, and writes nothing (but draws ids). First the facts: one read for a
-- whole segment, whose elements do not concern each other, and none for elements of which
-- the tables know nothing, as most. Then the rules: one CASE gives the number of the rule
-- that matches first; everything else follows from that number.
--
-- The planner sees the tables when a session calls for the first time, often when they are
-- empty, and keeps the plan. So the functions that look up keys allow it only what
-- stays right when the tables have grown: a nested loop over an index for each key. (Nor may it
-- take its own guess of what that costs for a reason to compile the plan.)

create or replace function foloosi.decide(segment foloosi.element[], known int[] default null) returns foloosi.element[]
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
as $$
#variable_conflict use_column
declare
    facts   foloosi.facts[]; -- at the position of its element
    decided foloosi.element[];
begin
    -- Nothing is sorted, here and below: nested loops keep the order of the segment.
    if known is null or known <> '{}' then
        select array_agg(row(
                d.id, d.outcome, e.source like 'replay%' and d.reason in ('hook_failed', 'refused'),
                t.id, t.order_ref, t.transaction_status, t.amount, t.currency, c.conflict,
                t.transaction_no is null and e.transaction_no is not null
                    or t.payment_reference is null and e.payment_reference is not null and not c.conflict,
                x.order_known, o.state, o.amount, o.currency, o.registered_at is not null, o.decided_by is not null,
                p.id, p.state, p.reason, p.known, p.returned)::foloosi.facts)
          into facts
        from unnest(segment) e
        -- a key that the tables are known not to have is null, and an index needs no look for null
        cross join lateral (select case when known is null or e.i = any (known) then e.merchant end as merchant) k
        left join foloosi.deliveries d on d.digest = e.digest and d.merchant = k.merchant
        left join foloosi.transactions a on a.transaction_no = e.transaction_no and a.merchant = k.merchant
        left join lateral foloosi.reference_owner(k.merchant, e.payment_reference) b on true
        cross join lateral (
            select coalesce(e.assigned, a.id, case when e.transaction_no is null or b.transaction_no is null then b.id end) as id,
                   coalesce(b.transaction_no <> e.transaction_no, false) as conflict) c
        left join foloosi.transactions t on t.id = c.id
        -- a repeat speaks of the order that it spoke of, whatever the order key is by now
        cross join lateral (
            select coalesce(case when d.outcome in ('recorded', 'duplicate', 'review') then d.order_ref end,
                            e.order_ref, t.order_ref) as order_known) x
        left join foloosi.orders o on o.order_ref = x.order_known and o.merchant = k.merchant
        left join lateral (
            select max(q.id) filter (where q.state <> 'settled') as id,
                   max(q.state::text) filter (where q.state <> 'settled') as state,
                   max(q.reason) filter (where q.state <> 'settled') as reason,
                   count(*) filter (where q.reason <> 'withdrawn') > 0 as known,
                   bool_or(foloosi.money_went_back(q)) as returned
            from foloosi.paybacks q where q.transaction_id = t.id group by q.transaction_id) p on true;
    end if;

    -- The ids are drawn in the order of the segment.
    select array_agg(row(
            s.i, s.ordinal, s.merchant, s.order_ref, s.digest, s.fault, s.source, s.status, s.transaction_no,
            case when not s.conflict or s.t_id is null then s.payment_reference end, -- another's reference is not learned
            s.amount, s.currency, s.message, s.optional1, s.optional2, s.optional3,
            s.email, s.mobile, s.card, s.assigned, s.keys, s.own_order_ref,
            s.rule, s.outcome, s.reason, s.detail,
            -- waits for a person by itself, unless its order or a payback does
            s.outcome = 'review' and (s.rule in (3, 4, 6, 9, 19) or s.rule = 7 and s.payback_write is null and s.p_state is distinct from 'check')
                or s.rule = 2 and s.outcome = 'ignored' and s.status not in ('pending', 'error', 'expired'),
            s.merchant_known,
            coalesce(s.d_id, nextval('foloosi.id_seq')), s.d_id is null,
            case when s.transaction_write = 'insert' then nextval('foloosi.id_seq') else s.t_id end,
            s.transaction_write,
            case when s.order_state = 'verifying' and s.order_write is not null then 'verifying'
                 when s.status = 'success' then 'captured' else 'failed' end,
            case when s.rule in (3, 7, 19) then s.t_order_ref else coalesce(s.t_order_ref, s.order_ref) end,
            s.order_named, s.order_write,
            case when s.order_write is not null then s.o_state end,
            s.order_state,
            case when s.o_registered then s.o_amount when s.status = 'success' then s.amount else coalesce(s.amount, s.o_amount) end,
            case when s.o_registered then s.o_currency when s.status = 'success' then s.currency else coalesce(s.currency, s.o_currency) end,
            s.rule = 15,
            s.payback_writes,
            case when s.payback_writes in ('due', 'check') then nextval('foloosi.id_seq') when s.payback_writes is not null then s.p_id end,
            case when s.payback_write = 'due' then 'payback.due'
                 when s.payback_write in ('check', 'hold') then 'payback.check'
                 when s.rule = 9 or s.order_write is not null and s.order_state = 'review' then 'order.review'
                 when s.order_write is not null and s.order_state = 'paid' then 'order.success'
                 when s.order_write is not null and s.order_state = 'cancelled' then 'order.cancel' end
        )::foloosi.element)
      into decided
    from (
        -- what follows from rule and review_reason
        select v.*,
               case when v.rule = 3 and v.t_status = 'success' -- what succeeded is not rewritten
                    then case when v.learns then 'learn' end
                    when v.rule = 19 and v.t_id is not null then null -- what comes without the conflict decides
                    when v.rule in (3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
                    then case when v.t_id is null then 'insert' else 'update' end
                    when v.rule in (4, 5, 6, 7) and v.learns then 'learn' end as transaction_write,
               case when v.rule = 10 or v.rule between 12 and 15
                    then case when v.o_state is null then 'insert' else 'update' end end as order_write,
               -- what the provider took though it said failed pays the order after all
               case when v.rule between 12 and 15 and v.review_reason is null and v.waits is null and v.p_reason = 'captured_though_failed'
                    then 'withdraw' else v.payback_write end as payback_writes,
               case when v.rule = 10 then 'cancelled'
                    when v.rule between 12 and 15 and v.review_reason is null then v.paid_state
                    when v.rule between 12 and 15 then 'review'
                    else v.o_state end as order_state,
               case when v.rule in (1, 5) then 'duplicate'
                    when v.rule = 2 then case when v.payback_write = 'settle' then 'recorded' else 'ignored' end
                    when v.rule in (3, 4, 6, 7, 9, 16, 18, 19) or v.rule between 12 and 15 and v.review_reason is not null then 'review'
                    else 'recorded' end as outcome,
               case v.rule
                    when 2 then case when v.payback_write = 'settle' then 'refunded' else 'status' end
                    when 3 then 'test_transaction'
                    when 4 then 'other_order'
                    when 6 then 'amount_contradiction'
                    when 7 then 'status_contradiction'
                    when 9 then 'no_order_key'
                    when 16 then 'order_closed'
                    when 17 then 'double_payment'
                    when 18 then 'order_' || case v.o_state when 'review' then 'in_review' else 'verifying' end
                    when 19 then 'reference_conflict'
                    when 12 then coalesce(v.review_reason, v.waits)
                    when 13 then v.waits
                    when 14 then v.review_reason
                    when 15 then coalesce(v.review_reason, v.waits, 'late')
               end as reason,
               case when v.review_reason in ('amount_differs', 'currency_differs')
                    then format('expected %s %s, got %s %s', v.o_amount, v.o_currency, v.amount, v.currency)
                    when v.rule = 6 then format('known as %s %s, now %s %s', v.t_amount, v.t_currency, v.amount, v.currency)
                    when v.rule = 4 then format('transaction %s belongs to order %s', v.t_id, v.t_order_ref)
                    when v.rule = 2 then 'status ' || v.status
               end as detail
        from (
            -- review_reason of rows 12-15; null: it pays
            select n.*,
                   case when n.rule = 12 or n.rule = 15 and not (n.o_registered or n.late_success = 'review')
                             then case when n.unknown_orders = 'review' then 'unknown_order' end
                        when n.rule = 15 and n.late_success = 'review' then 'late_success'
                        when n.rule in (14, 15) and n.currency <> n.o_currency then 'currency_differs'
                        when n.rule in (14, 15) and n.amount <> n.o_amount then 'amount_differs' end as review_reason,
                   case when n.verify = 'callback' then 'verifying' else 'paid' end as paid_state,
                   case when n.verify = 'callback' then 'verifying' end as waits,
                   -- one open case a transaction, and none for money that went back; where a person settled a
                   -- contradiction, only a person knows whether it did
                   case when n.rule in (16, 17) and n.p_id is null and not n.p_returned
                             then case when n.p_known then 'check' else 'due' end
                        when n.rule = 7 and not n.p_known then 'check'
                        when n.rule = 7 and n.p_state = 'due' then 'hold'
                        when n.rule = 2 and n.status = 'refund' and n.p_id is not null then 'settle'
                   end as payback_write
            from (
                -- the rule: the first row that matches decides
                select f.*,
                       (case
                        when f.assigned is null and f.d_outcome in ('recorded', 'duplicate', 'review') and not f.replayed then 1
                        when f.status not in ('success', 'failed') then 2
                        when f.assigned is null and f.transaction_no like 'TEST%' and f.mode = 'live' then 3
                        when f.assigned is null and f.t_order_ref <> f.order_ref then 4
                        when f.assigned is null and f.t_status = f.status and f.t_amount is not distinct from f.amount
                             and f.t_currency is not distinct from f.currency then 5
                        when f.assigned is null and f.conflict then 19
                        when f.assigned is null and f.status = 'success' and f.t_status = 'success' then 6
                        when f.assigned is null and f.status = 'failed' and f.t_status = 'success' then 7
                        when f.status = 'failed' and f.order_named is null then 8
                        when f.order_named is null then 9
                        when f.status = 'failed' and coalesce(f.o_state, 'pending') = 'pending' then 10
                        when f.status = 'failed' then 11
                        when f.o_state is null then 12
                        when f.o_state = 'pending' and f.amount = f.o_amount and f.currency = f.o_currency then 13
                        when f.o_state = 'pending' then 14
                        when f.o_state = 'cancelled' and not f.o_closed then 15
                        when f.o_state = 'cancelled' then 16
                        when f.o_state = 'paid' then 17
                        else 18 end)::smallint as rule
                from (
                    -- the delivery, what is known of it, and its merchant's policy
                    select e.i, e.ordinal, e.merchant, e.order_ref, e.digest, e.fault, e.source, e.status, e.transaction_no,
                           e.payment_reference, e.amount, e.currency, e.message, e.optional1, e.optional2, e.optional3,
                           e.email, e.mobile, e.card, e.assigned, e.keys, e.own_order_ref,
                           e.d_id, e.d_outcome, coalesce(e.replayed, false) as replayed,
                           e.t_id, e.t_order_ref, e.t_status, e.t_amount, e.t_currency, coalesce(e.conflict, false) as conflict, e.learns,
                           coalesce(e.order_known, e.order_ref) as order_named,
                           e.o_state, e.o_amount, e.o_currency, coalesce(e.o_registered, false) as o_registered,
                           coalesce(e.o_closed, false) as o_closed,
                           e.p_id, e.p_state, e.p_reason, coalesce(e.p_known, false) as p_known, coalesce(e.p_returned, false) as p_returned,
                           m.merchant is not null as merchant_known, coalesce(m.mode, 'live') as mode,
                           coalesce(m.unknown_orders, 'accept') as unknown_orders,
                           coalesce(m.late_success, 'pay') as late_success, coalesce(m.verify, 'off') as verify
                    from unnest(segment, facts) e
                    -- looked up once for each merchant, not for each delivery
                    left join unnest(array(
                            select p from (select distinct s.merchant from unnest(segment) s) d
                            cross join lateral (select x from foloosi.merchants x where x.merchant = d.merchant offset 0) p (p))) m
                        on m.merchant = e.merchant
                ) f offset 0
            ) n offset 0
        ) v
    ) s;
    return decided;
end $$;
comment on function foloosi.decide(foloosi.element[], int[]) is
'Apply the order rules to deliveries that do not concern each other. Parameters: segment, with locks taken; known: the i of those elements of which the tables know anything by order, number, reference or digest (null: look all up). Returns the elements with what is to be written. Tables: merchants, deliveries, transactions, orders, paybacks (read).';
