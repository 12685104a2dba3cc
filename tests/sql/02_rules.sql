-- SPDX-License-Identifier: MIT
-- The order rules: each row of the table, each policy, each sentence under it.
begin;
\ir tools.psql
select no_plan();

-- ---------------------------------------------------------------- row 1: the same bytes

select example('row 1: of a recorded one');
select given_delivery('success', 'O-1', 'N-1', 'R-1');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array['duplicate O-1 paid'], 'row 1: the same bytes again change nothing');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array['duplicate O-1 paid'], 'row 1: nor do they the third time');
select is(array(select row(d.repeats, d.last_seen_at is not null, d.outcome) from foloosi.deliveries d where d.merchant = merchant())::text[],
    array['(2,t,recorded)'], 'row 1: repeats and their time are counted on the first delivery');
select is(count(*)::int, 1, 'row 1: the bytes are kept once')
    from foloosi.bodies b join foloosi.deliveries d on d.id = b.delivery_id where d.merchant = merchant();
select given('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'', ''refused'')');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array['duplicate O-1 cancelled'], 'row 1: the answer has the order''s state of now');
select is(deliver('success', 'O-1', 'N-1', 'R-1', 100, 'AED', 2), array['duplicate O-1 cancelled'],
    'row 5, not 16: what is known opens no payback a second time');

select example('row 1: of a review, of a duplicate');
select given_delivery('success', null, 'N-1');
select is(deliver('success', null, 'N-1'), array['duplicate - -'], 'row 1: of a review: no second order.review');
select is(deliver('success', null, 'N-1', copy => 2), array['duplicate - -'], 'row 5: other bytes');
select is(deliver('success', null, 'N-1', copy => 2), array['duplicate - -'], 'row 1: of a duplicate');
select is(array_agg(d.repeats order by d.id), array[1, 1], 'row 1: each delivery has its own count')
    from foloosi.deliveries d where d.merchant = merchant();

select example('row 1: of a rejected one');
select is(deliver('success', 'O-1', 'N-1', fault => 'not JSON'), array['rejected O-1 -'], 'a rejected one');
select is(deliver('success', 'O-1', 'N-1', fault => 'not JSON'), array['rejected O-1 -'], 'row 1: a repeat of a rejected one is no duplicate');
select is(record(merchant(), ('success', 'O-1', 'N-1', null, 100, 'AED', 1, null, (d('success', 'O-1', 'N-1', fault => 'not JSON')).body)::delivery),
    array['recorded O-1 paid'], 'row 1: a repeat of a rejected one is tried afresh: now it can be read');
select is(record(merchant(), ('success', 'O-1', 'N-1', null, 100, 'AED', 1, null, (d('success', 'O-1', 'N-1', fault => 'not JSON')).body)::delivery),
    array['duplicate O-1 paid'], 'row 1: and then it is a recorded one');
select is(array(select row(d.repeats, d.outcome, d.detail) from foloosi.deliveries d where d.merchant = merchant())::text[],
    array['(3,recorded,)'], 'row 1: all of that is one delivery');
select is(waiting(), '{}', 'row 1: which does not wait any more');
select is(deliver('success', 'O-1', 'N-1', fault => 'not JSON'), array['duplicate O-1 paid'],
    'row 1: a recorded one is not rejected afterwards');

select example('row 1: of an ignored one');
select is(deliver('chargeback', 'O-1', 'N-1'), array['ignored O-1 - (status)'], 'another status');
select is(deliver('chargeback', 'O-1', 'N-1'), array['ignored O-1 - (status)'], 'row 1: a repeat of an ignored one is no duplicate');
select is(record(merchant(), ('success', 'O-1', 'N-1', null, 100, 'AED', 1, null, (d('chargeback', 'O-1', 'N-1')).body)::delivery), array['recorded O-1 paid'],
    'row 1: a repeat of an ignored one is tried afresh: now it is understood');
select is(deliver('chargeback', 'O-1', 'N-1'), array['duplicate O-1 paid'], 'row 1: and then it is a recorded one');

select example('row 1: the order key has changed');
select given_delivery('success', 'O-1', 'N-1');
select is(record(merchant(), ('success', 'O-2', 'N-1', null, 100, 'AED', 1, null, (d('success', 'O-1', 'N-1')).body)::delivery), array['duplicate O-1 paid'],
    'row 1: the answer is of the order that it spoke of when it was recorded');
select is((facts(merchant()))->>'order O-2', null, 'row 1: and no other is created');

select example('row 1: ignored, then rejected');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('pending', 'O-1', 'N-1');
select is(record(merchant(), ('pending', null, null, null, null, null, 1, 'not JSON', (d('pending', 'O-1', 'N-1')).body)::delivery),
    array['rejected - -'], 'row 1: tried afresh, an ignored one may be rejected');
select is((select row(outcome, rule, reason, detail, order_ref, order_state, transaction_id, attention, repeats)::text from foloosi.deliveries
           where merchant = merchant() order by id desc limit 1), '(rejected,0,,"not JSON",,,,t,1)', 'row 1: and nothing of the ignored one is left');
select given('select foloosi.dismiss_attention(max(id)) from foloosi.deliveries where merchant = %m');
select is(record(merchant(), ('pending', null, null, null, null, null, 1, 'not JSON', (d('pending', 'O-1', 'N-1')).body)::delivery),
    array['rejected - -'], 'row 1: rejected once more');
select is(waiting(), '{}', 'row 1: what a person dismissed does not come back with a repeat');

select example('row 1: of another merchant');
select given_delivery('success', 'O-1', 'N-1');
select example('row 1: the other merchant');
select is((deliver('success', 'O-1', 'N-1'))[1], 'recorded O-1 paid', 'row 1: another merchant''s bytes, orders and numbers are another merchant''s');

-- ---------------------------------------------------------------- row 2: another status

select example('row 2');
select is(deliver('pending', 'O-1', 'N-1', 'R-1'), array['ignored O-1 - (status)'], 'row 2: of an unknown order: creates nothing');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select is(deliver('approved', 'O-1', 'N-1', 'R-1'), array['ignored O-1 pending (status)'], 'row 2: of a pending order: never pays');
select is(deliver('successful', 'O-1', 'N-1', 'R-1'), array['ignored O-1 pending (status)'], 'row 2: nor does what looks like success');
select is(deliver('pending'), array['ignored - - (status)'], 'row 2: without any key');
select is(deliver(repeat('x', :limit_status), 'O-1', 'N-1'), array['ignored O-1 pending (status)'], 'row 2: as long as the handler lets pass');
select is(count(*)::int, 5, 'row 2: all are kept with their bytes')
    from foloosi.bodies b join foloosi.deliveries d on d.id = b.delivery_id where d.merchant = merchant() and d.outcome = 'ignored';
select is((select detail from foloosi.deliveries where merchant = merchant() order by id limit 1), 'status pending', 'row 2: the status is shown');

select example('row 2: before the other rows');
select is(deliver('pending', 'O-1', 'TEST-1'), array['ignored O-1 - (status)'], 'row 2 before row 3');
select given_delivery('success', 'O-1', 'N-1');
select is(deliver('pending', 'O-2', 'N-1'), array['ignored O-2 - (status)'], 'row 2 before row 4');
select is(deliver('refunded', 'O-1', 'N-1'), array['ignored O-1 paid (status)'], 'row 2: what looks like a refund is none');

-- ---------------------------------------------------------------- row 3: a test transaction at a live merchant

select example('row 3');
select is(deliver('success', 'O-1', 'TEST123', 'R-1'), array[
    'review O-1 - (test_transaction)',
    'transaction 1: TEST123/- test for - 100 AED'], 'row 3: a transaction of its own is kept, never captured, without the reference; no order created, no event');
select is(waiting(), array['delivery O-1 test_transaction'], 'row 3: waits for a person');
select is(deliver('success', 'O-1', 'TEST123', 'R-1', copy => 2), array['review O-1 - (test_transaction)'], 'row 3 before row 5');
select given('select foloosi.register_order(%m, ''O-2'', 100, ''AED'')');
select is(deliver('success', 'O-2', 'TEST124', 'R-2'), array[
    'review O-2 pending (test_transaction)',
    'transaction 2: TEST124/- test for - 100 AED'], 'row 3: no order moved');
select is(deliver('failed', 'O-2', 'TEST', 'R-3'), array[
    'review O-2 pending (test_transaction)',
    'transaction 3: TEST/- test (failed) for - 100 AED'], 'row 3: a failure too, and a number that is only TEST');
select is((deliver('success', 'O-3', 'ATEST1', 'R-4'))[1], 'recorded O-3 paid', 'row 3: only numbers that begin with TEST');
select is((deliver('success', 'O-4', null, 'TEST125'))[1], 'recorded O-4 paid', 'row 3: only numbers, not references');
select is(deliver('failed', 'O-1', 'TEST123', 'R-1'), array['review O-1 - (test_transaction)'],
    'row 3: a failed does not rewrite what succeeded');

select example('row 3: at a test merchant', mode => 'test');
select is((deliver('success', 'O-1', 'TEST123'))[1], 'recorded O-1 paid', 'row 3: mode test believes them');
select is((deliver('success', 'O-2', 'L-123'))[1], 'recorded O-2 paid', 'row 3: and others');
select given_delivery('failed', 'O-3', 'TEST124');
select given('select foloosi.set_merchant(%m)');
select is(deliver('success', 'O-3', 'TEST124'), array['review O-3 cancelled (test_transaction)'],
    'row 3: known from the time of tests: neither it nor its order is moved');

select example('row 3: no row in merchants');
select given('delete from foloosi.merchants where merchant = %m');
select is((deliver('success', 'O-1', 'TEST123'))[1], 'review O-1 - (test_transaction)', 'row 3: live is the default');

-- ---------------------------------------------------------------- row 4: a known transaction, another order

select example('row 4');
select given_delivery('success', 'O-1', 'N-1', 'R-1');
select given('select foloosi.register_order(%m, ''O-2'', 100, ''AED'')');
select is(deliver('success', 'O-2', 'N-1', 'R-1'), array['review O-2 pending (other_order)'], 'row 4: the other order is not moved');
select is(deliver('success', 'O-3', 'N-1', 'R-1'), array['review O-3 - (other_order)'], 'row 4: nor created');
select is(deliver('failed', 'O-3', 'N-1', 'R-1'), array['review O-3 - (other_order)'], 'row 4 before row 7: nor its own order');
select is(deliver('success', 'O-3', 'N-1', 'R-1', 7), array['review O-3 - (other_order)'], 'row 4 before row 6');
select is(waiting(), array['delivery O-2 other_order', 'delivery O-3 other_order', 'delivery O-3 other_order', 'delivery O-3 other_order'],
    'row 4: each waits for a person');
select given_delivery('failed', 'O-4', 'N-4');
select is(deliver('success', 'O-5', 'N-4'), array[
    'review O-5 - (other_order)',
    'event 3: order.review - N-4 (other_order)',
    'transaction 2: N-4/- failed for O-4 100 AED -> N-4/- captured for - 100 AED'], 'row 4: a success of a known failure is captured, without an order, order.review');
select is((facts(merchant()))->>'order O-4', 'cancelled 100 AED by N-4', 'row 4: the order that it had is not moved');
select is(deliver('success', 'O-5', 'N-4', copy => 2), array['duplicate O-5 -'], 'row 5: neither gets it by what is said again: only a person gives it one');
select is(deliver('success', 'O-5', null, 'R-1'), array['review O-5 - (other_order)'], 'row 4: by reference alone');

-- ---------------------------------------------------------------- row 5: nothing new

select example('row 5');
select given_delivery('success', 'O-1', 'N-1', 'R-1');
select is(deliver('success', 'O-1', 'N-1', 'R-1', 100.00, copy => 2), array['duplicate O-1 paid'], 'row 5: 100.00 is 100');
select is(deliver('success', null, 'N-1', 'R-1'), array['duplicate O-1 paid'], 'row 5: its own order wins over a missing key');
select is(deliver('success', null, null, 'R-1'), array['duplicate O-1 paid'], 'row 5: by reference alone');
select is(deliver('success', null, 'N-1'), array['duplicate O-1 paid'], 'row 5: by number alone');
select is(waiting(), '{}', 'row 5: nothing waits for a person');
select given_delivery('failed', 'O-2', 'N-2', 'R-2', null, null);
select is(deliver('failed', 'O-2', 'N-2', 'R-2', null, null, 2), array['duplicate O-2 cancelled'], 'row 5: a failure without amount');
select is(deliver('failed', 'O-2', 'N-2', 'R-2', 100, 'AED'), array[
    'recorded O-2 cancelled',
    'transaction 2: N-2/R-2 failed for O-2 -> N-2/R-2 failed for O-2 100 AED'], 'row 11, not 5: an amount is something new');

select example('row 5: names that were missing');
select given_delivery('success', 'O-1', null, 'R-1');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array[
    'duplicate O-1 paid',
    'event 1: order.success O-1 R-1 -> order.success O-1 N-1',
    'order O-1: paid 100 AED by R-1 -> paid 100 AED by N-1',
    'transaction 1: -/R-1 captured for O-1 100 AED -> N-1/R-1 captured for O-1 100 AED'], 'row 5: a number is learned');
select is(deliver('success', 'O-1', 'N-1', copy => 2), array['duplicate O-1 paid'], 'row 5: and known from then on');
select given_delivery('success', 'O-2', 'N-2');
select is((deliver('success', 'O-2', 'N-2', 'R-2'))[2], 'transaction 2: N-2/- captured for O-2 100 AED -> N-2/R-2 captured for O-2 100 AED',
    'row 5: a reference is learned');
select is(deliver('success', 'O-2', null, 'R-2'), array['duplicate O-2 paid'], 'row 5: and known from then on');
select given_delivery('success', 'O-3', 'N-3');
select is((deliver('success', 'O-4', 'N-3', 'R-3'))[2], 'transaction 3: N-3/- captured for O-3 100 AED -> N-3/R-3 captured for O-3 100 AED',
    'row 4: a reference is learned');
select given_delivery('success', 'O-5', 'N-5');
select is((deliver('success', 'O-5', 'N-5', 'R-5', 1))[2], 'transaction 4: N-5/- captured for O-5 100 AED -> N-5/R-5 captured for O-5 100 AED',
    'row 6: a reference is learned, and no amount');

-- ---------------------------------------------------------------- row 6: another amount of a known success

select example('row 6');
select given_delivery('success', 'O-1', 'N-1', 'R-1');
select is(deliver('success', 'O-1', 'N-1', 'R-1', 99.99), array['review O-1 paid (amount_contradiction)'], 'row 6: another amount: nothing moves');
select is(deliver('success', 'O-1', 'N-1', 'R-1', 100, 'USD'), array['review O-1 paid (amount_contradiction)'], 'row 6: another currency');
select is(waiting(), array['delivery O-1 amount_contradiction', 'delivery O-1 amount_contradiction'], 'row 6: waits for a person');
select is((select detail from foloosi.deliveries where merchant = merchant() and outcome = 'review' order by id limit 1),
    'known as 100.00 AED, now 99.99 AED', 'row 6: a person reads the difference');
select given_delivery('success', null, 'N-2');
select is(deliver('success', 'O-2', 'N-2', null, 5), array['review O-2 - (amount_contradiction)'], 'row 6: of a success without order, that now names one');

-- ---------------------------------------------------------------- row 7: failed of a known success

select example('row 7');
select given_delivery('success', 'O-1', 'N-1', 'R-1');
select is(deliver('failed', 'O-1', 'N-1', 'R-1'), array[
    'review O-1 paid (status_contradiction)',
    'event 2: payback.check O-1 N-1 (status_contradiction) payback 1',
    'payback 1: N-1 check status_contradiction 100 AED for O-1'], 'row 7: paid stays paid, the transaction captured; a payback to check');
select is(waiting(), array['payback O-1 status_contradiction'], 'row 7: the payback waits for a person, the delivery is explained by it');
select is(deliver('failed', 'O-1', 'N-1', 'R-1', copy => 2), array['review O-1 paid (status_contradiction)'], 'row 7: once more opens and emits nothing');
select is(deliver('failed', null, null, 'R-1', null, null), array['review O-1 paid (status_contradiction)'], 'row 7: by reference, without key or amount');
select is(deliver('success', 'O-1', 'N-1', 'R-1', copy => 3), array['duplicate O-1 paid'], 'row 5: it is still a known success');
select given('select foloosi.settle_payback(payback_id(''N-1''), ''looked: all is well'')');
select is(deliver('failed', 'O-1', 'N-1', 'R-1', copy => 4), array['recorded O-1 refunded (refunded_before)'], 'row 24, not 7: once it was settled, its money has gone back');
select is(waiting(), array['delivery O-1 refunded_before'], 'row 24: so the delivery itself waits');

select example('row 7: a payback is due');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select is(deliver('failed', 'O-1', 'N-2'), array[
    'review O-1 paid (status_contradiction)',
    'event 3: payback.check O-1 N-2 (status_contradiction) payback 1',
    'payback 1: N-2 due double_payment 100 AED for O-1 -> N-2 check double_payment 100 AED for O-1'], 'row 7: the open payback goes on hold');
select is(deliver('failed', 'O-1', 'N-2', copy => 2), array['review O-1 paid (status_contradiction)'], 'row 7: only once');

select example('row 7: without an order');
select given_delivery('success', null, 'N-1');
select is(deliver('failed', null, 'N-1'), array[
    'review - - (status_contradiction)'], 'row 7: money that names no order has no payback');
select is(waiting(), array['delivery - no_order_key', 'delivery - status_contradiction'], 'row 7: so the delivery itself waits');
select given_delivery('success', null, 'N-2');
select is(deliver('failed', 'O-2', 'N-2'), array['review O-2 - (status_contradiction)'], 'row 7: an order that only the failure names is not its order');
select given_delivery('success', 'O-3', 'N-3');
select is(act('select foloosi.assign_transaction(transaction_id(''N-1''), ''O-3'')'), array[
    'event 4: payback.check O-3 N-1 (double_payment) payback 1',
    'payback 1: N-1 check double_payment 100 AED for O-3',
    'transaction 1: N-1/- captured for - 100 AED -> N-1/- captured for O-3 100 AED'], 'row 17 by a person: a doubtful one is to check');

-- ---------------------------------------------------------------- rows 8 and 9: no order key

select example('row 8');
select is(deliver('failed', null, 'N-1', 'R-1'), array[
    'recorded - -',
    'transaction 1: N-1/R-1 failed for - 100 AED'], 'row 8: the transaction is kept, no order, no event');
select is(deliver('failed', amount => null, currency => null), array[
    'recorded - -',
    'transaction 2: -/- failed for -'], 'row 8: a failure that names nothing at all');
select is(deliver('failed', amount => null, currency => null), array['duplicate - -'], 'row 1: its bytes are its key');
select is((deliver('failed', amount => null, currency => null, copy => 2))[2], 'transaction 3: -/- failed for -', 'row 8: other bytes: another transaction');
select is((deliver('failed', '', '', '', null, null))[2], 'transaction 4: -/- failed for -', 'row 8: empty is absent');
select is((deliver('failed', '', '', '', null, null, 2))[2], 'transaction 5: -/- failed for -', 'row 8: two empty numbers are not equal numbers');
select is(deliver('failed', null, 'N-1', 'R-1', 50), array[
    'recorded - -',
    'transaction 1: N-1/R-1 failed for - 100 AED -> N-1/R-1 failed for - 50 AED'], 'row 8: of a known failure, with another amount');
select is(waiting(), '{}', 'row 8: nothing waits for a person');

select example('row 9');
select is(deliver('success', null, 'N-1', 'R-1'), array[
    'review - - (no_order_key)',
    'event 1: order.review - N-1 (no_order_key)',
    'transaction 1: N-1/R-1 captured for - 100 AED'], 'row 9: the transaction is kept, order.review');
select is(waiting(), array['delivery - no_order_key'], 'row 9: waits for a person');
select is(deliver('success', null, 'N-1', 'R-1', copy => 2), array['duplicate - -'], 'row 5: no second order.review');
select is((deliver('success'))[1], 'review - - (no_order_key)', 'row 9: a success that names nothing at all');
select is(deliver('success'), array['duplicate - -'], 'row 1: its bytes are its key');
select given_delivery('failed', null, 'N-3');
select is(deliver('success', null, 'N-3'), array[
    'review - - (no_order_key)',
    'event 3: order.review - N-3 (no_order_key)',
    'transaction 3: N-3/- failed for - 100 AED -> N-3/- captured for - 100 AED'], 'row 9: failed before');

select example('rows 8 to 12: the key comes later');
select given_delivery('failed', null, 'N-1');
select is(deliver('success', 'O-1', 'N-1'), array[
    'recorded O-1 paid',
    'event 1: order.success O-1 N-1',
    'order O-1: paid 100 AED by N-1',
    'transaction 1: N-1/- failed for - 100 AED -> N-1/- captured for O-1 100 AED'], 'row 12: a known transaction without order gets the one that is named');
select given_delivery('failed', 'O-2', 'N-2');
select is(deliver('success', null, 'N-2'), array[
    'recorded O-2 paid (late)',
    'event 3: order.success O-2 N-2 (late)',
    'order O-2: cancelled 100 AED by N-2 -> paid 100 AED by N-2 (late) late',
    'transaction 2: N-2/- failed for O-2 100 AED -> N-2/- captured for O-2 100 AED'], 'row 15: its own order wins over a missing key');

-- ---------------------------------------------------------------- row 10: a failure, the order unknown or pending

select example('row 10');
select is(deliver('failed', 'O-1', 'N-1', 'R-1'), array[
    'recorded O-1 cancelled',
    'event 1: order.cancel O-1 N-1',
    'order O-1: cancelled 100 AED by N-1',
    'transaction 1: N-1/R-1 failed for O-1 100 AED'], 'row 10: unknown: created cancelled');
select is(deliver('failed', 'O-2', amount => null, currency => null), array[
    'recorded O-2 cancelled',
    'event 2: order.cancel O-2 #2',
    'order O-2: cancelled by #2',
    'transaction 2: -/- failed for O-2'], 'row 10: without number, reference and amount');
select given('select foloosi.register_order(%m, ''O-3'', 250, ''AED'')');
select is(deliver('failed', 'O-3', 'N-3', 'R-3'), array[
    'recorded O-3 cancelled',
    'event 3: order.cancel O-3 N-3',
    'order O-3: pending 250 AED registered -> cancelled 250 AED by N-3 registered',
    'transaction 3: N-3/R-3 failed for O-3 100 AED'], 'row 10: pending: cancelled, whatever the amount; the expectation stays');

-- ---------------------------------------------------------------- row 11: a failure, the order in any other state

select example('row 11');
select given_delivery('failed', 'O-1', 'N-1');
select is(deliver('failed', 'O-1', 'N-2'), array[
    'recorded O-1 cancelled',
    'transaction 2: N-2/- failed for O-1 100 AED'], 'row 11: cancelled: order unmoved, no event');
select is(deliver('failed', 'O-1', 'N-1', null, 50), array[
    'recorded O-1 cancelled',
    'transaction 1: N-1/- failed for O-1 100 AED -> N-1/- failed for O-1 50 AED'], 'row 11: of a known failure, with another amount');
select given_delivery('success', 'O-2', 'N-3');
select is(deliver('failed', 'O-2', 'N-4'), array[
    'recorded O-2 paid',
    'transaction 4: N-4/- failed for O-2 100 AED'], 'row 11: paid stays paid');
select given('select foloosi.resolve_order(%m, ''O-2'', ''cancelled'')');
select is(deliver('failed', 'O-2', 'N-5'), array[
    'recorded O-2 cancelled',
    'transaction 5: N-5/- failed for O-2 100 AED'], 'row 11: closed by a person');
select given('select foloosi.register_order(%m, ''O-3'', 1, ''AED'')');
select given_delivery('success', 'O-3', 'N-6');
select is(deliver('failed', 'O-3', 'N-7'), array[
    'recorded O-3 review',
    'transaction 7: N-7/- failed for O-3 100 AED'], 'row 11: review stays review');

select example('row 11: verifying', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1');
select is(deliver('failed', 'O-1', 'N-2'), array[
    'recorded O-1 verifying',
    'transaction 2: N-2/- failed for O-1 100 AED'], 'row 11: verifying stays verifying');

-- ---------------------------------------------------------------- row 12: a success, the order unknown

select example('row 12');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array[
    'recorded O-1 paid',
    'event 1: order.success O-1 N-1',
    'order O-1: paid 100 AED by N-1',
    'transaction 1: N-1/R-1 captured for O-1 100 AED'], 'row 12: created paid');
select is((deliver('success', 'O-2', 'N-2', null, 0))[3], 'order O-2: paid 0 AED by N-2', 'row 12: zero is an amount');
select is((deliver('success', 'O-3', 'N-3', null, 999999999999.9999))[3], 'order O-3: paid 999999999999.9999 AED by N-3',
    'row 12: the largest amount, exact');
select is((deliver('success', 'O-4', 'N-4', null, 0.0001))[3], 'order O-4: paid 0.0001 AED by N-4', 'row 12: the smallest');
select is((deliver('success', 'O-5', null, 'R-5'))[1], 'recorded O-5 paid', 'row 12: with a reference only');
select is((deliver('success', 'O-6'))[1], 'recorded O-6 paid', 'row 12: with neither number nor reference');
select is((deliver('success', 'o-6', 'N-6'))[1], 'recorded o-6 paid', 'row 12: a key in another case is another order');
select is((deliver('success', ' O-6 ', 'N-7'))[1], 'recorded  O-6  paid', 'row 12: keys are opaque, blanks count');

select example('row 12: unknown_orders = review', unknown_orders => 'review');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array[
    'review O-1 review (unknown_order)',
    'event 1: order.review O-1 N-1 (unknown_order)',
    'order O-1: review 100 AED by N-1 (unknown_order)',
    'transaction 1: N-1/R-1 captured for O-1 100 AED'], 'row 12: by policy: created review');
select is(waiting(), array['order O-1 unknown_order'], 'row 12: the order waits for a person');

select example('row 12: no row in merchants');
select given('delete from foloosi.merchants where merchant = %m');
select is((deliver('success', 'O-1', 'N-1'))[1], 'recorded O-1 paid', 'row 12: accept is the default');

-- ---------------------------------------------------------------- rows 13 and 14: a success, the order pending

select example('row 13');
select given('select foloosi.register_order(%m, ''O-1'', 100.00, ''AED'')');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array[
    'recorded O-1 paid',
    'event 1: order.success O-1 N-1',
    'order O-1: pending 100 AED registered -> paid 100 AED by N-1 registered',
    'transaction 1: N-1/R-1 captured for O-1 100 AED'], 'row 13: equal: paid');

select example('row 13: unknown_orders = review', unknown_orders => 'review', late_success => 'review');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select is((deliver('success', 'O-1', 'N-1'))[1], 'recorded O-1 paid', 'row 13: a registered order is not unknown');

select example('row 14');
select given('select foloosi.register_order(%m, ''O-1'', 250, ''AED'')');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array[
    'review O-1 review (amount_differs)',
    'event 1: order.review O-1 N-1 (amount_differs)',
    'order O-1: pending 250 AED registered -> review 250 AED by N-1 (amount_differs) registered',
    'transaction 1: N-1/R-1 captured for O-1 100 AED'], 'row 14: another amount: review');
select given('select foloosi.register_order(%m, ''O-2'', 100, ''USD'')');
select is((deliver('success', 'O-2', 'N-2', 'R-2'))[2], 'event 2: order.review O-2 N-2 (currency_differs)', 'row 14: another currency: review');
select is((deliver('success', 'O-2', 'N-2', 'R-2', copy => 2)), array['duplicate O-2 review'], 'row 5: one order.review for the case');
select given('select foloosi.register_order(%m, ''O-3'', 100, ''AED'')');
select is((deliver('success', 'O-3', 'N-3', null, 100.0001))[1], 'review O-3 review (amount_differs)', 'row 14: a little more is not equal');
select is(array(select foloosi.event_payload(e) #>> array['data', x.what, 'amount'] from foloosi.events e, (values ('order'), ('transaction')) x (what)
                where e.merchant = merchant() and e.order_ref = 'O-1' order by x.what), array['250', '100'],
    'row 14: the event has the difference: what was expected, what came');
select is((select detail from foloosi.deliveries where merchant = merchant() and order_ref = 'O-1'), 'expected 250.00 AED, got 100.00 AED',
    'row 14: so has the delivery');

-- ---------------------------------------------------------------- row 15: a success, the order cancelled by a failure

select example('row 15');
select given_delivery('failed', 'O-1', 'N-1', 'R-1');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array[
    'recorded O-1 paid (late)',
    'event 2: order.success O-1 N-1 (late)',
    'order O-1: cancelled 100 AED by N-1 -> paid 100 AED by N-1 (late) late',
    'transaction 1: N-1/R-1 failed for O-1 100 AED -> N-1/R-1 captured for O-1 100 AED'], 'row 15: the same transaction succeeds after all');
select given_delivery('failed', 'O-2', 'N-2', 'R-2', 70);
select is(deliver('success', 'O-2', 'N-3', 'R-3'), array[
    'recorded O-2 paid (late)',
    'event 4: order.success O-2 N-3 (late)',
    'order O-2: cancelled 70 AED by N-2 -> paid 100 AED by N-3 (late) late',
    'transaction 3: N-3/R-3 captured for O-2 100 AED'], 'row 15: the customer''s second attempt');

select example('row 15: unknown_orders = review', unknown_orders => 'review');
select given_delivery('failed', 'O-1', 'N-1');
select is(deliver('success', 'O-1', 'N-2'), array[
    'review O-1 review (unknown_order)',
    'event 2: order.review O-1 N-2 (unknown_order)',
    'order O-1: cancelled 100 AED by N-1 -> review 100 AED by N-2 (unknown_order) late',
    'transaction 2: N-2/- captured for O-1 100 AED'], 'row 15 as 12: unregistered follows unknown_orders');

select example('row 15: registered');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given_delivery('failed', 'O-1', 'N-1');
select is(deliver('success', 'O-1', 'N-2'), array[
    'recorded O-1 paid (late)',
    'event 2: order.success O-1 N-2 (late)',
    'order O-1: cancelled 100 AED by N-1 registered -> paid 100 AED by N-2 (late) late registered',
    'transaction 2: N-2/- captured for O-1 100 AED'], 'row 15 as 13: equal');
select given('select foloosi.register_order(%m, ''O-2'', 250, ''AED'')');
select given_delivery('failed', 'O-2', 'N-3');
select is(deliver('success', 'O-2', 'N-4'), array[
    'review O-2 review (amount_differs)',
    'event 4: order.review O-2 N-4 (amount_differs)',
    'order O-2: cancelled 250 AED by N-3 registered -> review 250 AED by N-4 (amount_differs) late registered',
    'transaction 4: N-4/- captured for O-2 100 AED'], 'row 15 as 14: different');

select example('row 15: late_success = review', late_success => 'review');
select given_delivery('failed', 'O-1', 'N-1');
select is(deliver('success', 'O-1', 'N-1'), array[
    'review O-1 review (late_success)',
    'event 2: order.review O-1 N-1 (late_success)',
    'order O-1: cancelled 100 AED by N-1 -> review 100 AED by N-1 (late_success) late',
    'transaction 1: N-1/- failed for O-1 100 AED -> N-1/- captured for O-1 100 AED'], 'row 15: by policy: review');
select given('select foloosi.register_order(%m, ''O-2'', 100, ''AED'')');
select given_delivery('failed', 'O-2', 'N-2');
select is((deliver('success', 'O-2', 'N-2'))[1], 'review O-2 review (late_success)', 'row 15: by policy: registered and equal too');

-- ---------------------------------------------------------------- row 16: a success, the order closed by a person

select example('row 16');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'', ''out of stock'')');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array[
    'review O-1 cancelled (order_closed)',
    'event 2: payback.due O-1 N-1 (order_closed) payback 1',
    'payback 1: N-1 due order_closed 100 AED for O-1',
    'transaction 1: N-1/R-1 captured for O-1 100 AED'], 'row 16: order unmoved, payback due');
select is(deliver('success', 'O-1', 'N-1', 'R-1', copy => 2), array['duplicate O-1 cancelled'], 'row 16: a repeat opens and emits nothing');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array['duplicate O-1 cancelled'], 'row 16: nor do its bytes');
select is(waiting(), array['payback O-1 order_closed'], 'row 16: the payback waits, once');
select given_delivery('failed', 'O-2', 'N-2');
select given('select foloosi.resolve_order(%m, ''O-2'', ''cancelled'')');
select is((deliver('success', 'O-2', 'N-2'))[1], 'review O-2 cancelled (order_closed)', 'row 16: cancelled by a failure, then closed by a person');

-- ---------------------------------------------------------------- row 17: a success, the order paid

select example('row 17');
select given_delivery('success', 'O-1', 'N-1');
select is(deliver('success', 'O-1', 'N-2'), array[
    'recorded O-1 paid (double_payment)',
    'event 2: payback.due O-1 N-2 (double_payment) payback 1',
    'payback 1: N-2 due double_payment 100 AED for O-1',
    'transaction 2: N-2/- captured for O-1 100 AED'], 'row 17: order unmoved, payback due');
select is(deliver('success', 'O-1', 'N-3', null, 7.5, 'USD'), array[
    'recorded O-1 paid (double_payment)',
    'event 3: payback.due O-1 N-3 (double_payment) payback 2',
    'payback 2: N-3 due double_payment 7.5 USD for O-1',
    'transaction 3: N-3/- captured for O-1 7.5 USD'], 'row 17: whatever the amount');
select is(deliver('success', 'O-1', 'N-2', copy => 2), array['duplicate O-1 paid'], 'row 17: a repeat opens and emits nothing');
select given_delivery('failed', 'O-1', 'N-4');
select is(deliver('success', 'O-1', 'N-4'), array[
    'recorded O-1 paid (double_payment)',
    'event 4: payback.due O-1 N-4 (double_payment) payback 3',
    'payback 3: N-4 due double_payment 100 AED for O-1',
    'transaction 4: N-4/- failed for O-1 100 AED -> N-4/- captured for O-1 100 AED'], 'row 17: failed before');
select is(waiting(), array['payback O-1 double_payment', 'payback O-1 double_payment', 'payback O-1 double_payment'], 'row 17: the paybacks wait');
select is((deliver('success', 'O-1', copy => 5))[1], 'recorded O-1 paid (double_payment)', 'row 17: with neither number nor reference');

-- ---------------------------------------------------------------- row 18: a success, the order in review or verifying

select example('row 18: review');
select given('select foloosi.register_order(%m, ''O-1'', 250, ''AED'')');
select given_delivery('success', 'O-1', 'N-1');
select is(deliver('success', 'O-1', 'N-2', null, 250), array[
    'review O-1 review (order_in_review)',
    'transaction 2: N-2/- captured for O-1 250 AED'], 'row 18: order unmoved, even by the right amount; no event');
select is(waiting(), array['order O-1 amount_differs'], 'row 18: one case');

select example('row 18: verifying', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1');
select is(deliver('success', 'O-1', 'N-2'), array[
    'review O-1 verifying (order_verifying)',
    'transaction 2: N-2/- verifying for O-1 100 AED'], 'row 18: verifying: order unmoved, nothing captured');

-- ---------------------------------------------------------------- verify = callback

select example('verify = callback', verify => 'callback');
select is(deliver('success', 'O-1', 'N-1'), array[
    'recorded O-1 verifying (verifying)',
    'order O-1: verifying 100 AED by N-1 (verifying)',
    'transaction 1: N-1/- verifying for O-1 100 AED'], 'callback, row 12: waits; the transaction too; no event');
select given('select foloosi.register_order(%m, ''O-2'', 100, ''AED'')');
select is(deliver('success', 'O-2', 'N-2'), array[
    'recorded O-2 verifying (verifying)',
    'order O-2: pending 100 AED registered -> verifying 100 AED by N-2 (verifying) registered',
    'transaction 2: N-2/- verifying for O-2 100 AED'], 'callback, row 13: waits');
select given('select foloosi.register_order(%m, ''O-3'', 250, ''AED'')');
select is((deliver('success', 'O-3', 'N-3'))[1], 'review O-3 review (amount_differs)', 'callback, row 14: needs no call to differ');
select given_delivery('failed', 'O-4', 'N-4');
select is(deliver('success', 'O-4', 'N-4'), array[
    'recorded O-4 verifying (verifying)',
    'order O-4: pending 100 AED by N-4 until 00:00:00 -> verifying 100 AED by N-4 (verifying)',
    'transaction 4: N-4/- failed for O-4 100 AED -> N-4/- verifying for O-4 100 AED'], 'callback, row 12: a failure has not cancelled it; waits');
select is((deliver('success', null, 'N-5'))[1], 'review - - (no_order_key)', 'callback, row 9: as ever');
select is(deliver('success', 'O-1', 'N-1', copy => 2), array['duplicate O-1 verifying'], 'callback, row 5: as ever');
select is((deliver('failed', 'O-1', 'N-1'))[1], 'review O-1 verifying (status_contradiction)', 'callback, row 7: as ever');
select example('verify = callback, unknown_orders = review', verify => 'callback', unknown_orders => 'review');
select is((deliver('success', 'O-1', 'N-1'))[1], 'review O-1 review (unknown_order)', 'callback, row 12: a review needs no call');

-- ---------------------------------------------------------------- which transaction

select example('one reference under two numbers');
select given_delivery('success', 'O-1', 'N-1', 'R-1');
select is(deliver('success', 'O-1', 'N-2', 'R-1'), array[
    'review O-1 paid (reference_conflict)',
    'transaction 2: N-2/R-1 captured for - 100 AED'], 'conflict: review, never a payback, no event; the transaction waits for a person');
select is(waiting(), array['delivery O-1 reference_conflict'], 'conflict: so does the delivery');
select is((deliver('success', 'O-2', 'N-3', 'R-1'))[1], 'review O-2 - (reference_conflict)', 'conflict: another order is not created');
select is((deliver('failed', 'O-2', 'N-4', 'R-1'))[1], 'review O-2 - (reference_conflict)', 'conflict: nor cancelled');
select is((deliver('success', null, 'N-5', 'R-1'))[1], 'review - - (reference_conflict)', 'conflict before row 9: no order.review');
select is(deliver('success', null, null, 'R-1'), array['duplicate O-1 paid'], 'a reference is the transaction''s that had it first');
select is(deliver('success', 'O-1', 'N-1', 'R-1', copy => 2), array['duplicate O-1 paid'], 'its own number is no conflict');
select is(deliver('success', null, 'N-2', 'R-1', copy => 2), array['duplicate - -'], 'row 5 before the conflict');
select is((deliver('success', 'O-1', 'N-2', 'R-1', 5))[1], 'review O-1 paid (amount_contradiction)', 'row 6: the conflict was judged when it came; another amount is one more doubt');

-- The index holds 28 bits of a reference's hash: among 100,000 references some share them.
select example('two references with one hash');
create temp table twins on commit drop as
    select min(ref) as a, max(ref) as b from (select 'T-' || n as ref from generate_series(1, 100000) n) r
    group by hashtextextended(ref, hashtextextended(merchant(), 0)) << 36 having count(*) > 1 limit 1;
select is(count(*)::int, 1, 'twins: there are some') from twins;
select is((deliver('success', 'O-1', 'N-1', a))[1], 'recorded O-1 paid', 'twins: the first') from twins;
select is((deliver('success', 'O-2', 'N-2', b))[1], 'recorded O-2 paid', 'twins: the second is no conflict') from twins;
select is(deliver('success', null, null, a, copy => 2), array['duplicate O-1 paid'], 'twins: the first is found') from twins;
select is(deliver('success', null, null, b, copy => 2), array['duplicate O-2 paid'], 'twins: so is the second, behind it') from twins;
select is((deliver('success', 'O-3', 'N-3', b))[1], 'review O-3 - (reference_conflict)', 'twins: a real conflict is one') from twins;
select example('the same, at another merchant');
select is((deliver('success', 'O-1', 'N-4', b))[1], 'recorded O-1 paid', 'twins: another merchant''s reference is another') from twins;

select example('a conflict of known transactions');
select given_delivery('success', 'O-1', 'N-1', 'R-1');
select given_delivery('success', 'O-2', 'N-2');
select is(deliver('failed', 'O-2', 'N-2', 'R-1'), array['review O-2 paid (reference_conflict)'],
    'conflict before row 7: what succeeded is not rewritten, opens nothing, learns no reference');
select given_delivery('failed', 'O-3', 'N-3', 'R-3');
select is((deliver('success', 'O-3', 'N-3', 'R-1'))[1], 'review O-3 cancelled (reference_conflict)', 'conflict before row 15: the order is not moved');

select example('a reference under no number yet');
select given_delivery('failed', 'O-1', null, 'R-1');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array[
    'recorded O-1 paid (late)',
    'event 1: order.cancel O-1 R-1 -> order.cancel O-1 N-1',
    'event 2: order.success O-1 N-1 (late)',
    'order O-1: cancelled 100 AED by R-1 -> paid 100 AED by N-1 (late) late',
    'transaction 1: -/R-1 failed for O-1 100 AED -> N-1/R-1 captured for O-1 100 AED'], 'reference without number: the same transaction, which learns it');
select is((deliver('success', 'O-1', 'N-2', 'R-1'))[1], 'review O-1 paid (reference_conflict)', 'and from then on a second number is a conflict');
select given_delivery('success', 'O-2', null, 'R-2');
select is(deliver('success', 'O-2', null, 'R-3'), array[
    'recorded O-2 paid (double_payment)',
    'event 4: payback.due O-2 R-3 (double_payment) payback 1',
    'payback 1: R-3 due double_payment 100 AED for O-2',
    'transaction 4: -/R-3 captured for O-2 100 AED'], 'two references without number: two transactions');

-- ---------------------------------------------------------------- the sentences under the table

select example('events');
select given_delivery('success', 'O-1', 'N-1', 'R-1', 100.50);
select is((select foloosi.event_payload(e) from foloosi.events e where e.merchant = merchant()) - 'timestamp',
    jsonb_build_object('type', 'order.success', 'data', jsonb_build_object('version', 2, 'merchant', merchant(),
        'order', jsonb_build_object('ref', 'O-1', 'state', 'paid', 'amount', '100.50', 'currency', 'AED', 'late', false, 'money_left', '100.50'),
        'transaction', jsonb_build_object('id', transaction_id('N-1'), 'transaction_no', 'N-1', 'payment_reference', 'R-1', 'state', 'captured',
            'amount', '100.50', 'currency', 'AED', 'money_left', '100.50'))), 'events: the shape of Standard Webhooks, versioned; money is text');
select matches((select foloosi.event_payload(e) ->> 'timestamp' from foloosi.events e where e.merchant = merchant()),
    '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$', 'events: the timestamp is ISO 8601 in UTC');
select given_delivery('success', 'O-1', 'N-2');
select is((select foloosi.event_payload(e) #> '{data,payback}' from foloosi.events e where e.merchant = merchant() and e.type = 'payback.due') - 'id',
    '{"state": "due", "reason": "double_payment", "amount": "100", "currency": "AED"}', 'events: a payback is in its event');
select given_delivery('success', null, 'N-3');
select is((select foloosi.event_payload(e) #> '{data,order}' from foloosi.events e where e.merchant = merchant() and e.type = 'order.review'),
    null, 'events: an order.review without an order has none');

select example('one sequence of ids');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select is(count(*), count(distinct id), 'a number names one thing among orders, transactions, deliveries, paybacks and decisions')
    from (select id from foloosi.orders union all select id from foloosi.transactions union all select id from foloosi.deliveries
          union all select id from foloosi.paybacks union all select id from foloosi.decisions) x;

-- ---------------------------------------------------------------- what a transfer may not lack

select example('what is missing');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select is(deliver('success', 'O-1', 'N-1', null, null, 'AED'), array['rejected O-1 -'], 'a success without amount pays nothing');
select is(deliver('success', 'O-1', 'N-1', null, 100, null), array['rejected O-1 -'], 'nor one without currency');
select is(deliver('success', 'O-1', 'N-1', null, 100, ''), array['rejected O-1 -'], 'nor one with an empty currency');
select is(deliver('', 'O-1', 'N-1'), array['rejected O-1 -'], 'nor one without status');
select is(deliver(null, 'O-1', 'N-1'), array['rejected O-1 -'], 'null or empty');
select is(array(select detail from foloosi.deliveries where merchant = merchant() order by id), array[
    'transaction_amount of a success is missing', 'transaction_currency of a success is missing', 'transaction_currency of a success is missing',
    'transaction_status is missing', 'transaction_status is missing'], 'each says what is missing');
select given_delivery('failed', 'O-2', 'N-2');
select is(deliver('success', 'O-2', 'N-2', null, null, 'AED'), array['rejected O-2 -'], 'nor is the amount of the failure believed for the success');

-- ---------------------------------------------------------------- every field arrives where it belongs

select example('fields');
select is(array(select r.outcome || ' ' || r.merchant_known from foloosi.record_deliveries(array[7], array[merchant()], array['O-1'], array[sha256('x')], array['x'::bytea], array[null::text],
    array['reconcile'], array['success'], array['N-1'], array['R-1'], array[12.3450], array['AED'], array['a message'], array['one'], array['two'],
    array['three'], array['someone@example.com'], array['+971 (0) 4 ext. 12'], array['0042']) r), array['recorded true'], 'fields: a full delivery');
select is((select row(transaction_no, payment_reference, order_ref, amount, currency, transaction_message, optional1, optional2, optional3,
                      customer_email, customer_mobile, card_last_four)::text from foloosi.transactions where merchant = merchant()),
    '(N-1,R-1,O-1,12.3450,AED,"a message",one,two,three,someone@example.com,"+971 (0) 4 ext. 12",0042)', 'fields: each in its column; decimals as they came');
select is((select row(source, encode(digest, 'hex'))::text from foloosi.deliveries where merchant = merchant()),
    '(reconcile,' || substr(encode(sha256('x'), 'hex'), 1, 32) || ')', 'fields: source and half of the digest');
select is((select body from foloosi.bodies b join foloosi.deliveries d on d.id = b.delivery_id where d.merchant = merchant()), 'x', 'fields: the bytes');
select is(array(select r.outcome || ' ' || coalesce(r.order_ref, '-') from foloosi.record_deliveries(array[1], array[merchant()], array[''], array[sha256('y')], array['y'::bytea], array[null::text],
    array[null::text], array['failed'], array[''], array[''], array[null::numeric], array[''], array[''], array[''], array[''], array[''], array[''], array[''],
    array['']) r), array['recorded -'], 'fields: empty texts');
select is((select row(transaction_no, payment_reference, order_ref, amount, currency, transaction_message, optional1, optional2, optional3,
                      customer_email, customer_mobile, card_last_four)::text from foloosi.transactions where merchant = merchant() and state = 'failed'),
    '(,,,,,,,,,,,)', 'fields: empty texts are absent');
select is((select count(*)::int from foloosi.transactions where merchant = merchant() and num_nonnulls(transaction_no, payment_reference, order_ref, currency,
    transaction_message, optional1, optional2, optional3, customer_email, customer_mobile, card_last_four) = 0), 1, 'fields: all eleven are null');
select is(array(select outcome from foloosi.record_delivery(merchant(), 'SUCCESS', 'O-2', 'N-2', amount => 5, currency => 'aed')), array['recorded'],
    'record_delivery: status and currency in any case');
select is(array(select outcome from foloosi.record_delivery(merchant(), 'SUCCESS', 'O-2', 'N-2', amount => 5, currency => 'aed')), array['duplicate'],
    'record_delivery: the same arguments are the same bytes');
select is(array(select r.outcome || ' ' || r.order_state from foloosi.record_delivery(merchant(), 'failed', 'O-3', body => '{"a":1}') r), array['recorded cancelled'],
    'record_delivery: a body of its own');
select is((select body from foloosi.bodies b join foloosi.deliveries d on d.id = b.delivery_id where d.merchant = merchant() and d.order_ref = 'O-3'), '{"a":1}',
    'record_delivery: which is kept');

select example('no row in merchants');
select given('delete from foloosi.merchants where merchant = %m');
select is(array(select r.outcome || ' ' || r.merchant_known from foloosi.record_delivery(merchant(), 'success', 'O-1', 'N-1', amount => 5, currency => 'AED') r),
    array['recorded false'], 'a merchant without a row has the defaults, and the handler is told');

select * from finish();
rollback;
