-- SPDX-License-Identifier: MIT
-- A batch gives exactly the rows that the same deliveries give one at a time, in their order.
begin;
\ir tools.psql
select no_plan();

-- Tell the same to two merchants, to one in a single call, to the other one by one. Three tests: answers, facts, ledger.
create function same(title text, variadic ds delivery[]) returns setof text language plpgsql as $$
declare
    policy  foloosi.merchants;
    alone   text := t.merchant() || '.alone';
    at_once text := t.merchant() || '.at.once';
    singles text[];
    batch   text[];
    m       text;
begin
    select * into policy from foloosi.merchants x where x.merchant = t.merchant();
    foreach m in array array[alone, at_once] loop
        perform foloosi.set_merchant(m, policy.mode, policy.unknown_orders, policy.late_success, policy.verify);
        perform foloosi.register_order(m, 'REGISTERED', 100, 'AED');
        perform foloosi.register_order(m, 'CLOSED', 100, 'AED');
        perform foloosi.resolve_order(m, 'CLOSED', 'cancelled');
        perform t.record(m, t.d('success', 'KNOWN', 'K-1', 'KR-1'));
        perform t.record(m, t.d('failed', null, null, 'KR-2'));
    end loop;
    for n in 1 .. cardinality(ds) loop
        singles := singles || t.record(alone, ds[n]);
    end loop;
    batch := t.record(at_once, variadic ds);
    return next is(batch, singles, title || ': the same answers');
    return next is(t.facts(at_once, true), t.facts(alone, true), title || ': the same orders, transactions, paybacks and events');
    return next is(t.ledger(at_once), t.ledger(alone), title || ': the same deliveries');
    perform t.example(title, policy.mode, policy.unknown_orders, policy.late_success, policy.verify);
end $$;

-- One story with all the policies.
create function same_always(title text, variadic ds delivery[]) returns setof text language plpgsql as $$
declare
    p text[];
begin
    foreach p slice 1 in array array[
        ['live', 'accept', 'pay', 'off'], ['test', 'review', 'pay', 'off'], ['live', 'accept', 'review', 'off'], ['live', 'accept', 'pay', 'callback']] loop
        perform t.example(title, p[1], p[2], p[3], p[4]);
        return query select * from t.same(title || ' (' || array_to_string(p, ', ') || ')', variadic ds);
    end loop;
end $$;

create function with_body(d delivery, body bytea) returns delivery language plpgsql as $$ begin d.body := body; return d; end $$;

-- ---------------------------------------------------------------- results

select example('results by ordinal');
select is(record(merchant(), d('success', 'O-1', 'N-1'), d('failed', 'O-2', 'N-2'), d('success', null, 'N-3'), d('x', fault => 'bad'), d('pending', 'O-5')),
    array['recorded O-1 paid', 'recorded O-2 cancelled', 'review - - (no_order_key)', 'rejected - -', 'ignored O-5 - (status)'],
    'each result has the ordinal of its delivery');
select is((select array_agg(ordinal order by ordinal) from foloosi.record_deliveries(
    array[-5, 2147483647, 0], array[merchant(), merchant(), merchant()], array['P-1', 'P-2', 'P-3'], array[sha256('1'), sha256('2'), sha256('3')],
    array['1', '2', '3']::bytea[], array[null, null, null]::text[], array[null, null, null]::text[], array['success', 'success', 'success'], array['P-1', 'P-2', 'P-3'],
    array[null, null, null]::text[], array[1, 2, 3]::numeric[], array['AED', 'AED', 'AED'], array[null, null, null]::text[], array[null, null, null]::text[],
    array[null, null, null]::text[], array[null, null, null]::text[], array[null, null, null]::text[], array[null, null, null]::text[], array[null, null, null]::text[])),
    array[-5, 0, 2147483647], 'ordinals are the caller''s own numbers, whatever they are');
select is((select array_agg(order_ref::text order by id) from foloosi.orders where merchant = merchant() and order_ref like 'P-%'), array['P-1', 'P-2', 'P-3'],
    'ids are given in the order of the arrays');
select is(record(merchant() || '.b', d('success', 'O-1', 'N-1')) || record(merchant() || '.c', d('success', 'O-1', 'N-1')),
    array['recorded O-1 paid', 'recorded O-1 paid'], 'merchants do not meet');

-- ---------------------------------------------------------------- relatives

select same_always('strangers', d('success', 'O-1', 'N-1', 'R-1'), d('failed', 'O-2', 'N-2', 'R-2'), d('success', 'REGISTERED', 'N-3'), d('success', null, 'N-4'),
    d('failed', null, null, 'R-5'), d('failed'), d('success', 'O-6', 'TEST-6'), d('refund', 'O-7', 'N-7'), d('success', 'CLOSED', 'N-8'),
    d('success', 'KNOWN', 'N-9'), d('x', fault => 'bad'));
select same_always('the same bytes', d('success', 'O-1', 'N-1'), d('success', 'O-1', 'N-1'), d('success', 'O-1', 'N-1'), d('failed'), d('failed'),
    d('success'), d('success'), d('refund', 'O-9'), d('refund', 'O-9'), d('x', fault => 'bad'), d('x', fault => 'bad'));
select same_always('one transaction, other bytes', d('success', 'O-1', 'N-1'), d('success', 'O-1', 'N-1', copy => 2), d('success', 'O-1', 'N-1', null, 5),
    d('failed', 'O-1', 'N-1'), d('failed', 'O-1', 'N-1', copy => 2), d('refund', 'O-1', 'N-1'), d('refund', 'O-1', 'N-1', copy => 2));
select same_always('one order, many transactions', d('success', 'O-1', 'N-1'), d('success', 'O-1', 'N-2'), d('success', 'O-1', 'N-3', null, 7),
    d('failed', 'O-1', 'N-4'), d('success', 'O-1', 'N-4'), d('failed', 'O-1', 'N-3', null, 7));
select same_always('failed, then success', d('failed', 'O-1', 'N-1'), d('success', 'O-1', 'N-1'), d('failed', 'O-2', 'N-2'), d('success', 'O-2', 'N-3'),
    d('failed', 'REGISTERED', 'N-4'), d('success', 'REGISTERED', 'N-5', null, 99), d('success', 'REGISTERED', 'N-6'));
select same_always('success, then failed', d('success', 'O-1', 'N-1'), d('failed', 'O-1', 'N-1'), d('success', 'O-2', 'N-2'), d('failed', 'O-2', 'N-3'));
select same_always('names learned on the way', d('success', 'O-1', null, 'R-1'), d('success', 'O-1', 'N-1', 'R-1'), d('failed', null, 'N-1'),
    d('success', 'O-2', 'N-2', 'R-1'), d('failed', null, null, 'R-1', copy => 2), d('success', null, 'N-9', 'KR-2'), d('success', 'O-9', 'N-9'));
select same_always('a number and a reference meet', d('success', 'O-1', 'N-1', 'R-1'), d('failed', 'O-1', null, 'R-1'), d('refund', 'O-2', 'N-1'),
    d('failed', 'O-3', null, 'R-1', copy => 3), d('success', 'O-4', 'N-1', copy => 4));
select same_always('three names in a chain', d('success', 'O-1', 'N-1'), d('success', 'O-2', 'N-1', 'R-1'), d('failed', 'O-3', null, 'R-1'), d('refund', 'O-4', 'N-1'),
    d('success', 'O-5', null, 'R-1', 5));
select same_always('a chain told backwards', d('failed', 'O-1', null, 'R-1'), d('failed', 'O-2', 'N-1'), d('success', 'O-3', 'N-1', 'R-1'), d('success', 'O-1', 'N-2', 'R-1'),
    d('success', 'O-1', null, 'R-1', copy => 2), d('success', 'O-2', 'N-1', copy => 3));
select same_always('one reference, three numbers', d('success', 'O-1', 'N-1', 'R-1'), d('success', 'O-1', 'N-2', 'R-1'), d('success', 'O-2', 'N-3', 'R-1'),
    d('success', 'O-2', 'N-2'), d('failed', 'O-2', 'N-3', 'R-1'), d('success', null, null, 'R-1'));

select same_always('refunds among payments', d('success', 'O-1', 'N-1'), d('success', 'O-1', 'N-2'), d('refund', 'O-1', 'N-2'), d('success', 'O-2', 'N-3'), d('refund', null, 'N-3', amount => 30),
    d('refund', 'O-1', 'N-9'), d('success', 'O-1', 'N-4'), d('success', 'O-3', 'N-9'), d('refund', null, 'N-1'), d('success', 'O-4', 'N-5'));
select same_always('refunds before payments', d('refund', null, 'N-1'), d('refund', 'O-2', 'N-2', amount => 30), d('success', 'O-1', 'N-1'), d('success', 'O-2', 'N-2'), d('success', 'O-1', 'N-3'),
    d('refund', 'KNOWN', 'K-1', amount => 40), d('refund', 'KNOWN', 'K-1', amount => 60), d('success', 'KNOWN', 'N-4'), d('refund', 'KNOWN', 'N-5', 'KR-1'));
select same_always('a refund names a reference that comes later', d('failed', 'O-1', 'N-1', 'R-1'), d('refund', 'O-1', 'N-1', 'R-2'), d('success', 'O-2', 'N-2', 'R-2'), d('success', 'O-3', 'N-3', 'R-3'));
select same_always('a third says that one of two twins has a number', d('success', 'O-1', null, 'R-1'), d('success', 'O-1', 'N-1'), d('success', 'O-2', 'N-2', 'R-1'), d('failed', 'O-3', 'N-3'));
select same_always('two attempts under one reference', d('failed', 'O-1', 'N-1', 'R-1'), d('success', 'O-1', 'N-2', 'R-1'), d('refund', null, null, 'R-1'), d('success', 'O-1', 'N-1', 'R-1'),
    d('success', 'O-2', 'TEST-1', 'R-1'), d('success', 'O-1', null, 'R-1', copy => 2));
select same_always('a subscription', d('success', 'FLSSUB_1', 'N-1'), d('success', 'FLSSUB_1', 'N-2'), d('failed', 'FLSSUB_1', 'N-3'), d('refund', 'FLSSUB_1', 'N-1'), d('success', 'FLSSUB_1', 'N-4'));
select same_always('rejected ones before and after their order', d('success', 'O-1', 'B-1', fault => 'bad'), d('success', 'O-1', 'N-1'), d('success', 'O-1', 'B-2', fault => 'bad'),
    d('failed', 'REGISTERED', 'B-3', fault => 'bad'), d('failed', 'REGISTERED', 'N-2'), d('failed', 'REGISTERED', 'B-4', fault => 'bad'));
select same_always('the same bytes rejected, understood and rejected', d('success', 'O-1', 'N-1', fault => 'bad'), with_body(d('success', 'O-1', 'N-1'), (d('success', 'O-1', 'N-1', fault => 'bad')).body),
    d('success', 'O-1', 'N-1', fault => 'bad'), d('refund', 'O-1', 'N-1'), d('success', 'O-1', 'N-1', fault => 'bad'));

-- The order key of recorded bytes may change: a repeat speaks of the order that it spoke of.
select example('a repeat of another order');
select is(record(merchant(), d('failed', 'O-1', 'N-1', 'R-1')), array['recorded O-1 cancelled'], 'a payment fails');
select is(record(merchant(), d('success', 'O-1', 'N-2', 'R-2'), jsonb_populate_record(d('failed', 'O-1', 'N-1', 'R-1'), '{"order_ref": "O-2"}')),
    array['recorded O-1 paid (late)', 'duplicate O-1 paid'], 'its repeat, under another order key, knows what the one before it in the batch did');
select same_always('what is kept stands before what is known', d('x', fault => 'bad'), d('success', 'O-1', 'N-1'), d('success', 'KNOWN', 'K-1', 'KR-1'),
    d('failed', 'KNOWN', 'K-1', 'KR-1'), d('failed', null, null, 'KR-2'), d('failed', 'REGISTERED', 'N-3'));

-- ---------------------------------------------------------------- keyless loners: the order comes from an earlier relative

select same_always('the key is the first one''s', d('success', 'O-1', 'N-1'), d('failed', 'O-2', 'N-2'), d('success', null, 'N-2'), d('success', 'O-2', 'N-3'));
select same_always('a loner between relatives', d('failed', 'O-1', 'N-1'), d('success', null, 'N-1'), d('success', 'O-1', 'N-2'), d('failed', null, 'N-2'),
    d('success', 'O-1', 'N-3'));
select same_always('a loner before strangers', d('failed', 'O-1', 'N-1'), d('success', null, 'N-1'), d('success', 'O-2', 'N-2'), d('success', 'O-1', 'N-3'));
select same_always('the key comes later', d('failed', null, 'N-1'), d('success', 'O-1', 'N-1'), d('success', null, 'N-1'), d('success', 'O-1', 'N-2'));
select same_always('the loner''s order is known', d('failed', null, 'K-1'), d('success', 'KNOWN', 'N-1'), d('refund', null, 'K-1'), d('success', null, null, 'KR-1', 5));
select same_always('the loner gets another''s order', d('success', 'KNOWN', 'N-1'), d('failed', null, 'N-1'), d('refund', null, 'N-1'), d('success', 'KNOWN', 'N-2'));
select same_always('a known one gets its order on the way', d('success', 'REGISTERED', 'N-1', 'KR-2'), d('success', null, 'N-1'), d('failed', null, null, 'KR-2'),
    d('success', 'REGISTERED', 'N-2'));

-- ---------------------------------------------------------------- numbers

select example('numbers');
select record(merchant(), d('success', 'O-1', 'N-1'), d('failed', 'O-2', 'N-2'), d('success', 'O-1', 'N-3'), d('success', null, 'N-4'), d('refund', null, 'N-5'));
create view numbered as
    select d.id, t.transaction_no, t.id - d.id as transaction, o.id - d.id as "order"
    from foloosi.deliveries d join foloosi.transactions t on t.id = d.transaction_id left join foloosi.orders o on o.transaction_id = t.id where d.merchant = merchant();
select is(array(select concat_ws(' ', transaction_no, transaction, "order") from numbered order by id), array['N-1 1 2', 'N-2 1 2', 'N-3 1', 'N-4 1', 'N-5 1'],
    'one number is drawn for a delivery: its transaction and its order have the next two');
select given_delivery('pending', 'O-6', 'N-6');
update foloosi.deliveries set outcome = 'review', reason = 'hook_failed' where merchant = merchant() and order_ref = 'O-6'; -- as if a trigger had refused it
select given_delivery('success', 'O-7', 'N-7');
update foloosi.bodies b set body = convert_to('{"data":{"transfer":{"transaction_status":"success","transaction_no":"N-6","transaction_amount":100,"transaction_currency":"AED"}}}', 'UTF8')
from foloosi.deliveries d where d.id = b.delivery_id and d.merchant = merchant() and d.order_ref = 'O-6';
update foloosi.deliveries set digest = substr(sha256(b.body), 1, 16) from foloosi.bodies b where b.delivery_id = deliveries.id and merchant = merchant() and order_ref = 'O-6';
select is((select outcome from foloosi.replay_delivery((select id from foloosi.deliveries where merchant = merchant() and order_ref = 'O-6'))), 'recorded', 'a delivery that is known already');
select cmp_ok((select transaction from numbered where transaction_no = 'N-6'), '>', 3::bigint, '... draws anew for its transaction');
select cmp_ok((select "order" - transaction from numbered where transaction_no = 'N-6'), '>', 2::bigint, '... and for its order');
select is((select seqincrement from pg_sequence where seqrelid = 'foloosi.id_seq'::regclass), 3::bigint, 'the sequence leaves these out');

-- ---------------------------------------------------------------- segments

create function cut_of(variadic ds delivery[]) returns int[] language sql as $$
    select foloosi.cut((foloosi.try_locks(array_agg(jsonb_populate_record(null::foloosi.element, jsonb_build_object('i', i, 'ordinal', i, 'merchant', 'm',
        'order_ref', x.order_ref, 'digest', substr(sha256(x.body), 1, 16), 'status', x.status, 'transaction_no', x.no, 'payment_reference', x.ref,
        'amount', x.amount, 'currency', x.currency, 'keys', array_remove(array[foloosi.lock_key('order', 'm', x.order_ref),
        foloosi.lock_key('number', 'm', x.no), foloosi.lock_key('reference', 'm', x.ref)], null))) order by i))).batch)
    from unnest(ds) with ordinality x (status, order_ref, no, ref, amount, currency, copy, fault, body, i)
$$;
select is(cut_of(d('success', 'A', 'N-1')), array[1], 'cut: one');
select is(cut_of(d('success', 'A', 'N-1'), d('success', 'B', 'N-2'), d('success', 'C', 'N-3')), array[1], 'cut: strangers are one segment');
select is(cut_of(d('success', 'A', 'N-1'), d('success', 'A', 'N-2'), d('success', 'A', 'N-3')), array[1, 2, 3], 'cut: one order is one by one');
select is(cut_of(d('success', 'A', 'N-1'), d('success', 'B', 'N-2'), d('success', 'A', 'N-3'), d('success', 'B', 'N-4')), array[1, 3], 'cut: as late as possible');
select is(cut_of(d('success', 'A', 'N-1', 'R-1'), d('failed', 'A', null, 'R-1'), d('refund', 'B', 'N-1')), array[1, 2, 3],
    'cut: a number and a reference that one element brings together are one transaction');
select is(cut_of(d('success', 'A', 'N-1'), d('success', null, 'N-1'), d('success', 'C', 'N-3'), d('success', 'D', 'N-4')), array[1, 2, 3], 'cut: a loner stands alone');

select is(record('m', d('success', 'A', 'N-1', 'R-1'), d('failed', 'B', 'N-2', 'R-2'), d('success', 'C', 'N-3', 'R-3')),
    array['recorded A paid', 'recorded B cancelled', 'recorded C paid'], 'three payments');
select is(cut_of(d('success', 'A', 'N-1', 'R-1'), d('failed', 'B', 'N-2', 'R-2'), d('success', 'C', 'N-3', 'R-3')), array[1],
    'cut: repeats of different payments are one segment, though number and reference both find the transaction');
select is(cut_of(d('success', 'A', 'N-1'), d('failed', 'B', null, 'R-2'), d('failed', 'X', null, 'R-1')), array[1, 3],
    'cut: a known transaction makes relatives of its number and its reference');

-- ---------------------------------------------------------------- sizes

select example('256');
create function many(n int) returns delivery[] language sql as $$
    select array_agg(t.d('success', 'O-' || i % 100, 'N-' || i) order by i) from generate_series(1, n) i
$$;
select is((select array_agg(split_part(r, ' ', 1) || split_part(r, ' ', 4)) from unnest(record(merchant(), variadic many(256))) r),
    array_fill('recorded'::text, array[100]) || array_fill('recorded(double_payment)'::text, array[156]), '256 deliveries, 100 orders');
select throws_ok('select record(merchant(), variadic many(257))', '54000', null, '257 are refused');
select is((select count(*)::int from foloosi.deliveries where merchant = merchant()), 256, 'and none of them is kept');
select same('256 with relatives', variadic many(256));
select same('256 of one order', variadic (select array_agg(d('success', 'O-1', 'N-' || i) order by i) from generate_series(1, 256) i));
select same('256 copies', variadic array_fill(d('success', 'O-1', 'N-1'), array[256]));

-- Every array once null, once empty, once shorter, once longer than the others, once with other subscripts.
create function call(n int, spoilt int, how text) returns text language plpgsql as $$
declare
    types     text[] := array['int', 'text', 'text', 'bytea', 'bytea', 'text', 'text', 'text', 'text', 'text', 'numeric', 'text', 'text', 'text', 'text', 'text',
                              'text', 'text', 'text'];
    sample    text[] := array['1', t.merchant(), 'O-1', '\x00', 'x', null, null, 'success', 'N-1', null, '1', 'AED', null, null, null, null, null, null, null];
    arguments text[];
    len       int;
begin
    for k in 1 .. 19 loop
        len := case when k <> spoilt then n when how = 'longer' then n + 1 when how = 'shorter' then n - 1 when how = 'empty' then 0 when how in ('from 0', 'deep') then n end;
        arguments := arguments || case when len is null then 'null' else format('array_fill(%L::%s, array[%s]%s)', sample[k], types[k],
                len || case when k = spoilt and how = 'deep' then ', 1' else '' end, case when k = spoilt and how = 'from 0' then ', array[0]' else '' end) end;
    end loop;
    return 'select * from foloosi.record_deliveries(' || array_to_string(arguments, ', ') || ')';
end $$;
select lives_ok(call(2, 0, ''), 'arrays of one length are taken');
select throws_ok(call(2, k, how), '2202E', null, format('array %s of 19 is %s: refused', k, how))
    from generate_series(1, 19) k, unnest(array['null', 'empty', 'shorter', 'longer', 'from 0', 'deep']) how;
select throws_ok(call(1, k, 'null'), '2202E', null, format('array %s of 19 is null in a batch of one: refused', k)) from generate_series(1, 19) k;
select is_empty(call(0, 0, ''), 'no deliveries give no results');

select * from finish();
rollback;
