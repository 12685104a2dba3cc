-- SPDX-License-Identifier: MIT
-- Order keys as persons type them: cleaned as the decoder does it, tried by the same list of cases.
begin;
\ir tools.psql
select no_plan();

\set cases `cat :'corpus'/order-keys.json`
select cmp_ok(jsonb_array_length(:'cases'), '>', 100, 'the list of cases');
select is(foloosi.clean_key(c ->> 0), c ->> 1, 'clean_key: ' || c::text) from jsonb_array_elements(:'cases') c;
select is(foloosi.clean_key(null), null, 'clean_key: null');
select is(foloosi.clean_key(foloosi.clean_key(c ->> 0)), foloosi.clean_key(c ->> 0), 'clean_key: twice is once: ' || c::text)
    from jsonb_array_elements(:'cases') c;

-- ---------------------------------------------------------------- every function that takes a key

select example('keys of persons');
select is(act('select foloosi.register_order(%m, E''\tA-1001\r\n\u00a0\u3000\ufeff\u200b'', 100, '' aed '')'), array['order A-1001: pending 100 AED registered'], 'register_order: the key, and the currency');
select is(array(select r.outcome || ' ' || r.order_ref from foloosi.record_delivery(merchant(), 'success', ' A-1001', 'N-1', amount => 100, currency => 'AED') r), array['recorded A-1001'],
    'record_delivery: one order, and not a second one beside it');
select is((act('select foloosi.resolve_order(%m, ''A-1001 '', ''cancelled'')'))[1], 'event 2: order.cancel A-1001 N-1 (resolved)', 'resolve_order');
select given_delivery('success', null, 'N-2');
select is((act('select foloosi.assign_transaction(transaction_id(''N-2''), E'' A-1002\n'', true)'))[2], 'order A-1002: paid 100 AED by N-2', 'assign_transaction');

select example('keys that are none');
select given_delivery('success', null, 'N-1');
select throws_ok(format('select foloosi.register_order(%L, %L, 1, ''AED'')', merchant(), k), '22004', null, format('register_order: %L', k))
    from unnest(array['', ' ', 'undefined', 'null', ' NaN', '[object Object]', E'\u200b']) k;
select throws_ok(format('select foloosi.resolve_order(%L, %L, ''cancelled'')', merchant(), k), 'P0002', null, format('resolve_order: %L', k)) from unnest(array['', 'undefined', 'null']) k;
select throws_ok(format('select foloosi.assign_transaction(%s, %L, true)', transaction_id('N-1'), k), '22004', null, format('assign_transaction: %L', k)) from unnest(array['', ' ', 'undefined', 'NaN']) k;
select is(array(select r.outcome || ' ' || coalesce(r.order_ref, '-') from foloosi.record_delivery(merchant(), 'success', 'undefined', 'N-2', amount => 100, currency => 'AED') r), array['review -'],
    'record_delivery: no order shared by strangers');

-- ---------------------------------------------------------------- amounts in texts

select is(foloosi.money_text(a, c), t, 'money_text: ' || t) from (values
    (100, 'AED', '100.00 AED'), (100.5, 'AED', '100.50 AED'), (100.505, 'AED', '100.505 AED'), (18.605, 'KWD', '18.605 KWD'), (18.6, 'KWD', '18.600 KWD'), (1500, 'JPY', '1500 JPY'),
    (1500.0000, 'JPY', '1500 JPY'), (1500.5, 'JPY', '1500.5 JPY'), (1, 'CLF', '1.0000 CLF'), (0, 'USD', '0.00 USD'), (999999999999.9999, 'AED', '999999999999.9999 AED'),
    (null, 'AED', 'AED'), (1, null, '1.00')) x (a, c, t);

select * from finish();
rollback;
