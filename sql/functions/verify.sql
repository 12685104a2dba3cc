-- SPDX-License-Identifier: MIT
-- Verification by call-back (verify = callback): which transactions the provider is to be asked
-- about, and what its word does.
--
-- A success that would pay waits as verifying, and nothing but the provider's word or a person moves
-- it: no answer, an unclear one, or "pending" change nothing and are asked for again.
-- A failure that cancelled an order is asked about, too: if the money was captured after all, a
-- payback opens as check.

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
    select o.transaction_id, o.merchant, moment
    from foloosi.orders o
    where o.state = 'verifying' and o.merchant = any (merchants)
      and not exists (select from foloosi.verifications x where x.transaction_id = o.transaction_id and x.verified_at is null)
    on conflict (transaction_id) do update -- asked about before: as a failure
    set attempts = 0, due_at = excluded.due_at, created_at = now(), verified_at = null, outcome = null, detail = null, reason = null;

    -- failures: by their events, through a consumer of our own
    for m in select x.merchant from foloosi.merchants x where x.merchant = any (merchants) and x.verify = 'callback' loop
        perform foloosi.add_consumer('verify:' || m, m, array['order.cancel']);
        select array_agg(e.id) into seen from foloosi.next_events('verify:' || m, 100) e;
        if seen is not null then
            insert into foloosi.verifications (transaction_id, merchant, due_at)
            select t.id, t.merchant, moment
            from foloosi.events e join foloosi.transactions t on t.id = e.transaction_id
            where e.id = any (seen) and t.state = 'failed' and t.transaction_no is not null
            on conflict do nothing;
            perform foloosi.finish_events('verify:' || m, seen);
        end if;
    end loop;

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

create or replace function foloosi.verify_transaction(
    id bigint, status text, amount numeric default null, currency text default null, order_ref text default null)
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
    o       foloosi.orders;
    was     text;
    difference text; -- null: all is as the webhook said
    said    text;
    outcome text := 'confirmed';
    payback bigint;
begin
    select * into t from foloosi.transactions x where x.id = p_id;
    if t.id is null then
        raise exception 'there is no transaction %', p_id using errcode = 'no_data_found';
    end if;
    if p_status = 'success' and (p_amount is null or p_currency is null) then
        raise exception 'verify_transaction: a success has amount and currency' using errcode = 'null_value_not_allowed';
    end if;
    perform set_config('synchronous_commit', 'on', true); -- what was sent to the merchant must stay true
    if t.order_ref is not null then
        perform foloosi.lock_order(t.merchant, t.order_ref);
    end if;
    select * into t from foloosi.transactions x where x.id = p_id for no key update;
    select * into o from foloosi.orders x where x.order_ref = t.order_ref and x.merchant = t.merchant;
    was := o.state;
    said := case when p_status is null then 'the transaction has no number: the provider cannot be asked'
                 else concat_ws(', ', 'the provider says ' || p_status, trim_scale(p_amount) || ' ' || p_currency, 'order ' || p_order_ref) end;

    if t.state = 'verifying' and o.state = 'verifying' and o.transaction_id = p_id then
        difference := case
            when p_status is null then 'unverifiable'
            when p_status <> 'success' then 'not_captured'
            when p_order_ref <> t.order_ref then 'order_differs'
            when p_currency <> t.currency or o.registered_at is not null and p_currency <> o.currency then 'currency_differs'
            when p_amount <> t.amount or o.registered_at is not null and p_amount <> o.amount then 'amount_differs' end;
        if difference is not null then
            outcome := case when p_status is null then 'unverifiable' else 'differs' end;
            said := concat_ws('; ', said, format('the webhook said success, %s %s, order %s', trim_scale(t.amount), t.currency, t.order_ref),
                case when o.registered_at is not null then format('expected were %s %s', trim_scale(o.amount), o.currency) end);
        else
            update foloosi.transactions x set state = 'captured', updated_at = now() where x.id = p_id;
            -- it was reported failed first: the money that was to be looked for pays the order
            update foloosi.paybacks x
            set state = 'settled', reason = 'withdrawn', settled_at = now(), settled_by = session_user, note = said, updated_at = now()
            where x.transaction_id = p_id and x.state = 'check' and x.reason = 'captured_though_failed';
        end if;
        update foloosi.orders x
        set state = case when difference is null then 'paid' else 'review' end, updated_at = now(),
            reason = coalesce(difference, case when x.late then 'late' end)
        where x.order_ref = t.order_ref and x.merchant = t.merchant returning * into o;
        perform foloosi.emit(t.merchant, case when difference is null then 'order.success' else 'order.review' end, t.order_ref, p_id, o.reason);
        if difference is null then -- what row 18 kept waiting
            perform foloosi.open_paybacks(t.merchant, t.order_ref, p_id, 'double_payment');
        end if;
    elsif t.state = 'failed' and p_status = 'success' then
        outcome := 'captured';
        if not exists (select from foloosi.paybacks p where p.transaction_id = p_id) then
            insert into foloosi.paybacks (merchant, order_ref, transaction_id, state, reason, amount, currency)
            values (t.merchant, t.order_ref, p_id, 'check', 'captured_though_failed', p_amount, p_currency) returning id into payback;
            perform foloosi.emit(t.merchant, 'payback.check', t.order_ref, p_id, 'captured_though_failed', payback);
        end if;
    elsif t.state <> 'failed' then
        outcome := 'moot'; -- a person, or another delivery, decided meanwhile
    end if;

    insert into foloosi.verifications as v (transaction_id, merchant, due_at, verified_at, outcome, detail)
    values (p_id, t.merchant, now(), now(), outcome, said)
    on conflict (transaction_id) do update
    set verified_at = now(), outcome = excluded.outcome, detail = excluded.detail, reason = null;
    if outcome not in ('moot') and (t.state <> 'failed' or outcome = 'captured') then
        insert into foloosi.decisions (merchant, action, subject_id, order_ref, order_state, order_state_before, order_moved, decided_by, note)
        values (t.merchant, 'verify', p_id, t.order_ref, o.state, case when o.state <> was then was end, coalesce(o.state <> was, false), session_user, said);
    end if;
    return outcome;
end $$;
comment on function foloosi.verify_transaction(bigint, text, numeric, text, text) is
'The provider''s word about a transaction. Parameters: transaction''s id; status as the provider has it, null: it cannot be asked; amount and currency, required with success; its order, null: the provider does not say. A verifying order becomes paid if all is as the webhook said, as rows 12 to 15 of the order rules have it, and goes to review with the difference if not; a failed transaction that was captured opens a payback as check. Returns confirmed, differs, unverifiable, captured, or moot: nothing waited for it any more. Errors: no such transaction; a success without amount or currency. Calls: lock_order, emit, open_paybacks. Tables: transactions, orders, paybacks, events, verifications, decisions (written).';
