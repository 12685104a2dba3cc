-- SPDX-License-Identifier: MIT
-- register_order(): the merchant announces an order with its expected amount.
begin;
\ir tools.psql
select no_plan();

select example('a new order');
select is(act('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')'), array['order O-1: pending 100 AED registered'], 'new: pending, no event');
select is((select o.state || ' ' || o.amount from foloosi.register_order(merchant(), 'O-2', 12.3400, 'aed') o), 'pending 12.3400',
    'returns the row; a currency in lower case is taken');
select is((select currency::text from foloosi.orders where merchant = merchant() and order_ref = 'O-2'), 'AED', 'and stored in upper case');
select is(act('select foloosi.register_order(%m, ''O-3'', 0, ''AED'')'), array['order O-3: pending 0 AED registered'], 'zero is an amount');

select example('again');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select is(act('select foloosi.register_order(%m, ''O-1'', 100.00, ''AED'')'), '{}', 'equal values again change nothing');
select is((select count(*)::int from foloosi.decisions where merchant = merchant()), 1, 'and leave nothing in the history');
select is(act('select foloosi.register_order(%m, ''O-1'', 250, ''USD'')'), array['order O-1: pending 100 AED registered -> pending 250 USD registered'],
    'pending without a transaction: values may change');
select is((deliver('success', 'O-1', 'N-1', null, 250, 'USD'))[1], 'recorded O-1 paid', 'and hold');
select is(act('select foloosi.register_order(%m, ''O-1'', 250, ''USD'')'), '{}', 'equal values of a paid order change nothing');
select throws_ok(format('select foloosi.register_order(%L, ''O-1'', 251, ''USD'')', merchant()), '55000', null, 'other values of a paid order are refused');
select throws_ok(format('select foloosi.register_order(%L, ''O-1'', 250, ''AED'')', merchant()), '55000', null, 'so is another currency');
select given('select foloosi.register_order(%m, ''O-2'', 100, ''AED'')');
select given_delivery('failed', 'O-2', 'N-2');
select is(act('select foloosi.register_order(%m, ''O-2'', 100, ''AED'')'), '{}', 'equal values of a cancelled order change nothing');
select throws_ok(format('select foloosi.register_order(%L, ''O-2'', 101, ''AED'')', merchant()), '55000', null, 'other values of a cancelled order are refused');
select given('select foloosi.register_order(%m, ''O-3'', 5, ''AED'')');
select given_delivery('success', 'O-3', 'N-3');
select is(act('select foloosi.register_order(%m, ''O-3'', 5, ''AED'')'), '{}', 'equal values of an order in review change nothing');
select throws_ok(format('select foloosi.register_order(%L, ''O-3'', 100, ''AED'')', merchant()), '55000', null, 'an order in review is not put right by another expectation');
select given('select foloosi.register_order(%m, ''O-4'', 100, ''AED'')');
with t as (insert into foloosi.transactions (merchant, order_ref, state, transaction_status) values (merchant(), 'O-4', 'failed', 'failed') returning *)
insert into foloosi.other_transactions (order_ref, merchant, transaction_id) select order_ref, merchant, id from t;
select is(act('select foloosi.register_order(%m, ''O-4'', 101, ''AED'')'), array['order O-4: pending 100 AED registered -> pending 101 AED registered'],
    'pending, with a transaction that has captured nothing: values may change');
update foloosi.transactions set state = 'captured', transaction_status = 'success', amount = 7, currency = 'AED' where merchant = merchant() and order_ref = 'O-4';
select throws_ok(format('select foloosi.register_order(%L, ''O-4'', 102, ''AED'')', merchant()), '55000', null, 'pending, but with a captured one: refused');
select is(act('select foloosi.register_order(%m, ''O-4'', 101, ''AED'')'), '{}', 'but equal values are not');

select example('what is refused');
select throws_ok('select foloosi.register_order(''nobody'', ''O-1'', 100, ''AED'')', 'P0002', null, 'an unknown merchant');
select throws_ok('select foloosi.register_order(null, ''O-1'', 100, ''AED'')', 'P0002', null, 'no merchant');
select throws_ok(format('select foloosi.register_order(%L, %s)', merchant(), bad[1]), bad[2], null, 'register_order: ' || bad[1])
    from (values (array['null, 100, ''AED''', '22004']), (array[''''', 100, ''AED''', '22004']), (array['''O-1'', null, ''AED''', '22004']),
                 (array['''O-1'', 100, null', '22004']), (array['''O-1'', -1, ''AED''', '23514']), (array['''O-1'', ''NaN'', ''AED''', '23514']),
                 (array['''O-1'', 1e12, ''AED''', '23514']), (array['''O-1'', 0.00001, ''AED''', '23514']), (array['''O-1'', 100, ''EURO''', '23514']),
                 (array['''O-1'', 100, ''''', '22004']), (array['repeat(''x'', 256), 100, ''AED''', '22001'])) x (bad);
select is(facts(merchant()), '{}', 'and leaves nothing behind');

-- ---------------------------------------------------------------- a webhook was faster

select example('faster: paid');
select given_delivery('success', 'O-1', 'N-1');
select is(act('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')'), array['order O-1: paid 100 AED by N-1 -> paid 100 AED by N-1 registered'],
    'paid, equal: stays paid, no event');
select given_delivery('success', 'O-2', 'N-2');
select is(act('select foloosi.register_order(%m, ''O-2'', 250, ''AED'')'), array[
    'event 3: order.review O-2 N-2 (amount_differs)',
    'order O-2: paid 100 AED by N-2 -> review 250 AED by N-2 (amount_differs) registered decided by postgres'], 'paid, another amount: review');
select given_delivery('success', 'O-3', 'N-3');
select is((act('select foloosi.register_order(%m, ''O-3'', 100, ''USD'')'))[1], 'event 5: order.review O-3 N-3 (currency_differs)', 'paid, another currency: review');
select is((deliver('success', 'O-3', 'N-4'))[1], 'review O-3 review (order_in_review)', 'row 18 from then on');
select is(act('select foloosi.resolve_order(%m, ''O-2'', ''paid'', ''a discount'')'), array[
    'event 6: order.success O-2 N-2 (resolved)',
    'order O-2: review 250 AED by N-2 (amount_differs) registered decided by postgres -> paid 250 AED by N-2 registered decided by postgres'],
    'a person may decide it');

select example('faster: paid, and paid again');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2', null, 250);
select is(act('select foloosi.register_order(%m, ''O-1'', 250, ''AED'')'), array[
    'event 3: order.review O-1 N-1 (amount_differs)',
    'event 4: payback.check O-1 N-2 (double_payment) payback 1',
    'order O-1: paid 100 AED by N-1 -> review 250 AED by N-1 (amount_differs) registered decided by postgres',
    'payback 1: N-2 due double_payment 250 AED for O-1 -> N-2 check double_payment 250 AED for O-1'], 'different: its due paybacks become check');
select is((act('select foloosi.resolve_order(%m, ''O-1'', ''paid'')'))[1:2], array[
    'event 5: order.success O-1 N-2 (resolved)', 'event 6: payback.due O-1 N-1 (double_payment) payback 2'], 'a person decides: what was expected pays, and what came first goes back');

select example('faster: review for being unknown', unknown_orders => 'review');
select given_delivery('success', 'O-1', 'N-1');
select is(act('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')'), array[
    'event 2: order.success O-1 N-1',
    'order O-1: review 100 AED by N-1 (unknown_order) -> paid 100 AED by N-1 registered decided by postgres'], 'unknown, equal: paid, order.success');
select is(act('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')'), '{}', 'only once');
select given_delivery('success', 'O-2', 'N-2');
select is(act('select foloosi.register_order(%m, ''O-2'', 250, ''AED'')'), array[
    'event 4: order.review O-2 N-2 (amount_differs)',
    'order O-2: review 100 AED by N-2 (unknown_order) -> review 250 AED by N-2 (amount_differs) registered decided by postgres'],
    'unknown, different: review for that, order.review');
select given_delivery('success', 'O-3', 'N-3');
select given_delivery('success', 'O-3', 'N-4');
select is((act('select foloosi.register_order(%m, ''O-3'', 100, ''AED'')'))[1:3], array[
    'event 6: order.success O-3 N-3', 'event 7: payback.due O-3 N-4 (double_payment) payback 1',
    'order O-3: review 100 AED by N-3 (unknown_order) -> paid 100 AED by N-3 registered decided by postgres'],
    'compared with the success that put it in review; what row 18 kept waiting must go back');

select example('faster: another review', late_success => 'review');
select given_delivery('failed', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-1');
select is(act('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')'), array[
    'order O-1: review 100 AED by N-1 (late_success) late -> review 100 AED by N-1 (late_success) late registered'], 'in review for another reason, equal: stays');

select given_delivery('failed', 'O-2', 'N-2');
select given_delivery('success', 'O-2', 'N-3', null, 90);
select given_delivery('success', 'O-2', 'N-4');
select is(act('select foloosi.register_order(%m, ''O-2'', 100, ''AED'')'), array[
    'order O-2: review 90 AED by N-3 (late_success) late -> review 100 AED by N-4 (late_success) late registered'], 'it names the one that equals what is expected');

select example('faster: cancelled');
select given_delivery('failed', 'O-1', 'N-1', null, 70);
select is(act('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')'), array['order O-1: cancelled 70 AED by N-1 -> cancelled 100 AED by N-1 registered'],
    'cancelled stays, the expectation is stored');
select is((deliver('success', 'O-1', 'N-2'))[1], 'recorded O-1 paid (late)', 'and holds for a late success');
select given_delivery('failed', 'O-2', 'N-3');
select given('select foloosi.register_order(%m, ''O-2'', 250, ''AED'')');
select is((deliver('success', 'O-2', 'N-3'))[1], 'review O-2 review (amount_differs)', 'that may differ');
select given_delivery('failed', 'O-3', 'N-5');
select given('select foloosi.resolve_order(%m, ''O-3'', ''cancelled'')');
select is(act('select foloosi.register_order(%m, ''O-3'', 100, ''AED'')'), array[
    'order O-3: cancelled 100 AED by N-5 decided by postgres -> cancelled 100 AED by N-5 registered decided by postgres'], 'closed by a person: stays closed');
select is((deliver('success', 'O-3', 'N-6'))[1], 'review O-3 cancelled (order_closed)', 'row 16 as before');

select example('faster: verifying', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1');
select is(act('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')'), array[
    'order O-1: verifying 100 AED by N-1 (verifying) -> verifying 100 AED by N-1 (verifying) registered'], 'verifying: waits for the worker');

select given_delivery('success', 'O-2', 'N-2');
select is((act('select foloosi.register_order(%m, ''O-2'', 99, ''AED'')'))[1], 'event 1: order.review O-2 N-2 (amount_differs)', 'verifying, different: review');

select example('faster: unknown, refunded in part', unknown_orders => 'review');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('refund', 'O-1', 'N-1', null, 30);
select is((facts(merchant()))->>'order O-1', 'review 100 AED by N-1 (unknown_order)', 'in review for being unknown, and a part has gone back');
select is((act('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')'))[1], 'event 2: order.success O-1 N-1', 'equal, and money is left: paid');

select example('paid without a transaction');
select given_delivery('failed', 'O-1', 'N-1');
select given('select foloosi.resolve_order(%m, ''O-1'', ''paid'', ''cash'', true)');
select is(act('select foloosi.register_order(%m, ''O-1'', 250, ''AED'')'), array[
    'order O-1: paid 100 AED decided by postgres -> paid 250 AED registered decided by postgres'], 'nothing to compare with: what the person decided stays');

-- ---------------------------------------------------------------- the history

select example('history');
set local session authorization foloosi_operator;
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given('select foloosi.register_order(%m, ''O-1'', 101, ''AED'')');
reset session authorization;
select given_delivery('success', 'O-2', 'N-2');
set local session authorization foloosi_operator;
select given('select foloosi.register_order(%m, ''O-2'', 5, ''AED'')');
reset session authorization;
select is(array(select concat_ws(' ', order_ref, coalesce(state_before, '-'), state, cause, decided_by) from foloosi.order_history where merchant = merchant() order by id),
    array['O-1 - pending register foloosi_operator', 'O-1 - pending register foloosi_operator', 'O-2 - paid delivery', 'O-2 paid review register foloosi_operator'],
    'what was registered, by which database role');

select * from finish();
rollback;
