-- SPDX-License-Identifier: MIT
-- Where the money is: what was captured, what is known to have gone back, and what is left.
--
-- Everything here is computed anew from all facts, whatever their order. A refund is a row of foloosi.refunds;
-- two partial refunds may look alike, so they are never added up.

-- In plpgsql for the same reason as is_recurring().
create or replace function foloosi.money_text(p_amount numeric, p_currency text) returns text
language plpgsql immutable parallel safe
set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    return (
        select concat_ws(' ', case when scale(trim_scale(p_amount)) >= d.usual then trim_scale(p_amount) else round(p_amount, d.usual) end, p_currency)
        -- ISO 4217, as cgi-src/lib/money.c has it
        from (select case when p_currency in ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND', 'VUV', 'XAF', 'XOF', 'XPF') then 0
                          when p_currency in ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') then 3
                          when p_currency in ('CLF', 'UYW') then 4 else 2 end as usual) d);
end $$;
comment on function foloosi.money_text(numeric, text) is
'An amount as people read it: exact, with at least the usual decimals of its currency: 100.00 AED, 18.605 KWD, 1500 JPY. Parameters: amount, currency; either may be null.';

create or replace function foloosi.refunds_of(
    p_id bigint, p_amount numeric, p_currency text, p_merchant text, p_order_ref text, p_reference text)
returns table (whole boolean, doubt boolean, said numeric, refunded numeric)
language sql stable
as $$
    select own.refunded >= p_amount, coalesce(own.doubt, false) or stray.doubt, own.said, own.refunded
    from (
        select case when p_amount is null or count(*) filter (where r.believed) = 0 then null
                    when max(r.id) filter (where r.source = 'person') is not null then least(max(coalesce(r.amount, p_amount)) filter (where r.id = r.last), p_amount)
                    when bool_or(r.believed and (r.amount is null or r.amount = p_amount and r.currency = p_currency)) then p_amount
                    else coalesce(max(r.amount) filter (where r.believed and r.currency = p_currency and r.amount < p_amount), 0) end as refunded,
               max(coalesce(r.amount, p_amount)) filter (where r.id = r.last) as said,
               -- what was said before a person spoke is no doubt any more
               bool_or(r.id > coalesce(r.last, 0)
                       and (not r.believed or r.amount is not null and (r.amount = p_amount and r.currency = p_currency) is not true
                            -- nor is it certain that more went back than a person said
                            or r.last is not null and p_amount > (select coalesce(y.amount, p_amount) from foloosi.refunds y where y.id = r.last))) as doubt
        from (select x.*, max(x.id) filter (where x.source = 'person') over () as last
              from foloosi.refunds x where x.transaction_id = p_id and x.undone_at is null) r
    ) own
    cross join lateral (
        -- a refund that found no transaction, and names this order or this reference
        select exists (
            select from foloosi.refunds x join foloosi.transactions t on t.id = x.transaction_id
            where x.order_named = p_order_ref and x.merchant = p_merchant and x.transaction_id is distinct from p_id
              and x.undone_at is null and t.state <> 'captured')
            or exists (
            select from foloosi.refunds x join foloosi.transactions t on t.id = x.transaction_id
            where x.payment_reference = p_reference and x.merchant = p_merchant and x.transaction_id is distinct from p_id
              and x.undone_at is null and t.state <> 'captured') as doubt
    ) stray
$$;
comment on function foloosi.refunds_of(bigint, numeric, text, text, text, text) is
'What is known to have gone back of a transaction. Parameters: its id (null: none yet), the amount and currency that it captured (null: nothing), merchant, its order and payment reference (null: none). Returns one row: whole: all of it (null: unknown); doubt: a refund was said that is not plainly the whole, or one that found no transaction names its order or reference; said: what a person said went back; refunded: how much did (null: no refund is known, or nothing was captured). Tables: refunds, transactions (read).';

create or replace function foloosi.left_of(p_state text, p_amount numeric, p_refunded numeric) returns numeric
language sql immutable parallel safe
as $$ select case when p_state = 'captured' then case when p_refunded is null then p_amount else greatest(p_amount - p_refunded, 0) end end $$;
comment on function foloosi.left_of(text, numeric, numeric) is
'transactions.money_left. Parameters: its state, amount, and refunded. A generated column would be the same, but compiles its expression anew in each statement.';

create or replace function foloosi.count_refunds(p_ids bigint[]) returns bigint[]
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    grew bigint[];
begin
    with counted as materialized (
        select t.id, t.refunded as before, r.refunded, foloosi.left_of(t.state, t.amount, r.refunded) as money_left
        from foloosi.transactions t
        cross join lateral foloosi.refunds_of(t.id, case when t.state = 'captured' then t.amount::numeric end, t.currency, t.merchant, null, null) r
        where t.id = any (p_ids)
    ), written as (
        update foloosi.transactions t set refunded = c.refunded, money_left = c.money_left, updated_at = now()
        from counted c where t.id = c.id and (t.refunded is distinct from c.refunded or t.money_left is distinct from c.money_left)
    )
    select array_agg(c.id) into grew from counted c where c.refunded > coalesce(c.before, 0);
    return coalesce(grew, '{}');
end $$;
comment on function foloosi.count_refunds(bigint[]) is
'Compute refunded and money_left of transactions anew, after a refund, a capture or another amount. Parameters: ids of locked transactions. Returns those of which more is known to have gone back than before. Calls: refunds_of, left_of. Tables: transactions (written).';

create or replace function foloosi.money_of(p_merchant text, p_order_ref text) returns setof foloosi.money
language sql stable rows 2
as $$
    with t as materialized (
        select x.id, x.merchant, x.transaction_no, x.payment_reference, x.amount, x.currency, x.refunded, x.money_left, x.contradicted,
               coalesce((select n.renewal from foloosi.other_transactions n
                         where n.order_ref = p_order_ref and n.merchant = p_merchant and n.transaction_id = x.id), false) as renewal,
               -- one lacks the number, the other the reference: perhaps one payment
               x.transaction_no is null and count(*) filter (where x.payment_reference is null) over () > (x.payment_reference is null)::int
                   or x.payment_reference is null and count(*) filter (where x.transaction_no is null) over () > (x.transaction_no is null)::int as twin
        from foloosi.transactions_of(p_merchant, p_order_ref) x
        where x.state = 'captured'
    ), said as materialized (
        -- one look for all of them, since of most no refund is known
        select exists (select from foloosi.refunds x where x.order_named = p_order_ref and x.merchant = p_merchant) as named,
               array(select x.transaction_id from foloosi.refunds x where x.transaction_id = any (array(select t.id from t))) as ids,
               array(select x.payment_reference::text from foloosi.refunds x
                     where x.payment_reference = any (array(select t.payment_reference from t)) and x.merchant = p_merchant) as refs
    )
    select p_merchant, p_order_ref, t.id, t.amount::numeric, t.currency::text, t.refunded, t.money_left,
           t.money_left > 0 or t.amount = 0 and t.refunded is null,
           t.contradicted or coalesce(r.doubt, false) or t.twin, coalesce(r.doubt, false),
           t.renewal
    from t cross join said
    left join lateral (
        select f.doubt from foloosi.refunds_of(t.id, t.amount, t.currency, t.merchant, p_order_ref, t.payment_reference) f
        where said.named or t.id = any (said.ids) or t.payment_reference = any (said.refs) offset 0) r on true -- offset 0: refunds_of() is not called where no refund is known
$$;
comment on function foloosi.money_of(text, text) is
'The captured transactions of an order, each with what is left of it and whether it is doubtful. Parameters: merchant, order_ref. Calls: transactions_of, refunds_of. Tables: other_transactions, refunds (read).';

create or replace function foloosi.money_is_left(p_merchant text, p_order_ref text) returns boolean
language plpgsql stable security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    return (select coalesce(bool_or(m.may_pay), false) from foloosi.money_of(p_merchant, p_order_ref) m);
end $$;
comment on function foloosi.money_is_left(text, text) is 'Is there captured money of this order that did not go back? For orders_state_machine(). Calls: money_of.';

create or replace function foloosi.money_is_gone(p_id bigint) returns boolean
language sql stable security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$ select exists (select from foloosi.transactions t where t.id = p_id and t.state = 'captured' and t.refunded is not null and t.money_left = 0) $$;
comment on function foloosi.money_is_gone(bigint) is 'Is this transaction wholly refunded? For orders_state_machine(). Tables: transactions (read).';

create or replace function foloosi.may_pay(p_id bigint) returns boolean
language sql stable security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$ select exists (select from foloosi.transactions t where t.id = p_id and (t.money_left > 0 or t.money_left = 0 and t.amount = 0 and t.refunded is null)) $$;
comment on function foloosi.may_pay(bigint) is 'Has this transaction money left? Zero counts until it is refunded. For orders_state_machine(). Tables: transactions (read).';

create or replace function foloosi.payer_of(p_money foloosi.money[], p_amount numeric, p_currency text, p_now bigint) returns bigint
language sql immutable
as $$
    select m.transaction_id
    from unnest(p_money) m
    where m.may_pay
    order by (m.amount = p_amount and m.currency = p_currency) is true desc, coalesce(m.transaction_id = p_now, false) desc, m.transaction_id
    limit 1
$$;
comment on function foloosi.payer_of(foloosi.money[], numeric, text, bigint) is
'Which transaction pays an order: one that equals the expected sum, else the one that pays now, else the first. Parameters: the order''s money, the expected amount and currency (null: none is), the transaction that pays now (null: none). Returns its id; null: none can.';
