-- SPDX-License-Identifier: MIT
-- What another session holds comes back busy at once, unrecorded; everything else is recorded.
--
-- That is a second session, by dblink. It sees only what is committed, so what this
-- file begins with is committed there and taken away at the end.
begin;
\ir tools.psql
select no_plan();

select set_config('t.merchant', 'busy', true);
create function other(command text) returns text language sql as $$ select dblink_exec('other', command) $$;
create function other_asks(query text) returns text language sql as $$ select x from dblink('other', format('select (%s)::text', query)) as r (x text) $$;
select dblink_connect('other', format('dbname=%s host=%s port=%s user=postgres', current_database(), current_setting('unix_socket_directories'), current_setting('port')));

select other_asks('foloosi.set_merchant(''busy'')') is not null;
select other_asks($$select foloosi.register_order('busy', 'PENDING', 100, 'AED')$$) is not null;
select other_asks(format($$select r from foloosi.record_delivery('busy', %s, currency => 'AED') r$$, x)) is not null
    from unnest(array[$$'success', 'PAID', 'N-1', 'R-1', 100$$, $$'success', 'PAID', 'N-2', 'R-2', 100$$, $$'success', 'FREE', 'N-3', 'R-3', 100$$,
        $$'failed', null, 'N-4', 'R-4', 100$$, $$'failed', 'LATE', 'N-5', 'R-5', 100$$]) x;

-- A batch while the other session has done something and not committed it. Then it rolls back, and so do we.
create function meanwhile(title text, command text, ds delivery[], answers text[]) returns setof text language plpgsql as $$
declare
    was    jsonb := t.facts('busy') || t.ledger('busy');
    began  timestamptz;
    became jsonb;
    got    text[];
    busy   int[] := array(select i from unnest(answers) with ordinality x (a, i) where a like 'busy%');
    took   interval;
begin
    perform t.other('begin');
    perform t.other_asks(command);
    begin
        began := clock_timestamp();
        got := t.record('busy', variadic ds);
        took := clock_timestamp() - began;
        became := t.facts('busy') || t.ledger('busy');
        raise exception 'roll back' using errcode = 'T0000';
    exception when sqlstate 'T0000' then
        perform t.other('rollback');
    end;
    return next is(got, answers, title);
    return next ok(took < interval '4 seconds', title || ': at once');
    return next is(array(select i from unnest(busy) i where (became -> encode(substr(sha256(ds[i].body), 1, 16), 'hex')) is distinct from
                         (was -> encode(substr(sha256(ds[i].body), 1, 16), 'hex'))), '{}', title || ': what is busy is not recorded');
    begin -- the lock is gone
        got := t.record('busy', variadic ds);
        raise exception 'roll back' using errcode = 'T0000';
    exception when sqlstate 'T0000' then
        null;
    end;
    return next is(array(select a from unnest(got) a where a like 'busy%'), '{}', title || ': afterwards nothing is');
end $$;

-- ---------------------------------------------------------------- isolation

select other('begin isolation level repeatable read');
select throws_ok($$select other_asks('foloosi.resolve_order(''busy'', ''PAID'', ''cancelled'')')$$, '0A000', null, 'a person in an older snapshot is refused');
select other('rollback');
select other('begin isolation level serializable');
select throws_ok($$select other_asks('(select r from foloosi.record_delivery(''busy'', ''success'', ''PAID'', ''N-30'', amount => 1, currency => ''AED'') r)')$$, '0A000', null, 'and so is a delivery');
select other('rollback');

-- ---------------------------------------------------------------- the ledger and the quota

select other_asks($$select r from foloosi.record_delivery('busy', 'success', 'OOPS') r$$) is not null; -- no amount: rejected, and waits for a person
select is((select id from foloosi.deliveries where merchant = 'busy' and outcome = 'rejected') is not null, true, 'a rejected delivery');
create function bytes_of(ref text) returns bytea language sql as $$
    select b.body from foloosi.bodies b join foloosi.deliveries d on d.id = b.delivery_id where d.merchant = 'busy' and d.order_ref = ref $$;
create function with_body(d delivery, body bytea) returns delivery language plpgsql as $$ begin d.body := body; return d; end $$;
select meanwhile('a delivery that a person dismisses', $$select foloosi.dismiss_attention((select id from foloosi.deliveries where merchant = 'busy' and outcome = 'rejected'))::text$$,
    array[d('success', 'NEW', 'N-12'), with_body(d('success', 'OOPS', 'N-20'), bytes_of('OOPS'))], array['recorded NEW paid', 'busy OOPS -']);
select meanwhile('another session counts rejected ones', $$select r from foloosi.record_delivery('busy', 'success', 'OOPS 2') r$$,
    array[d('success', 'NEW', 'N-12'), d('bad', fault => 'not JSON')], array['recorded NEW paid', 'busy - -']);

-- ---------------------------------------------------------------- a row of orders

select meanwhile('an order''s row, for update', $$select id from foloosi.orders where merchant = 'busy' and order_ref = 'PAID' for update$$,
    array[d('success', 'FREE', 'N-10'), d('success', 'PAID', 'N-11'), d('success', 'NEW', 'N-12'), d('failed', 'PAID', 'N-13'), d('success', 'PENDING', 'N-14')],
    array['recorded FREE paid (double_payment)', 'busy PAID -', 'recorded NEW paid', 'busy PAID -', 'recorded PENDING paid']);
select meanwhile('an order''s row, for no key update', $$select id from foloosi.orders where merchant = 'busy' and order_ref = 'PENDING' for no key update$$,
    array[d('success', 'PENDING', 'N-10'), d('success', 'FREE', 'N-11')], array['busy PENDING -', 'recorded FREE paid (double_payment)']);
select meanwhile('an order''s row, for share', $$select id from foloosi.orders where merchant = 'busy' and order_ref = 'PENDING' for share$$,
    array[d('success', 'PENDING', 'N-10')], array['busy PENDING -']);
select meanwhile('named by its transaction only', $$select id from foloosi.orders where merchant = 'busy' and order_ref = 'PAID' for update$$,
    array[d('failed', null, 'N-1'), d('failed', null, null, 'R-2'), d('failed', null, 'N-3')], array['busy - -', 'busy - -', 'review FREE paid (status_contradiction)']);
select meanwhile('a repeat', $$select id from foloosi.orders where merchant = 'busy' and order_ref = 'PAID' for update$$,
    array[d('success', 'PAID', 'N-1', 'R-1'), d('success', 'FREE', 'N-3', 'R-3')], array['busy PAID -', 'duplicate FREE paid']);
select meanwhile('what names no order of theirs', $$select id from foloosi.orders where merchant = 'busy' and order_ref = 'PAID' for update$$,
    array[d('success', null, 'N-20'), d('failed'), d(null, fault => 'not JSON'), d('pending', 'FREE', 'N-21')],
    array['review - - (no_order_key)', 'recorded - -', 'rejected - -', 'ignored FREE paid (status)']);
select meanwhile('a key share, as a foreign key takes it', $$select id from foloosi.orders where merchant = 'busy' and order_ref = 'PENDING' for key share$$,
    array[d('success', 'PENDING', 'N-10')], array['recorded PENDING paid']);

-- ---------------------------------------------------------------- a row of transactions

select meanwhile('a transaction''s row', $$select id from foloosi.transactions where merchant = 'busy' and transaction_no = 'N-1' for update$$,
    array[d('failed', 'PAID', 'N-1'), d('failed', 'PAID', null, 'R-1'), d('failed', 'OTHER', 'N-1', 'R-9'), d('success', 'PAID', 'N-10'), d('success', 'FREE', 'N-11')],
    array['busy PAID -', 'busy PAID -', 'busy OTHER -', 'recorded PAID paid (double_payment)', 'recorded FREE paid (double_payment)']);
select meanwhile('a transaction without an order', $$select id from foloosi.transactions where merchant = 'busy' and transaction_no = 'N-4' for update$$,
    array[d('success', 'FREE', 'N-4'), d('success', 'FREE', 'N-10')], array['busy FREE -', 'recorded FREE paid (double_payment)']);

-- A repeat that is busy holds no row of the ledger: what names its transaction's order by the reference writes that row.
select other_asks(format($$select r from foloosi.record_delivery('busy', 'success', null, 'N-6', %s, amount => 100, currency => 'AED') r$$, x)) is not null
    from unnest(array['null', $$'R-6'$$]) x;
savepoint held;
select id from foloosi.transactions where merchant = 'busy' and transaction_no = 'N-6' for update;
select other('begin');
select is(other_asks($$(select outcome from foloosi.record_delivery('busy', 'success', null, 'N-6', amount => 100, currency => 'AED'))$$), 'busy', 'a repeat while we hold its transaction');
set local lock_timeout = '50ms';
select is(record('busy', d('success', 'NEW', null, 'R-6')), array['recorded NEW paid'], 'its row of the ledger is free');
set local lock_timeout = '5s';
select other('rollback');
rollback to held;

-- ---------------------------------------------------------------- what is not committed yet

select meanwhile('register_order() of a new order', $$select foloosi.register_order('busy', 'SOON', 100, 'AED')$$,
    array[d('success', 'SOON', 'N-10'), d('success', 'FREE', 'N-11')], array['busy SOON -', 'recorded FREE paid (double_payment)']);
select meanwhile('register_order() of a known order', $$select foloosi.register_order('busy', 'LATE', 100, 'AED')$$,
    array[d('success', 'LATE', 'N-5'), d('success', 'FREE', 'N-11')], array['busy LATE -', 'recorded FREE paid (double_payment)']);
select meanwhile('resolve_order()', $$select foloosi.resolve_order('busy', 'PENDING', 'cancelled')$$,
    array[d('success', 'PENDING', 'N-10'), d('success', 'FREE', 'N-11')], array['busy PENDING -', 'recorded FREE paid (double_payment)']);
select meanwhile('assign_transaction()', $$select foloosi.assign_transaction(id, 'SOON', true) from foloosi.transactions where merchant = 'busy' and transaction_no = 'N-4'$$,
    array[d('success', 'FREE', 'N-4'), d('success', null, null, 'R-4'), d('success', 'SOON', 'N-10'), d('success', 'FREE', 'N-11')],
    array['busy FREE -', 'busy - -', 'busy SOON -', 'recorded FREE paid (double_payment)']);
select meanwhile('settle_payback()', $$select foloosi.settle_payback(id) from foloosi.paybacks where merchant = 'busy'$$,
    array[d('refund', 'PAID', 'N-2'), d('success', 'FREE', 'N-11')], array['busy - -', 'recorded FREE paid (double_payment)']);
select other('update foloosi.paybacks set updated_at = now() - interval ''4 days'' where merchant = ''busy''');
-- deliveries of a payback's order and reminders of it take the order's lock first, and try it only: so neither waits for the other
select meanwhile('remind_paybacks()', $$select foloosi.remind_paybacks()$$,
    array[d('refund', 'PAID', 'N-2'), d('refund', null, null, 'R-1'), d('success', 'FREE', 'N-11')], array['busy - -', 'busy - -', 'recorded FREE paid (double_payment)']);
select other('begin');
select other_asks($$select r from foloosi.record_delivery('busy', 'refund', 'PAID', 'N-2', amount => 100, currency => 'AED') r$$) is not null;
set local lock_timeout = '50ms';
select is(foloosi.remind_paybacks(), 0, 'remind_paybacks() does not wait for a refund under way, and leaves its payback alone');
set local lock_timeout = '5s';
select other('rollback');
select is(foloosi.remind_paybacks(), 1, 'when that is gone it reminds');
select meanwhile('a delivery of a new order', $$select r from foloosi.record_delivery('busy', 'success', 'SOON', 'N-10', 'R-10', 100, 'AED') r$$,
    array[d('success', 'SOON', 'N-11'), d('success', 'ELSE', 'N-10'), d('success', 'ELSE', null, 'R-10'), d('success', 'ELSE', 'N-12')],
    array['busy SOON -', 'busy ELSE -', 'busy ELSE -', 'recorded ELSE paid']);
select meanwhile('the same delivery, which names nothing', format($$select r from foloosi.record_delivery('busy', 'failed', body => %L) r$$, (d('failed')).body),
    array[d('failed'), d('failed', copy => 2)], array['busy - -', 'recorded - -']);
select meanwhile('another merchant''s', $$select r from foloosi.record_delivery('busy.too', 'success', 'PENDING', 'N-10', 'R-10', 100, 'AED') r$$,
    array[d('success', 'PENDING', 'N-10', 'R-10')], array['recorded PENDING paid']);

-- ---------------------------------------------------------------- all of a batch

select meanwhile('256, all busy', $$select id from foloosi.orders where merchant = 'busy' and order_ref = 'PAID' for update$$,
    (select array_agg(d('success', 'PAID', 'M-' || i)) from generate_series(1, 256) i), array_fill('busy PAID -'::text, array[256]));
select meanwhile('256, one busy', $$select id from foloosi.orders where merchant = 'busy' and order_ref = 'PAID' for update$$,
    (select array_agg(d('success', case when i = 77 then 'PAID' else 'M-' || i end, 'M-' || i) order by i) from generate_series(1, 256) i),
    (select array_agg(case when i = 77 then 'busy PAID -' else format('recorded M-%s paid', i) end order by i) from generate_series(1, 256) i));

-- ---------------------------------------------------------------- persons wait

create function waits(title text, statement text) returns text language plpgsql as $$
declare
    outcome text := 'did not wait';
begin
    perform t.other('begin');
    perform t.other_asks($q$select array_agg(r)::text from (select foloosi.record_delivery('busy', 'success', o, 'N-' || o, amount => 1, currency => 'AED') r
        from unnest(array['PAID', 'PENDING', 'SOON']) o) x$q$);
    perform set_config('lock_timeout', '50ms', true);
    begin
        execute statement;
        raise exception 'roll back' using errcode = 'T0000';
    exception when lock_not_available then outcome := 'waited';
        when sqlstate 'T0000' then null;
    end;
    perform set_config('lock_timeout', '5s', true);
    perform t.other('rollback');
    return is(outcome, 'waited', title || ' waits for a delivery under way');
end $$;
select waits('register_order() of a new order', $$select foloosi.register_order('busy', 'SOON', 100, 'AED')$$);
select waits('register_order() of a known order', $$select foloosi.register_order('busy', 'PENDING', 101, 'AED')$$);
select waits('resolve_order()', $$select foloosi.resolve_order('busy', 'PAID', 'cancelled')$$);
select waits('assign_transaction()', $$select foloosi.assign_transaction(id, 'SOON', true) from foloosi.transactions where merchant = 'busy' and transaction_no = 'N-4'$$);
select waits('settle_payback()', $$select foloosi.settle_payback(id) from foloosi.paybacks where merchant = 'busy'$$);
select waits('withdraw_payback()', $$select foloosi.withdraw_payback(id) from foloosi.paybacks where merchant = 'busy'$$);
select waits('reopen_payback()', $$select foloosi.reopen_payback(id) from foloosi.paybacks where merchant = 'busy'$$);
select waits('record_refund()', $$select foloosi.record_refund(id, 10, 'x') from foloosi.transactions where merchant = 'busy' and transaction_no = 'N-1'$$);
select waits('unassign_transaction()', $$select foloosi.unassign_transaction(id, 'x') from foloosi.transactions where merchant = 'busy' and transaction_no = 'N-1'$$);
select waits('verify_transaction()', $$select foloosi.verify_transaction(id, 'success', 100, 'AED') from foloosi.transactions where merchant = 'busy' and transaction_no = 'N-1'$$);

-- ---------------------------------------------------------------- a transaction that gets its order while an act waits for it

select other_asks($$select r from foloosi.record_delivery('busy', 'success', null, 'N-40', amount => 100, currency => 'AED') r$$) is not null;
select other('begin');
select other_asks($$select r from foloosi.record_delivery('busy', 'success', 'NAMED', 'N-40', amount => 100, currency => 'AED') r$$) is not null;
select dblink_connect('second', format('dbname=%s host=%s port=%s user=postgres application_name=second', current_database(), current_setting('unix_socket_directories'), current_setting('port')));
select dblink_send_query('second', $$select foloosi.record_refund(id, 10, 'x') from foloosi.transactions where merchant = 'busy' and transaction_no = 'N-40'$$);
do $$ begin
    for k in 1 .. 500 loop
        perform pg_stat_clear_snapshot();
        exit when exists (select from pg_stat_activity where application_name = 'second' and wait_event_type = 'Lock');
        perform pg_sleep(0.01);
    end loop;
end $$;
select is((select count(*)::int from pg_stat_activity where application_name = 'second' and wait_event_type = 'Lock'), 1, 'record_refund() waits for the transaction');
select other('commit');
select throws_ok($$select * from dblink_get_result('second') as r (x text)$$, '40001', null, 'it holds no lock of the order that the transaction has now: the caller tries again');
select dblink_disconnect('second');

-- ---------------------------------------------------------------- a lock taken within the same transaction is no obstacle

select is(record('busy', d('success', 'TWICE', 'N-30')) || record('busy', d('success', 'TWICE', 'N-31')), array['recorded TWICE paid', 'recorded TWICE paid (double_payment)'],
    'the same transaction may come twice');

select * from finish();
rollback;

begin;
set local client_min_messages = warning;
delete from foloosi.paybacks where merchant ~ '^busy';
delete from foloosi.refunds where merchant ~ '^busy';
delete from foloosi.other_transactions where merchant ~ '^busy';
delete from foloosi.transactions where merchant ~ '^busy';
delete from foloosi.bodies b using foloosi.deliveries d where d.id = b.delivery_id and d.merchant ~ '^busy';
delete from foloosi.deliveries where merchant ~ '^busy';
delete from foloosi.events where merchant ~ '^busy';
delete from foloosi.decisions where merchant ~ '^busy';
delete from foloosi.orders where merchant ~ '^busy';
delete from foloosi.merchants where merchant ~ '^busy';
commit;
