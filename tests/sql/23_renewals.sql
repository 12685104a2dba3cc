-- SPDX-License-Identifier: MIT
-- Subscriptions: each capture under a recurring order key pays a period of its own (row 26).
begin;
\ir tools.psql
select no_plan();

select example('row 26');
select is((deliver('success', 'FLSSUB_1', 'N-1'))[1:3], array['recorded FLSSUB_1 paid', 'event 1: order.success FLSSUB_1 N-1', 'order FLSSUB_1: paid 100 AED by N-1'], 'row 12: the first month');
select later('23 hours 59 minutes');
select is(deliver('success', 'FLSSUB_1', 'N-2'), array[
    'recorded FLSSUB_1 paid (double_payment)',
    'event 2: payback.check FLSSUB_1 N-2 (double_payment) payback 1',
    'payback 1: N-2 check double_payment 100 AED for FLSSUB_1',
    'transaction 2: N-2/- captured for FLSSUB_1 100 AED'], 'row 17: within renewal_gap: a repeat, perhaps: to check');
select later('30 days');
select is(deliver('success', 'FLSSUB_1', 'N-3'), array[
    'recorded FLSSUB_1 paid (renewal)',
    'event 3: order.success FLSSUB_1 N-3 (renewal)',
    'transaction 3: N-3/- captured for FLSSUB_1 100 AED'], 'row 26: a further period: stays paid, order.success, reason renewal; no payback');
select is(deliver('success', 'FLSSUB_1', 'N-3', copy => 2), array['duplicate FLSSUB_1 paid'], 'row 5: said again');
select is((deliver('success', 'FLSSUB_1', 'N-4'))[1:3], array[
    'recorded FLSSUB_1 paid (double_payment)', 'event 4: payback.check FLSSUB_1 N-4 (double_payment) payback 2', 'payback 2: N-4 check double_payment 100 AED for FLSSUB_1'],
    'row 17: a double click on a renewal');
select later('60 days');
select is((deliver('success', 'FLSSUB_1', 'N-5', amount => 120))[1], 'recorded FLSSUB_1 paid (renewal)', 'row 26: whatever the amount');
select is((select o.money_left from foloosi.orders o where o.merchant = merchant()), 520::numeric, 'all of it is the order''s');
select is(deliver('failed', 'FLSSUB_1', 'N-6'), array[
    'recorded FLSSUB_1 paid (renewal_failed)',
    'event 6: order.review FLSSUB_1 N-6 (renewal_failed)',
    'transaction 6: N-6/- failed for FLSSUB_1 100 AED'], 'row 11: a renewal that fails: order.review, and it stays paid');
select is(waiting(), array['payback FLSSUB_1 double_payment', 'payback FLSSUB_1 double_payment'], 'only the repeats wait');

select example('the gap begins with the capture'), later('0');
select given_delivery('success', 'FLSSUB_1', 'N-1');
select later('30 days');
select given_delivery('failed', 'FLSSUB_1', 'N-2');
select later('33 days');
select is((deliver('success', 'FLSSUB_1', 'N-2'))[1], 'recorded FLSSUB_1 paid (renewal)', 'row 26: failed, and three days later captured');
select later('33 days 1 hour');
select is((deliver('success', 'FLSSUB_1', 'N-3'))[1], 'recorded FLSSUB_1 paid (double_payment)', 'row 17: an hour after it');
select later('34 days 2 hours');
select is((deliver('success', 'FLSSUB_1', 'N-4'))[1], 'recorded FLSSUB_1 paid (renewal)', 'row 26: a day later');

select example('policies'), later('0');
select foloosi.set_merchant(merchant(), recurring => '{SUB-,ABO-}', renewal_gap => '1 hour');
select given_delivery('success', 'ABO-1', 'N-1');
select given_delivery('success', 'FLSSUB_1', 'N-2');
select later('1 hour');
select is((deliver('success', 'ABO-1', 'N-3'))[1], 'recorded ABO-1 paid (renewal)', 'prefixes and gap are the merchant''s');
select is((deliver('success', 'FLSSUB_1', 'N-4'))[3], 'payback 1: N-4 due double_payment 100 AED for FLSSUB_1', 'other keys are ordinary');
select foloosi.set_merchant(merchant(), renewal_gap => '0');
select is((deliver('success', 'FLSSUB_1', 'N-5'))[1], 'recorded FLSSUB_1 paid (renewal)', 'a gap of 0: each is a renewal');
select throws_ok('select foloosi.set_merchant(merchant(), recurring => ''{""}'')', '23514', null, 'an empty prefix would be every key''s');

select example('no row in merchants'), later('0');
select given('delete from foloosi.merchants where merchant = %m');
select given_delivery('success', 'FLSSUB_1', 'N-1');
select later('1 day');
select is((deliver('success', 'FLSSUB_1', 'N-2'))[1], 'recorded FLSSUB_1 paid (renewal)', 'the defaults');

select example('before it is paid'), later('0');
select is((deliver('failed', 'FLSSUB_1', 'N-1'))[1], 'recorded FLSSUB_1 cancelled', 'row 10: the first payment fails');
select later('2 days');
select is((deliver('success', 'FLSSUB_1', 'N-2'))[1], 'recorded FLSSUB_1 paid (late)', 'row 15: the second does not');
select example('in review', unknown_orders => 'review'), later('0');
select given_delivery('success', 'FLSSUB_1', 'N-1');
select later('30 days');
select is((deliver('success', 'FLSSUB_1', 'N-2'))[1], 'review FLSSUB_1 review (order_in_review)', 'row 18: in review');

-- ---------------------------------------------------------------- months go back

select example('a month goes back'), later('0');
select given_delivery('success', 'FLSSUB_1', 'N-1');
select later('30 days');
select given_delivery('success', 'FLSSUB_1', 'N-2');
select later('60 days');
select given_delivery('success', 'FLSSUB_1', 'N-3');
select is(deliver('refund', 'FLSSUB_1', 'N-2', amount => 40), array[
    'recorded FLSSUB_1 paid (refunded_in_part)',
    'event 4: order.refund FLSSUB_1 N-2 (refunded_in_part)',
    'transaction 2: N-2/- captured for FLSSUB_1 100 AED -> N-2/- captured for FLSSUB_1 100 AED refunded 40'], 'a part of a month: order.refund, it stays paid');
select is(deliver('refund', 'FLSSUB_1', 'N-2'), array[
    'recorded FLSSUB_1 paid (refunded)',
    'event 5: order.refund FLSSUB_1 N-2 (refunded_in_part)',
    'transaction 2: N-2/- captured for FLSSUB_1 100 AED refunded 40 -> N-2/- captured for FLSSUB_1 100 AED refunded 100'], 'all of a month');
select is(deliver('refund', 'FLSSUB_1', 'N-1'), array[
    'recorded FLSSUB_1 paid (refunded)',
    'event 6: order.refund FLSSUB_1 N-1 (refunded_in_part)',
    'order FLSSUB_1: paid 100 AED by N-1 -> paid 100 AED by N-3',
    'transaction 1: N-1/- captured for FLSSUB_1 100 AED -> N-1/- captured for FLSSUB_1 100 AED refunded 100'], 'the first month, too: it is a period like the others');
select is((deliver('refund', 'FLSSUB_1', 'N-3'))[1:3], array['recorded FLSSUB_1 refunded (refunded)', 'event 7: order.refund FLSSUB_1 N-3', 'order FLSSUB_1: paid 100 AED by N-3 -> refunded 100 AED by N-3'],
    'the last of them: refunded');
select later('90 days');
select is((deliver('success', 'FLSSUB_1', 'N-4'))[1], 'review FLSSUB_1 review (paid_after_refund)', 'row 25: and charged again');
select is(waiting(), array['order FLSSUB_1 paid_after_refund'], 'that a person decides');

select example('a refund of the month is known before'), later('0');
select given_delivery('success', 'FLSSUB_1', 'N-1');
select later('30 days');
select given_delivery('refund', null, 'N-2', amount => 30);
select is(deliver('success', 'FLSSUB_1', 'N-2'), array[
    'review FLSSUB_1 paid (refund_known)',
    'event 2: order.review FLSSUB_1 N-2 (refund_known)',
    'event 3: order.refund FLSSUB_1 N-2 (refunded_in_part)',
    'transaction 2: N-2/- unknown for - -> N-2/- captured for FLSSUB_1 100 AED refunded 30'], 'row 26: a part came back before: order.review, and nobody is told of a success');

-- ---------------------------------------------------------------- closed by a person

select example('closed'), later('0');
select given_delivery('success', 'FLSSUB_1', 'N-1');
select later('30 days');
select given_delivery('success', 'FLSSUB_1', 'N-2');
select is(act('select foloosi.resolve_order(%m, ''FLSSUB_1'', ''cancelled'')'), array[
    'event 3: order.cancel FLSSUB_1 N-1 (resolved)',
    'order FLSSUB_1: paid 100 AED by N-1 -> cancelled 100 AED by N-1 decided by postgres'], 'a subscription ends: what it paid is not sent back');
select later('60 days');
select is(deliver('success', 'FLSSUB_1', 'N-3'), array[
    'review FLSSUB_1 cancelled (order_closed)',
    'event 4: payback.due FLSSUB_1 N-3 (order_closed) payback 1',
    'payback 1: N-3 due order_closed 100 AED for FLSSUB_1',
    'transaction 3: N-3/- captured for FLSSUB_1 100 AED'], 'row 16: what it charges afterwards is');
select is(act('select foloosi.resolve_order(%m, ''FLSSUB_1'', ''paid'')'), array[
    'event 5: order.success FLSSUB_1 N-1 (resolved)',
    'order FLSSUB_1: cancelled 100 AED by N-1 decided by postgres -> paid 100 AED by N-1 decided by postgres'], 'opened again: the months pay it; of the charge in between a person decides');

-- ---------------------------------------------------------------- with call-back

select example('with call-back', verify => 'callback'), later('0');
select given_delivery('success', 'FLSSUB_1', 'N-1');
select given('select foloosi.verify_transaction(transaction_id(''N-1''), ''success'', 100, ''AED'', ''FLSSUB_1'')');
select later('30 days');
select is(deliver('success', 'FLSSUB_1', 'N-2'), array[
    'recorded FLSSUB_1 paid (verifying)', 'transaction 2: N-2/- verifying for FLSSUB_1 100 AED'], 'row 26: waits for the provider''s word, without event');
select is((deliver('success', 'FLSSUB_1', 'N-3'))[1], 'recorded FLSSUB_1 paid (verifying)', 'so does a double click');
select is(act('select foloosi.verify_transaction(transaction_id(''N-2''), ''success'', 100, ''AED'', ''FLSSUB_1'')'), array[
    'event 2: order.success FLSSUB_1 N-2 (renewal)',
    'transaction 2: N-2/- verifying for FLSSUB_1 100 AED -> N-2/- captured for FLSSUB_1 100 AED'], 'confirmed: a renewal');
select is((act('select foloosi.verify_transaction(transaction_id(''N-3''), ''success'', 100, ''AED'', ''FLSSUB_1'')'))[1:2], array[
    'event 3: payback.check FLSSUB_1 N-3 (double_payment) payback 1', 'payback 1: N-3 check double_payment 100 AED for FLSSUB_1'], 'the other: a repeat, to check');

-- ---------------------------------------------------------------- keys without the prefix

select example('an order prefix is configured'), later('0');
create function unprefixed(key text, no text) returns text[] language sql as $$
    select array(select concat_ws(' ', r.outcome, coalesce(r.order_ref, '-'), r.order_state, '(' || r.reason || ')') from foloosi.record_deliveries(array[1], array[merchant()], array[null::text],
        array[sha256(convert_to(no, 'UTF8'))], array[convert_to(no, 'UTF8')], array[null::text], array[null::text], array['success'], array[no], array[null::text], array[100], array['AED'],
        array[null::text], array[key], array[null::text], array[null::text], array[null::text], array[null::text], array[null::text], array[key]) r)
$$;
select is(unprefixed('FLSSUB_1', 'N-1'), array['recorded FLSSUB_1 paid'], 'a subscription''s key counts without it');
select is(unprefixed('X-1', 'N-2'), array['review - (no_order_key)'], 'another does not');
select later('30 days');
select is(unprefixed('FLSSUB_1', 'N-3'), array['recorded FLSSUB_1 paid (renewal)'], 'row 26: its second month');
select foloosi.set_merchant(merchant(), recurring => '{}');
select is(unprefixed('FLSSUB_1', 'N-4'), array['review - (no_order_key)'], 'unless the merchant has none');

-- ---------------------------------------------------------------- the gap lies between the payments, not between their words

select example('given its order later'), later('0');
select given_delivery('success', null, 'N-1');
select given_delivery('success', null, 'N-2');
select later('2 days');
select given('select foloosi.assign_transaction(transaction_id(''N-1''), ''FLSSUB_1'', true)');
select is((act('select foloosi.assign_transaction(transaction_id(''N-2''), ''FLSSUB_1'')'))[1:2], array[
    'event 4: payback.check FLSSUB_1 N-2 (double_payment) payback 1', 'payback 1: N-2 check double_payment 100 AED for FLSSUB_1'], 'row 17: a double click, however late a person gives it its order');
select given_delivery('success', null, 'N-3');
select later('5 days');
select is((act('select foloosi.assign_transaction(transaction_id(''N-3''), ''FLSSUB_1'')'))[1], 'event 6: order.success FLSSUB_1 N-3 (renewal)', 'row 26: and a further period, however soon after it');

select example('the provider''s word comes late', verify => 'callback'), later('0');
select given_delivery('success', 'FLSSUB_1', 'N-1');
select given_delivery('success', 'FLSSUB_1', 'N-2');
select given('select foloosi.verify_transaction(transaction_id(''N-1''), ''success'', 100, ''AED'', ''FLSSUB_1'')');
select later('2 days');
select is((act('select foloosi.verify_transaction(transaction_id(''N-2''), ''success'', 100, ''AED'', ''FLSSUB_1'')'))[1:2], array[
    'event 2: payback.check FLSSUB_1 N-2 (double_payment) payback 1', 'payback 1: N-2 check double_payment 100 AED for FLSSUB_1'], 'row 17: a double click, however late the provider confirms it');

select example('a person believed it first', verify => 'callback'), later('0');
select given_delivery('success', 'FLSSUB_1', 'N-1');
select given('select foloosi.resolve_order(%m, ''FLSSUB_1'', ''paid'')');
select is(act('select foloosi.verify_transaction(transaction_id(''N-1''), ''success'', 100, ''AED'', ''FLSSUB_1'')'), array[
    'transaction 1: N-1/- verifying for FLSSUB_1 100 AED -> N-1/- captured for FLSSUB_1 100 AED'], 'what pays the order is no renewal of itself: one payment, one order.success');

select example('charged after its end, and won back'), later('0');
select given_delivery('success', 'FLSSUB_1', 'N-1');
select given('select foloosi.resolve_order(%m, ''FLSSUB_1'', ''cancelled'')');
select given_delivery('success', 'FLSSUB_1', 'N-2');
select given_delivery('refund', null, 'N-2');
select is(act('select foloosi.record_refund(transaction_id(''N-2''), 0, ''the chargeback was won'')'), array[
    'event 4: payback.check FLSSUB_1 N-2 (order_closed) payback 2',
    'payback 2: N-2 check order_closed 100 AED for FLSSUB_1',
    'transaction 2: N-2/- captured for FLSSUB_1 100 AED refunded 100 -> N-2/- captured for FLSSUB_1 100 AED refunded 0'], 'what had to go back before is to check again');

select example('a renewal that a person takes back'), later('0');
select given_delivery('success', 'FLSSUB_1', 'N-1');
select later('30 days');
select given_delivery('success', null, 'N-2');
select given('select foloosi.assign_transaction(transaction_id(''N-2''), ''FLSSUB_1'')');
select is(act('select foloosi.unassign_transaction(transaction_id(''N-2''), ''another''''s'')'), array[
    'event 4: order.review FLSSUB_1 N-2 (unassigned)',
    'transaction 2: N-2/- captured for FLSSUB_1 100 AED -> N-2/- captured for - 100 AED'], 'the shop was told of a period: order.review');

select * from finish();
rollback;
