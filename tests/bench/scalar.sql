-- SPDX-License-Identifier: MIT
-- What one would write without sets: one event a call, in plain plpgsql. The other way to commit
-- one by one; the bench takes the better of the two.
--
-- For a new payment the same rows in the same tables (bench.py compares them), the same locks, the
-- same look-ups. Simplified honestly: of the order rules those that a webhook usually meets (1, 5,
-- 8 to 13, 15, 17), in outline; no refunds, no renewals, no policies, no hooks contained, no rejected bodies. So it does
-- less than record_deliveries().

create schema if not exists bench;
grant usage on schema bench to foloosi_handler, foloosi_owner;

create or replace function bench.record_one(
    p_merchant text, p_order_ref text, p_digest bytea, p_body bytea, p_status text, p_no text, p_reference text, p_amount numeric,
    p_currency text, p_message text, p_optional1 text, p_optional2 text, p_optional3 text, p_email text, p_mobile text, p_card text)
returns text
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    v_digest      bytea := substr(p_digest, 1, 16);
    v_delivery    bigint;
    v_transaction foloosi.transactions;
    v_order       foloosi.orders;
    v_merchant    foloosi.merchants;
    v_rule        smallint;
    v_before      text;
    v_state       text;
    v_event       text;
    v_outcome     text := 'recorded';
begin
    if not pg_try_advisory_xact_lock(foloosi.lock_key('order', p_merchant, p_order_ref))
       or not pg_try_advisory_xact_lock(foloosi.lock_key('number', p_merchant, p_no))
       or not pg_try_advisory_xact_lock(foloosi.lock_key('reference', p_merchant, p_reference)) then
        return 'busy';
    end if;
    select * into v_merchant from foloosi.merchants m where m.merchant = p_merchant;
    update foloosi.deliveries d set repeats = d.repeats + 1, last_seen_at = now()
    where d.digest = v_digest and d.merchant = p_merchant returning d.id into v_delivery;
    if found then
        return 'duplicate';
    end if;

    select * into v_transaction from foloosi.transactions t where t.transaction_no = p_no and t.merchant = p_merchant for no key update;
    if not found then
        select t.* into v_transaction from foloosi.reference_owner(p_merchant, p_reference) r
        join foloosi.transactions t on t.id = r.id for no key update of t;
    end if;
    select * into v_order from foloosi.orders o where o.order_ref = p_order_ref and o.merchant = p_merchant for no key update;
    v_before := v_order.state;
    v_state := v_order.state;
    if v_transaction.transaction_status = p_status and v_transaction.amount = p_amount and v_transaction.currency = p_currency then
        v_rule := 5; v_outcome := 'duplicate';
    elsif p_order_ref is null then
        v_rule := case p_status when 'failed' then 8 else 9 end;
    elsif p_status = 'failed' then
        v_rule := case when coalesce(v_state, 'pending') = 'pending' then 10 else 11 end;
    elsif v_state is null or v_state = 'cancelled' then
        v_rule := case when v_state is null then 12 else 15 end;
    elsif v_state = 'pending' and v_order.amount = p_amount and v_order.currency = p_currency then
        v_rule := 13;
    elsif v_state = 'paid' then
        v_rule := 17;
    else
        raise exception 'bench.record_one() does not know this case';
    end if;
    if v_rule in (10, 12, 13, 15) then
        v_state := case v_rule when 10 then 'cancelled' else 'paid' end;
        v_event := case v_rule when 10 then 'order.cancel' else 'order.success' end;
    end if;

    v_delivery := nextval('foloosi.id_seq');
    if v_rule <> 5 and v_transaction.id is null then
        insert into foloosi.transactions (merchant, transaction_no, payment_reference, order_ref, state, transaction_status,
            amount, currency, transaction_message, optional1, optional2, optional3, customer_email, customer_mobile, card_last_four, money_left)
        values (p_merchant, p_no, p_reference, p_order_ref, case p_status when 'success' then 'captured' else 'failed' end, p_status,
            p_amount, p_currency, p_message, p_optional1, p_optional2, p_optional3, p_email, p_mobile, p_card,
            case p_status when 'success' then p_amount end)
        returning id into v_transaction.id;
    elsif v_rule <> 5 then
        update foloosi.transactions t
        set state = case p_status when 'success' then 'captured' else 'failed' end, transaction_status = p_status, amount = p_amount,
            currency = p_currency, transaction_message = p_message, money_left = case p_status when 'success' then p_amount end, updated_at = now()
        where t.id = v_transaction.id;
    end if;
    if v_rule in (10, 12) and v_order.id is null then
        insert into foloosi.orders (merchant, order_ref, state, transaction_id, amount, currency, money_left)
        values (p_merchant, p_order_ref, v_state, v_transaction.id, p_amount, p_currency, case v_rule when 12 then p_amount end);
    elsif v_rule in (10, 13, 15) then
        update foloosi.orders o
        set state = v_state, transaction_id = v_transaction.id, updated_at = now(), late = v_rule = 15,
            money_left = case when v_rule in (13, 15) then p_amount else o.money_left end
        where o.order_ref = p_order_ref and o.merchant = p_merchant;
    end if;
    if v_rule in (11, 17) then
        insert into foloosi.other_transactions (order_ref, merchant, transaction_id)
        values (p_order_ref, p_merchant, v_transaction.id) on conflict do nothing;
    end if;
    if v_rule = 17 then
        update foloosi.orders o set money_left = coalesce(o.money_left, 0) + p_amount, updated_at = now()
        where o.order_ref = p_order_ref and o.merchant = p_merchant;
        v_event := 'payback.due';
        insert into foloosi.paybacks (merchant, order_ref, transaction_id, state, reason, amount, currency)
        values (p_merchant, p_order_ref, v_transaction.id, 'due', 'double_payment', p_amount, p_currency);
    end if;
    if v_event is not null then
        insert into foloosi.events (merchant, type, order_ref, transaction_id)
        values (p_merchant, v_event, p_order_ref, v_transaction.id);
    end if;
    insert into foloosi.deliveries (id, merchant, digest, outcome, rule, transaction_id, order_ref, order_moved, order_state_before, order_state)
    values (v_delivery, p_merchant, v_digest, v_outcome, v_rule, v_transaction.id, p_order_ref, v_rule in (10, 12, 13, 15), v_before, v_state);
    insert into foloosi.bodies (delivery_id, body) values (v_delivery, p_body);
    return v_outcome;
end $$;
alter function bench.record_one owner to foloosi_owner;
grant execute on function bench.record_one to foloosi_handler;
