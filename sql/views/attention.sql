-- SPDX-License-Identifier: MIT
-- Everything that waits for a person, in one list.
--
-- A monitoring system reads it every few seconds: each part has an index of what waits.
create or replace view foloosi.attention as
    select 'order' as kind, o.id, o.merchant, o.order_ref, o.reason,
           case when t.id is not null then concat_ws('; ', format('transaction %s: %s', t.id, foloosi.money_text(t.amount, t.currency)),
               case when o.state = 'verifying' then v.reason else v.detail end) end as detail,
           'foloosi.resolve_order(merchant, order_ref, ''paid'' or ''cancelled'', note)' as remedy, coalesce(o.updated_at, o.created_at) as created_at
    from foloosi.orders o left join foloosi.transactions t on t.id = o.transaction_id
        left join foloosi.verifications v on v.transaction_id = t.id and (o.state = 'verifying' or v.outcome in ('differs', 'unverifiable'))
    where o.state = 'review'
        or o.state = 'verifying' and coalesce(o.updated_at, o.created_at) < now() - interval '1 hour' -- overdue
    union all
    select 'order', o.id, o.merchant, o.order_ref, 'not_cancelled',
           format('it was to be cancelled at %s; does foloosi-worker or foloosi-cancel.timer run, and is the provider''s list read?', to_char(o.cancel_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
           'foloosi.resolve_order(merchant, order_ref, ''paid'' or ''cancelled'', note)', o.cancel_at
    from foloosi.orders o
    where o.state = 'pending' and o.cancel_at < foloosi.clock() - interval '1 hour'
    union all
    -- a person believed it before the provider was asked, and that denied it
    select 'order', o.id, o.merchant, o.order_ref, 'payer_denied', concat_ws('; ', format('transaction %s: %s', t.id, foloosi.money_text(t.amount, t.currency)), v.detail),
           'foloosi.resolve_order(merchant, order_ref, ''cancelled'', note) or foloosi.resolve_order(merchant, order_ref, ''paid'', note, without_transaction => true)', t.updated_at
    from foloosi.transactions t join foloosi.orders o on o.order_ref = t.order_ref and o.merchant = t.merchant and o.transaction_id = t.id
        left join foloosi.verifications v on v.transaction_id = t.id
    where t.state = 'denied' and o.state = 'paid'
    union all
    select 'payback', p.id, p.merchant, p.order_ref, p.reason,
           format('%s: transaction %s: %s', p.state, p.transaction_id, foloosi.money_text(p.amount, p.currency)),
           format('foloosi.settle_payback(%s, note) or foloosi.withdraw_payback(%1$s, note)', p.id), p.created_at
    from foloosi.paybacks p where p.state in ('due', 'check')
    union all
    select 'delivery', d.id, d.merchant, d.order_ref, coalesce(d.reason, d.outcome), d.detail,
           case when t.order_ref is null and t.state not in ('test', 'unknown') and (d.rule in (4, 9, 19) or d.reason in ('no_order_key', 'order_differs'))
                then format('foloosi.assign_transaction(%s, order_ref), or ', t.id)
                when t.state = 'captured' and d.reason in ('refund_differs', 'refund_unknown', 'refund_unreadable')
                then format('foloosi.record_refund(%s, amount, note), or ', t.id)
                when d.reason in ('hook_failed', 'refused') then format('foloosi.replay_delivery(%s), or ', d.id) else '' end
           || format('foloosi.dismiss_attention(%s, note)', d.id), d.created_at
    from foloosi.deliveries d left join foloosi.transactions t on t.id = d.transaction_id
    where d.attention
    union all
    -- a refund that the provider does not confirm, or of which it does not say how much went back
    select 'refund', r.id, r.merchant, t.order_ref, 'refund_doubted',
           concat_ws('; ', format('transaction %s: %s', t.id, foloosi.money_text(t.amount, t.currency)),
               case r.source when 'provider' then 'the provider does not say how much went back'
                             else format('the provider did not confirm %s', coalesce(nullif(foloosi.money_text(r.amount, r.currency), ''), 'all')) end, v.detail),
           format('foloosi.record_refund(%s, amount, note)', t.id), r.created_at
    from foloosi.refunds r join foloosi.transactions t on t.id = r.transaction_id left join foloosi.verifications v on v.transaction_id = t.id
    where not r.believed and r.undone_at is null and t.state = 'captured' and t.money_left > 0
        and (r.source = 'provider' or r.source = 'delivery' and (v.verified_at >= r.created_at or r.created_at < now() - interval '1 hour'))
        -- a person has not spoken since
        and not exists (select from foloosi.refunds x where x.transaction_id = t.id and x.id > r.id and x.source = 'person' and x.undone_at is null)
    union all
    -- the order's own is above
    select 'transaction', t.id, t.merchant, t.order_ref, 'verification_overdue',
           concat_ws('; ', foloosi.money_text(t.amount, t.currency), coalesce(v.reason, 'the provider has not answered: does foloosi-worker run?')),
           null, t.updated_at
    from foloosi.transactions t left join foloosi.verifications v on v.transaction_id = t.id
        left join foloosi.orders o on o.order_ref = t.order_ref and o.merchant = t.merchant and o.transaction_id = t.id
    where t.state = 'verifying' and t.updated_at < now() - interval '1 hour' and o.state is distinct from 'verifying'
    union all
    select 'event', e.id, e.merchant, e.order_ref, coalesce(x.reason, 'dead'),
           format('%s to %s: given up after %s attempts', e.type, coalesce(c.endpoint, c.consumer), x.attempts),
           format('foloosi.retry_events(%L, array[%s]) or foloosi.discard_events(%1$L, array[%2$s])', c.consumer, e.id), x.created_at
    from foloosi.dispatches x join foloosi.consumers c on c.id = x.consumer_id join foloosi.events e on e.id = x.event_id
    where x.state = 'dead'
    union all
    select 'consumer', c.id, coalesce(c.merchant, '-')::varchar(64) collate "C", null::varchar(255) collate "C", coalesce(c.reason, 'out of order'),
           concat_ws(' ', c.endpoint, case when c.disabled_at is not null then 'gets no events any more' else 'does not take events' end),
           format('foloosi.enable_consumer(%L) or foloosi.drop_consumer(%1$L)', c.consumer), coalesce(c.disabled_at, c.failing_since)
    from foloosi.consumers c
    where c.disabled_at is not null or c.failing_since < now() - interval '15 minutes';
comment on view foloosi.attention is 'Everything that waits for a person: orders in review, verifying for more than an hour, paid by what the provider denied, or not cancelled an hour after their time; open paybacks; deliveries that neither explains; refunds in doubt; transactions that the provider did not verify; events that an endpoint does not take, and endpoints that are out of order.';
comment on column foloosi.attention.kind is 'order, payback, delivery, refund, transaction, event or consumer.';
comment on column foloosi.attention.id is 'Number of the thing in this schema; events and consumers count for themselves.';
comment on column foloosi.attention.merchant is 'Whose.';
comment on column foloosi.attention.order_ref is 'The order concerned; null: none.';
comment on column foloosi.attention.reason is 'Why it waits, in one word.';
comment on column foloosi.attention.detail is 'What one needs to know to decide.';
comment on column foloosi.attention.remedy is 'The function that closes it; null: none does, and detail says what to look at.';
comment on column foloosi.attention.created_at is 'Since when.';
