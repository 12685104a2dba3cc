-- SPDX-License-Identifier: MIT
-- Which transaction a delivery speaks of, and which of an order's transactions pays it.
begin;
\ir tools.psql
select no_plan();

-- ---------------------------------------------------------------- one reference, two numbers, one order

select example('two attempts');
select given_delivery('failed', 'O-1', 'N-1', 'R-1');
select is(deliver('success', 'O-1', 'N-2', 'R-1'), array[
    'recorded O-1 paid (late)',
    'event 2: order.success O-1 N-2 (late)',
    'order O-1: cancelled 100 AED by N-1 -> paid 100 AED by N-2 (late) late',
    'transaction 2: N-2/R-1 captured for O-1 100 AED'], 'a payment intent with a second try: two attempts, the order is paid');
select is(waiting(), '{}', 'two attempts: nothing waits');
select is(deliver('failed', 'O-1', 'N-3', 'R-1'), array['recorded O-1 paid', 'transaction 3: N-3/R-1 failed for O-1 100 AED'], 'two attempts: a third that failed');
select is(deliver('refund', null, null, 'R-1'), array[
    'recorded O-1 refunded (refunded)',
    'event 3: order.refund O-1 N-2',
    'order O-1: paid 100 AED by N-2 (late) late -> refunded 100 AED by N-2 late',
    'transaction 2: N-2/R-1 captured for O-1 100 AED -> N-2/R-1 captured for O-1 100 AED refunded 100'], 'a reference that several share speaks of the captured one');

select example('two attempts, the other way round');
select given_delivery('success', 'O-1', 'N-2', 'R-1');
select is(deliver('failed', 'O-1', 'N-1', 'R-1'), array['recorded O-1 paid', 'transaction 2: N-1/R-1 failed for O-1 100 AED'], 'two attempts: the failure comes later');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array[
    'review O-1 paid (reference_conflict)',
    'transaction 2: N-1/R-1 failed for O-1 100 AED -> N-1/R-1 captured for - 100 AED'], 'row 19: both captured are no two attempts: what was failed is captured, and loses its order');
select is(waiting(), array['delivery O-1 reference_conflict'], 'row 19: waits for a person');
select is(deliver('success', 'O-1', 'N-1', 'R-1', copy => 2), array['duplicate O-1 paid'], 'row 5: its order was taken away, and comes back by no delivery');
select is((act('select foloosi.assign_transaction(transaction_id(''N-1''), ''O-1'')'))[2], 'payback 1: N-1 due double_payment 100 AED for O-1', 'row 17: but by a person');

select example('two attempts of two orders');
select given_delivery('failed', 'O-1', 'N-1', 'R-1');
select is(deliver('success', 'O-2', 'N-2', 'R-1'), array['review O-2 - (reference_conflict)', 'transaction 2: N-2/R-1 captured for - 100 AED'],
    'row 19: another order: no two attempts');
select is((deliver('success', null, 'N-3', 'R-1'))[1], 'review - - (reference_conflict)', 'row 19: no order: no two attempts');

select example('two attempts, and one has lost its order');
select given_delivery('failed', 'O-1', 'N-1', 'R-1');
select given_delivery('failed', 'O-2', 'N-2');
select given_delivery('success', 'O-3', 'N-2');
select is(deliver('failed', 'O-1', 'N-2', 'R-1'), array['review O-1 cancelled (reference_conflict)'], 'row 19: what lost its order names none: no two attempts, and no reference is learned');

select example('two attempts under call-back', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1', 'R-1');
select is((deliver('success', 'O-1', 'N-2', 'R-1'))[1], 'review O-1 verifying (reference_conflict)', 'row 19: what waits for the provider''s word may be captured');

select example('two attempts under call-back, the one that failed succeeds after all', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1', 'R-1');
select is(deliver('failed', 'O-1', 'N-2', 'R-1'), array['recorded O-1 verifying', 'transaction 2: N-2/R-1 failed for O-1 100 AED'], 'two attempts: the second failed');
select is(deliver('success', 'O-1', 'N-2', 'R-1'), array[
    'review O-1 verifying (reference_conflict)',
    'transaction 2: N-2/R-1 failed for O-1 100 AED -> N-2/R-1 verifying for - 100 AED'], 'row 19: both may be captured');

select example('two attempts under call-back, the first of which failed', verify => 'callback');
select given_delivery('failed', 'O-1', 'N-1', 'R-1');
select is((deliver('success', 'O-1', 'N-2', 'R-1'))[1], 'recorded O-1 verifying (verifying)', 'two attempts: the second waits for the provider''s word');
select is((deliver('success', 'O-1', 'N-3', 'R-1'))[1], 'review O-1 verifying (reference_conflict)', 'row 19: a third would be the second capture');
select is((deliver('success', 'O-1', 'N-1', 'R-1'))[1], 'review O-1 verifying (reference_conflict)', 'row 19: so would the first');
select given_delivery('success', 'O-1', 'N-4');
select is((deliver('failed', 'O-1', 'N-4', 'R-1'))[1], 'review O-1 verifying (reference_conflict)', 'row 19: what waits without a reference does not learn this one');

select example('two attempts under call-back, one denied', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1', 'R-1');
select given('select foloosi.verify_transaction(transaction_id(''N-1''), ''failed'')');
select is((deliver('success', 'O-1', 'N-2', 'R-1'))[1], 'review O-1 review (order_in_review)', 'two attempts: what was denied is no capture');
select is((deliver('refund', null, 'N-1', 'R-1'))[1], 'review O-1 review (refund_unknown)', 'nor is it one for its refund');

-- ---------------------------------------------------------------- twins

select example('twins');
select given_delivery('success', 'O-1', 'N-1');
select is(deliver('success', 'O-1', null, 'R-1'), array[
    'recorded O-1 paid (double_payment)',
    'event 2: payback.check O-1 R-1 (double_payment) payback 1',
    'payback 1: R-1 check double_payment 100 AED for O-1',
    'transaction 2: -/R-1 captured for O-1 100 AED'], 'one lacks the number, the other the reference: perhaps one payment, so a person looks');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array['review O-1 paid (one_or_two)'], 'one_or_two: nothing is merged or learned');
select is(waiting(), array['payback O-1 double_payment', 'delivery O-1 one_or_two'], 'one_or_two: waits for a person');
select given_delivery('success', 'O-1', 'N-3', 'R-3');
select is((facts(merchant()))->>'payback 2', 'N-3 check double_payment 100 AED for O-1', 'twins: what comes besides is to check, too');

select example('no twins');
select given_delivery('success', 'O-1', 'N-1', 'R-1');
select is((deliver('success', 'O-1', null, 'R-2'))[3], 'payback 1: R-2 due double_payment 100 AED for O-1', 'one has both names, the other a reference of its own: two payments');
select given_delivery('success', 'O-2', 'N-3');
select is((deliver('success', 'O-2', 'N-4'))[3], 'payback 2: N-4 due double_payment 100 AED for O-2', 'two numbers: two payments');
select given_delivery('success', 'O-3', 'N-5');
select given_delivery('failed', 'O-3', null, 'R-5');
select is((deliver('success', 'O-3', 'N-6'))[3], 'payback 3: N-6 due double_payment 100 AED for O-3', 'only captures are twins');

select example('linked by a third');
select given_delivery('failed', 'O-1', 'N-1');
select given_delivery('failed', 'O-2', null, 'R-1');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array[
    'review O-1 cancelled (one_or_two)',
    'transaction 1: N-1/- failed for O-1 100 AED -> N-1/- captured for - 100 AED'], 'one_or_two: a success of a known failed one is captured, and loses its order');

-- ---------------------------------------------------------------- a test number that shares a reference

select example('TEST beside a live transaction');
select given_delivery('failed', 'O-1', null, 'R-1');
select given_delivery('success', 'O-2', 'N-2', 'R-2');
create temporary table before as select foloosi.transactions.* from foloosi.transactions where merchant = merchant();
select is(deliver('success', 'O-1', 'TEST1', 'R-1'), array['review O-1 cancelled (test_transaction)', 'transaction 3: TEST1/- test for - 100 AED'],
    'row 3: of the reference of one without number');
select is(deliver('failed', 'O-2', 'TEST2', 'R-2'), array['review O-2 paid (test_transaction)', 'transaction 4: TEST2/- test (failed) for - 100 AED'], 'row 3: of the reference of another number');
select is(deliver('refund', 'O-2', 'TEST3', 'R-2'), array['review - - (test_transaction)', 'transaction 5: TEST3/- test for -'], 'row 3: a refund');
select is_empty('select * from before except select t.* from foloosi.transactions t', 'row 3: touches no other row');
select is(count(*)::int, 0, 'row 3: no refund is known') from foloosi.refunds where merchant = merchant();
select is(array_agg(money_left), array_fill(null::numeric, array[3]), 'row 3: never captured') from foloosi.transactions where merchant = merchant() and state = 'test';
select throws_ok(format('select foloosi.assign_transaction(%s, ''O-2'')', transaction_id(n)), '55000', null, 'row 3: assign refuses ' || n) from unnest(array['TEST1', 'TEST2', 'TEST3']) n;
select is(deliver('success', 'O-1', null, 'R-1', copy => 2), array[
    'recorded O-1 paid (late)',
    'event 3: order.success O-1 R-1 (late)',
    'order O-1: cancelled 100 AED by R-1 -> paid 100 AED by R-1 (late) late',
    'transaction 1: -/R-1 failed for O-1 100 AED -> -/R-1 captured for O-1 100 AED'], 'the live transaction goes on as if nothing had been');

-- ---------------------------------------------------------------- row 4: captured, without an order

select example('row 4: failed for one order, captured for another');
select given_delivery('failed', 'O-1', 'N-1', 'R-1');
select is(deliver('success', 'O-2', 'N-1', 'R-1'), array[
    'review O-2 - (other_order)',
    'event 2: order.review - N-1 (other_order)',
    'transaction 1: N-1/R-1 failed for O-1 100 AED -> N-1/R-1 captured for - 100 AED'], 'row 4: captured, without an order, order.review');
select is(waiting(), array['delivery O-2 other_order'], 'row 4: waits for a person');
select is((facts(merchant()))->>'order O-1', 'cancelled 100 AED by N-1', 'row 4: its own order is not moved');
select is((facts(merchant()))->>'order O-2', null, 'row 4: the other is not created');
select is((act('select foloosi.assign_transaction(transaction_id(''N-1''), ''O-2'', true)'))[1:2], array['event 3: order.success O-2 N-1', 'order O-2: paid 100 AED by N-1'],
    'row 4: a person says for which');
select is(waiting(), '{}', 'row 4: and then nothing waits');

select example('row 4: under call-back', verify => 'callback');
select given_delivery('failed', 'O-1', 'N-1');
select is((deliver('success', 'O-2', 'N-1'))[3], 'transaction 1: N-1/- failed for O-1 100 AED -> N-1/- verifying for - 100 AED', 'row 4: verifying, without an order');

-- ---------------------------------------------------------------- row 5: the order that was missing

select example('row 5: names the order that its transaction lacks');
select given_delivery('success', null, 'N-1');
select is(deliver('success', 'O-1', 'N-1'), array[
    'recorded O-1 paid',
    'event 2: order.success O-1 N-1',
    'order O-1: paid 100 AED by N-1',
    'transaction 1: N-1/- captured for - 100 AED -> N-1/- captured for O-1 100 AED'], 'row 12: reconciliation fed it without a key, its webhook comes with one');
select is(waiting(), '{}', 'row 12: and what had none waits no longer');
select given('select foloosi.register_order(%m, ''O-2'', 250, ''AED'')');
select given_delivery('success', null, 'N-2');
select is((deliver('success', 'O-2', 'N-2'))[1], 'review O-2 review (amount_differs)', 'row 14');
select given_delivery('success', null, 'N-3');
select is((deliver('success', 'O-1', 'N-3'))[1], 'recorded O-1 paid (double_payment)', 'row 17');
select given_delivery('failed', null, 'N-4');
select is((deliver('failed', 'O-4', 'N-4'))[1], 'recorded O-4 cancelled', 'row 10: a failure, too');
select is(deliver('success', 'O-9', 'N-1', copy => 2), array['review O-9 - (other_order)'], 'row 4: from then on');

-- ---------------------------------------------------------------- who pays

select example('the right sum first');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given_delivery('success', 'O-1', 'N-1', amount => 60);
select given_delivery('success', 'O-1', 'N-2', amount => 40);
select given_delivery('success', 'O-1', 'N-3', amount => 100);
select given_delivery('success', 'O-1', 'N-4', amount => 100);
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''paid'')'), array[
    'event 2: order.success O-1 N-3 (resolved)',
    'event 3: payback.due O-1 N-1 (double_payment) payback 1',
    'event 4: payback.due O-1 N-2 (double_payment) payback 2',
    'event 5: payback.due O-1 N-4 (double_payment) payback 3',
    'order O-1: review 100 AED by N-1 (amount_differs) registered -> paid 100 AED by N-3 registered decided by postgres',
    'payback 1: N-1 due double_payment 60 AED for O-1',
    'payback 2: N-2 due double_payment 40 AED for O-1',
    'payback 3: N-4 due double_payment 100 AED for O-1'], 'the first that equals the expected sum');

select example('none is right');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given_delivery('success', 'O-1', 'N-1', amount => 60);
select given_delivery('success', 'O-1', 'N-2', amount => 40);
select throws_ok(format('select foloosi.resolve_order(%L, ''O-1'', ''paid'')', merchant()), '22004', null, 'amount differs: a note is required');
select throws_ok(format('select foloosi.resolve_order(%L, ''O-1'', ''paid'', '''')', merchant()), '22004', null, 'an empty one is none');
select is((act('select foloosi.resolve_order(%m, ''O-1'', ''paid'', ''deposit'')'))[1:2], array['event 2: order.success O-1 N-1 (resolved)', 'event 3: payback.due O-1 N-2 (double_payment) payback 1'],
    'what put it in question pays');

select example('another currency is another sum');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given_delivery('success', 'O-1', 'N-1', amount => 100, currency => 'USD');
select throws_ok(format('select foloosi.resolve_order(%L, ''O-1'', ''paid'')', merchant()), '22004', null, 'currency differs: a note is required');

select example('a payback of what pays');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select given('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'')');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''paid'')'), array[
    'event 5: order.success O-1 N-1 (resolved)',
    'order O-1: cancelled 100 AED by N-1 decided by postgres -> paid 100 AED by N-1 decided by postgres',
    'payback 2: N-1 due order_closed 100 AED for O-1 -> N-1 settled withdrawn 100 AED for O-1'], 'order_closed is withdrawn; the double payment stays due');

-- ---------------------------------------------------------------- second_payment = check

select example('second_payment = check', second_payment => 'check');
select given_delivery('success', 'O-1', 'N-1', amount => 30);
select is((deliver('success', 'O-1', 'N-2', amount => 70))[2:3], array['event 2: payback.check O-1 N-2 (double_payment) payback 1', 'payback 1: N-2 check double_payment 70 AED for O-1'],
    'deposit and rest: a person looks first');
select is(act('select foloosi.withdraw_payback(payback_id(''N-2''), ''the rest'')'), array[
    'payback 1: N-2 check double_payment 70 AED for O-1 -> N-2 settled withdrawn 70 AED for O-1 settled by postgres'], 'and says that nothing has to go back');
select is(deliver('success', 'O-1', 'N-2', amount => 70, copy => 2), array['duplicate O-1 paid'], 'no delivery opens it again');
select is((deliver('success', 'O-1', 'N-3'))[3], 'payback 2: N-3 check double_payment 100 AED for O-1', 'the next is asked about again');
select given('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'')');
select is((select array_agg(f.value order by f.key) from jsonb_each_text(facts(merchant())) f where f.key like 'payback%'), array[
    'N-2 settled withdrawn 70 AED for O-1 settled by postgres', 'N-3 check double_payment 100 AED for O-1', 'N-1 due order_closed 30 AED for O-1',
    'N-2 check order_closed 70 AED for O-1'], 'closed afterwards: the rest goes back, too; a person looks, who had said that it does not');
select given('select foloosi.withdraw_payback(payback_id(''N-2''), ''it was another order''''s'')');
select is(deliver('failed', 'O-1', 'N-9'), array['recorded O-1 cancelled', 'transaction 4: N-9/- failed for O-1 100 AED'], 'and what is answered then stays answered');
select is(deliver('success', 'O-1', 'N-8'), array[
    'review O-1 cancelled (order_closed)',
    'event 7: payback.due O-1 N-8 (order_closed) payback 5',
    'payback 5: N-8 due order_closed 100 AED for O-1',
    'transaction 5: N-8/- captured for O-1 100 AED'], 'whatever comes besides');

select example('a third delivery links the payer and what doubles it');
select given_delivery('success', 'O-1', 'N-0', 'R-0');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('refund', null, null, 'R-1');
select is((facts(merchant()))->>'payback 1', 'N-1 due double_payment 100 AED for O-1', 'a refund of something unknown');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array[
    'review O-1 paid (one_or_two)',
    'event 3: payback.check O-1 N-1 (double_payment) payback 1',
    'payback 1: N-1 due double_payment 100 AED for O-1 -> N-1 check double_payment 100 AED for O-1'], 'one_or_two: that was perhaps of this one: to check');

select example('a third delivery links two orders');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-2', null, 'R-1');
select given_delivery('success', 'O-2', 'N-2', 'R-2');
select is((facts(merchant()))->>'payback 1', 'N-2 due double_payment 100 AED for O-2', 'two payments of one order');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array[
    'review O-1 paid (one_or_two)',
    'event 4: payback.check O-2 N-2 (double_payment) payback 1',
    'payback 1: N-2 due double_payment 100 AED for O-2 -> N-2 check double_payment 100 AED for O-2'], 'one_or_two: what pays it is perhaps the other order''s, and this one pays: to check');

select * from finish();
rollback;
