-- SPDX-License-Identifier: MIT
-- A merchant's own triggers, and data that the database refuses: nothing is lost, neighbours are not hurt.
begin;
\ir tools.psql
select no_plan();

-- ---------------------------------------------------------------- a shop beside us

create schema shop;
create table shop.sales (order_ref text primary key, state text not null, paid numeric, slip text unique, amount_seen numeric check (amount_seen < 1000));
create table shop.mistakes (order_ref text primary key, how text not null);
grant usage on schema shop to foloosi_owner;
grant all on all tables in schema shop to foloosi_owner;
create function shop.not_ours() returns int language sql as 'select 1';
revoke execute on function shop.not_ours() from public;

-- The shop's books follow the order in the same transaction; shop.mistakes says which orders they cannot bear, and how.
create function shop.on_order() returns trigger language plpgsql as $$
declare
    mistake text := (select how from shop.mistakes m where m.order_ref = new.order_ref);
begin
    case mistake
        when 'raise' then raise exception 'the shop is closed';
        when 'raise with a code' then raise exception 'no stock' using errcode = 'SHOP1';
        when 'unique' then insert into shop.sales (order_ref, state) values ('TAKEN', 'x');
        when 'check' then insert into shop.sales (order_ref, state, amount_seen) values (new.order_ref, new.state, 5000);
        when 'null' then insert into shop.sales (order_ref, state) values (new.order_ref, null);
        when 'division' then perform 1 / 0;
        when 'assert' then assert false, 'this cannot be';
        when 'no table' then execute 'insert into shop.no_such_table values (1)';
        when 'no permission' then perform shop.not_ours();
        when 'text' then perform ('x' || new.order_ref)::int;
        when 'deferred' then null;
        when 'retry' then raise exception 'try again' using errcode = 'serialization_failure';
        when 'connection' then raise exception 'no CRM' using errcode = '08001';
        when 'shutdown' then raise exception 'no CRM' using errcode = '57P01';
        when 'disk' then raise exception 'no CRM' using errcode = '53100';
        when 'system' then raise exception 'no CRM' using errcode = 'XX000';
        when 'transaction state' then raise exception 'no CRM' using errcode = '25001';
        when 'in use' then raise exception 'no CRM' using errcode = '55006';
        when 'long' then raise exception '%', repeat('no ', 2000);
        else
            insert into shop.sales (order_ref, state, paid) values (new.order_ref, new.state, new.amount)
            on conflict (order_ref) do update set state = excluded.state, paid = excluded.paid;
    end case;
    return null;
end $$;
create trigger shop_on_order after insert or update of state on foloosi.orders for each row execute function shop.on_order();

create function shop.on_commit() returns trigger language plpgsql as $$
begin
    if exists (select from shop.mistakes m where m.order_ref = new.order_ref and m.how = 'deferred') then
        raise exception 'the books do not balance';
    end if;
    return null;
end $$;
create constraint trigger shop_on_commit after insert or update on foloosi.orders deferrable initially deferred
    for each row execute function shop.on_commit();
insert into shop.sales (order_ref, state) values ('TAKEN', 'paid');

create function sale(ref text) returns text language sql stable as $$ select concat_ws(' ', state, trim_scale(paid)) from shop.sales where order_ref = ref $$;

-- ---------------------------------------------------------------- a hook that works

select example('a hook that works');
select given_delivery('success', 'H-1', 'N-1');
select is(sale('H-1'), 'paid 100', 'the shop''s table follows in the same transaction');
select given_delivery('failed', 'H-2', 'N-2');
select is(sale('H-2'), 'cancelled 100', 'a created order');
select given_delivery('success', 'H-2', 'N-2');
select is(sale('H-2'), 'paid 100', 'a changed order');
select given('select foloosi.register_order(%m, ''H-3'', 70, ''AED'')');
select is(sale('H-3'), 'pending 70', 'a registered order');
select given('select foloosi.resolve_order(%m, ''H-3'', ''cancelled'')');
select is(sale('H-3'), 'cancelled 70', 'a decided order');
select is(waiting(), '{}', 'nothing waits');

-- ---------------------------------------------------------------- hooks that fail, one at a time

select example('hooks that fail');
create function fails(how text, state text) returns setof text language plpgsql as $$
declare
    ref text := 'BAD ' || how;
    no  text := 'N ' || how;
    was jsonb;
begin
    perform foloosi.register_order(t.merchant(), ref, 100, 'AED');
    insert into shop.mistakes values (ref, how);
    was := t.facts(t.merchant());
    return next is(t.deliver('success', ref, no), array[format('review %s pending (hook_failed)', ref)],
        how || ': outcome review, reason hook_failed, the order unmoved, no transaction, no event');
    return next is((select row(outcome, rule, reason, left(detail, 5), order_ref, order_state, order_state_before, order_moved, attention, transaction_id)::text
        from foloosi.deliveries where merchant = t.merchant() and order_ref = ref),
        (select row('review', null, 'hook_failed', state, ref, 'pending', null, false, true, null)::text), how || ': the delivery waits for a person, with the error');
    return next is((select b.body from foloosi.bodies b join foloosi.deliveries d on d.id = b.delivery_id where d.merchant = t.merchant() and d.order_ref = ref),
        (t.d('success', ref, no)).body, how || ': its bytes are kept');
    return next is(t.deliver('success', ref, no), array[format('duplicate %s pending', ref)], how || ': the bytes again are a duplicate');
    return next is(t.facts(t.merchant()), was, how || ': nothing has moved');
    return next is(t.sale(ref), 'pending 100', how || ': the shop''s table neither');
end $$;
select fails('raise', 'P0001');
select fails('raise with a code', 'SHOP1');
select fails('unique', '23505');
select fails('check', '23514');
select fails('null', '23502');
select fails('division', '22012');
select fails('assert', 'P0004');
select fails('no table', '42P01');
select fails('no permission', '42501');
select fails('text', '22P02');
select fails('deferred', 'P0001');
select fails('long', 'P0001');
-- what would mean that the server is unwell, if a trigger had not said it
select fails('connection', '08001');
select fails('shutdown', '57P01');
select fails('disk', '53100');
select fails('system', 'XX000');
select fails('transaction state', '25001');
select fails('in use', '55006');
select is((select length(detail) from foloosi.deliveries where merchant = merchant() and order_ref = 'BAD long'), 1000, 'long: the error is cut to its beginning');
select is((select detail from foloosi.deliveries where merchant = merchant() and order_ref = 'BAD raise'), 'P0001 the shop is closed', 'raise: what it said');

delete from shop.mistakes where order_ref = 'BAD raise';
select is((deliver('success', 'BAD raise', 'N raise', copy => 2))[1], 'recorded BAD raise paid', 'repaired: other bytes of the same are recorded');
select is(sale('BAD raise'), 'paid 100', 'repaired: and the shop knows');

-- ---------------------------------------------------------------- replayed

select example('replayed');
create function refused_delivery() returns bigint language sql as $$ select id from foloosi.deliveries where merchant = merchant() order by id limit 1 $$;
insert into shop.mistakes values ('AGAIN', 'unique');
select is((select format('%s %s', outcome, reason) from foloosi.record_delivery(merchant(), 'success', 'AGAIN', 'N-1', amount => 100, currency => 'AED')), 'review hook_failed', 'refused');
select is((select format('%s %s', outcome, reason) from foloosi.replay_delivery(refused_delivery())), 'review hook_failed', 'replayed before the cause is mended: refused again');
delete from shop.mistakes where order_ref = 'AGAIN';
select is((select format('%s %s %s', outcome, order_ref, order_state) from foloosi.replay_delivery(refused_delivery())), 'recorded AGAIN paid', 'replayed: recorded from its stored bytes');
select is(sale('AGAIN'), 'paid 100', 'replayed: the shop knows');
select is((select (outcome, attention, repeats, transaction_id is null)::text from foloosi.deliveries where id = refused_delivery()), '(recorded,f,0,f)', 'replayed: nobody waits for it any more');
select throws_ok('select foloosi.replay_delivery(refused_delivery())', '55000', null, 'what was recorded is not replayed');
select throws_ok('select foloosi.replay_delivery(-1)', 'P0002', null, 'nor what does not exist');

-- ---------------------------------------------------------------- of orders that are not there yet

select example('a new order');
insert into shop.mistakes values ('NEW', 'raise'), ('NEW 2', 'deferred'), ('OWN', 'raise');
select is(deliver('success', 'NEW', 'N-1'), array['review NEW - (hook_failed)'], 'an order that a hook refuses is not created');
select is(deliver('failed', 'NEW 2', 'N-2'), array['review NEW 2 - (hook_failed)'], 'nor by a failure');
select is(waiting(), array['delivery NEW hook_failed', 'delivery NEW 2 hook_failed'], 'both wait');
delete from shop.mistakes where order_ref = 'OWN';
select given_delivery('failed', 'OWN', 'N-3');
insert into shop.mistakes values ('OWN', 'raise');
select is(deliver('success', null, 'N-3'), array['review OWN cancelled (hook_failed)'], 'named by its transaction only: the answer has the order');
select is(deliver('refund', 'OWN', 'N-3'), array['review OWN cancelled (refund_unknown)'], 'what moves no order meets no hook');

-- ---------------------------------------------------------------- neighbours

select example('neighbours');
insert into shop.mistakes values ('X-1', 'raise'), ('X-2', 'deferred'), ('X-3', 'unique'), ('X-4', 'assert');
select is(record(merchant(), d('success', 'G-1', 'G-1'), d('success', 'X-1', 'X-1'), d('failed', 'G-2', 'G-2'), d('success', 'X-2', 'X-2'), d('success', 'G-1', 'G-3'),
    d('success', 'X-3', 'X-3'), d('success', null, 'G-4'), d('success', 'X-4', 'X-4'), d('bad', fault => 'not JSON'), d('success', 'G-2', 'G-2')), array[
    'recorded G-1 paid', 'review X-1 - (hook_failed)', 'recorded G-2 cancelled', 'review X-2 - (hook_failed)', 'recorded G-1 paid (double_payment)',
    'review X-3 - (hook_failed)', 'review - - (no_order_key)', 'review X-4 - (hook_failed)', 'rejected - -', 'recorded G-2 paid (late)'],
    'the neighbours of those that fail are recorded, in their order');
select is(facts(merchant()), '{
    "order G-1": "paid 100 AED by G-1", "order G-2": "paid 100 AED by G-2 (late) late",
    "event 1": "order.success G-1 G-1", "event 2": "order.cancel G-2 G-2", "event 3": "payback.due G-1 G-3 (double_payment) payback 1",
    "event 4": "order.review - G-4 (no_order_key)", "event 5": "order.success G-2 G-2 (late)",
    "payback 1": "G-3 due double_payment 100 AED for G-1",
    "transaction 1": "G-1/- captured for G-1 100 AED", "transaction 2": "G-2/- captured for G-2 100 AED", "transaction 3": "G-3/- captured for G-1 100 AED",
    "transaction 4": "G-4/- captured for - 100 AED"}', 'and nothing is left of those that fail');
select is(array(select order_ref || ' ' || sale(order_ref) from foloosi.orders where merchant = merchant() order by 1), array['G-1 paid 100', 'G-2 paid 100'], 'the shop knows the neighbours');

select example('relatives of one that fails');
insert into shop.mistakes values ('Y-1', 'raise');
select is(record(merchant(), d('success', 'Y-1', 'Y-1'), d('success', 'Y-1', 'Y-1', copy => 2), d('success', 'Y-1', 'Y-1'), d('refund', null, 'Y-1')), array[
    'review Y-1 - (hook_failed)', 'review Y-1 - (hook_failed)', 'duplicate Y-1 -', 'review - - (refund_unknown)'], 'each is tried for itself');
select is(record(merchant(), variadic (select array_agg(case when i = 100 then d('success', 'Y-1', 'Y-9') else d('success', 'Z-' || i, 'Z-' || i) end order by i)
    from generate_series(1, 256) i)), (select array_agg(case when i = 100 then 'review Y-1 - (hook_failed)' else format('recorded Z-%s paid', i) end order by i) from generate_series(1, 256) i),
    '255 neighbours');

-- ---------------------------------------------------------------- time-outs

-- A trigger that takes longer than the statement may, each time; and one that says so itself.
create function shop.slow() returns trigger language plpgsql as $$
begin
    if new.order_ref like 'SLOW%' and new.state = 'paid' then perform pg_sleep(10); end if;
    if new.order_ref like 'SAYS%' and new.state = 'paid' then raise exception 'canceling statement due to user request' using errcode = '57014'; end if;
    return new;
end $$;
create trigger shop_slow before insert or update on foloosi.orders for each row execute function shop.slow();
select example('a hook that is slower than the statement timeout');
select given('select foloosi.register_order(%m, ''SLOW-1'', 100, ''AED'')');
set local statement_timeout = '300ms';
select is(deliver('success', 'SLOW-1', 'N-1'), array['review SLOW-1 pending (hook_failed)'], 'of a registered order: kept for a person');
select is(deliver('success', 'SLOW-2', 'N-2'), array['review SLOW-2 - (hook_failed)'], 'of a new order');
set local statement_timeout = '120s';
select is(array_agg(left(detail, 5)), array['57014', '57014'], 'with its SQLSTATE') from foloosi.deliveries where merchant = merchant();
select is(waiting(), array['delivery SLOW-1 hook_failed', 'delivery SLOW-2 hook_failed'], 'both wait');
create function canceled(variadic ds delivery[]) returns boolean language plpgsql as $$
begin
    perform t.record(t.merchant(), variadic ds);
    return false;
exception when query_canceled then
    return true;
end $$;
select ok(canceled(d('success', 'G-1', 'G-1'), d('success', 'SAYS-1', 'N-3')),
    'in a batch the caller is told, who tries each by itself: the time of the others must not go with it');
select is(deliver('success', 'SAYS-1', 'N-3'), array['review SAYS-1 - (hook_failed)'], 'one that raises query_canceled');
drop trigger shop_slow on foloosi.orders;
select is(array_agg((select r.outcome || ' ' || r.order_state from foloosi.replay_transfer(d.id, 'success', d.order_ref, 'N-' || d.id, null, 100, 'AED') r)), array_fill('recorded paid'::text, array[3]),
    'repaired: replayed') from foloosi.deliveries d where d.merchant = merchant();

-- ---------------------------------------------------------------- conflicts and locks of a hook

select example('try again');
insert into shop.mistakes values ('R-1', 'retry');
select is(record(merchant(), d('success', 'G-9', 'N-9'), d('success', 'R-1', 'N-1')), array['recorded G-9 paid', 'review R-1 - (hook_failed)'],
    'a conflict in a hook is the hook''s: tried alone, then kept for a person');

create function shop.suppress() returns trigger language plpgsql as $$ begin return case when new.order_ref like 'GONE%' then null else new end; end $$;
create trigger shop_suppress before insert on foloosi.orders for each row execute function shop.suppress();
select is(record(merchant(), d('success', 'G-10', 'N-10'), d('success', 'GONE-1', 'N-11')), array['recorded G-10 paid', 'review GONE-1 - (hook_failed)'],
    'a hook that suppresses an order has failed');
select is((select count(*)::int from foloosi.events where merchant = merchant() and order_ref = 'GONE-1'), 0, 'and no event says that it was paid');
drop trigger shop_suppress on foloosi.orders;
select given('select foloosi.register_order(%m, ''GONE-2'', 100, ''AED'')');
select given_delivery('success', 'GONE-3', 'N-13');
create trigger shop_suppress before update on foloosi.orders for each row execute function shop.suppress();
select is(deliver('success', 'GONE-2', 'N-12'), array['review GONE-2 pending (hook_failed)'], 'one that suppresses a change, too: BEFORE UPDATE returns null');
select is((select left(detail, 5) from foloosi.deliveries where merchant = merchant() and order_ref = 'GONE-2'), '09000', 'as what it is, and not as a conflict');
select is((deliver('refund', null, 'N-13'))[1], 'review GONE-3 paid (hook_failed)', 'so is a refund that would have moved its order');
select throws_ok(format('select foloosi.resolve_order(%L, ''GONE-2'', ''cancelled'')', merchant()), '09000', null, 'a person meets the error, and nobody is told of a cancellation that was none');
select throws_ok(format('select foloosi.register_order(%L, ''GONE-2'', 90, ''AED'')', merchant()), '09000', null, 'register_order, too');
drop trigger shop_suppress on foloosi.orders;
select is((select outcome || ' ' || order_state from foloosi.replay_transfer((select id from foloosi.deliveries where merchant = merchant() and order_ref = 'GONE-2'),
    'success', 'GONE-2', 'N-12', null, 100, 'AED')), 'recorded paid', 'repaired: replayed');
create function shop.nothing() returns trigger language plpgsql as $$ begin return null; end $$;
create trigger shop_nothing before insert on foloosi.transactions for each row execute function shop.nothing();
select is(deliver('success', 'G-11', 'N-14'), array['review G-11 - (hook_failed)'], 'a hook that suppresses a transaction: no order is paid by nothing');
drop trigger shop_nothing on foloosi.transactions;
create trigger shop_nothing before insert on foloosi.events for each row execute function shop.nothing();
select is(deliver('success', 'G-12', 'N-15'), array['review G-12 - (hook_failed)'], 'one that suppresses an event: no order is paid in silence');
drop trigger shop_nothing on foloosi.events;
select throws_ok('select foloosi.record_delivery(merchant(), ''success'', ''X-1'', ''N-1'', amount => 1, currency => ''AED''), set_config(''t.x'', (1/0)::text, true)', '22012', null,
    'what fails outside of it is the caller''s');

-- ---------------------------------------------------------------- persons meet the error itself

select example('persons');
insert into shop.mistakes values ('P-1', 'raise');
select throws_ok(format('select foloosi.register_order(%L, ''P-1'', 100, ''AED'')', merchant()), 'P0001', 'the shop is closed', 'register_order: the hook''s own error');
select given_delivery('success', null, 'N-1');
select throws_ok('select foloosi.assign_transaction(transaction_id(''N-1''), ''P-1'', true)', 'P0001', 'the shop is closed', 'assign_transaction: the hook''s own error');
select is((facts(merchant())) - 'event 1', '{"transaction 1": "N-1/- captured for - 100 AED"}', 'nothing has moved');

-- ---------------------------------------------------------------- data that the database refuses

create function refused(title text, bad delivery, answer text default null) returns setof text language plpgsql as $$
declare
    was jsonb;
begin
    perform t.example(title);
    perform foloosi.register_order(t.merchant(), 'O-1', 100, 'AED');
    was := t.facts(t.merchant());
    return next is(t.record(t.merchant(), bad), array[coalesce(answer, 'review O-1 pending (refused)')], title || ': outcome review, reason refused');
    return next is(t.facts(t.merchant()), was, title || ': nothing has moved');
    return next is((select row(d.outcome, d.reason, d.attention, b.body)::text from foloosi.deliveries d join foloosi.bodies b on b.delivery_id = d.id where d.merchant = t.merchant()),
        row('review', 'refused', true, bad.body)::text, title || ': kept with its bytes, for a person');
    return next is(t.record(t.merchant(), bad), array[replace(replace(coalesce(answer, 'review O-1 pending (refused)'), 'review', 'duplicate'), ' (refused)', '')], title || ': again, a duplicate');
    perform t.example(title);
    return next is(t.record(t.merchant(), t.d('success', 'A', 'A'), bad, t.d('success', 'B', 'B')), array['recorded A paid',
        replace(coalesce(answer, 'review O-1 - (refused)'), 'pending', '-'), 'recorded B paid'], title || ': its neighbours are recorded');
end $$;
select refused('amount NaN', d('success', 'O-1', 'N-1', null, 'NaN'));
select refused('amount NaN of a failure', d('failed', 'O-1', 'N-1', null, 'NaN'));
select refused('amount below zero', d('success', 'O-1', 'N-1', null, -1));
select refused('amount with 13 digits', d('success', 'O-1', 'N-1', null, 1000000000000));
select refused('amount with five decimals', d('success', 'O-1', 'N-1', null, 0.00001));
select refused('amount infinite', d('success', 'O-1', 'N-1', null, 'Infinity'));
select refused('currency in lower case', d('success', 'O-1', 'N-1', null, 100, 'aed'));
select refused('currency of four letters', d('success', 'O-1', 'N-1', null, 100, 'EURO'));
select refused('order_ref of 300 characters', d('success', repeat('x', 300), 'N-1'), 'review ' || repeat('x', 255) || ' - (refused)');
select refused('transaction_no of 300 characters', d('success', 'O-1', repeat('x', 300)));
select refused('payment_reference of 300 characters', d('success', 'O-1', 'N-1', repeat('x', 300)));

select example('a hook is not blamed for our data');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select is(deliver('failed', 'O-1', repeat('x', 300)), array['review O-1 pending (refused)'], 'a number that is too long, of an order whose hook works');
select is(array(select r.outcome || ' ' || r.reason from foloosi.record_delivery(merchant(), 'success', 'O-2', 'N-2', amount => -5, currency => 'AED') r),
    array['review refused'], 'nor is record_delivery(), which is SQL');
insert into shop.mistakes values ('O-3', 'raise'), ('O-4', 'division');
select is(array(select r.outcome || ' ' || r.reason from foloosi.record_delivery(merchant(), 'success', o, o, amount => 5, currency => 'AED') r),
    array['review hook_failed'], o || ': but a hook is, also there') from unnest(array['O-3', 'O-4']) o;

select example('a refund that was refused names its order still');
select given_delivery('success', 'Z-1', 'N-1', 'R-1');
create function shop.no_n9() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
create trigger shop_no_n9 before insert on foloosi.transactions for each row when (new.transaction_no = 'N-9') execute function shop.no_n9();
select is(deliver('refund', 'Z-1', 'N-9'), array['review Z-1 paid (hook_failed)'], 'it is kept, with the order that it names');
drop trigger shop_no_n9 on foloosi.transactions;
select given_delivery('success', 'Z-1', 'N-2', 'R-2');
select is((facts(merchant()))->>'payback 1', 'N-2 due double_payment 100 AED for Z-1', 'nothing is known of it');
select is((select outcome || ' ' || reason from foloosi.replay_transfer((select max(id) from foloosi.deliveries where merchant = merchant() and reason = 'hook_failed'), 'refund', 'Z-1', 'N-9', amount => 100, currency => 'AED')), 'review refund_unknown', 'fed again');
select is((facts(merchant()))->>'payback 1', 'N-2 check double_payment 100 AED for Z-1', 'it is a doubt for the order that it names');
-- the short way, by the kept name and not by the key in the bytes
create trigger shop_no_n9 before insert on foloosi.transactions for each row when (new.transaction_no = 'N-8') execute function shop.no_n9();
select is((select r.reason from foloosi.record_delivery(merchant(), 'refund', 'Z-1', 'N-8', amount => 5, currency => 'AED') r), 'hook_failed', 'another');
drop trigger shop_no_n9 on foloosi.transactions;
select is((select r.reason from foloosi.deliveries d, foloosi.replay_delivery(d.id) r where d.merchant = merchant() and d.reason = 'hook_failed'), 'refund_unknown', 'replay_delivery()');
select is(array(select distinct order_named::text from foloosi.refunds where merchant = merchant()), array['Z-1'], 'names it, too');

select * from finish();
rollback;
