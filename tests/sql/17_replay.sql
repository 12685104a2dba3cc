-- SPDX-License-Identifier: MIT
-- A delivery once more: for good, and only to see.
begin;
\ir tools.psql
select no_plan();

-- What foloosictl hands over of a transfer.
create function replay(wanted bigint, variadic fields text[]) returns text[] language sql as $$
    select array[concat_ws(' ', r.outcome, coalesce(r.order_named, '-'), coalesce(r.order_state, '-'), '(' || r.reason || ')')]
    from foloosi.replay_transfer(wanted, fields[1], fields[2], fields[3], fields[4], 100, 'AED') r
$$;
create function delivery_id() returns bigint language sql stable as $$
    select max(id) from foloosi.deliveries where merchant = t.merchant()
$$;
-- The relations of an explanation that have rows: old and new.
create function explained(variadic fields text[]) returns text[] language sql as $$
    select array_agg(concat_ws(' ', x.relation, case when x.relation <> 'answer' then case when x.before is null then 'new' when x.after is null then 'gone' else 'changed' end end,
               coalesce(x.after ->> 'outcome', x.after ->> 'state', x.after ->> 'type')) order by x.relation, x.key)
    from foloosi.explain_delivery(t.merchant(), fields[1], fields[2], fields[3], fields[4], amount => 100, currency => 'AED',
                                  body => convert_to(fields[5], 'UTF8'), fault => fields[6]) x
$$;

-- ---------------------------------------------------------------- replay

select example('a rejected delivery that is understood now');
select given_delivery('success', 'R-1', 'RN-1', 'RR-1', fault => '/data: is missing');
select is(replay(delivery_id(), 'success', 'R-1', 'RN-1', 'RR-1'), array['recorded R-1 paid'], 'it is recorded');
select is(facts(merchant()) ->> 'order R-1', 'paid 100 AED by RN-1', 'as if it had come now');
select is((select repeats || ' ' || outcome || ' ' || rule || ' ' || attention from foloosi.deliveries where id = delivery_id()), '0 recorded 12 false',
    'no repeat is counted, and nothing waits');
select throws_ok(format('select replay(%s, ''success'', ''R-1'', ''RN-1'', ''RR-1'')', delivery_id()), '55000', null, 'a second time is refused');
select is((select count(*) from foloosi.bodies where delivery_id = delivery_id()), 1::bigint, 'its bytes are kept once');

select example('an ignored one, under an order key that was wrong before');
select given_delivery('weird', 'I-1', 'IN-1', 'IR-1');
select is(replay(delivery_id(), 'weird', 'I-2', 'IN-1', 'IR-1'), array['ignored I-2 - (status)'], 'it is ignored again');

select example('a refused one, after the order key changed');
create function no() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
create trigger no before insert on foloosi.orders for each row execute function no();
select is(deliver('success', 'OLD', 'N-1'), array['review OLD - (hook_failed)'], 'a hook fails');
drop trigger no on foloosi.orders;
create function holds(ref text) returns boolean language sql as $$
    select exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() and granted
                   and (classid::bigint << 32 | objid::bigint) = foloosi.lock_key('order', t.merchant(), ref))
$$;
select ok(not holds('NEW'), 'the lock of an order that nobody named is free');
create temp table before as select facts(merchant()) as facts;
select is(replay(delivery_id(), 'success', 'NEW', 'N-1', null), array['recorded NEW paid'], 'replayed under the key of now');
select is(differences((select facts from before), facts(merchant())), array['event 1: order.success NEW N-1', 'order NEW: paid 100 AED by N-1', 'transaction 1: N-1/- captured for NEW 100 AED'],
    'order, transaction and event have it');
drop table before;
select ok(holds('NEW'), 'and the order''s lock was taken');
select is((select row(order_ref, outcome, order_moved, attention)::text from foloosi.deliveries where id = delivery_id()), '(NEW,recorded,t,f)', 'so has the delivery');
select is(deliver('success', 'OLD', 'N-1'), array['duplicate NEW paid'], 'row 1: its bytes again speak of the order that they paid');

select throws_ok('select replay(-1, ''success'', ''X'', ''X'', ''X'')', 'P0002', null, 'there is no such delivery');
select example('bytes that are gone');
select given_delivery('success', 'G-1', 'GN-1', 'GR-1', fault => 'x');
delete from foloosi.bodies where delivery_id = delivery_id();
select throws_ok(format('select replay(%s, ''success'', ''G-1'', ''GN-1'', ''GR-1'')', delivery_id()), 'P0002', null, 'cannot be replayed');

-- ---------------------------------------------------------------- explain

select example('a first payment, a second, a contradiction');
create temp table before as select facts(merchant()) as facts, ledger(merchant()) as ledger;
select is(explained('success', 'E-1', 'EN-1', 'ER-1', 'one', null),
    array['answer recorded', 'bodies new', 'deliveries new recorded', 'events new order.success', 'orders new paid', 'transactions new captured'], 'what a first payment would write');
select is((select array[facts(merchant()), ledger(merchant())]), (select array[facts, ledger] from before), 'is not written');
select given_delivery('success', 'E-1', 'EN-1', 'ER-1');
select is(explained('success', 'E-1', 'EN-2', 'ER-2', 'two', null),
    array['answer recorded', 'bodies new', 'deliveries new recorded', 'events new payback.due', 'orders changed paid', 'other_transactions new', 'paybacks new due', 'transactions new captured'], 'a second payment of the order; of the order changes what is left');
select is(explained('failed', 'E-1', 'EN-1', 'ER-1', 'three', null),
    array['answer review', 'bodies new', 'deliveries new review', 'events new payback.check', 'paybacks new check', 'transactions changed captured'], 'a failure of what succeeded; the transaction is contradicted');
select given_delivery('failed', 'E-2', 'EN-3', 'ER-3');
select is(explained('success', 'E-2', 'EN-3', 'ER-3', 'four', null),
    array['answer recorded', 'bodies new', 'deliveries new recorded', 'events new order.success', 'orders changed paid', 'transactions changed captured'], 'a late success changes rows');
select is((explained('x', 'E-9', null, null, 'five', '/data: is missing'))[1:3], array['answer rejected', 'bodies new', 'deliveries new rejected'], 'what the handler rejects');

select is((select x.after ->> 'customer_email' like '(personal)%' from foloosi.explain_delivery(merchant(), 'success', 'P-1', 'PN-1', amount => 1, currency => 'AED',
    customer_email => 'somebody@example.org', body => 'p') x where x.relation = 'transactions'), true, 'nothing personal is shown');

create schema shop;
create table shop.sales (order_ref text);
create function shop.on_order() returns trigger language plpgsql security definer as $$ begin insert into shop.sales values (new.order_ref), ('more'); return new; end $$;
create trigger sales after insert on foloosi.orders for each row execute function shop.on_order();
select is((select x.after from foloosi.explain_delivery(merchant(), 'success', 'S-1', 'SN-1', amount => 1, currency => 'AED', body => 's') x where x.relation = 'shop.sales'),
    '{"rows written": 2}', 'what a trigger would write');
select is_empty('select * from shop.sales', 'is not written either');

-- which roles may

set local session authorization foloosi_operator;
select lives_ok('select * from foloosi.explain_delivery(''nobody'', ''success'', ''S-1'', ''SN-1'', amount => 1, currency => ''AED'', body => ''s'')', 'an operator may explain');
reset session authorization;
set local session authorization foloosi_handler;
select throws_ok('select * from foloosi.explain_delivery(''nobody'', ''success'')', '42501', null, 'the handler may not');
select throws_ok('select * from foloosi.replay_transfer(1, ''success'')', '42501', null, 'nor replay');
reset session authorization;

select * from finish();
rollback;
