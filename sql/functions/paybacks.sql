-- SPDX-License-Identifier: MIT
-- What persons say about money that goes back: settle, withdraw, reopen, record_refund.
--
-- Each waits for the locks that a delivery of the transaction takes, writes its fact, and brings the order in line.

create or replace function foloosi.lock_payback(p_id bigint) returns foloosi.paybacks
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
declare
    p foloosi.paybacks;
begin
    select * into p from foloosi.paybacks x where x.id = p_id;
    if p.id is null then
        raise exception 'there is no payback %', p_id using errcode = 'no_data_found',
            hint = 'Open ones: select * from foloosi.attention where kind = ''payback''.';
    end if;
    perform foloosi.lock_transaction(p.transaction_id, p.order_ref);
    select * into p from foloosi.paybacks x where x.id = p_id for no key update;
    return p;
end $$;
comment on function foloosi.lock_payback(bigint) is
'Wait for the locks of a payback, its transaction and its order. Parameters: payback''s id. Returns its row as it is then. Errors: no such payback; as lock_transaction(). Calls: lock_transaction. Tables: paybacks (locked).';

create or replace function foloosi.settled_already(p foloosi.paybacks) returns void
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    raise exception 'payback % was % by % at %', p.id, case p.reason when 'withdrawn' then 'withdrawn' else 'settled' end,
        coalesce(p.settled_by, case p.reason when 'withdrawn' then 'what pays its order' else 'a refund' end), to_char(p.settled_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        using errcode = 'object_not_in_prerequisite_state', hint = 'foloosi.reopen_payback(id, note) takes back what a person did.';
end $$;
comment on function foloosi.settled_already(foloosi.paybacks) is 'Raise object_not_in_prerequisite_state: who closed it, and when.';

create or replace function foloosi.align_transaction(t foloosi.transactions, p_note text) returns text
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
set plan_cache_mode = force_generic_plan -- as record_deliveries(), and for the same reason
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set random_page_cost = 0 set seq_page_cost = 0
as $$
declare
    grew bigint[] := foloosi.count_refunds(array[t.id]);
    was  text;
begin
    select o.state into was from foloosi.orders o where o.order_ref = t.order_ref and o.merchant = t.merchant;
    -- wholly refunded, it created no order; if it is here after all, a person looks for whom
    if was is null and exists (select from foloosi.transactions x where x.id = t.id and x.order_ref is not null and x.money_left > 0) then
        insert into foloosi.orders (merchant, order_ref, state, transaction_id, amount, currency, reason)
        values (t.merchant, t.order_ref, 'review', t.id, t.amount, t.currency, 'refund_undone');
        perform foloosi.must_have_changed(found);
        update foloosi.other_transactions x set awaits_order = false
        where x.awaits_order and x.order_ref = t.order_ref and x.merchant = t.merchant;
        perform foloosi.emit(t.merchant, 'order.review', t.order_ref, t.id, 'refund_undone');
    end if;
    if t.order_ref is not null then
        perform foloosi.align_orders(array[row(t.merchant, t.order_ref, t.id, null, p_note)::foloosi.alignment], grew);
    end if;
    return was;
end $$;
comment on function foloosi.align_transaction(foloosi.transactions, text) is
'After a fact about a transaction whose locks are held: count its refunds, bring its order in line. Parameters: its row, the person''s note. Returns the order''s state before (null: none). Calls: count_refunds, must_have_changed, emit, align_orders. Tables: orders, other_transactions (written).';

create or replace function foloosi.write_refund(t foloosi.transactions, p_amount numeric, p_note text) returns void
language sql
set search_path = pg_catalog, foloosi, pg_temp
as $$
    insert into foloosi.refunds (merchant, transaction_id, amount, currency, source, said_by, note)
    values (t.merchant, t.id, p_amount, case when p_amount is not null then t.currency end, 'person', session_user, p_note);
    -- deliveries that asked how much went back wait no longer
    update foloosi.deliveries d set attention = false
    where d.transaction_id = t.id and d.reason in ('refund_differs', 'refund_unknown', 'refund_unreadable') and d.attention
$$;
comment on function foloosi.write_refund(foloosi.transactions, numeric, text) is
'A person says how much of a transaction went back. Parameters: its row, locked; amount in its currency (null: all); note. Tables: refunds, deliveries (written).';

create or replace function foloosi.settle_payback(id bigint, note text default null) returns foloosi.paybacks
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    p_id bigint := settle_payback.id;
    p_note text := settle_payback.note;
    p   foloosi.paybacks := foloosi.lock_payback(p_id);
    t   foloosi.transactions;
    was text;
begin
    if p.state = 'settled' then
        perform foloosi.settled_already(p);
    end if;
    select * into t from foloosi.transactions x where x.id = p.transaction_id;
    update foloosi.paybacks x
    set state = 'settled', settled_at = now(), settled_by = session_user, note = p_note, updated_at = now()
    where x.id = p_id returning * into p;
    perform foloosi.write_refund(t, null, p_note);
    was := foloosi.align_transaction(t, p_note);
    perform foloosi.write_decision('settle', p_id, p.merchant, p.order_ref, was, p_note);
    return p;
end $$;
comment on function foloosi.settle_payback(bigint, text) is
'All of the money of a payback''s transaction went back. Parameters: payback''s id, note. Returns its row. Errors: no such payback; it was closed before, with who and when. Calls: lock_payback, write_refund, align_transaction, write_decision. Tables: paybacks (written).';

create or replace function foloosi.withdraw_payback(id bigint, note text default null) returns foloosi.paybacks
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    p_id bigint := withdraw_payback.id;
    p   foloosi.paybacks := foloosi.lock_payback(p_id);
    was text;
begin
    if p.state = 'settled' then
        perform foloosi.settled_already(p);
    end if;
    update foloosi.paybacks x
    set state = 'settled', reason = 'withdrawn', settled_at = clock_timestamp(), settled_by = session_user, note = withdraw_payback.note, updated_at = now()
    where x.id = p_id returning * into p;
    select o.state into was from foloosi.orders o where o.order_ref = p.order_ref and o.merchant = p.merchant;
    perform foloosi.write_decision('withdraw', p_id, p.merchant, p.order_ref, was, withdraw_payback.note);
    return p;
end $$;
comment on function foloosi.withdraw_payback(bigint, text) is
'Nothing has to go back. Parameters: payback''s id, note. Returns its row; none is opened again for its transaction, but by reopen_payback(), or when a person closes its order afterwards. Errors: no such payback; it was closed before, with who and when. Calls: lock_payback, write_decision. Tables: paybacks (written).';

create or replace function foloosi.reopen_payback(id bigint, note text default null) returns foloosi.paybacks
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    p_id bigint := reopen_payback.id;
    p_note text := reopen_payback.note;
    p   foloosi.paybacks := foloosi.lock_payback(p_id);
    t   foloosi.transactions;
    was text;
begin
    if p.state <> 'settled' then
        raise exception 'payback % is open%', p_id, foloosi.last_act('reopen', p_id, p.merchant, p.order_ref) using errcode = 'object_not_in_prerequisite_state';
    end if;
    if p.settled_by is null then
        raise exception 'payback % was closed by what the provider said, not by a person', p_id using errcode = 'object_not_in_prerequisite_state';
    end if;
    if exists (select from foloosi.paybacks x where x.transaction_id = p.transaction_id and x.state <> 'settled') then
        raise exception 'another payback of transaction % is open', p.transaction_id using errcode = 'object_not_in_prerequisite_state';
    end if;
    select * into t from foloosi.transactions x where x.id = p.transaction_id;
    if p.reason <> 'withdrawn' then
        update foloosi.refunds r set undone_at = now()
        where r.id = (select max(x.id) from foloosi.refunds x where x.transaction_id = t.id and x.source = 'person' and x.undone_at is null);
        perform foloosi.count_refunds(array[t.id]);
    end if;
    if not exists (select from foloosi.transactions x where x.id = t.id and x.money_left > 0) then
        raise exception 'nothing is left of transaction %', t.id using errcode = 'object_not_in_prerequisite_state';
    end if;
    update foloosi.paybacks x
    set state = 'check', settled_at = null, settled_by = null, updated_at = now(), note = p_note,
        reason = case x.reason when 'withdrawn' then 'double_payment' else x.reason end,
        amount = (select y.money_left from foloosi.transactions y where y.id = t.id)
    where x.id = p_id returning * into p;
    perform foloosi.emit(p.merchant, 'payback.check', p.order_ref, p.transaction_id, p.reason, p.id);
    was := foloosi.align_transaction(t, p_note);
    perform foloosi.write_decision('reopen', p_id, p.merchant, p.order_ref, was, p_note);
    select * into p from foloosi.paybacks x where x.id = p_id;
    return p;
end $$;
comment on function foloosi.reopen_payback(bigint, text) is
'Undo a person''s settle_payback() or withdraw_payback(): it is open again, as check, and what was said to have gone back is here again. Parameters: payback''s id, note. Returns its row. Errors: no such payback; it is open, or another of its transaction; no person closed it; nothing is left of its transaction. Calls: lock_payback, last_act, count_refunds, align_transaction, emit, write_decision. Tables: paybacks, refunds (written).';

create or replace function foloosi.record_refund(transaction_id bigint, amount numeric, note text) returns foloosi.transactions
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    p_id bigint := record_refund.transaction_id;
    p_note text := record_refund.note;
    t   foloosi.transactions := foloosi.lock_transaction(p_id);
    was text;
begin
    if record_refund.amount is null or coalesce(p_note, '') = '' then
        raise exception 'record_refund: amount and note are required' using errcode = 'null_value_not_allowed';
    end if;
    perform foloosi.must_be_money(record_refund.amount);
    if t.state <> 'captured' then
        raise exception 'transaction % has captured nothing: it is %', p_id, t.state using errcode = 'object_not_in_prerequisite_state';
    end if;
    if record_refund.amount > t.amount then
        raise exception 'transaction % captured %, so % cannot have gone back', p_id, foloosi.money_text(t.amount, t.currency), record_refund.amount
            using errcode = 'invalid_parameter_value';
    end if;
    perform foloosi.write_refund(t, record_refund.amount, p_note);
    was := foloosi.align_transaction(t, p_note);
    if t.order_ref is not null then
        perform foloosi.write_decision('refund', p_id, t.merchant, t.order_ref, was, p_note);
    else
        insert into foloosi.decisions (merchant, action, subject_id, decided_by, note) values (t.merchant, 'refund', p_id, session_user, p_note);
    end if;
    select * into t from foloosi.transactions x where x.id = p_id;
    return t;
end $$;
comment on function foloosi.record_refund(bigint, numeric, text) is
'So much of a transaction''s money went back, whatever the provider said: 0 if a chargeback was won. Parameters: transaction''s id, amount in its currency, note. Returns its row. Errors: no such transaction; it has captured nothing, or less; no amount or note; what is no money; as lock_transaction(). Calls: lock_transaction, must_be_money, write_refund, align_transaction, write_decision. Tables: decisions (written).';
