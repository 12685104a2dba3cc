-- SPDX-License-Identifier: MIT
-- align_orders(): after each fact and act, an order is brought in line with what is known of its money.
--
-- Deliveries, persons, the provider's word and refunds all end here. The order in which the facts came plays no part, but for
-- who pays and who doubles. For the usual delivery, the first of its order, nothing calls it.
--
--   1. plan: who pays (the payer stays while it has money left; then another that equals the expected sum), and what the order
--      becomes. pending and cancelled are moved by rows, persons and time, and go to review only if a person says that money
--      of theirs did not go back after all.
--   2. orders and their events
--   3. paybacks: one for each captured transaction with money left that does not pay; due only if all is certain
--
-- Locks: the caller holds those of the orders, and remind_paybacks() takes them, too, before it touches a payback.

create or replace function foloosi.plan_orders(asked foloosi.alignment[], grew bigint[]) returns foloosi.plan[]
language plpgsql stable
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    plans foloosi.plan[];
begin
    with o as materialized (
        select x.merchant::text as merchant, x.order_ref::text as order_ref, x.state::text as state, x.transaction_id,
               x.amount::numeric as amount, x.currency::text as currency, x.reason, x.late, x.registered_at is not null as registered,
               x.decided_by is not null as decided, x.decided_at, a.transaction_id as acting, a.payback, a.note,
               coalesce(m.second_payment, 'due') as second_payment,
               foloosi.is_recurring(x.order_ref, coalesce(m.recurring, '{FLSSUB_}')) as recurring
        from (select distinct on (u.order_ref, u.merchant) u.* from unnest(asked) u
              order by u.order_ref, u.merchant, u.transaction_id nulls last) a
        cross join lateral (select y.* from foloosi.orders y where y.order_ref = a.order_ref and y.merchant = a.merchant offset 0) x
        left join foloosi.merchants m on m.merchant = x.merchant
    ), s as materialized (
        select o.*, n.money, n.captured, n.is_left, n.doubtful, n.payer_counts, n.payer_may_pay, n.grown,
               foloosi.payer_of(n.money, o.amount, o.currency, o.acting) as next_payer
        from o cross join lateral (
            select array_agg(m) as money, count(*) as captured, coalesce(bool_or(m.may_pay), false) as is_left,
                   coalesce(bool_or(m.doubtful), false) as doubtful,
                   coalesce(bool_or(m.transaction_id = o.transaction_id), false) as payer_counts,
                   coalesce(bool_or(m.transaction_id = o.transaction_id and m.may_pay), false) as payer_may_pay,
                   -- of what pays it, and goes on paying it, more went back; or of a period
                   coalesce(bool_or(m.transaction_id = any (grew) and (m.transaction_id = o.transaction_id and (m.may_pay or o.recurring) or m.renewal)), false) as grown
            from foloosi.money_of(o.merchant, o.order_ref) m) n
    ), p as materialized (
        select s.*, (q.amount = s.amount and q.currency = s.currency) is true as next_equals, q.refund_doubt as next_doubt,
               q.amount as next_amount, q.currency as next_currency
        from s left join lateral (select u.* from unnest(s.money) u where u.transaction_id = s.next_payer) q on true
    ), d as materialized (
        select p.*,
               case p.state
                    when 'paid' then
                        case when p.payer_may_pay or p.next_equals then 'paid'
                             -- without a transaction, or by one that is not captured, because a person said so
                             when not p.payer_counts then 'paid'
                             when p.is_left then 'review' else 'refunded' end
                    when 'review' then case when p.captured > 0 and not p.is_left then 'refunded' else 'review' end
                    when 'refunded' then case when p.is_left then 'review' else 'refunded' end
                    when 'verifying' then
                        case when p.next_payer is null and p.payer_counts then 'refunded' -- confirmed, and gone
                             when p.next_payer is null then 'verifying'
                             when p.registered and not p.next_equals or p.next_doubt then 'review' else 'paid' end
                    when 'pending' then case when p.is_left then 'review' else 'pending' end
                    when 'cancelled' then case when p.is_left and not p.decided then 'review' else 'cancelled' end
                    else p.state end as becomes
        from p
    ), b as materialized (
        select d.*,
               case when a.takes then coalesce(d.next_amount, d.amount) else d.amount end as new_amount,
               case when a.takes then coalesce(d.next_currency, d.currency) else d.currency end as new_currency
        from d cross join lateral (
            -- nobody said what was expected: it takes the sum of what pays it
            select d.state in ('verifying', 'pending', 'cancelled') and d.becomes <> d.state and not d.registered as takes) a
    )
    select array_agg(row(
        d.merchant, d.order_ref, d.acting, d.payback, d.note, d.state, d.becomes,
        -- also where what pays it was not captured: what is, and equals, pays
        case when d.state = 'paid' and d.transaction_id is not null and not d.payer_may_pay and d.next_equals then d.next_payer
             when d.state in ('verifying', 'pending', 'cancelled') and d.becomes <> d.state then coalesce(d.next_payer, d.transaction_id)
             else d.transaction_id end,
        d.new_amount, d.new_currency,
        case when d.becomes = d.state then d.reason
             when d.state = 'paid' and d.becomes = 'review' then 'payment_refunded'
             when d.state in ('refunded', 'pending', 'cancelled') then 'refund_undone'
             when d.becomes = 'refunded' then null
             when d.becomes = 'paid' then case when d.late then 'late' end
             when d.next_currency <> d.currency and d.registered then 'currency_differs'
             when d.next_amount <> d.amount and d.registered then 'amount_differs'
             else 'refund_known' end,
        case when d.becomes <> d.state then case d.becomes when 'paid' then 'order.success' when 'review' then 'order.review' else 'order.refund' end
             when d.becomes = 'paid' and d.grown then 'order.refund' end,
        case when d.becomes = d.state then 'refunded_in_part' end,
        z.refunded, z.money_left, d.state = 'cancelled' and d.decided, d.recurring, d.second_payment, d.doubtful, d.money,
        d.decided_at)::foloosi.plan
        order by d.order_ref, d.merchant)
      into plans
    from b d
    cross join lateral (
        select case when bool_or(u.refunded is not null) then coalesce(sum(u.refunded) filter (where u.currency = d.new_currency), 0) end as refunded,
               coalesce(sum(u.money_left) filter (where u.currency = d.new_currency), case when count(*) > 0 then 0 end) as money_left
        from unnest(d.money) u) z;
    return plans;
end $$;
comment on function foloosi.plan_orders(foloosi.alignment[], bigint[]) is
'What orders are to become, from what is known of their money. Parameters: the orders, locked; the transactions of which more went back than before. Returns a plan for each order that exists. Calls: money_of, payer_of, is_recurring. Tables: orders, merchants (read).';

create or replace function foloosi.align_orders(asked foloosi.alignment[], grew bigint[] default '{}') returns foloosi.plan[]
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    plans foloosi.plan[] := foloosi.plan_orders(asked, grew);
begin
    if plans is null then
        return '{}';
    end if;

    -- By ctid, looked up for each: a plan made for a small table would read all of it. The caller holds the row, so it does not move.
    update foloosi.orders o
    set state = p.state, transaction_id = p.payer, reason = p.reason, amount = p.amount, currency = p.currency,
        refunded = p.refunded, money_left = p.money_left, cancel_at = case when p.state = 'pending' then o.cancel_at end, updated_at = now()
    from unnest(plans) p
    cross join lateral (select x.ctid as place from foloosi.orders x where x.order_ref = p.order_ref and x.merchant = p.merchant offset 0) x
    where o.ctid = x.place and (o.state, o.transaction_id, o.refunded, o.money_left) is distinct from (p.state, p.payer, p.refunded, p.money_left);
    if exists (select from unnest(plans) p
               cross join lateral (select x.* from foloosi.orders x where x.order_ref = p.order_ref and x.merchant = p.merchant offset 0) o
               where (o.state, o.transaction_id, o.refunded, o.money_left) is distinct from (p.state, p.payer, p.refunded, p.money_left)) then
        raise exception 'a trigger on foloosi.orders suppressed a change' using errcode = 'triggered_action_exception';
    end if;
    insert into foloosi.events (merchant, type, order_ref, transaction_id, reason)
    select p.merchant, p.event, p.order_ref,
           case when p.event = 'order.refund' then coalesce(p.acting, p.payer) else p.payer end,
           coalesce(p.event_reason, p.reason)
    from unnest(plans) p where p.event is not null order by p.order_ref, p.merchant;

    perform foloosi.align_paybacks(plans);
    return plans;
end $$;
comment on function foloosi.align_orders(foloosi.alignment[], bigint[]) is
'Bring orders in line with what is known of their money: state, payer, paybacks, with the events that belong to that. Parameters: the orders, locked, each with the transaction of which the fact speaks; the transactions of which more went back than before. Returns the plans that were carried out. Calls: plan_orders, align_paybacks. Tables: orders, events (written).';

create or replace function foloosi.align_paybacks(plans foloosi.plan[]) returns void
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
begin
    with m as materialized (
        select p.merchant, p.order_ref, p.note, x.transaction_id, x.currency, x.money_left,
               p.state = 'paid' and (x.transaction_id = p.payer or x.renewal and p.recurring) is true as pays,
               -- the reason if it needs a payback
               case when x.transaction_id = p.acting and (p.payback = 'status_contradiction' or p.payback = 'order_closed' and p.closed) then p.payback
                    when p.state = 'paid' then 'double_payment'
                    when p.closed and not p.recurring then 'order_closed' end as reason,
               p.doubtful or p.state in ('review', 'verifying')
                   -- a person said that it is paid by what is not captured: that may have been this one
                   or p.state = 'paid' and p.payer is not null and not exists (select from unnest(p.money) y where y.transaction_id = p.payer) as uncertain,
               p.recurring or p.second_payment = 'check' as second_uncertain, p.closed, p.closed_at
        from unnest(plans) p cross join lateral unnest(p.money) x
    ), q as materialized (
        select m.merchant, m.order_ref, m.note, m.transaction_id, m.currency, m.money_left, m.pays, m.uncertain, m.second_uncertain,
               -- of a subscription, only what came after its end: it had to go back before
               coalesce(m.reason, case when m.closed and b.after_end then 'order_closed' end) as reason,
               coalesce(m.reason = 'status_contradiction', false) as contradiction,
               b.id, b.state, b.payback_reason, b.amount, b.known, b.refused_at,
               -- but not since a person decided the order
               b.refused_at is not null and (m.closed_at is null or b.refused_at > m.closed_at) as refused
        from m cross join lateral (
            select max(y.id) filter (where y.state <> 'settled') as id,
                   max(y.state::text) filter (where y.state <> 'settled') as state,
                   max(y.reason) filter (where y.state <> 'settled') as payback_reason,
                   max(y.amount::numeric) filter (where y.state <> 'settled') as amount,
                   coalesce(bool_or(y.reason <> 'withdrawn'), false) as known,
                   coalesce(bool_or(y.reason = 'order_closed'), false) as after_end,
                   -- a person said that nothing has to go back
                   max(y.settled_at) filter (where y.reason = 'withdrawn' and y.settled_by is not null) as refused_at
            from foloosi.paybacks y where y.transaction_id = m.transaction_id) b
    ), k as materialized (
        select c.*, case when c.does in ('due', 'check') and c.id is null then nextval('foloosi.id_seq') else c.id end as payback_id
        from (
            select q.*,
                   case when q.id is not null then
                            case when q.money_left = 0 then 'settle'
                                 when q.pays and q.payback_reason in ('order_closed', 'captured_though_failed') then 'withdraw'
                                 when q.state = 'due' and (q.pays or q.uncertain or q.contradiction
                                      or q.payback_reason = 'double_payment' and q.second_uncertain) then 'check'
                                 when q.amount is distinct from q.money_left then 'amount' end
                        when q.money_left > 0 and not q.refused and (q.contradiction and not q.known or q.reason is not null and not q.contradiction and not q.pays)
                            then case when q.uncertain or q.known or q.refused_at is not null or q.contradiction or q.reason = 'double_payment' and q.second_uncertain
                                      then 'check' else 'due' end
                   end as does
            from q) c
        where c.does is not null order by c.transaction_id
    ), changed as (
        update foloosi.paybacks p
        set state = case k.does when 'check' then 'check' when 'amount' then p.state else 'settled' end,
            reason = case k.does when 'withdraw' then 'withdrawn' else p.reason end,
            amount = case when k.does in ('check', 'amount') then k.money_left else p.amount end,
            note = case when k.does = 'withdraw' then coalesce(k.note, p.note) else p.note end,
            settled_at = case when k.does in ('settle', 'withdraw') then now() end, updated_at = now()
        from k where k.id is not null and p.id = k.id
    ), opened as (
        insert into foloosi.paybacks (id, merchant, order_ref, transaction_id, state, reason, amount, currency)
        select k.payback_id, k.merchant, k.order_ref, k.transaction_id, k.does, k.reason, k.money_left, k.currency
        from k where k.id is null
    )
    insert into foloosi.events (merchant, type, order_ref, transaction_id, payback_id, reason)
    select k.merchant, 'payback.' || k.does, k.order_ref, k.transaction_id, k.payback_id,
           case when k.contradiction or k.id is null then k.reason else k.payback_reason end
    from k where k.does in ('due', 'check') order by k.transaction_id;
end $$;
comment on function foloosi.align_paybacks(foloosi.plan[]) is
'Give the captured transactions of orders the paybacks that they must have, and emit what is opened or becomes uncertain. Parameters: plans that were carried out. Tables: paybacks, events (written).';
