-- SPDX-License-Identifier: MIT
-- Verification by call-back (verify = callback): which transactions the provider is to be asked
-- about, and what its word does.
--
-- A success is not captured, a failure does not cancel and a refund does not count before the provider's
-- word; no answer, an unclear one, or "pending" change nothing and are asked for again. What has no number cannot be
-- asked about: a reconciliation of all days since answers, for it has fed every payment of the provider's list by its number.

create or replace function foloosi.next_verifications(merchants text[], n int default 10, lease interval default '1 minute')
returns table (transaction_id bigint, merchant text, transaction_no text, attempt int)
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    moment timestamptz := clock_timestamp();
begin
    perform foloosi.need_read_committed();
    insert into foloosi.verifications as v (transaction_id, merchant, due_at)
    select distinct w.id, w.merchant, moment
    from (
        -- successes
        select t.id, t.merchant, '-infinity'::timestamptz as since, true as again
        from foloosi.transactions t where t.state = 'verifying'
        union all
        -- failures whose order is to be cancelled
        select t.id, t.merchant, o.cancel_at, false
        from foloosi.orders o join foloosi.merchants p on p.merchant = o.merchant and p.verify = 'callback'
        cross join lateral foloosi.transactions_of(o.merchant, o.order_ref) t
        where o.state = 'pending' and o.cancel_at <= foloosi.clock() and t.state = 'failed'
        union all
        -- refunds
        select r.transaction_id, r.merchant, r.created_at, false
        from foloosi.refunds r where not r.believed and r.undone_at is null and r.source = 'delivery'
    ) w
    where w.merchant = any (merchants)
      and not exists (select from foloosi.verifications y
                      where y.transaction_id = w.id and (y.verified_at is null or y.verified_at >= w.since and not w.again))
    on conflict (transaction_id) do update -- it was asked about before, as something else
    set attempts = 0, due_at = excluded.due_at, created_at = now(), verified_at = null, outcome = null, detail = null, reason = null
    where v.verified_at is not null;

    return query
        with due as materialized (
            select v.transaction_id from foloosi.verifications v join foloosi.transactions t on t.id = v.transaction_id
            where v.verified_at is null and v.due_at <= moment and v.merchant = any (merchants)
              and (t.transaction_no is not null or foloosi.was_reconciled(t.merchant, t.created_at, greatest(t.created_at, v.created_at)))
            order by v.due_at limit n for no key update of v skip locked)
        update foloosi.verifications v
        set attempts = v.attempts + 1, due_at = moment + lease
        from due d join foloosi.transactions t on t.id = d.transaction_id
        where v.transaction_id = d.transaction_id
        returning v.transaction_id, v.merchant::text, t.transaction_no::text, v.attempts;
end $$;
comment on function foloosi.next_verifications(text[], int, interval) is
'Transactions that the provider is to be asked about now: successes that wait, failures whose order is to be cancelled, refunds that are not believed. Parameters: merchants; how many at most; lease: after that time without an answer they are offered again. Returns transaction, merchant, the provider''s number (null: it has none, and the list, read since, has answered, which verify_transaction() is told by a null status), attempt. Calls: need_read_committed, transactions_of, was_reconciled, clock. Tables: verifications (written), orders, merchants, refunds, transactions (read).';

create or replace function foloosi.postpone_verification(transaction_id bigint, later interval, reason text) returns void
language sql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
    update foloosi.verifications v set due_at = clock_timestamp() + later, reason = postpone_verification.reason
    where v.transaction_id = postpone_verification.transaction_id and v.verified_at is null
$$;
comment on function foloosi.postpone_verification(bigint, interval, text) is
'The provider gave no word: it is asked again. Changes no order. Parameters: transaction, when, why. Tables: verifications (written).';

create or replace function foloosi.hand_over(t foloosi.transactions) returns boolean
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
declare
    next foloosi.transactions;
begin
    select * into next from foloosi.transactions_of(t.merchant, t.order_ref) x where x.state = 'verifying' order by x.id limit 1;
    update foloosi.orders o
    set transaction_id = next.id, updated_at = now(),
        amount = case when o.registered_at is null then next.amount else o.amount end,
        currency = case when o.registered_at is null then next.currency else o.currency end
    where next.id is not null and o.order_ref = t.order_ref and o.merchant = t.merchant and o.state = 'verifying' and o.transaction_id = t.id;
    return next.id is not null;
end $$;
comment on function foloosi.hand_over(foloosi.transactions) is
'A transaction cannot pay the order that waits for it: the next success that is being verified takes its place. Parameters: its row, locked. Returns whether there is one. Calls: transactions_of. Tables: orders (written).';

create or replace function foloosi.deny_transaction(t foloosi.transactions, p_reason text) returns void
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    update foloosi.transactions x set state = 'denied', updated_at = now() where x.id = t.id and x.state = 'verifying';
    if not foloosi.hand_over(t) then
        update foloosi.orders o set state = 'review', reason = p_reason, updated_at = now()
        where o.order_ref = t.order_ref and o.merchant = t.merchant and o.state = 'verifying' and o.transaction_id = t.id;
        if found then
            perform foloosi.emit(t.merchant, 'order.review', t.order_ref, t.id, p_reason);
        end if;
    end if;
    if t.order_ref is not null then
        perform foloosi.align_orders(array[row(t.merchant, t.order_ref, null, null, null)::foloosi.alignment]);
    end if;
end $$;
comment on function foloosi.deny_transaction(foloosi.transactions, text) is
'The provider did not confirm a success: its order waits for the next that is being verified, or goes to review. Parameters: the transaction, locked; why. Calls: hand_over, emit, align_orders. Tables: transactions, orders, events (written).';

create or replace function foloosi.say_refunded(t foloosi.transactions, p_status text, p_refunded numeric, p_currency text) returns void
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    if p_status = 'refund' then
        -- more than the provider says is not believed
        update foloosi.refunds r set believed = true
        where r.transaction_id = t.id and not r.believed and r.undone_at is null and r.source = 'delivery'
          and (p_refunded is null or coalesce(r.amount, t.amount) <= p_refunded and coalesce(r.currency, p_currency) = p_currency);
    end if;
    if p_refunded > 0 or p_refunded = 0 and p_status = 'refund' then
        insert into foloosi.refunds (merchant, transaction_id, amount, currency, source)
        select t.merchant, t.id, p_refunded, p_currency, 'provider'
        where not exists (select from foloosi.refunds r where r.transaction_id = t.id and r.believed and r.undone_at is null
                          and coalesce(r.amount, t.amount) = p_refunded and coalesce(r.currency, p_currency) = p_currency);
    elsif p_status = 'refund' then
        -- its own amount does not say how much went back
        insert into foloosi.refunds (merchant, transaction_id, amount, currency, source, believed)
        select t.merchant, t.id, t.amount, t.currency, 'provider', false
        where not exists (select from foloosi.refunds r where r.transaction_id = t.id and r.undone_at is null);
    end if;
end $$;
comment on function foloosi.say_refunded(foloosi.transactions, text, numeric, text) is
'Write down what the provider says went back of a transaction. Parameters: its row, locked; the provider''s status; how much, and its currency, null: it does not say, and a refund that nobody else said is not believed. Tables: refunds (written).';

create or replace function foloosi.wait_for_order(p_id bigint, p_reason text, p_detail text) returns void
language sql
set search_path = pg_catalog, foloosi, pg_temp
as $$
    update foloosi.deliveries d set attention = true, reason = coalesce(d.reason, p_reason), detail = coalesce(d.detail, p_detail)
    where d.id = (select min(x.id) from foloosi.deliveries x where x.transaction_id = p_id
                  and x.id >= p_id - 1024) -- the one that brought it has an id of the same batch
$$;
comment on function foloosi.wait_for_order(bigint, text, text) is
'A transaction that was known as failed is captured, and has no order: the delivery that brought it waits for a person. Parameters: transaction''s id; reason and detail, where the delivery has none. Tables: deliveries (written).';

create or replace function foloosi.verify_transaction(
    id bigint, status text, amount numeric default null, currency text default null, order_ref text default null,
    refunded numeric default null, unprefixed text default null)
returns text
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
set plan_cache_mode = force_generic_plan -- as record_deliveries(), and for the same reason: the worker keeps its session
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set random_page_cost = 0 set seq_page_cost = 0
as $$
#variable_conflict use_column
declare
    p_id bigint := verify_transaction.id;
    p_status text := lower(verify_transaction.status);
    p_amount numeric := verify_transaction.amount;
    p_currency text := upper(verify_transaction.currency);
    p_order_ref text;
    t       foloosi.transactions;
    captured foloosi.transactions;
    o       foloosi.orders;
    was     text;
    word    text; -- captured, failed, or null: neither
    difference text; -- null: all is as the webhook said
    said    text;
    outcome text;
    grew    bigint[];
begin
    word := case when p_status in ('success', 'refund') then 'captured' when p_status in ('failed', 'error', 'expired') then 'failed' end;
    if word = 'captured' and (p_amount is null or p_currency is null) then
        raise exception 'verify_transaction: a success has amount and currency' using errcode = 'null_value_not_allowed';
    end if;
    perform set_config('synchronous_commit', 'on', true); -- what was sent to the merchant must stay true
    t := foloosi.lock_transaction(p_id);
    p_order_ref := coalesce(foloosi.recurring_key(t.merchant, nullif(verify_transaction.unprefixed, '')), verify_transaction.order_ref);
    select * into o from foloosi.orders x where x.order_ref = t.order_ref and x.merchant = t.merchant;
    was := o.state;
    said := case when p_status is null then 'it has no number, and nothing in the provider''s list of all days since is it'
                 else concat_ws(', ', 'the provider says ' || p_status, nullif(foloosi.money_text(p_amount, p_currency), ''),
                     case p_order_ref when '' then 'no order' else 'order ' || p_order_ref end,
                     'refunded ' || nullif(foloosi.money_text(verify_transaction.refunded, p_currency), '')) end;
    difference := case
        when t.state = 'verifying' and p_status is null then 'unverifiable'
        when t.state = 'verifying' and word is distinct from 'captured' then 'not_captured'
        when t.state not in ('verifying', 'failed') or word is distinct from 'captured' then null
        when p_order_ref <> coalesce(t.order_ref, p_order_ref) then 'order_differs' -- '': it names none, though it should
        when t.state = 'failed' then null
        when p_currency <> t.currency then 'currency_differs'
        when p_amount <> t.amount then 'amount_differs' end;

    if t.state = 'failed' and p_status is not null and word is null then
        return 'unclear'; -- neither: no failure is concluded from that
    elsif difference is not null then
        outcome := case when p_status is null then 'unverifiable' else 'differs' end;
        said := concat_ws('; ', said, format('the webhook said %s, %s, order %s', t.transaction_status, foloosi.money_text(t.amount, t.currency), t.order_ref));
        if t.state = 'verifying' then
            perform foloosi.deny_transaction(t, difference);
        else -- captured, but for whom? As row 4: without an order, until a person gives it one
            update foloosi.transactions x
            set state = 'captured', transaction_status = 'success', updated_at = now(), captured_at = foloosi.clock(),
                amount = p_amount, currency = p_currency, order_ref = null, order_withheld = true
            where x.id = p_id returning * into captured;
            perform foloosi.say_refunded(captured, p_status, verify_transaction.refunded, p_currency);
            perform foloosi.count_refunds(array[p_id]);
            if o.state = 'pending' then
                update foloosi.orders x set state = 'review', reason = difference, cancel_at = null, updated_at = now()
                where x.order_ref = t.order_ref and x.merchant = t.merchant;
                perform foloosi.must_have_changed(found);
            end if;
            perform foloosi.emit(t.merchant, 'order.review', case when o.state = 'pending' then t.order_ref end, p_id, difference);
            perform foloosi.wait_for_order(p_id, difference, said);
        end if;
    elsif t.state in ('verifying', 'failed') and word = 'captured' then
        outcome := case t.state when 'verifying' then 'confirmed' else 'captured' end;
        update foloosi.transactions x
        set state = 'captured', transaction_status = 'success', updated_at = now(), captured_at = foloosi.clock(),
            amount = case when t.state = 'failed' then p_amount else x.amount end,
            currency = case when t.state = 'failed' then p_currency else x.currency end
        where x.id = p_id returning * into t;
        perform foloosi.say_refunded(t, p_status, verify_transaction.refunded, p_currency);
        grew := foloosi.count_refunds(array[p_id]);
        select * into t from foloosi.transactions x where x.id = p_id;
        if t.refunded is not null and t.money_left = 0 then
            perform foloosi.hand_over(t); -- nothing is left to pay with
        end if;
        if t.order_ref is not null then
            perform foloosi.apply_transaction(t, t.order_ref);
        elsif outcome = 'captured' and t.money_left > 0 then -- as row 9
            perform foloosi.emit(t.merchant, 'order.review', null, p_id, 'no_order_key');
            perform foloosi.wait_for_order(p_id, 'no_order_key', said);
        end if;
    elsif t.state = 'failed' then
        outcome := 'failed';
    elsif t.state in ('captured', 'unknown') and (p_status = 'refund' or word = 'captured' and (verify_transaction.refunded > 0
              or exists (select from foloosi.refunds r where r.transaction_id = p_id and not r.believed and r.undone_at is null and r.source = 'delivery'))) then
        outcome := 'confirmed';
        perform foloosi.say_refunded(t, p_status, verify_transaction.refunded, p_currency);
        if exists (select from foloosi.refunds r where r.transaction_id = p_id and not r.believed and r.undone_at is null
                   and r.source = 'delivery' and r.created_at > now() - interval '1 day') then
            outcome := 'unclear'; -- the refund may reach the provider''s books later than ours: it is asked for again
        end if;
        grew := foloosi.count_refunds(array[p_id]);
        if t.order_ref is not null then
            perform foloosi.align_orders(array[row(t.merchant, t.order_ref, p_id, null, said)::foloosi.alignment], grew);
        end if;
    else
        outcome := 'moot'; -- a person, or another delivery, decided meanwhile
    end if;

    if outcome = 'unclear' then
        return outcome;
    end if;
    insert into foloosi.verifications as v (transaction_id, merchant, due_at, verified_at, outcome, detail)
    values (p_id, t.merchant, now(), greatest(foloosi.clock(), now()), outcome, said)
    on conflict (transaction_id) do update
    set verified_at = excluded.verified_at, outcome = excluded.outcome, detail = excluded.detail, reason = null;
    if outcome not in ('moot', 'failed') and t.order_ref is not null then
        perform foloosi.write_decision('verify', p_id, t.merchant, t.order_ref, was, said);
    end if;
    return outcome;
end $$;
comment on function foloosi.verify_transaction(bigint, text, numeric, text, text, numeric, text) is
'The provider''s word about a transaction. Parameters: transaction''s id; status as the provider has it, null: it has no number, and the list that was read since does not know it; amount and currency, required with success and refund; its order, null: the provider does not say, empty: it names none; refunded: how much went back, null: it does not say; unprefixed: the order''s key if it lacks the configured prefix. A success that is confirmed is captured, and the order rules apply; one that is not is denied, and its order waits for the next or goes to review with the difference; a failure that was captured after all is a success, without an order if the provider names another; refund confirms success and refunds. Returns confirmed, differs, unverifiable, captured, failed (as the webhook said), unclear: nothing follows from it, ask again; or moot: nothing waited for it any more. Errors: no such transaction; a success without amount or currency; as lock_transaction(). Calls: lock_transaction, recurring_key, deny_transaction, hand_over, say_refunded, apply_transaction, count_refunds, align_orders, must_have_changed, emit, wait_for_order, write_decision. Tables: transactions, orders, verifications (written).';
