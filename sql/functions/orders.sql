-- SPDX-License-Identifier: MIT
-- What persons, and the merchant's shop, say about orders. Each function waits for the locks that
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

create or replace function foloosi.register_order(merchant text, order_ref text, amount numeric, currency text)
returns foloosi.orders
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    p_merchant text := register_order.merchant;
    p_order_ref text := register_order.order_ref;
    p_amount numeric := register_order.amount;
    p_currency text := register_order.currency;
    o         foloosi.orders;
    known     foloosi.orders;
    paying    foloosi.transactions;
    different text;
begin
    perform foloosi.known_merchant(p_merchant);
    if p_order_ref is null or p_order_ref = '' or p_amount is null or p_currency is null then
        raise exception 'register_order: order_ref, amount and currency are required' using errcode = 'null_value_not_allowed';
    end if;
    p_currency := upper(p_currency);
    perform foloosi.lock_order(p_merchant, p_order_ref);
    select * into known from foloosi.orders x where x.order_ref = p_order_ref and x.merchant = p_merchant;

    if known.id is null then
        insert into foloosi.orders (merchant, order_ref, state, amount, currency, registered_at)
        values (p_merchant, p_order_ref, 'pending', p_amount, p_currency, now()) returning * into o;
    elsif known.registered_at is not null then
        if known.amount = p_amount and known.currency = p_currency then
            return known;
        end if;
        if known.state <> 'pending' or exists (
            select from foloosi.transactions_of(p_merchant, p_order_ref)) then
            raise exception 'order "%" of merchant "%" is registered with % % already and cannot change: it is % or has a transaction',
                p_order_ref, p_merchant, known.amount, known.currency, known.state using errcode = 'object_not_in_prerequisite_state';
        end if;
        update foloosi.orders x set amount = p_amount, currency = p_currency, updated_at = now()
        where x.order_ref = p_order_ref and x.merchant = p_merchant returning * into o;
    else
        -- a webhook was faster: compare with the success that pays it or put it in question
        select * into paying from foloosi.transactions t
        where t.id = known.transaction_id and t.transaction_status = 'success';
        different := case when known.state not in ('paid', 'review') or paying.id is null then null
                          when paying.currency <> p_currency then 'currency_differs'
                          when paying.amount <> p_amount then 'amount_differs' end;
        update foloosi.orders x
        set amount = p_amount, currency = p_currency, registered_at = now(), updated_at = now(),
            state = case when different is not null then 'review'
                         when known.state = 'review' and known.reason = 'unknown_order' then 'paid' else known.state end,
            reason = case when different is not null then different
                          when known.state = 'review' and known.reason = 'unknown_order' then null else known.reason end,
            decided_by = case when different is not null or known.reason = 'unknown_order' then session_user else known.decided_by end,
            decided_at = case when different is not null or known.reason = 'unknown_order' then clock_timestamp() else known.decided_at end
        where x.order_ref = p_order_ref and x.merchant = p_merchant returning * into o;
        if different is not null then
            perform foloosi.emit(p_merchant, 'order.review', p_order_ref, o.transaction_id, different);
        elsif o.state <> known.state then
            perform foloosi.emit(p_merchant, 'order.success', p_order_ref, o.transaction_id, null);
            perform foloosi.open_paybacks(p_merchant, p_order_ref, o.transaction_id, 'double_payment'); -- what row 18 kept waiting
        end if;
    end if;

    insert into foloosi.decisions (merchant, action, subject_id, order_ref, order_state, order_state_before, order_moved, decided_by)
    values (p_merchant, 'register', o.id, p_order_ref, o.state, case when o.state <> known.state then known.state end,
            o.state is distinct from known.state, session_user);
    return o;
end $$;
comment on function foloosi.register_order(text, text, numeric, text) is
'Announce an expected order. Parameters: merchant, order_ref, amount, currency. Returns the order''s row. Errors: unknown merchant; other values than before for an order that is no longer pending or has a transaction. On an order that a webhook created first: equal to the paying success, it stays (and a review for being unknown becomes paid, and every other captured transaction of it a payback); different, it goes to review; cancelled, it stays. Calls: known_merchant, lock_order, transactions_of, emit, open_paybacks. Tables: orders, decisions, events (written), transactions (read).';

create or replace function foloosi.transactions_of(p_merchant text, p_order_ref text) returns setof foloosi.transactions
language sql stable rows 2
as $$
    select t.*
    from (select o.transaction_id as id from foloosi.orders o where o.order_ref = p_order_ref and o.merchant = p_merchant
          union
          select x.transaction_id from foloosi.other_transactions x where x.order_ref = p_order_ref and x.merchant = p_merchant) n
    join foloosi.transactions t on t.id = n.id
$$;
comment on function foloosi.transactions_of(text, text) is
'All transactions of an order, quickly however many there are in all: transactions has no index by order_ref. Parameters: merchant, order_ref. Returns rows of transactions, in no order. Tables: orders, other_transactions, transactions (read).';

create or replace function foloosi.open_paybacks(p_merchant text, p_order_ref text, p_except bigint, p_reason text) returns void
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
declare
    t   record;
    pid bigint;
begin
    for t in
        select x.id, x.amount, x.currency,
               -- sure only of what was captured and never sent back before
               case when x.state = 'captured' and not exists (select from foloosi.paybacks p
                                                              where p.transaction_id = x.id and p.reason <> 'withdrawn')
                    then 'due' else 'check' end as payback
        from foloosi.transactions_of(p_merchant, p_order_ref) x
        where x.state in ('captured', 'verifying')
          and x.id is distinct from p_except
          and not exists (select from foloosi.paybacks p
                          where p.transaction_id = x.id and (p.state <> 'settled' or foloosi.money_went_back(p)))
        order by x.id
    loop
        insert into foloosi.paybacks (merchant, order_ref, transaction_id, state, reason, amount, currency)
        values (p_merchant, p_order_ref, t.id, t.payback, p_reason, t.amount, t.currency) returning id into pid;
        perform foloosi.emit(p_merchant, 'payback.' || t.payback, p_order_ref, t.id, p_reason, pid);
    end loop;
end $$;
comment on function foloosi.open_paybacks(text, text, bigint, text) is
'Open a payback for each captured or verifying transaction of an order that has none open and whose money did not go back: due, or check if it is not certain that the money is here. Parameters: merchant, order_ref, the transaction that pays the order (null: none), reason. Calls: transactions_of, emit. Tables: transactions (read), paybacks, events (written).';

create or replace function foloosi.resolve_order(merchant text, order_ref text, state text, note text default null)
returns foloosi.orders
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    p_merchant text := resolve_order.merchant;
    p_order_ref text := resolve_order.order_ref;
    p_state text := resolve_order.state;
    p_note text := resolve_order.note;
    o      foloosi.orders;
    known  foloosi.orders;
    paying bigint;
begin
    if p_state is null or p_state not in ('paid', 'cancelled') then
        raise exception 'resolve_order: state must be paid or cancelled, not "%"', p_state using errcode = 'invalid_parameter_value';
    end if;
    perform foloosi.lock_order(p_merchant, p_order_ref);
    select * into known from foloosi.orders x where x.order_ref = p_order_ref and x.merchant = p_merchant;
    if known.id is null then
        raise exception 'merchant "%" has no order "%"', p_merchant, p_order_ref using errcode = 'no_data_found';
    end if;
    if known.state = p_state and (p_state = 'paid' or known.decided_by is not null) then
        return known;
    end if;

    if p_state = 'paid' then
        -- what put the order in question pays it; else the first captured transaction; else none (paid by other means)
        select t.id into paying from foloosi.transactions_of(p_merchant, p_order_ref) t
        where t.state in ('captured', 'verifying')
          and not exists (select from foloosi.paybacks p where p.transaction_id = t.id
                          and case p.state when 'settled' then foloosi.money_went_back(p)
                                           else not (p.state = 'due' and p.reason = 'order_closed'
                                                     or p.reason = 'captured_though_failed') end) -- withdrawn below
        order by coalesce(t.id = known.transaction_id, false) desc, t.state = 'captured' desc, t.id limit 1;
        update foloosi.paybacks p
        set state = 'settled', reason = 'withdrawn', settled_at = now(), settled_by = session_user, note = p_note, updated_at = now()
        where p.transaction_id = paying and (p.state = 'due' or p.state = 'check' and p.reason = 'captured_though_failed');
        update foloosi.transactions t set state = 'captured', updated_at = now() where t.id = paying and t.state = 'verifying';
    end if;
    update foloosi.orders x
    set state = p_state, reason = null, decided_by = session_user, decided_at = clock_timestamp(), updated_at = now(),
        transaction_id = case when p_state = 'paid' then paying else x.transaction_id end
    where x.order_ref = p_order_ref and x.merchant = p_merchant returning * into o;

    if known.state <> p_state then
        perform foloosi.emit(p_merchant, case p_state when 'paid' then 'order.success' else 'order.cancel' end, p_order_ref,
            o.transaction_id, 'resolved');
    end if;
    perform foloosi.open_paybacks(p_merchant, p_order_ref, paying, case p_state when 'paid' then 'double_payment' else 'order_closed' end);
    insert into foloosi.decisions (merchant, action, subject_id, order_ref, order_state, order_state_before, order_moved, decided_by, note)
    values (p_merchant, 'resolve', o.id, p_order_ref, o.state, case when o.state <> known.state then known.state end,
            o.state <> known.state, session_user, p_note);
    return o;
end $$;
comment on function foloosi.resolve_order(text, text, text, text) is
'A person decides an order. Parameters: merchant, order_ref, state (paid or cancelled), note. Returns the order''s row. To paid: order.success, and every other captured transaction of the order becomes a payback. To cancelled: closes it: order.cancel (unless it was cancelled by a failure), and every captured transaction becomes a payback. Deciding the same again does nothing. Errors: no such order; another state. Calls: lock_order, transactions_of, open_paybacks, emit. Tables: orders, transactions, paybacks, events, decisions (written).';

create or replace function foloosi.assign_transaction(id bigint, order_ref text, note text default null)
returns foloosi.orders
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    p_id bigint := assign_transaction.id;
    p_order_ref text := assign_transaction.order_ref;
    p_note text := assign_transaction.note;
    t       foloosi.transactions;
    o       foloosi.orders;
    decided foloosi.element[];
begin
    if p_order_ref is null or p_order_ref = '' then
        raise exception 'assign_transaction: order_ref is required' using errcode = 'null_value_not_allowed';
    end if;
    select * into t from foloosi.transactions x where x.id = p_id;
    if t.id is null then
        raise exception 'there is no transaction %', p_id using errcode = 'no_data_found';
    end if;
    -- the locks of a delivery of this transaction, in the order in which every person's act takes them
    perform foloosi.lock_order(t.merchant, p_order_ref);
    perform pg_advisory_xact_lock(k) from unnest(array_remove(array[
        foloosi.lock_key('number', t.merchant, t.transaction_no),
        foloosi.lock_key('reference', t.merchant, t.payment_reference)], null)) k;
    select * into t from foloosi.transactions x where x.id = p_id for no key update;
    if t.order_ref is not null then
        raise exception 'transaction % belongs to order "%" already', p_id, t.order_ref using errcode = 'object_not_in_prerequisite_state';
    end if;

    decided := foloosi.decide(array[row(
        1, 1, t.merchant, p_order_ref, null, null, null, t.transaction_status, t.transaction_no, t.payment_reference, t.amount,
        t.currency, t.transaction_message, t.optional1, t.optional2, t.optional3, t.customer_email, t.customer_mobile,
        t.card_last_four, t.id, null, null,
        null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
        null, null, null)::foloosi.element]);
    perform foloosi.write(decided);

    -- what waited for an order; a contradiction goes on waiting
    update foloosi.paybacks p set order_ref = p_order_ref, updated_at = now()
    where p.transaction_id = p_id and p.order_ref is null and p.state <> 'settled';
    update foloosi.deliveries d set attention = false where d.transaction_id = p_id and d.attention and d.rule in (3, 9, 19)
        and d.id in (select x.id from foloosi.deliveries x where x.attention);
    select * into o from foloosi.orders x where x.order_ref = p_order_ref and x.merchant = t.merchant;
    insert into foloosi.decisions (merchant, action, subject_id, order_ref, order_state, order_state_before, order_moved, decided_by, note)
    values (t.merchant, 'assign', p_id, p_order_ref, decided[1].order_state, decided[1].order_state_before,
            decided[1].order_write is not null, session_user, p_note);
    return o;
end $$;
comment on function foloosi.assign_transaction(bigint, text, text) is
'Give a transaction without an order its order, and apply rows 10 to 18 of the order rules. Parameters: transaction''s id, order_ref, note. Returns the order''s row. Errors: no such transaction; it has an order already. Calls: lock_order, decide, write. Tables: as decide and write; deliveries (attention cleared), decisions (written).';
