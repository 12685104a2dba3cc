-- SPDX-License-Identifier: MIT
-- A transaction gets its order from a person, or loses it again.

create or replace function foloosi.lock_transaction(p_id bigint, p_order_ref text default null) returns foloosi.transactions
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
declare
    t   foloosi.transactions;
    was text; -- its order, before the locks
begin
    select * into t from foloosi.transactions x where x.id = p_id;
    was := t.order_ref;
    if t.id is null then
        raise exception 'there is no transaction %', p_id using errcode = 'no_data_found';
    end if;
    -- the locks of a delivery of this transaction, in the order in which every act takes them
    if coalesce(p_order_ref, t.order_ref) is not null then
        perform foloosi.lock_order(t.merchant, coalesce(p_order_ref, t.order_ref));
    else
        perform foloosi.need_read_committed();
    end if;
    perform pg_advisory_xact_lock(k) from unnest(array_remove(array[
        foloosi.lock_key('number', t.merchant, t.transaction_no),
        foloosi.lock_key('reference', t.merchant, t.payment_reference)], null)) k;
    select * into t from foloosi.transactions x where x.id = p_id for no key update;
    if p_order_ref is null and t.order_ref is distinct from was then
        raise exception 'transaction % was given another order, or lost its order, meanwhile; try again', p_id using errcode = 'serialization_failure';
    end if;
    return t;
end $$;
comment on function foloosi.lock_transaction(bigint, text) is
'Wait for the locks that a delivery of this transaction takes. Parameters: its id; an order (null: its own). Returns its row as it is then. Errors: no such transaction; its order changed meanwhile, and no lock of the new one is held (serialization_failure). Calls: lock_order, lock_key. Tables: transactions (locked).';

create or replace function foloosi.apply_transaction(t foloosi.transactions, p_order_ref text) returns foloosi.element
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
set plan_cache_mode = force_generic_plan -- as record_deliveries(), and for the same reason
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set random_page_cost = 0 set seq_page_cost = 0
as $$
declare
    e foloosi.element;
    d record;
begin
    e.i := 1;
    e.ordinal := 1;
    e.merchant := t.merchant;
    e.order_ref := p_order_ref;
    e.status := case when t.state = 'failed' then 'failed' else 'success' end;
    e.transaction_no := t.transaction_no;
    e.payment_reference := t.payment_reference;
    e.amount := t.amount;
    e.currency := t.currency;
    e.assigned := t.id;
    d := foloosi.decide(array[e]);
    return (foloosi.write(d.decided))[1];
end $$;
comment on function foloosi.apply_transaction(foloosi.transactions, text) is
'Apply rows 10 to 18 and 24 to 26 of the order rules to a transaction whose locks are held: it was given its order, or was captured after all. Parameters: its row, the order. Returns what was decided. Calls: decide, write.';

create or replace function foloosi.assign_transaction(id bigint, order_ref text, create_order boolean default false, note text default null)
returns foloosi.orders
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    p_id bigint := assign_transaction.id;
    p_order_ref text := foloosi.clean_key(assign_transaction.order_ref);
    p_note text := assign_transaction.note;
    t      foloosi.transactions;
    before text;
begin
    if p_order_ref is null then
        raise exception 'assign_transaction: order_ref is required' using errcode = 'null_value_not_allowed';
    end if;
    t := foloosi.lock_transaction(p_id, p_order_ref);
    if t.state in ('test', 'unknown') then
        raise exception 'transaction % is %: it pays no order', p_id,
            case t.state when 'test' then 'a test' else 'known by refunds only' end using errcode = 'object_not_in_prerequisite_state';
    end if;
    if t.order_ref is not null then
        raise exception 'transaction % belongs to order "%" already%', p_id, t.order_ref, foloosi.last_act('assign', p_id, t.merchant, t.order_ref) using errcode = 'object_not_in_prerequisite_state';
    end if;
    select x.state into before from foloosi.orders x where x.order_ref = p_order_ref and x.merchant = t.merchant;
    if not found and not assign_transaction.create_order then
        raise exception 'merchant "%" has no order "%"', t.merchant, p_order_ref using errcode = 'no_data_found',
            hint = 'To create it, say so: create_order => true.';
    end if;

    update foloosi.transactions x set order_withheld = false where x.id = p_id;
    t.order_withheld := false;
    perform foloosi.apply_transaction(t, p_order_ref);
    -- what waited for an order; a contradiction goes on waiting
    update foloosi.paybacks p set order_ref = p_order_ref, updated_at = now()
    where p.transaction_id = p_id and p.order_ref is null and p.state <> 'settled';
    update foloosi.deliveries d set attention = false where d.transaction_id = p_id and d.attention
        and (d.rule in (4, 9, 19) or d.reason in ('no_order_key', 'order_differs'));
    return foloosi.write_decision('assign', p_id, t.merchant, p_order_ref, before, p_note);
end $$;
comment on function foloosi.assign_transaction(bigint, text, boolean, text) is
'Give a transaction without an order its order, and apply rows 10 to 18 and 24 to 26 of the order rules. Parameters: transaction''s id, order_ref; create_order: the order may be new; note. Returns the order''s row (null: it was wholly refunded, so that none was created). Errors: no such transaction; it has an order already (with who gave it and when), or pays none; no such order. Calls: clean_key, lock_transaction, last_act, apply_transaction, write_decision. Tables: transactions, paybacks, deliveries (written).';

create or replace function foloosi.unassign_transaction(id bigint, note text) returns foloosi.orders
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    p_id bigint := unassign_transaction.id;
    t    foloosi.transactions;
    was  foloosi.decisions;
    o    foloosi.orders;
    first bigint; -- of those that are left to the order
    as_before boolean;
    period boolean; -- it paid one of a subscription
begin
    t := foloosi.lock_transaction(p_id);
    select * into was from foloosi.decisions d
    where d.order_ref = t.order_ref and d.merchant = t.merchant and d.action = 'assign' and d.subject_id = p_id order by d.id desc limit 1;
    if was.id is null then
        raise exception 'transaction % was not assigned by a person', p_id using errcode = 'object_not_in_prerequisite_state';
    end if;
    if exists (select from foloosi.decisions d where d.order_ref = t.order_ref and d.merchant = t.merchant and d.id > was.id)
       or exists (select from foloosi.deliveries d where d.order_ref = t.order_ref and d.merchant = t.merchant
                  and (d.id > was.id or d.last_seen_at > was.created_at)) then
        raise exception 'order "%" has moved on since transaction % was assigned', t.order_ref, p_id
            using errcode = 'object_not_in_prerequisite_state', hint = 'Decide the order with foloosi.resolve_order().';
    end if;
    select * into o from foloosi.orders x where x.order_ref = t.order_ref and x.merchant = t.merchant;

    -- its payback belonged to the order
    update foloosi.paybacks p
    set state = 'settled', reason = 'withdrawn', settled_at = now(), note = unassign_transaction.note, updated_at = now()
    where p.transaction_id = p_id and p.state <> 'settled';
    update foloosi.transactions x set order_ref = null, order_withheld = true, updated_at = now() where x.id = p_id;
    delete from foloosi.other_transactions x where x.order_ref = t.order_ref and x.merchant = t.merchant and x.transaction_id = p_id returning x.renewal into period;
    if o.transaction_id = p_id then
        -- what the shop was told before it holds again
        first := (select min(y.id) from foloosi.transactions_of(t.merchant, t.order_ref) y);
        as_before := coalesce(was.order_state_before in ('cancelled', 'refunded'), false) and not foloosi.money_is_left(t.merchant, t.order_ref);
        update foloosi.orders x
        set transaction_id = first,
            decided_by = session_user, decided_at = clock_timestamp(), updated_at = now(),
            state = case when as_before then was.order_state_before else 'review' end,
            reason = case when not as_before then 'unassigned' end
        where x.order_ref = t.order_ref and x.merchant = t.merchant and x.state <> 'cancelled';
        if found then
            -- as it was: a failure had cancelled it, and no person closed it
            update foloosi.orders x set decided_by = null, decided_at = null, late = false
            where x.order_ref = t.order_ref and x.merchant = t.merchant and x.state = 'cancelled';
            select * into o from foloosi.orders x where x.order_ref = t.order_ref and x.merchant = t.merchant;
            if o.state <> 'refunded' then
                perform foloosi.emit(t.merchant, case o.state when 'cancelled' then 'order.cancel' else 'order.review' end, t.order_ref, p_id, 'unassigned');
            end if;
        else -- its failure cancelled the order, and the shop was told: that stays
            update foloosi.orders x set transaction_id = first, updated_at = now() where x.order_ref = t.order_ref and x.merchant = t.merchant;
        end if;
    elsif period then
        perform foloosi.emit(t.merchant, 'order.review', t.order_ref, p_id, 'unassigned');
    end if;
    perform foloosi.align_orders(array[row(t.merchant, t.order_ref, null, null, unassign_transaction.note)::foloosi.alignment]);
    -- it waits for a person again
    update foloosi.deliveries d set attention = true
    where d.transaction_id = p_id and (d.rule in (4, 9, 19) or d.reason in ('no_order_key', 'order_differs')) and d.id >= p_id - 1024; -- the one that brought it has an id of the same batch
    return foloosi.write_decision('unassign', p_id, t.merchant, t.order_ref, was.order_state, unassign_transaction.note);
end $$;
comment on function foloosi.unassign_transaction(bigint, text) is
'Take back assign_transaction(), if nothing came to the order since. Parameters: transaction''s id, note. Returns the order''s row: an order that it paid goes to review, or back to cancelled or refunded. Errors: no such transaction; no person assigned it; a webhook or an act came since; as lock_transaction(). Calls: lock_transaction, money_is_left, align_orders, emit, write_decision. Tables: transactions, other_transactions, orders, paybacks, deliveries, decisions (written).';
