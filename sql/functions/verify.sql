-- SPDX-License-Identifier: MIT
-- Verification by call-back (verify = callback): which transactions the provider is to be asked
-- about, and what its word does.
--
-- A success is not captured, a failure does not cancel and a refund does not count before the provider's
-- word; no answer, an unclear one, or "pending" change nothing and are asked for again.

create or replace function foloosi.next_verifications(merchants text[], n int default 10, lease interval default '1 minute')
returns table (transaction_id bigint, merchant text, transaction_no text, attempt int)
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    moment timestamptz := clock_timestamp();
    m      text;
    seen   bigint[];
begin
    perform foloosi.need_read_committed();
    insert into foloosi.verifications as v (transaction_id, merchant, due_at)
    select t.id, t.merchant, moment
    from (
        select x.id, x.merchant from foloosi.transactions x where x.state = 'verifying'
        union
        -- failures whose order is to be cancelled
        select x.transaction_id, x.merchant from foloosi.orders x join foloosi.merchants p on p.merchant = x.merchant
        where x.state = 'pending' and x.cancel_at <= foloosi.clock() and x.transaction_id is not null and p.verify = 'callback'
        union
        select r.transaction_id, r.merchant from foloosi.refunds r where not r.believed and r.undone_at is null and r.source = 'delivery'
    ) t
    where t.merchant = any (merchants)
      and not exists (select from foloosi.verifications y where y.transaction_id = t.id and (y.verified_at is null
                      or y.verified_at >= (select max(z.created_at) from foloosi.deliveries z where z.transaction_id = t.id and z.id > t.id - 1024) ))
    on conflict (transaction_id) do nothing;

    return query
        with due as materialized (
            select v.transaction_id from foloosi.verifications v
            where v.verified_at is null and v.due_at <= moment and v.merchant = any (merchants)
            order by v.due_at limit n for no key update skip locked)
        update foloosi.verifications v
        set attempts = v.attempts + 1, due_at = moment + lease
        from due d join foloosi.transactions t on t.id = d.transaction_id
        where v.transaction_id = d.transaction_id
        returning v.transaction_id, v.merchant::text, t.transaction_no::text, v.attempts;
end $$;
comment on function foloosi.next_verifications(text[], int, interval) is
'Transactions that the provider is to be asked about now. Parameters: merchants; how many at most; lease: after that time without an answer they are offered again. Returns transaction, merchant, the provider''s number (null: it cannot be asked, which verify_transaction() is told by a null status), attempt. Calls: add_consumer, next_events, finish_events. Tables: verifications (written), orders, merchants, events, transactions (read).';

create or replace function foloosi.postpone_verification(transaction_id bigint, later interval, reason text) returns void
language sql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
    update foloosi.verifications v set due_at = clock_timestamp() + later, reason = postpone_verification.reason
    where v.transaction_id = postpone_verification.transaction_id and v.verified_at is null
$$;
comment on function foloosi.postpone_verification(bigint, interval, text) is
'The provider gave no word: it is asked again. Changes no order. Parameters: transaction, when, why. Tables: verifications (written).';

create or replace function foloosi.deny_transaction(t foloosi.transactions, p_reason text) returns void
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
declare
    next foloosi.transactions;
begin
    update foloosi.transactions x set state = 'denied', updated_at = now() where x.id = t.id and x.state = 'verifying';
    if not exists (select from foloosi.orders o where o.order_ref = t.order_ref and o.merchant = t.merchant
                   and o.state = 'verifying' and o.transaction_id = t.id) then
        return;
    end if;
    -- it hands over to the next success that waits
    select * into next from foloosi.transactions_of(t.merchant, t.order_ref) x where x.state = 'verifying' order by x.id limit 1;
    update foloosi.orders o
    set transaction_id = coalesce(next.id, o.transaction_id), updated_at = now(),
        amount = case when next.id is not null and o.registered_at is null then next.amount else o.amount end,
        currency = case when next.id is not null and o.registered_at is null then next.currency else o.currency end,
        state = case when next.id is not null then o.state else 'review' end,
        reason = case when next.id is not null then o.reason else p_reason end
    where o.order_ref = t.order_ref and o.merchant = t.merchant;
    if next.id is null then
        perform foloosi.emit(t.merchant, 'order.review', t.order_ref, t.id, p_reason);
    end if;
end $$;
comment on function foloosi.deny_transaction(foloosi.transactions, text) is
'The provider did not confirm a success: its order waits for the next that is being verified, or goes to review. Parameters: the transaction, locked; why. Calls: transactions_of, emit. Tables: transactions, orders, events (written).';

create or replace function foloosi.verify_transaction(
    id bigint, status text, amount numeric default null, currency text default null, order_ref text default null, refunded numeric default null)
returns text
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    p_id bigint := verify_transaction.id;
    p_status text := lower(verify_transaction.status);
    p_amount numeric := verify_transaction.amount;
    p_currency text := upper(verify_transaction.currency);
    p_order_ref text := verify_transaction.order_ref;
    t       foloosi.transactions;
    was     text;
    difference text; -- null: all is as the webhook said
    said    text;
    outcome text;
    grew    bigint[];
begin
    if p_status in ('success', 'refund') and (p_amount is null or p_currency is null) then
        raise exception 'verify_transaction: a success has amount and currency' using errcode = 'null_value_not_allowed';
    end if;
    perform set_config('synchronous_commit', 'on', true); -- what was sent to the merchant must stay true
    t := foloosi.lock_transaction(p_id);
    select o.state into was from foloosi.orders o where o.order_ref = t.order_ref and o.merchant = t.merchant;
    said := case when p_status is null then 'the transaction has no number: the provider cannot be asked'
                 else concat_ws(', ', 'the provider says ' || p_status, trim_scale(p_amount) || ' ' || p_currency, 'order ' || p_order_ref) end;

    if t.state = 'verifying' then
        difference := case
            when p_status is null then 'unverifiable'
            when p_status not in ('success', 'refund') then 'not_captured'
            when p_order_ref <> coalesce(t.order_ref, p_order_ref) then 'order_differs' -- '': it names none, though it should
            when p_currency <> t.currency then 'currency_differs'
            when p_amount <> t.amount then 'amount_differs' end;
    end if;
    if t.state = 'verifying' and difference is not null then
        outcome := case when p_status is null then 'unverifiable' else 'differs' end;
        said := concat_ws('; ', said, format('the webhook said success, %s %s, order %s', trim_scale(t.amount), t.currency, t.order_ref));
        perform foloosi.deny_transaction(t, difference);
    elsif p_status in ('success', 'refund') and (t.state in ('verifying', 'failed')) then
        outcome := case t.state when 'verifying' then 'confirmed' else 'captured' end;
        update foloosi.transactions x
        set state = 'captured', transaction_status = 'success', updated_at = now(),
            amount = case when t.state = 'failed' then p_amount else x.amount end,
            currency = case when t.state = 'failed' then p_currency else x.currency end
        where x.id = p_id returning * into t;
        if p_status = 'success' then
            perform foloosi.count_refunds(array[p_id]);
        end if;
        if t.order_ref is not null then
            perform foloosi.apply_transaction(t, t.order_ref);
        end if;
    elsif t.state = 'failed' then
        outcome := 'failed';
    elsif t.state <> 'captured' or p_status <> 'refund' then
        outcome := 'moot'; -- a person, or another delivery, decided meanwhile
    else
        outcome := 'confirmed';
    end if;

    if p_status = 'refund' and t.state = 'captured' then
        update foloosi.refunds r set believed = true where r.transaction_id = p_id and not r.believed and r.source = 'delivery';
        if not found then
            -- with the transaction's own amount it does not say how much went back
            insert into foloosi.refunds (merchant, transaction_id, amount, currency, source, believed)
            select t.merchant, p_id, coalesce(verify_transaction.refunded, t.amount), t.currency, 'provider', verify_transaction.refunded is not null
            where not exists (select from foloosi.refunds r where r.transaction_id = p_id and r.source = 'provider'
                              and r.amount = coalesce(verify_transaction.refunded, t.amount)
                              and (r.believed or verify_transaction.refunded is null));
        elsif verify_transaction.refunded is not null then
            insert into foloosi.refunds (merchant, transaction_id, amount, currency, source)
            values (t.merchant, p_id, verify_transaction.refunded, t.currency, 'provider');
        end if;
        grew := foloosi.count_refunds(array[p_id]);
        if t.order_ref is not null then
            perform foloosi.align_orders(array[row(t.merchant, t.order_ref, p_id, null, said)::foloosi.alignment], grew);
        end if;
    end if;

    insert into foloosi.verifications as v (transaction_id, merchant, due_at, verified_at, outcome, detail)
    values (p_id, t.merchant, now(), now(), outcome, said)
    on conflict (transaction_id) do update
    set verified_at = now(), outcome = excluded.outcome, detail = excluded.detail, reason = null;
    if outcome not in ('moot', 'failed') and t.order_ref is not null then
        perform foloosi.write_decision('verify', p_id, t.merchant, t.order_ref, was, said);
    end if;
    return outcome;
end $$;
comment on function foloosi.verify_transaction(bigint, text, numeric, text, text, numeric) is
'The provider''s word about a transaction. Parameters: transaction''s id; status as the provider has it, null: it cannot be asked; amount and currency, required with success and refund; its order, null: the provider does not say, empty: it names none; refunded: how much went back, null: it does not say. A success that is confirmed is captured, and the order rules apply; one that is not is denied, and its order waits for the next or goes to review with the difference; a failure that was captured after all is a success. Returns confirmed, differs, unverifiable, captured, failed (as the webhook said), or moot: nothing waited for it any more. Errors: no such transaction; a success without amount or currency. Calls: lock_transaction, deny_transaction, apply_transaction, count_refunds, align_orders, write_decision. Tables: transactions, refunds, verifications (written), orders (read).';
