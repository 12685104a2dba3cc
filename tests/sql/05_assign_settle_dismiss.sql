-- SPDX-License-Identifier: MIT
-- assign_transaction() and its undoing, settle_payback(), dismiss_attention(): what else a person closes.
begin;
\ir tools.psql
select no_plan();

-- ---------------------------------------------------------------- assign: rows 10 to 18

select example('assign a success');
select given_delivery('success', null, 'N-1', 'R-1');
select is(act('select foloosi.assign_transaction(transaction_id(''N-1''), ''O-1'', true, ''told by phone'')'), array[
    'event 2: order.success O-1 N-1',
    'order O-1: paid 100 AED by N-1',
    'transaction 1: N-1/R-1 captured for - 100 AED -> N-1/R-1 captured for O-1 100 AED'], 'row 12: an unknown order');
select is(waiting(), '{}', 'nothing waits any more');
select is(deliver('success', null, 'N-1', 'R-1'), array['duplicate O-1 paid'], 'row 1: the bytes again, with the order of now');
select is(deliver('success', 'O-1', 'N-1', copy => 2), array['duplicate O-1 paid'], 'row 5: it belongs to that order');
select is(deliver('success', 'O-2', 'N-1', copy => 2), array['review O-2 - (other_order)'], 'row 4: and to no other');
select given('select foloosi.register_order(%m, ''O-3'', 100, ''AED'')');
select given_delivery('success', null, 'N-3');
select is((act('select foloosi.assign_transaction(transaction_id(''N-3''), ''O-3'')'))[2], 'order O-3: pending 100 AED registered -> paid 100 AED by N-3 registered', 'row 13: pending');
select given('select foloosi.register_order(%m, ''O-4'', 250, ''AED'')');
select given_delivery('success', null, 'N-4');
select is((act('select foloosi.assign_transaction(transaction_id(''N-4''), ''O-4'')'))[1:2], array['event 6: order.review O-4 N-4 (amount_differs)',
    'order O-4: pending 250 AED registered -> review 250 AED by N-4 (amount_differs) registered'], 'row 14: pending, different');
select given_delivery('failed', 'O-5', 'N-5');
select given_delivery('success', null, 'N-6');
select is((act('select foloosi.assign_transaction(transaction_id(''N-6''), ''O-5'')'))[2], 'order O-5: cancelled 100 AED by N-5 -> paid 100 AED by N-6 (late) late', 'row 15: late');
select given('select foloosi.register_order(%m, ''O-6'', 100, ''AED'')');
select given('select foloosi.resolve_order(%m, ''O-6'', ''cancelled'')');
select given_delivery('success', null, 'N-7');
select is(act('select foloosi.assign_transaction(transaction_id(''N-7''), ''O-6'')'), array[
    'event 12: payback.due O-6 N-7 (order_closed) payback 1',
    'payback 1: N-7 due order_closed 100 AED for O-6',
    'transaction 6: N-7/- captured for - 100 AED -> N-7/- captured for O-6 100 AED'], 'row 16: closed');
select given_delivery('success', null, 'N-8');
select is(act('select foloosi.assign_transaction(transaction_id(''N-8''), ''O-1'')'), array[
    'event 14: payback.due O-1 N-8 (double_payment) payback 2',
    'payback 2: N-8 due double_payment 100 AED for O-1',
    'transaction 7: N-8/- captured for - 100 AED -> N-8/- captured for O-1 100 AED'], 'row 17: paid');
select given_delivery('success', null, 'N-9');
select is(act('select foloosi.assign_transaction(transaction_id(''N-9''), ''O-4'')'), array[
    'transaction 8: N-9/- captured for - 100 AED -> N-9/- captured for O-4 100 AED'], 'row 18: in review');

select example('assign a failure');
select given_delivery('failed', null, 'N-1');
select is(act('select foloosi.assign_transaction(transaction_id(''N-1''), ''O-1'', true)'), array[
    'event 1: order.cancel O-1 N-1',
    'order O-1: cancelled 100 AED by N-1',
    'transaction 1: N-1/- failed for - 100 AED -> N-1/- failed for O-1 100 AED'], 'row 10: an unknown order');
select given_delivery('success', 'O-2', 'N-2');
select given_delivery('failed', null, 'N-3');
select is(act('select foloosi.assign_transaction(transaction_id(''N-3''), ''O-2'')'), array[
    'transaction 3: N-3/- failed for - 100 AED -> N-3/- failed for O-2 100 AED'], 'row 11: paid stays paid');

select example('assign by policy', unknown_orders => 'review');
select given_delivery('success', null, 'N-1');
select is((act('select foloosi.assign_transaction(transaction_id(''N-1''), ''O-1'', true)'))[1], 'event 2: order.review O-1 N-1 (unknown_order)', 'row 12 by unknown_orders');
select example('assign by policy', verify => 'callback');
select given_delivery('success', null, 'N-1');
select is(act('select foloosi.assign_transaction(transaction_id(''N-1''), ''O-1'', true)'), array[
    'order O-1: verifying 100 AED by N-1 (verifying)',
    'transaction 1: N-1/- verifying for - 100 AED -> N-1/- verifying for O-1 100 AED'], 'row 12 by verify');

select example('assign what waited');
select given_delivery('success', 'O-1', 'TEST-1');
select throws_ok('select foloosi.assign_transaction(transaction_id(''TEST-1''), ''O-1'', true, ''our own trial'')', '55000', null, 'a test transaction pays no order');
select given('select foloosi.dismiss_attention(max(id)) from foloosi.deliveries where merchant = %m');
select given_delivery('success', 'O-2', 'N-1', 'R-1');
select given_delivery('success', 'O-2', 'N-2', 'R-1');
select is((act('select foloosi.assign_transaction(transaction_id(''N-2''), ''O-2'')'))[2], 'payback 1: N-2 due double_payment 100 AED for O-2', 'a second number of one reference');
select given_delivery('success');
select is((act('select foloosi.assign_transaction(transaction_id(''#4''), ''O-3'', true)'))[2], 'order O-3: paid 100 AED by #4', 'one with neither number nor reference');
select is(waiting(), array['payback O-2 double_payment'], 'only the payback waits');
select given_delivery('success', null, 'N-5');
select given_delivery('success', null, 'N-5', null, 7);
select given('select foloosi.assign_transaction(transaction_id(''N-5''), ''O-5'', true)');
select is(waiting(), array['payback O-2 double_payment', 'delivery - amount_contradiction'], 'an order answers no other question: the amount still waits');
select given_delivery('success', null, 'N-6');
select given_delivery('failed', null, 'N-6');
select is(act('select foloosi.assign_transaction(transaction_id(''N-6''), ''O-5'')'), array[
    'event 8: payback.check O-5 N-6 (double_payment) payback 2',
    'payback 2: N-6 check double_payment 100 AED for O-5',
    'transaction 6: N-6/- captured for - 100 AED -> N-6/- captured for O-5 100 AED'], 'row 17: to check, because the provider contradicted itself');

select example('assign: what is refused');
select given_delivery('success', null, 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select throws_ok('select foloosi.assign_transaction(-1, ''O-1'')', 'P0002', null, 'a transaction that is not there');
select throws_ok('select foloosi.assign_transaction(null, ''O-1'')', 'P0002', null, 'no transaction');
select throws_ok('select foloosi.assign_transaction(transaction_id(''N-2''), ''O-2'')', '55000', null, 'one that has an order');
select throws_ok('select foloosi.assign_transaction(transaction_id(''N-1''), ''O-9'')', 'P0002', null, 'an order that is not there, unless that is said');
select throws_ok('select foloosi.assign_transaction(transaction_id(''N-1''), '''')', '22004', null, 'an empty order');
select throws_ok('select foloosi.assign_transaction(transaction_id(''N-1''), ''undefined'', true)', '22004', null, 'a key that broken shops send is none');
select throws_ok('select foloosi.assign_transaction(transaction_id(''N-1''), null)', '22004', null, 'no order');
select throws_ok('select foloosi.assign_transaction(transaction_id(''N-1''), repeat(''x'', 256), true)', '22001', null, 'an order that is too long');

select example('assign: history');
select given_delivery('success', null, 'N-1');
set local session authorization foloosi_operator;
select is((select o.state::text from foloosi.assign_transaction((select id from foloosi.transactions where merchant = merchant()), 'O-1', true, 'told by phone') o),
    'paid', 'returns the order''s row');
reset session authorization;
select is(array(select concat_ws(' ', order_ref, coalesce(state_before, '-'), state, cause, decided_by, note) from foloosi.order_history where merchant = merchant()),
    array['O-1 - paid assign foloosi_operator told by phone'], 'the order''s beginning has its cause, role and note');

-- ---------------------------------------------------------------- settle

select example('settle');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
set local session authorization foloosi_operator;
select is((select row(p.state, p.settled_by, p.note, p.settled_at is not null)::text from foloosi.settle_payback(
    (select id from foloosi.paybacks where merchant = merchant()), 'sent on Monday') p), '(settled,foloosi_operator,"sent on Monday",t)', 'settle: returns the row');
reset session authorization;
select is(waiting(), '{}', 'settle: nothing waits');
select is((facts(merchant()))->>'payback 1', 'N-2 settled double_payment 100 AED for O-1 settled by foloosi_operator', 'settle: settled');
select throws_like('select foloosi.settle_payback(payback_id(''N-2''), ''again'')', 'payback % was settled by foloosi_operator at 20%Z', 'settle: twice is an error, who and when');
select throws_ok('select foloosi.settle_payback(payback_id(''N-2''), ''again'')', '55000', null, 'settle: twice, by its SQLSTATE');
select is((facts(merchant()))->>'payback 1', 'N-2 settled double_payment 100 AED for O-1 settled by foloosi_operator', 'settle: twice changes nothing');
select is((select note from foloosi.paybacks where id = payback_id('N-2')), 'sent on Monday', 'settle: nor the note');
select is(array(select concat_ws(' ', cause, decided_by, note) from foloosi.order_history where merchant = merchant() and cause <> 'delivery'),
    array['settle foloosi_operator sent on Monday'], 'settle: in the history of the order, once');
select is(deliver('refund', 'O-1', 'N-2'), array['recorded O-1 paid (refunded)'], 'settle: the refund that follows changes nothing');
select given_delivery('failed', 'O-1', 'N-1');
select is(act('select foloosi.settle_payback(payback_id(''N-1''))'), array[
    'event 4: order.refund O-1 N-1',
    'order O-1: paid 100 AED by N-1 -> refunded 100 AED by N-1',
    'payback 2: N-1 check status_contradiction 100 AED for O-1 -> N-1 settled status_contradiction 100 AED for O-1 settled by postgres',
    'transaction 1: N-1/- captured for O-1 100 AED -> N-1/- captured for O-1 100 AED refunded 100'],
    'settle: of what paid the order, without a note: the money went back, as by row 20');
select given_delivery('success', 'O-4', 'N-5');
select given_delivery('success', 'O-4', 'N-4');
select given_delivery('refund', 'O-4', 'N-4');
select throws_like('select foloosi.settle_payback(payback_id(''N-4''))', 'payback % was settled by a refund at 20%Z', 'settle: what a refund settled');
select throws_ok('select foloosi.settle_payback(-1)', 'P0002', null, 'settle: no such payback');
select throws_ok('select foloosi.settle_payback(null)', 'P0002', null, 'settle: none');
select throws_ok('select foloosi.settle_payback(transaction_id(''N-1''))', 'P0002', null, 'settle: a transaction is no payback');

-- ---------------------------------------------------------------- dismiss

select example('dismiss');
create function waiting_delivery() returns bigint language sql stable as $$ select max(id) from foloosi.attention where merchant = t.merchant() and kind = 'delivery' $$;
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-1', null, 5);
select set_config('t.id', waiting_delivery()::text, true);
set local session authorization foloosi_operator;
select lives_ok('select foloosi.dismiss_attention(current_setting(''t.id'')::bigint, ''a typing error of theirs'')', 'dismiss a delivery');
reset session authorization;
select is(waiting(), '{}', 'dismiss: it waits no more');
select is(array(select concat_ws(' ', action, order_ref, decided_by, note) from foloosi.decisions where merchant = merchant()),
    array['dismiss O-1 foloosi_operator a typing error of theirs'], 'dismiss: by which role, why');
select throws_like('select foloosi.dismiss_attention(current_setting(''t.id'')::bigint)',
    'delivery % does not wait for a person: foloosi_operator dismissed it at 20%Z', 'dismiss: twice is an error, that says by which role and when');
select is((select count(*)::int from foloosi.decisions where merchant = merchant()), 1, 'dismiss: twice changes nothing');
select is(deliver('success', 'O-1', 'N-1', null, 5), array['duplicate O-1 paid'], 'dismiss: a repeat');
select is(waiting(), '{}', 'dismiss: does not bring it back');
select throws_ok('select foloosi.dismiss_attention((select min(id) from foloosi.deliveries where merchant = merchant()))', '55000', null,
    'dismiss: a delivery that never waited');
select given_delivery('x', fault => 'not JSON');
select given('select foloosi.dismiss_attention(waiting_delivery())');
select is(waiting(), '{}', 'dismiss: a rejected one');
select given_delivery('chargeback', 'O-1', 'N-1');
select is(waiting(), array['delivery O-1 status'], 'an unexpected status waits');
select given('select foloosi.dismiss_attention(waiting_delivery())');
select is(waiting(), '{}', 'dismiss: an ignored one');

select given('select foloosi.register_order(%m, ''O-2'', 1, ''AED'')');
select given_delivery('success', 'O-2', 'N-2');
select given_delivery('success', 'O-1', 'N-3');
select throws_ok('select foloosi.dismiss_attention((select id from foloosi.orders where merchant = merchant() and order_ref = ''O-2''))', '42809', null,
    'dismiss: an order in review is decided, not dismissed');
select throws_ok('select foloosi.dismiss_attention(payback_id(''N-3''))', '42809', null, 'dismiss: a payback is settled, not dismissed');
select throws_ok('select foloosi.dismiss_attention(transaction_id(''N-1''))', 'P0002', null, 'dismiss: a transaction does not wait for a person');
select throws_ok('select foloosi.dismiss_attention(-1)', 'P0002', null, 'dismiss: nothing has that number');
select throws_ok('select foloosi.dismiss_attention(null)', 'P0002', null, 'dismiss: no number');
select is(waiting(), array['order O-2 amount_differs', 'payback O-1 double_payment'], 'dismiss: and both still wait');

select * from finish();
rollback;
