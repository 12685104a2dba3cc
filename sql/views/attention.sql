-- Everything that waits for a person, in one list.
create or replace view foloosi.attention as
    select 'order' as kind, o.id, o.merchant, o.order_ref, o.reason,
           case when t.id is not null then format('transaction %s: %s %s', t.id, t.amount, t.currency) end as detail,
           'foloosi.resolve_order(merchant, order_ref, ''paid'' or ''cancelled'', note)' as remedy,
           coalesce(o.updated_at, o.created_at) as created_at
    from foloosi.orders o left join foloosi.transactions t on t.id = o.transaction_id
    where o.state = 'review'
        or o.state = 'verifying' and coalesce(o.updated_at, o.created_at) < now() - interval '1 hour' -- overdue
    union all
    select 'payback', p.id, p.merchant, p.order_ref, p.reason,
           format('%s: transaction %s: %s %s', p.state, p.transaction_id, p.amount, p.currency),
           'foloosi.settle_payback(id, note)', p.created_at
    from foloosi.paybacks p where p.state in ('due', 'check')
    union all
    select 'delivery', d.id, d.merchant, d.order_ref, coalesce(d.reason, d.outcome), d.detail,
           case when t.order_ref is null and d.reason in ('no_order_key', 'reference_conflict', 'test_transaction')
                then format('foloosi.assign_transaction(%s, order_ref), or ', t.id)
                when d.reason in ('hook_failed', 'refused') then 'foloosi.replay_delivery(id), or ' else '' end
           || 'foloosi.dismiss_attention(id, note)', d.created_at
    from foloosi.deliveries d left join foloosi.transactions t on t.id = d.transaction_id
    where d.attention;
comment on view foloosi.attention is 'Everything that waits for a person: orders in review, or verifying for more than an hour, open paybacks, and deliveries that neither explains.';
comment on column foloosi.attention.kind is 'order, payback or delivery.';
comment on column foloosi.attention.id is 'Number of the thing in this schema.';
comment on column foloosi.attention.merchant is 'Whose.';
comment on column foloosi.attention.order_ref is 'The order concerned; null: none.';
comment on column foloosi.attention.reason is 'Why it waits, in one word.';
comment on column foloosi.attention.detail is 'What one needs to know to decide.';
comment on column foloosi.attention.remedy is 'The function that closes it.';
comment on column foloosi.attention.created_at is 'Since when.';
