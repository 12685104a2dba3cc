-- SPDX-License-Identifier: MIT
-- Mails to customers: the one thing that foloosi-worker may learn of a person is where to mail.
--
-- A merchant's mails are a consumer of events like its endpoints (events.sql). This function hands
-- out the same as next_events() and in the same way, with the transaction's address and what a template may
-- say in the payload's place, because a payload is not personal. An older worker does not say which types it knows, so it gets
-- none: it would mail a refund as a cancellation.

create or replace function foloosi.next_mails(consumer text, n int, lease interval, types text[])
returns table (id bigint, attempt int, type text, address text, created_at timestamptz, order_ref text, amount numeric, currency text,
    transaction_no text, payment_reference text, transaction_message text, optional1 text, optional2 text, optional3 text, merchant text, refunded numeric)
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    ids      bigint[];
    attempts int[];
begin
    -- A mail cannot be taken back: that it is about to be sent is on disk before it is.
    perform set_config('synchronous_commit', 'on', true);
    -- A statement of its own: what commits while it runs is handed out, and only the next statement sees it.
    select array_agg(e.id), array_agg(e.attempt) into ids, attempts
    from foloosi.next_events(next_mails.consumer, next_mails.n, next_mails.lease) e;
    return query
        select e.id, a.attempt, e.type::text, nullif(t.customer_email, '')::text, e.created_at, e.order_ref::text, o.amount::numeric,
               o.currency::text, t.transaction_no::text, t.payment_reference::text, t.transaction_message::text, t.optional1::text,
               t.optional2::text, t.optional3::text, e.merchant::text,
               case when t.currency = o.currency then t.refunded else o.refunded end
        from unnest(ids, attempts) as a (id, attempt)
            join foloosi.events e on e.id = a.id
            left join foloosi.transactions t on t.id = e.transaction_id and e.type = any (next_mails.types)
            left join foloosi.orders o on o.order_ref = e.order_ref and o.merchant = e.merchant
        order by e.id;
end $$;
comment on function foloosi.next_mails(text, int, interval, text[]) is
'The next events of a consumer, as next_events() hands them out, for mails to customers. Parameters: the consumer''s name; how many at most; lease; types: those of which the caller can make a mail. Returns id, the number of the attempt, type, the address of the event''s transaction (null: it has none, or the event is of another type), and what a template may say; refunded: how much of that transaction went back, in the order''s currency. Calls: next_events. Tables: events, transactions, orders (read), as next_events.';
