-- SPDX-License-Identifier: MIT
-- What the merchant's systems read of an event.

create or replace function foloosi.event_payload(event foloosi.events) returns jsonb
language sql stable
set search_path = pg_catalog, foloosi, pg_temp
as $$
    select jsonb_build_object(
        'type', (event).type,
        'timestamp', to_char((event).created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'data', jsonb_strip_nulls(jsonb_build_object(
            'version', 2,
            'merchant', (event).merchant,
            'reason', (event).reason,
            'order', (select jsonb_build_object('ref', o.order_ref,
                          'state', case (event).type when 'order.success' then 'paid' when 'order.cancel' then 'cancelled'
                                       when 'order.review' then 'review'
                                       when 'order.refund' then case when (event).reason is null then 'refunded' else o.state end else o.state end,
                          'amount', o.amount::text, 'currency', o.currency, 'late', o.late,
                          'refunded', o.refunded::text, 'money_left', o.money_left::text)
                      from foloosi.orders o where o.order_ref = (event).order_ref and o.merchant = (event).merchant),
            'transaction', (select jsonb_build_object('id', t.id, 'transaction_no', t.transaction_no,
                          'payment_reference', t.payment_reference, 'state', t.state, 'amount', t.amount::text,
                          'currency', t.currency, 'refunded', t.refunded::text, 'money_left', t.money_left::text)
                      from foloosi.transactions t where t.id = (event).transaction_id),
            'payback', (select jsonb_build_object('id', p.id, 'reason', p.reason,
                          'state', case (event).type when 'payback.due' then 'due' else 'check' end,
                          'amount', p.amount::text, 'currency', p.currency,
                          'reminder', (select r.number from foloosi.reminders r where r.event_id = (event).id))
                      from foloosi.paybacks p where p.id = (event).payback_id))))
$$;
comment on function foloosi.event_payload(foloosi.events) is
'The Standard Webhooks payload of an event: select e.id, foloosi.event_payload(e) from foloosi.events e. type, timestamp, data: version 2, merchant, reason, order, transaction, payback; members that are null are left out; amounts are strings, exact; payback.reminder counts how often it was said again. States are those that the event announces; the other members are as they are now. Tables: orders, transactions, paybacks, reminders (read).';
