-- SPDX-License-Identifier: MIT
-- What persons, and the merchant's shop, say about orders: register_order, resolve_order. Each function waits for the locks that
-- a delivery of the order takes, so it never crosses one under way.

create or replace function foloosi.known_merchant(p_merchant text) returns void
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    perform 1 from foloosi.merchants m where m.merchant = p_merchant;
    if not found then
        raise exception 'unknown merchant "%"', p_merchant using errcode = 'no_data_found',
            hint = 'Make it known with foloosi.set_merchant(merchant).';
    end if;
end $$;
comment on function foloosi.known_merchant(text) is 'Raise no_data_found unless the merchant has a row. Tables: merchants (read).';

create or replace function foloosi.must_have_changed(p_changed boolean) returns void
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    if not p_changed then
        raise exception 'a trigger on foloosi.orders suppressed a change' using errcode = 'triggered_action_exception';
    end if;
end $$;
comment on function foloosi.must_have_changed(boolean) is
'Raise triggered_action_exception if a trigger of the merchant suppressed a change of an order: nobody must be told of what did not happen. Parameters: FOUND after the statement.';

create or replace function foloosi.emit(
    p_merchant text, p_type text, p_order_ref text, p_transaction_id bigint, p_reason text, p_payback_id bigint default null)
returns void
language sql
set search_path = pg_catalog, foloosi, pg_temp
as $$
    insert into foloosi.events (merchant, type, order_ref, transaction_id, payback_id, reason)
    values (p_merchant, p_type, p_order_ref, p_transaction_id, p_payback_id, p_reason)
$$;
comment on function foloosi.emit(text, text, text, bigint, text, bigint) is 'Write one event. Tables: events (written).';

create or replace function foloosi.transactions_of(p_merchant text, p_order_ref text) returns setof foloosi.transactions
language sql stable rows 2
as $$
    select t.*
    from (select o.transaction_id as id from foloosi.orders o where o.order_ref = p_order_ref and o.merchant = p_merchant
          union
          select x.transaction_id from foloosi.other_transactions x where x.order_ref = p_order_ref and x.merchant = p_merchant) n
    join foloosi.transactions t on t.id = n.id
    where t.order_ref = p_order_ref -- it may have lost the order since
$$;
comment on function foloosi.transactions_of(text, text) is
'All transactions of an order, quickly however many there are in all: transactions has no index by order_ref. Parameters: merchant, order_ref. Returns rows of transactions, in no order. Tables: orders, other_transactions, transactions (read).';

create or replace function foloosi.last_act(p_action text, p_subject bigint, p_merchant text, p_order_ref text) returns text
language sql stable
set search_path = pg_catalog, foloosi, pg_temp
as $$
    select coalesce((
        select format(': %s by %s at %s', d.action, d.decided_by, to_char(d.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
        from foloosi.decisions d
        where d.order_ref = p_order_ref and d.merchant = p_merchant and d.action = p_action and d.subject_id = p_subject
        order by d.id desc limit 1), '')
$$;
comment on function foloosi.last_act(text, bigint, text, text) is
'Who did it, for a message that refuses to do it again. Parameters: action and subject as in decisions; merchant, order. Returns ": assign by shop at 2026-11-24T09:00:00Z", or an empty text if nobody did. Tables: decisions (read).';

create or replace function foloosi.write_decision(
    p_action text, p_subject bigint, p_merchant text, p_order_ref text, p_before text, p_note text) returns foloosi.orders
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
declare
    o foloosi.orders;
begin
    select * into o from foloosi.orders x where x.order_ref = p_order_ref and x.merchant = p_merchant;
    insert into foloosi.decisions (merchant, action, subject_id, order_ref, order_state, order_state_before, order_moved, decided_by, note)
    values (p_merchant, p_action, coalesce(p_subject, o.id), p_order_ref, o.state, case when o.state <> p_before then p_before end,
            o.state is distinct from p_before, session_user, p_note);
    return o;
end $$;
comment on function foloosi.write_decision(text, bigint, text, text, text, text) is
'Write an act into the history. Parameters: action, id of what it was about (null: the order), merchant, order_ref (null: none), the order''s state before, note. Returns the order as it is now. Tables: decisions (written), orders (read).';

create or replace function foloosi.must_be_money(p_amount numeric, p_currency text default null) returns void
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    if not (p_amount >= 0 and p_amount < 1000000000000 and scale(p_amount) <= 4) then
        raise exception 'an amount has at most 12 digits before the point, 4 behind it and no sign: %', p_amount using errcode = 'check_violation';
    end if;
    if p_currency !~ '^[A-Z]{3}$' then
        raise exception 'a currency has three letters: %', p_currency using errcode = 'check_violation';
    end if;
end $$;
comment on function foloosi.must_be_money(numeric, text) is
'Raise check_violation, in words, unless a person''s amount and currency are money as the domains have it. Parameters: amount; currency in upper case, null: none was given.';

create or replace function foloosi.register_order(
    merchant text, order_ref text, amount numeric, currency text, cancel_at timestamptz default null)
returns foloosi.orders
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    p_merchant text := register_order.merchant;
    p_order_ref text := foloosi.clean_key(register_order.order_ref);
    p_amount numeric := register_order.amount;
    p_currency text := upper(foloosi.clean_key(register_order.currency));
    p_cancel_at timestamptz := register_order.cancel_at;
    policy    foloosi.merchants;
    known     foloosi.orders;
    money     foloosi.money[];
    paying    foloosi.transactions;
    different text;
    waits     boolean;
begin
    perform foloosi.known_merchant(p_merchant);
    if p_order_ref is null or p_amount is null or p_currency is null then
        raise exception 'register_order: order_ref, amount and currency are required' using errcode = 'null_value_not_allowed';
    end if;
    perform foloosi.must_be_money(p_amount, p_currency);
    if length(p_order_ref) > 255 then
        raise exception 'an order_ref has at most 255 characters, not %', length(p_order_ref) using errcode = 'string_data_right_truncation';
    end if;
    select * into policy from foloosi.merchants m where m.merchant = p_merchant;
    perform foloosi.lock_order(p_merchant, p_order_ref);
    select * into known from foloosi.orders x where x.order_ref = p_order_ref and x.merchant = p_merchant;

    if known.id is null then
        insert into foloosi.orders (merchant, order_ref, state, amount, currency, registered_at, cancel_at)
        values (p_merchant, p_order_ref, 'pending', p_amount, p_currency, now(), coalesce(p_cancel_at, foloosi.clock() + policy.expire_after));
        perform foloosi.must_have_changed(found);
        -- a refund, or a wholly refunded transaction, may have named it: that created no order
        update foloosi.other_transactions x set awaits_order = false
        where x.awaits_order and x.order_ref = p_order_ref and x.merchant = p_merchant;
        if found then
            perform foloosi.align_orders(array[row(p_merchant, p_order_ref, null, null, null)::foloosi.alignment]);
        end if;
    elsif known.registered_at is not null and known.amount = p_amount and known.currency = p_currency then
        return known;
    elsif known.state = 'pending' and not exists (
            select from foloosi.transactions_of(p_merchant, p_order_ref) t where t.state in ('captured', 'verifying') or t.refunded is not null) then
        update foloosi.orders x
        set amount = p_amount, currency = p_currency, registered_at = coalesce(x.registered_at, now()), updated_at = now(),
            cancel_at = coalesce(p_cancel_at, greatest(x.cancel_at, foloosi.clock() + policy.expire_after), x.cancel_at)
        where x.order_ref = p_order_ref and x.merchant = p_merchant;
        perform foloosi.must_have_changed(found);
    elsif known.registered_at is not null then
        raise exception 'order "%" of merchant "%" is registered with % already and cannot change: it is % or has a transaction',
            p_order_ref, p_merchant, foloosi.money_text(known.amount, known.currency), known.state using errcode = 'object_not_in_prerequisite_state';
    else
        -- a webhook was faster: compare with the success that pays the order, or would pay it now that the sum is known
        if known.state = 'review' then
            select array_agg(m) into money from foloosi.money_of(p_merchant, p_order_ref) m;
        end if;
        select * into paying from foloosi.transactions t
        where t.id = coalesce(foloosi.payer_of(money, p_amount, p_currency, known.transaction_id), known.transaction_id)
          and t.state in ('captured', 'verifying');
        different := case when known.state not in ('paid', 'review', 'verifying') or paying.id is null then null
                          when paying.currency <> p_currency then 'currency_differs'
                          when paying.amount <> p_amount then 'amount_differs' end;
        -- it was in review only because it was unknown, and what came is not denied
        waits := different is null and known.state = 'review' and known.reason = 'unknown_order' and paying.id is not null;
        update foloosi.orders x
        set amount = p_amount, currency = p_currency, registered_at = now(), updated_at = now(),
            transaction_id = coalesce(paying.id, known.transaction_id),
            state = case when different is not null then 'review'
                         when waits and paying.state = 'verifying' then 'verifying'
                         when waits then 'paid' else known.state end,
            reason = case when different is not null then different
                          when waits and paying.state = 'verifying' then 'verifying'
                          when waits then case when x.late then 'late' end else known.reason end,
            decided_by = case when different is not null or waits then session_user else known.decided_by end,
            decided_at = case when different is not null or waits then clock_timestamp() else known.decided_at end
        where x.order_ref = p_order_ref and x.merchant = p_merchant;
        perform foloosi.must_have_changed(found);
        if different is not null and (known.state <> 'review' or known.reason is distinct from different) then
            perform foloosi.emit(p_merchant, 'order.review', p_order_ref, paying.id, different);
        elsif waits and paying.state = 'captured' then
            perform foloosi.emit(p_merchant, 'order.success', p_order_ref, paying.id, null);
        end if;
        perform foloosi.align_orders(array[row(p_merchant, p_order_ref, null, null, null)::foloosi.alignment],
            -- of what pays it from now on, a part went back before
            case when waits and paying.refunded > 0 then array[paying.id] else '{}' end);
    end if;
    return foloosi.write_decision('register', null, p_merchant, p_order_ref, known.state, null);
end $$;
comment on function foloosi.register_order(text, text, numeric, text, timestamptz) is
'Announce an expected order. Parameters: merchant, order_ref, amount, currency; cancel_at: when it is cancelled unless it is paid (null: the merchant''s expire_after). Returns the order''s row. Errors: unknown merchant; what is no money, or no key; other values than before for an order that is no longer pending or has a captured transaction. On an order that a webhook created first: equal to the payer, it stays (and a review for being unknown becomes paid; verifying, if the provider has not been asked); different, it goes to review; cancelled and refunded stay. Calls: known_merchant, clean_key, must_be_money, lock_order, transactions_of, money_of, payer_of, must_have_changed, emit, align_orders, write_decision. Tables: orders (written), merchants, transactions, other_transactions (read).';

create or replace function foloosi.resolve_order(
    merchant text, order_ref text, state text, note text default null, without_transaction boolean default false)
returns foloosi.orders
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    p_merchant text := resolve_order.merchant;
    -- an order of the first version may have a name that no delivery has now, such as one with a blank behind it
    p_order_ref text := coalesce((select x.order_ref from foloosi.orders x where x.order_ref = resolve_order.order_ref and x.merchant = p_merchant),
                                 foloosi.clean_key(resolve_order.order_ref));
    p_state text := resolve_order.state;
    p_note text := resolve_order.note;
    known  foloosi.orders;
    money  foloosi.money[];
    payer  foloosi.transactions;
begin
    if p_state is null or p_state not in ('paid', 'cancelled') then
        raise exception 'resolve_order: state must be paid or cancelled, not "%"', p_state using errcode = 'invalid_parameter_value';
    end if;
    perform foloosi.lock_order(p_merchant, p_order_ref);
    select * into known from foloosi.orders x where x.order_ref = p_order_ref and x.merchant = p_merchant;
    if known.id is null then
        raise exception 'merchant "%" has no order "%"', p_merchant, p_order_ref using errcode = 'no_data_found';
    end if;
    if known.state = p_state and (p_state = 'paid' or known.decided_by is not null)
       -- paid by what the provider denied since: a person stands by it
       and not (p_state = 'paid' and resolve_order.without_transaction
                and exists (select from foloosi.transactions t where t.id = known.transaction_id and t.state = 'denied')) then
        return known;
    end if;

    if p_state = 'paid' and not resolve_order.without_transaction then
        select array_agg(m) into money from foloosi.money_of(p_merchant, p_order_ref) m;
        select * into payer from foloosi.transactions t
        where t.id = coalesce(foloosi.payer_of(money, known.amount, known.currency, known.transaction_id),
            -- a person may believe it before the provider was asked
            (select x.id from foloosi.transactions x where x.id = known.transaction_id and x.state = 'verifying'));
        if payer.id is null then
            raise exception 'order "%" of merchant "%" has no transaction that could pay it', p_order_ref, p_merchant
                using errcode = 'object_not_in_prerequisite_state', hint = 'If it was paid in another way, say so: without_transaction => true.';
        end if;
        if known.registered_at is not null and coalesce(p_note, '') = ''
           and (payer.amount <> known.amount or payer.currency <> known.currency) then
            raise exception 'order "%" expects %, and transaction % has %: a note is required', p_order_ref,
                foloosi.money_text(known.amount, known.currency), payer.id, foloosi.money_text(payer.amount, payer.currency) using errcode = 'null_value_not_allowed';
        end if;
    end if;
    update foloosi.orders x
    set state = p_state, reason = null, decided_by = session_user, decided_at = clock_timestamp(), updated_at = now(), cancel_at = null,
        transaction_id = case when p_state = 'paid' then payer.id else x.transaction_id end
    where x.order_ref = p_order_ref and x.merchant = p_merchant;
    perform foloosi.must_have_changed(found);
    if known.state <> p_state then
        perform foloosi.emit(p_merchant, case p_state when 'paid' then 'order.success' else 'order.cancel' end, p_order_ref,
            case p_state when 'paid' then payer.id else known.transaction_id end, 'resolved');
    end if;
    perform foloosi.align_orders(array[row(p_merchant, p_order_ref, null, null, p_note)::foloosi.alignment]);
    return foloosi.write_decision('resolve', null, p_merchant, p_order_ref, known.state, p_note);
end $$;
comment on function foloosi.resolve_order(text, text, text, text, boolean) is
'A person decides an order. Parameters: merchant, order_ref, state (paid or cancelled), note (required where the payer has another amount or currency than was registered), without_transaction: it was paid in another way. Returns the order''s row. To paid: order.success; its captured money beyond the payer''s becomes paybacks. To cancelled: closes it: order.cancel (unless it was cancelled already), and its captured money becomes paybacks, but for a subscription. Deciding the same again does nothing. Errors: no such order; another state; no transaction pays it, and that was not said; no note. Calls: clean_key, lock_order, money_of, payer_of, must_have_changed, emit, align_orders, write_decision. Tables: orders (written), transactions (read).';
