-- SPDX-License-Identifier: MIT
-- decide(): the order rules. This is the heart of the schema; the rows themselves are in rules.sql.
--
-- It reads and decides, and writes nothing (but draws ids). First the facts: one read for a
-- whole segment, whose elements do not concern each other, and none for elements of which
-- the tables know nothing, as most. Then the rules: one CASE gives the number of the row
-- that matches first; the effects come from that row. What becomes of an order that has or had money already
-- is not decided here but computed from all that is known of it, by align_orders() after the writing.

-- In plpgsql, as money_text() is: the planner would write the body of an SQL function into the plan of decide(),
-- which is started for each batch, and it is called rarely.
create or replace function foloosi.is_recurring(p_order_ref text, p_prefixes text[]) returns boolean
language plpgsql immutable parallel safe
set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    return exists (select from unnest(p_prefixes) p where starts_with(p_order_ref, p));
end $$;
comment on function foloosi.is_recurring(text, text[]) is 'Does this order key name a subscription? Parameters: the key, the merchant''s recurring prefixes.';

create or replace function foloosi.other_attempt(p_merchant text, p_order_ref text, p_reference text, p_id bigint) returns boolean
language plpgsql stable
set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    return exists (select from foloosi.transactions_of(p_merchant, p_order_ref) x
                   where x.payment_reference = p_reference and x.state in ('captured', 'verifying') and x.id is distinct from p_id);
end $$;
comment on function foloosi.other_attempt(text, text, text, bigint) is
'Has another attempt at this order captured, or does it wait for the provider''s word? Parameters: merchant, order_ref, the payment reference that the attempts share, this one''s transaction (null: none yet). Calls: transactions_of.';

create or replace function foloosi.decide(segment foloosi.element[], known int[] default null, out decided foloosi.element[], out plain boolean)
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    facts foloosi.facts[]; -- at the position of its element
begin
    -- In the order of the segment, whatever the plan is: what follows pairs them by position.
    if known is null or known <> '{}' then
        select array_agg(row(
                d.id, d.outcome, e.source like 'replay%' and d.reason in ('hook_failed', 'refused'),
                t.id, t.order_ref, t.state, t.transaction_status, t.amount, t.currency, t.order_withheld,
                r.whole, r.doubt, r.said, c.conflict,
                t.transaction_no is null and e.transaction_no is not null
                    or t.payment_reference is null and e.payment_reference is not null and c.conflict is null,
                x.order_known, o.id is null and exists (
                    select from foloosi.other_transactions y
                    where y.awaits_order and y.order_ref = x.order_known and y.merchant = k.merchant), o.state, o.amount, o.currency, o.registered_at is not null, o.decided_by is not null, o.cancel_at,
                -- the capture of the order that is nearest to its own, before or after it: as long ago as they are apart
                case when o.state = 'paid' and o.transaction_id = t.id then foloosi.clock()
                     when o.state = 'paid' then foloosi.clock() - (
                        select min(greatest(theirs - its, its - theirs))
                        from foloosi.transactions_of(e.merchant, x.order_known) y
                        cross join lateral unnest(array[y.created_at, y.captured_at]) theirs
                        cross join lateral unnest(array[t.created_at, case when t.state = 'captured' then t.captured_at else foloosi.clock() end]) its
                        where y.state = 'captured' and y.id is distinct from t.id) end)::foloosi.facts order by e.i)
          into facts
        from unnest(segment) e
        -- a key that the tables are known not to have is null, and an index needs no look for null
        cross join lateral (select case when known is null or e.i = any (known) then e.merchant end as merchant) k
        left join foloosi.deliveries d on d.digest = e.digest and d.merchant = k.merchant
        left join foloosi.transactions a on a.transaction_no = e.transaction_no and a.merchant = k.merchant
        left join lateral foloosi.reference_owner(k.merchant, e.payment_reference) b on true
        cross join lateral (select coalesce(a.order_ref, case when a.order_withheld then null else e.order_ref end) as order_ref) w
        cross join lateral (
            select coalesce(e.assigned, a.id, case
                       when e.transaction_no is null then b.id
                       -- a test number at a live merchant touches no other's transaction
                       when b.transaction_no is null and not (e.transaction_no like 'TEST%' and not exists (
                                select from foloosi.merchants p where p.merchant = e.merchant and p.mode = 'test')) then b.id end) as id,
                   -- whose reference is it? Two attempts at one order may share one, if at most one of them captured, or may have.
                   case when b.id is null or e.transaction_no is null then null
                        -- its own: judged when it came; only a second capture is new
                        when a.payment_reference = e.payment_reference
                        then case when e.status = 'success' and a.transaction_status <> 'success'
                                       and (b.captured and b.id <> a.id
                                            or foloosi.other_attempt(e.merchant, w.order_ref, e.payment_reference, a.id)) then 'reference_conflict' end
                        when b.id = a.id then null
                        when b.transaction_no is null then case when a.id is not null then 'one_or_two' end
                        when b.transaction_no = e.transaction_no then null
                        when b.order_ref = w.order_ref
                             and not ((e.status = 'success' or coalesce(a.state in ('captured', 'verifying'), false))
                                      and (b.captured or foloosi.other_attempt(e.merchant, w.order_ref, e.payment_reference, a.id))) then null
                        else 'reference_conflict' end as conflict) c
        left join foloosi.transactions t on t.id = c.id
        -- a repeat speaks of the order that it spoke of, whatever the order key is by now
        cross join lateral (
            select coalesce(case when d.outcome in ('recorded', 'duplicate', 'review') and not (e.source like 'replay%' and d.reason in ('hook_failed', 'refused')) is true
                                 then d.order_ref end,
                            e.order_ref, t.order_ref) as order_known) x
        left join foloosi.orders o on o.order_ref = x.order_known and o.merchant = k.merchant
        left join lateral foloosi.refunds_of(
            t.id, case when t.state in ('captured', 'verifying', 'denied') then t.amount when e.status = 'success' then e.amount end,
            case when t.state in ('captured', 'verifying', 'denied') then t.currency when e.status = 'success' then e.currency end,
            k.merchant, x.order_known, coalesce(t.payment_reference, e.payment_reference)) r on true;
    end if;

    -- The ids are drawn in the order of the segment: one for a new delivery; the transaction and the order that it creates have
    -- the next two. For a known delivery each is drawn by itself.
    select array_agg(row(
            s.i, s.ordinal, s.merchant,
            s.outcome, s.reason, s.order_named, s.order_state, s.delivery_id, s.d_id is null, s.merchant_known,
            s.order_ref, s.digest, s.transaction_no,
            -- another's reference is not learned; of row 19 write() asks whose it is, and a refund of row 23 may have meant the other
            case when s.rule <> 3 and (s.conflict is null or s.t_id is null or s.rule in (19, 23)) then s.payment_reference end,
            null, null, -- nothing below reads keys and fault
            s.status, s.source, s.currency, s.amount,
            -- event
            case when s.orders = 'renew' then case when s.waits then null when s.refund_known then 'order.review' else 'order.success' end
                 when s.rule = 4 and s.transaction_write = 'update' then 'order.review'
                 when s.reason = 'renewal_failed' then 'order.review'
                 when s.order_write is null then s.event
                 when s.order_state = 'review' then 'order.review'
                 when s.order_state = 'paid' then 'order.success'
                 when s.order_state = 'cancelled' then 'order.cancel'
                 else s.event end,
            -- the transaction
            case when s.transaction_write is distinct from 'insert' then s.t_id when s.d_id is null then s.delivery_id + 1 else nextval('foloosi.id_seq') end,
            case when s.withheld then null else coalesce(s.t_order_ref, case when s.status <> 'refund' then s.order_ref end) end,
            s.transaction_write, s.transaction_state,
            -- the order
            s.order_write,
            case when s.order_write is not null then s.o_state end,
            case when s.o_registered or s.rule = 25 then s.o_amount when s.status = 'success' then s.amount else coalesce(s.amount, s.o_amount) end,
            case when s.o_registered or s.rule = 25 then s.o_currency when s.status = 'success' then s.currency else coalesce(s.currency, s.o_currency) end,
            s.rule = 15,
            case when s.order_state = 'pending' then greatest(s.o_cancel_at, foloosi.clock() + s.cancel_after) end,
            s.rule, s.detail, s.attention, s.assigned, s.withheld,
            s.message, s.optional1, s.optional2, s.optional3, s.email, s.mobile, s.card,
            s.order_key, null, -- nor own_order_ref
            -- contradicted, refund
            s.rule in (6, 7) or s.rule = 19 and s.conflict = 'one_or_two',
            case when s.rule not between 20 and 23 then null when s.source = 'reconcile refund' then 'counted'
                 when s.callback or s.source = 'reconcile' then 'doubted' else 'counted' end,
            -- other: one more transaction of its order, or of one that is not there yet; or a refund that names it
            (s.transaction_write in ('insert', 'update') or s.rule = 24 and s.transaction_write = 'learn')
                and not s.withheld and s.order_named is not null and s.order_write is null and s.status <> 'refund'
                or s.rule = 23 and s.order_key is not null,
            s.rule = 26 and not s.waits, -- whether it is a renewal is decided when it is captured
            -- align
            not s.waits and (s.rule in (6, 7, 16, 17, 18, 20, 21, 22, 23, 24, 25, 26) or (s.t_doubt or s.t_said is not null) and s.orders = 'pay') is true
                or s.o_others and s.order_write = 'insert' or s.rule = 19 and s.conflict = 'one_or_two'
                or (s.order_write = 'update' and s.currency <> s.o_currency) is true, -- its sums are of the currency that it has
            case when not s.waits then s.payback end
        )::foloosi.element),
        -- what write() then need not look for
        bool_and(s.d_id is null and s.assigned is null and s.transaction_write = 'insert' and s.order_write = 'insert'
                 and s.order_state in ('paid', 'cancelled') and not s.t_doubt and not s.o_others)
      into decided, plain
    from (
        -- what follows from rule and review_reason
        select v.*,
               case v.transaction
                    when 'keep' then case when v.t_id is null then 'insert'
                                          when v.rule = 24 and (v.t_status = 'success' or v.status = 'failed')
                                          then case when v.learns or v.t_order_ref is null and v.order_ref is not null and not v.t_withheld then 'learn' end
                                          else 'update' end
                    when 'insert' then case when v.t_id is null then 'insert' when v.captures_alone then 'update' end
                    when 'learn' then case when v.t_id is null then 'insert'
                                           when v.captures_alone then 'update'
                                           when v.learns then 'learn' end
               end as transaction_write,
               case when v.rule = 3 then 'test'
                    when v.assigned is not null then v.t_state
                    when v.status = 'refund' then 'unknown'
                    when v.status = 'failed' then 'failed'
                    when v.t_status = 'success' then v.t_state
                    when v.callback then 'verifying'
                    else 'captured' end as transaction_state,
               case when v.waits and v.orders in ('renew', 'review') or v.orders = 'renew' then null
                    when v.orders is not null then case when v.o_state is null then 'insert' else 'update' end end as order_write,
               case v.orders
                    when 'cancel' then case when v.cancel_after > '0' or v.callback then 'pending' else 'cancelled' end
                    when 'pay' then case when v.review_reason is not null then 'review' when v.waits then 'verifying' else 'paid' end
                    when 'review' then case when v.waits then v.o_state else 'review' end
                    else v.o_state end as order_state,
               case when v.orders = 'pay' and v.review_reason is not null or v.rule = 26 and v.refund_known then 'review'
                    when v.rule = 24 and v.status = 'success' and v.t_status is distinct from 'success' then 'review'
                    when v.listed then 'review'
                    else v.rule_outcome end as outcome,
               case when v.listed then 'not_captured'
                    when v.rule = 18 then 'order_' || case v.o_state when 'review' then 'in_review' else 'verifying' end
                    when v.rule = 19 then v.conflict
                    when v.rule = 26 and v.refund_known then 'refund_known'
                    when v.rule = 11 and v.o_state = 'paid' and foloosi.is_recurring(v.order_named, v.recurring) then 'renewal_failed'
                    when v.orders = 'pay' then coalesce(v.review_reason, case when v.waits then 'verifying' end, v.rule_reason)
                    when v.waits and v.rule in (16, 17, 25, 26) then case v.t_state when 'denied' then 'not_captured' else 'verifying' end
                    else v.rule_reason end as reason,
               case when v.review_reason in ('amount_differs', 'currency_differs')
                    then format('expected %s, got %s', foloosi.money_text(v.o_amount, v.o_currency), foloosi.money_text(v.amount, v.currency))
                    when v.rule = 22 and v.source = 'reconcile' then 'the provider says refund, and not how much'
                    when v.rule in (6, 22) then format('known as %s, now %s', foloosi.money_text(v.t_amount, v.t_currency), foloosi.money_text(v.amount, v.currency))
                    when v.rule = 4 then format('transaction %s belongs to order %s', v.t_id, v.t_order_ref)
                    when v.rule = 2 then 'status ' || v.status
               end as detail,
               -- waits for a person by itself, unless its order or a payback does
               case when v.rule = 2 then v.status not in ('pending', 'error', 'expired')
                    when v.rule = 7 then true -- write() looks whether a payback says it
                    when v.rule = 22 and v.source = 'reconcile' then false -- the refund itself waits
                    when v.listed then true
                    when v.rule = 26 then v.refund_known
                    else v.rule_attention end as attention,
               -- a failed one that captured after all, where it may not have the order
               v.rule in (3, 19) or v.captures_alone or v.t_withheld and v.assigned is null as withheld
        from (
            -- review_reason of rows 12 to 15; null: it pays
            select n.*, (foloosi.effects()).outcome[n.rule] as rule_outcome, (foloosi.effects()).reason[n.rule] as rule_reason,
                   (foloosi.effects()).transaction[n.rule], (foloosi.effects()).orders[n.rule], (foloosi.effects()).payback[n.rule],
                   (foloosi.effects()).event[n.rule],
                   (foloosi.effects()).attention[n.rule] as rule_attention,
                   coalesce(n.d_id, nextval('foloosi.id_seq')) as delivery_id,
                   -- without the provider's word, or against it, nothing is captured, whatever the policy is by now
                   n.status = 'success' and (coalesce(n.t_state in ('verifying', 'denied'), false) or n.callback and n.t_state is distinct from 'captured') as waits,
                   n.rule in (4, 19) and n.status = 'success' and n.t_status is distinct from 'success' and n.t_id is not null as captures_alone,
                   n.t_doubt or coalesce(n.t_said > 0, false) as refund_known, -- a part, or in doubt
                   -- the provider denied it, and has it in its list all the same
                   (n.rule = 5 and n.t_state = 'denied' and n.source = 'reconcile') is true as listed,
                   case when (foloosi.effects()).orders[n.rule] is distinct from 'pay' then null
                        when n.t_state = 'denied' then 'not_captured' -- it never pays by itself
                        when n.rule = 12 or n.rule = 15 and not (n.o_registered or n.late_success = 'review')
                             then case when n.unknown_orders = 'review' then 'unknown_order' when n.t_doubt or n.t_said > 0 then 'refund_known' end
                        when n.rule = 15 and n.late_success = 'review' then 'late_success'
                        when n.currency <> n.o_currency then 'currency_differs'
                        when n.amount <> n.o_amount then 'amount_differs'
                        when n.t_doubt or n.t_said > 0 then 'refund_known' end as review_reason
            from (
                -- the rule: the first row that matches decides
                select f.*,
                       (case
                        when f.assigned is null and f.d_outcome in ('recorded', 'duplicate', 'review') and not f.replayed then 1
                        when f.status not in ('success', 'failed', 'refund') then 2
                        when f.assigned is null and f.transaction_no like 'TEST%' and f.mode = 'live' then 3
                        when f.status = 'refund' then
                            case when f.t_state is distinct from 'captured' then 23
                                 when f.source = 'reconcile' then 22 -- the list says refund, with the payment's own amount: not how much went back
                                 when f.t_said is not null and coalesce(f.amount, f.t_amount) > f.t_said then 22 -- a person said less
                                 when f.amount is null or f.amount = f.t_amount and f.currency = f.t_currency then 20
                                 when f.currency = f.t_currency and f.amount < f.t_amount then 21
                                 else 22 end
                        when f.assigned is null and f.conflict = 'one_or_two' then 19
                        when f.assigned is null and f.t_order_ref <> f.order_ref then 4
                        when f.t_whole and (f.t_state = 'captured' or not f.callback and f.t_state in ('failed', 'unknown'))
                             and not (f.assigned is null and f.status = 'success' and f.t_status = 'success'
                                      and (f.amount <> f.t_amount or f.currency <> f.t_currency)) then 24
                        when f.assigned is null and f.t_status = f.status and f.t_amount is not distinct from f.amount
                             and f.t_currency is not distinct from f.currency
                             and (f.t_order_ref is not null or f.order_ref is null or f.t_withheld or f.conflict is not null) then 5
                        when f.assigned is null and f.conflict is not null then 19
                        when f.assigned is null and f.status = 'success' and f.t_status = 'success'
                             and (f.amount <> f.t_amount or f.currency <> f.t_currency) then 6
                        when f.assigned is null and f.status = 'failed' and f.t_status = 'success' then 7
                        when f.order_named is null or f.t_withheld and f.assigned is null
                        then case when f.status = 'failed' then 8 else 9 end
                        when f.status = 'failed' and coalesce(f.o_state, 'pending') = 'pending' then 10
                        when f.status = 'failed' then 11
                        when f.o_state is null or f.o_state = 'pending' and not f.o_registered then 12
                        when f.o_state = 'pending' and f.amount = f.o_amount and f.currency = f.o_currency then 13
                        when f.o_state = 'pending' then 14
                        when f.o_state = 'cancelled' and not f.o_closed then 15
                        when f.o_state = 'cancelled' then 16
                        when f.o_state = 'refunded' then 25
                        when f.o_state = 'paid' and (f.o_renewed_at is null or f.o_renewed_at + f.renewal_gap <= foloosi.clock())
                             and foloosi.is_recurring(f.order_named, f.recurring) then 26
                        when f.o_state = 'paid' then 17
                        else 18 end)::smallint as rule
                from (
                    -- the delivery, what is known of it, and its merchant's policy
                    select e.i, e.ordinal, e.merchant, e.order_ref, e.digest, e.source, e.status, e.transaction_no,
                           e.payment_reference, e.amount, e.currency, e.message, e.optional1, e.optional2, e.optional3,
                           e.email, e.mobile, e.card, e.order_key, e.assigned,
                           e.d_id, e.d_outcome, coalesce(e.replayed, false) as replayed,
                           e.t_id, e.t_order_ref, e.t_state, e.t_status, e.t_amount, e.t_currency, coalesce(e.t_withheld, false) as t_withheld,
                           coalesce(e.t_whole, false) as t_whole, coalesce(e.t_doubt, false) as t_doubt, e.t_said, e.conflict, e.learns,
                           coalesce(e.order_known, e.order_ref) as order_named,
                           coalesce(e.o_others, false) as o_others, e.o_state, e.o_amount, e.o_currency, coalesce(e.o_registered, false) as o_registered,
                           coalesce(e.o_closed, false) as o_closed, e.o_cancel_at, e.o_renewed_at,
                           m.merchant is not null as merchant_known, coalesce(m.mode, 'live') as mode,
                           coalesce(m.unknown_orders, 'accept') as unknown_orders,
                           coalesce(m.late_success, 'pay') as late_success, coalesce(m.verify = 'callback', false) as callback,
                           coalesce(m.cancel_after, '0') as cancel_after, coalesce(m.recurring, '{FLSSUB_}') as recurring,
                           coalesce(m.renewal_gap, '1 day') as renewal_gap
                    from unnest(segment, facts) e
                    -- looked up once for each merchant, not for each delivery
                    left join unnest(array(
                            select x from foloosi.merchants x where x.merchant = any (array(select s.merchant from unnest(segment) s)))) m
                        on m.merchant = e.merchant
                ) f offset 0
            ) n
            offset 0
        ) v
        offset 0
    ) s;
end $$;
comment on function foloosi.decide(foloosi.element[], int[]) is
'Apply the order rules to deliveries that do not concern each other. Parameters: segment, with locks taken; known: the i of those elements of which the tables know anything by order, number, reference or digest (null: look all up). Returns decided: the elements with what is to be written; plain: each is new, with a new transaction, a new order and an event, and nothing else. Calls: effects, reference_owner, other_attempt, refunds_of, transactions_of, is_recurring, money_text, clock. Tables: merchants, deliveries, transactions, orders, refunds, rules (read).';
