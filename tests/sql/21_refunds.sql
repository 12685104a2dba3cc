-- SPDX-License-Identifier: MIT
-- Money that went back: rows 20 to 25, and what follows from them in whatever order the facts come.
begin;
\ir tools.psql
select no_plan();

-- Of an order: refunded and left.
create function sums(ref text) returns text language sql stable as $$
    select concat_ws(' ', coalesce(trim_scale(o.refunded)::text, '-'), 'refunded,', coalesce(trim_scale(o.money_left)::text, '-'), 'left')
    from foloosi.orders o where o.merchant = t.merchant() and o.order_ref = ref
$$;
create function paybacks() returns text[] language sql stable as $$
    select coalesce(array_agg(f.value order by f.key), '{}') from jsonb_each_text(t.facts(t.merchant())) f where f.key like 'payback%'
$$;

-- ---------------------------------------------------------------- row 20: plainly all

select example('row 20');
select given_delivery('success', 'O-1', 'N-1', 'R-1');
select is(sums('O-1'), '- refunded, 100 left', 'row 20: before it');
select is(deliver('refund', 'O-1', 'N-1', 'R-1', null, null), array[
    'recorded O-1 refunded (refunded)',
    'event 2: order.refund O-1 N-1',
    'order O-1: paid 100 AED by N-1 -> refunded 100 AED by N-1',
    'transaction 1: N-1/R-1 captured for O-1 100 AED -> N-1/R-1 captured for O-1 100 AED refunded 100'], 'row 20: no amount: all of it; the order is refunded');
select is(sums('O-1'), '100 refunded, 0 left', 'row 20: the order shows it');
select is(deliver('refund', 'O-1', 'N-1', 'R-1', null, null), array['duplicate O-1 refunded'], 'row 20: its bytes again');
select is(deliver('refund', 'O-1', 'N-1', 'R-1', null, null, 2), array['recorded O-1 refunded (refunded)'], 'row 20: said again, nothing is emitted');
select is(waiting(), '{}', 'row 20: nothing waits for a person');
select is((select foloosi.event_payload(e) -> 'data' from foloosi.events e where e.merchant = merchant() and e.type = 'order.refund') #- '{transaction,id}',
    jsonb_build_object('version', 2, 'merchant', merchant(),
        'order', '{"ref": "O-1", "state": "refunded", "amount": "100", "currency": "AED", "late": false, "refunded": "100", "money_left": "0"}'::jsonb,
        'transaction', '{"transaction_no": "N-1", "payment_reference": "R-1", "state": "captured", "amount": "100", "currency": "AED", "refunded": "100", "money_left": "0"}'::jsonb),
    'row 20: so does the event');

select example('row 20: the captured sum');
select given_delivery('success', 'O-1', 'N-1', 'R-1');
select is((deliver('refund', null, null, 'R-1', 100.00))[1], 'recorded O-1 refunded (refunded)', 'row 20: the captured sum in its currency, by reference alone, without key');
select is((facts(merchant()))->>'order O-1', 'refunded 100 AED by N-1', 'row 20: the order of its transaction');

select example('row 20: the key of a refund decides nothing');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-2', 'N-2');
select is((deliver('refund', 'O-2', 'N-1'))[1], 'recorded O-1 refunded (refunded)', 'row 20, not 4: another order''s key is not compared');
select is((facts(merchant()))->>'order O-2', 'paid 100 AED by N-2', 'row 20: that order is not moved');
select given_delivery('success', null, 'N-3');
select is(deliver('refund', 'O-3', 'N-3'), array[
    'recorded - - (refunded)',
    'transaction 3: N-3/- captured for - 100 AED -> N-3/- captured for - 100 AED refunded 100'], 'row 20: nor does it give an order to a transaction without one');

select example('row 20: of what is in review');
select given('select foloosi.register_order(%m, ''O-1'', 250, ''AED'')');
select given_delivery('success', 'O-1', 'N-1');
select is(deliver('refund', 'O-1', 'N-1'), array[
    'recorded O-1 refunded (refunded)',
    'event 2: order.refund O-1 N-1',
    'order O-1: review 250 AED by N-1 (amount_differs) registered -> refunded 250 AED by N-1 registered',
    'transaction 1: N-1/- captured for O-1 100 AED -> N-1/- captured for O-1 100 AED refunded 100'], 'row 20: review: nothing is left to decide');
select is(waiting(), '{}', 'row 20: so nothing waits');
select given_delivery('success', 'O-1', 'N-2', amount => 250);
select is((facts(merchant()))->>'order O-1', 'review 250 AED by N-2 (paid_after_refund) registered', 'row 25: and then the right sum comes: a person decides');

select example('row 20: of what a person closed');
select given_delivery('success', 'O-1', 'N-1');
select given('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'')');
select is(deliver('refund', 'O-1', 'N-1'), array[
    'recorded O-1 cancelled (refunded)',
    'payback 1: N-1 due order_closed 100 AED for O-1 -> N-1 settled order_closed 100 AED for O-1',
    'transaction 1: N-1/- captured for O-1 100 AED -> N-1/- captured for O-1 100 AED refunded 100'], 'row 20: the payback is settled, the order stays as the person left it');

select example('row 20: of a second payment');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select is(deliver('refund', 'O-1', 'N-2'), array[
    'recorded O-1 paid (refunded)',
    'payback 1: N-2 due double_payment 100 AED for O-1 -> N-2 settled double_payment 100 AED for O-1',
    'transaction 2: N-2/- captured for O-1 100 AED -> N-2/- captured for O-1 100 AED refunded 100'], 'row 20: settles the payback, no event, the order stays paid');
select is((select row(p.settled_by, p.settled_at is not null)::text from foloosi.paybacks p where p.id = payback_id('N-2')), '(,t)',
    'row 20: settled by a delivery, at a time');
select is(sums('O-1'), '100 refunded, 100 left', 'row 20: the order''s sums are over all that it captured');

select example('row 20: zero');
select given_delivery('success', 'O-1', 'N-1', amount => 0);
select is((facts(merchant()))->>'order O-1', 'paid 0 AED by N-1', 'zero counts until it is refunded');
select is((deliver('refund', 'O-1', 'N-1', amount => 0))[1:2], array['recorded O-1 refunded (refunded)', 'event 2: order.refund O-1 N-1'], 'row 20: zero goes back');

-- ---------------------------------------------------------------- row 21: a part

select example('row 21');
select given_delivery('success', 'O-1', 'N-1');
select is(deliver('refund', 'O-1', 'N-1', amount => 30), array[
    'recorded O-1 paid (refunded_in_part)',
    'event 2: order.refund O-1 N-1 (refunded_in_part)',
    'transaction 1: N-1/- captured for O-1 100 AED -> N-1/- captured for O-1 100 AED refunded 30'], 'row 21: a part of what pays it: order.refund, and it stays paid');
select is(sums('O-1'), '30 refunded, 70 left', 'row 21: the order shows it');
select is((select foloosi.event_payload(e) #>> '{data,order,state}' from foloosi.events e where e.merchant = merchant() and e.type = 'order.refund'), 'paid',
    'row 21: the order''s state in the event tells it from the whole');
select is(deliver('refund', 'O-1', 'N-1', amount => 30, copy => 2), array['recorded O-1 paid (refunded_in_part)'], 'row 21: two partial refunds may look alike: never added up');
select is(deliver('refund', 'O-1', 'N-1', amount => 20), array['recorded O-1 paid (refunded_in_part)'], 'row 21: a smaller one: the greatest counts; nothing is emitted');
select is(deliver('refund', 'O-1', 'N-1', amount => 70), array[
    'recorded O-1 paid (refunded_in_part)',
    'event 3: order.refund O-1 N-1 (refunded_in_part)',
    'transaction 1: N-1/- captured for O-1 100 AED refunded 30 -> N-1/- captured for O-1 100 AED refunded 70'], 'row 21: a greater one: more is refunded');
select is((deliver('refund', 'O-1', 'N-1', amount => null, currency => null))[1:3], array[
    'recorded O-1 refunded (refunded)', 'event 4: order.refund O-1 N-1', 'order O-1: paid 100 AED by N-1 -> refunded 100 AED by N-1'], 'row 20: and then all');

select example('row 21: of a second payment');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select is(deliver('refund', 'O-1', 'N-2', amount => 10), array[
    'recorded O-1 paid (refunded_in_part)',
    'event 3: payback.check O-1 N-2 (double_payment) payback 1',
    'payback 1: N-2 due double_payment 100 AED for O-1 -> N-2 check double_payment 90 AED for O-1',
    'transaction 2: N-2/- captured for O-1 100 AED -> N-2/- captured for O-1 100 AED refunded 10'], 'row 21: 10 settle no payback of 100: what is left is to check');
select is(deliver('refund', 'O-1', 'N-2', amount => 90), array[
    'recorded O-1 paid (refunded_in_part)',
    'payback 1: N-2 check double_payment 90 AED for O-1 -> N-2 check double_payment 10 AED for O-1',
    'transaction 2: N-2/- captured for O-1 100 AED refunded 10 -> N-2/- captured for O-1 100 AED refunded 90'], 'row 21: the remaining 90 count, too, and a person looks');
select given('select foloosi.settle_payback(payback_id(''N-2''), ''both went back'')');
select is((facts(merchant()))->>'transaction 2', 'N-2/- captured for O-1 100 AED refunded 100', 'and says that all went back');

-- ---------------------------------------------------------------- row 22: more, or another currency

select example('row 22');
select given_delivery('success', 'O-1', 'N-1');
select is(deliver('refund', 'O-1', 'N-1', amount => 100.01), array[
    'review O-1 paid (refund_differs)',
    'transaction 1: N-1/- captured for O-1 100 AED -> N-1/- captured for O-1 100 AED refunded 0'], 'row 22: more than was captured: nothing is known to be back; order unmoved, no event');
select is(waiting(), array['delivery O-1 refund_differs'], 'row 22: waits for a person');
select is((select detail from foloosi.deliveries where merchant = merchant() and outcome = 'review'), 'known as 100.00 AED, now 100.01 AED', 'row 22: who reads the difference');
select is((deliver('refund', 'O-1', 'N-1', currency => 'KWD'))[1], 'review O-1 paid (refund_differs)', 'row 22: another currency');

select example('row 22: of a second payment');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select is(deliver('refund', 'O-1', 'N-2', currency => 'KWD'), array[
    'review O-1 paid (refund_differs)',
    'event 3: payback.check O-1 N-2 (double_payment) payback 1',
    'payback 1: N-2 due double_payment 100 AED for O-1 -> N-2 check double_payment 100 AED for O-1',
    'transaction 2: N-2/- captured for O-1 100 AED -> N-2/- captured for O-1 100 AED refunded 0'], 'row 22: 100 KWD settle no payback of 100 AED: it is to check');
select given_delivery('success', 'O-1', 'N-3');
select is(paybacks(), array['N-2 check double_payment 100 AED for O-1', 'N-3 check double_payment 100 AED for O-1'],
    'a payback is due only while all captured transactions of its order are certain');

-- ---------------------------------------------------------------- row 23: of what is unknown, or has captured nothing

select example('row 23');
select is(deliver('refund', 'O-1', 'N-1', 'R-1'), array[
    'review - - (refund_unknown)',
    'transaction 1: N-1/R-1 unknown for -'], 'row 23: kept; no order is created');
select is(waiting(), array['delivery - refund_unknown'], 'row 23: waits for a person');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array[
    'review O-1 - (refunded_before)',
    'transaction 1: N-1/R-1 unknown for - -> N-1/R-1 captured for O-1 100 AED refunded 100'], 'row 24: its success comes: all of it went back, so no order is created, and nobody is told that it is paid');
select is(waiting(), array['delivery - refund_unknown', 'delivery O-1 refunded_before'], 'row 24: the delivery is in attention');
select is((deliver('success', 'O-1', 'N-2'))[1:3], array['recorded O-1 paid', 'event 1: order.success O-1 N-2', 'order O-1: paid 100 AED by N-2'], 'row 12: the next payment pays the order');
select is(sums('O-1'), '100 refunded, 100 left', 'and the order knows of the first');

select example('row 23: of a failed one');
select given_delivery('failed', 'O-1', 'N-1');
select is(deliver('refund', 'O-1', 'N-1'), array['review O-1 cancelled (refund_unknown)'], 'row 23: the order is not moved');
select is(deliver('success', 'O-1', 'N-1'), array[
    'review O-1 cancelled (refunded_before)',
    'transaction 1: N-1/- failed for O-1 100 AED -> N-1/- captured for O-1 100 AED refunded 100'], 'row 24: nor by the success of what went back');
select given_delivery('failed', 'O-2', 'N-2');
select given_delivery('refund', 'O-2', 'N-2', amount => 40);
select is((deliver('success', 'O-2', 'N-2'))[1:3], array['review O-2 review (refund_known)', 'event 3: order.review O-2 N-2 (refund_known)',
    'order O-2: cancelled 100 AED by N-2 -> review 100 AED by N-2 (refund_known) late'], 'row 15: a part is known to be back: review');

select example('row 23: names an order');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select is(deliver('refund', 'O-1', 'N-9'), array[
    'review - - (refund_unknown)',
    'event 3: payback.check O-1 N-2 (double_payment) payback 1',
    'payback 1: N-2 due double_payment 100 AED for O-1 -> N-2 check double_payment 100 AED for O-1',
    'transaction 3: N-9/- unknown for -'], 'row 23: it may be of a payment of that order: what is due is to check');
select is((deliver('success', 'O-1', 'N-3'))[3], 'payback 2: N-3 check double_payment 100 AED for O-1', 'row 17: so is what comes later');
select is((deliver('success', 'O-4', 'N-9'))[1], 'review O-4 - (refunded_before)', 'row 24: its transaction comes, of another order');
select is((deliver('success', 'O-1', 'N-4'))[3], 'payback 3: N-4 due double_payment 100 AED for O-1', 'the doubt is over: what comes then is due');
select is(paybacks(), array['N-2 check double_payment 100 AED for O-1', 'N-3 check double_payment 100 AED for O-1', 'N-4 due double_payment 100 AED for O-1'],
    'but what is to check is never due again by itself');

select example('row 23: names a reference');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2', 'R-2');
select is(deliver('refund', null, 'N-9', 'R-2'), array[
    'review - - (refund_unknown)',
    'event 3: payback.check O-1 N-2 (double_payment) payback 1',
    'payback 1: N-2 due double_payment 100 AED for O-1 -> N-2 check double_payment 100 AED for O-1',
    'transaction 3: N-9/R-2 unknown for -'], 'row 23: a number of its own with the reference of a payment: to check');

select example('row 23: names nothing');
select is(deliver('refund', amount => null, currency => null), array['review - - (refund_unknown)', 'transaction 1: -/- unknown for -'], 'row 23: kept');
select is(deliver('refund', amount => null, currency => null), array['duplicate - -'], 'row 1: its bytes are its key');

-- ---------------------------------------------------------------- row 24: of what went back, wholly

select example('row 24');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given_delivery('refund', null, 'N-1');
select is(deliver('success', 'O-1', 'N-1', 'R-1'), array[
    'review O-1 pending (refunded_before)',
    'transaction 1: N-1/- unknown for - -> N-1/R-1 captured for O-1 100 AED refunded 100'], 'row 24: a pending order is not moved; what was missing is learned');
select is((deliver('success', 'O-1', 'N-2'))[1], 'recorded O-1 paid', 'row 13: the next payment pays it');
select is(deliver('failed', 'O-1', 'N-1', 'R-1'), array['recorded O-1 paid (refunded_before)'], 'row 24, not 7: it failed after all: its money is back');
select is(deliver('success', 'O-1', 'N-1', 'R-1', copy => 2), array['recorded O-1 paid (refunded_before)'], 'row 24, not 5: said again');
select is(deliver('success', 'O-1', 'N-1', 'R-1', 99), array['review O-1 paid (amount_contradiction)'], 'row 6, not 24: a success with other values');
select is(deliver('success', 'O-2', 'N-1', 'R-1', copy => 2), array['review O-2 - (other_order)'], 'row 4, not 24: names another order');

select example('row 24: by a person');
select given_delivery('success', null, 'N-1');
select given_delivery('refund', null, 'N-1');
select is(act('select foloosi.assign_transaction(transaction_id(''N-1''), ''O-1'', true)'), array[
    'transaction 1: N-1/- captured for - 100 AED refunded 100 -> N-1/- captured for O-1 100 AED refunded 100'], 'row 24: keyless, refunded, then assigned: no order is created');
select is((deliver('success', 'O-1', 'N-2'))[1], 'recorded O-1 paid', 'row 12: the next payment creates it');
select is(sums('O-1'), '100 refunded, 100 left', 'which knows of the first');

-- ---------------------------------------------------------------- row 25: a success after all went back

select example('row 25');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('refund', 'O-1', 'N-1');
select is(deliver('success', 'O-1', 'N-2'), array[
    'review O-1 review (paid_after_refund)',
    'event 3: order.review O-1 N-2 (paid_after_refund)',
    'order O-1: refunded 100 AED by N-1 -> review 100 AED by N-2 (paid_after_refund)',
    'transaction 2: N-2/- captured for O-1 100 AED'], 'row 25: review, order.review');
select is(sums('O-1'), '100 refunded, 100 left', 'row 25: the order''s sums are over both');
select is(deliver('failed', 'O-1', 'N-3'), array['recorded O-1 review', 'transaction 3: N-3/- failed for O-1 100 AED'], 'row 11: a failure does not move it');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''paid'')'), array[
    'event 4: order.success O-1 N-2 (resolved)',
    'order O-1: review 100 AED by N-2 (paid_after_refund) -> paid 100 AED by N-2 decided by postgres'], 'row 25: a person decides; what went back has no payback');
select example('row 25: of what a part is back already');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('refund', 'O-1', 'N-1');
select given_delivery('success', null, 'N-2');
select given_delivery('refund', null, 'N-2', amount => 99);
select is((deliver('success', 'O-1', 'N-2'))[1], 'review O-1 review (paid_after_refund)', 'row 25: named afterwards');
select is(sums('O-1'), '199 refunded, 1 left', 'row 25: the order''s sums are those of its transactions');
select example('rows 12 and 13: of what a person says that a part is back');
select given_delivery('success', null, 'N-1');
select given('select foloosi.record_refund(transaction_id(''N-1''), 30, ''in cash'')');
select is((deliver('success', 'O-1', 'N-1'))[1], 'review O-1 review (refund_known)', 'row 12: review');
select is(sums('O-1'), '30 refunded, 70 left', 'row 12: with its sums');
select given('select foloosi.register_order(%m, ''O-2'', 100, ''AED'')');
select given_delivery('success', null, 'N-2');
select given('select foloosi.record_refund(transaction_id(''N-2''), 30, ''in cash'')');
select given('select foloosi.assign_transaction(transaction_id(''N-2''), ''O-2'')');
select is(sums('O-2'), '30 refunded, 70 left', 'row 13: by a person, too');
select example('row 11: refunded');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('refund', 'O-1', 'N-1');
select is(deliver('failed', 'O-1', 'N-2'), array['recorded O-1 refunded', 'transaction 2: N-2/- failed for O-1 100 AED'], 'row 11: a failure does not move a refunded order');

-- ---------------------------------------------------------------- rows 12 to 15: a refund is known before

select example('refund_known');
select given_delivery('refund', null, 'N-1', amount => 30);
select is(deliver('success', 'O-1', 'N-1'), array[
    'review O-1 review (refund_known)',
    'event 1: order.review O-1 N-1 (refund_known)',
    'order O-1: review 100 AED by N-1 (refund_known)',
    'transaction 1: N-1/- unknown for - -> N-1/- captured for O-1 100 AED refunded 30'], 'row 12: a part came back before: review, not paid');
select is(sums('O-1'), '30 refunded, 70 left', 'row 12: and the order shows it');
select given('select foloosi.register_order(%m, ''O-2'', 100, ''AED'')');
select given_delivery('refund', null, 'N-2', currency => 'USD');
select is((deliver('success', 'O-2', 'N-2'))[1], 'review O-2 review (refund_known)', 'row 13: in another currency: a doubt');
select given('select foloosi.register_order(%m, ''O-3'', 100, ''AED'')');
select given_delivery('refund', 'O-3', 'N-9');
select is((deliver('success', 'O-3', 'N-3'))[1], 'review O-3 review (refund_known)', 'row 13: one that found no transaction names the order');
select given_delivery('failed', 'O-4', 'N-4');
select given_delivery('refund', null, 'N-8', 'R-5');
select is((deliver('success', 'O-4', null, 'R-5'))[1], 'review O-4 cancelled (refunded_before)', 'row 24: known by reference');

-- ---------------------------------------------------------------- who pays then

select example('what pays goes back, another equals');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select is(deliver('refund', 'O-1', 'N-1'), array[
    'recorded O-1 paid (refunded)',
    'event 3: payback.check O-1 N-2 (double_payment) payback 1',
    'order O-1: paid 100 AED by N-1 -> paid 100 AED by N-2',
    'payback 1: N-2 due double_payment 100 AED for O-1 -> N-2 check double_payment 100 AED for O-1',
    'transaction 1: N-1/- captured for O-1 100 AED -> N-1/- captured for O-1 100 AED refunded 100'], 'it stays paid by the other, whose payback is to check: never both go back');

select example('what pays goes back, another differs');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2', amount => 50);
select is(deliver('refund', 'O-1', 'N-1'), array[
    'recorded O-1 review (refunded)',
    'event 3: order.review O-1 N-1 (payment_refunded)',
    'event 4: payback.check O-1 N-2 (double_payment) payback 1',
    'order O-1: paid 100 AED by N-1 -> review 100 AED by N-1 (payment_refunded)',
    'payback 1: N-2 due double_payment 50 AED for O-1 -> N-2 check double_payment 50 AED for O-1',
    'transaction 1: N-1/- captured for O-1 100 AED -> N-1/- captured for O-1 100 AED refunded 100'], 'the right payment goes back while a wrong one stays: a person decides');

select example('the wrong payment goes back');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given_delivery('success', 'O-1', 'N-1', amount => 1);
select given_delivery('success', 'O-1', 'N-2');
select is((deliver('refund', 'O-1', 'N-1', amount => 1))[1], 'recorded O-1 review (refunded)', '1 by mistake, then the 100 that were expected, the 1 goes back: still for a person');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''paid'')'), array[
    'event 2: order.success O-1 N-2 (resolved)',
    'order O-1: review 100 AED by N-1 (amount_differs) registered -> paid 100 AED by N-2 registered decided by postgres'], 'who needs no note, because what pays is what was expected');

select example('paid in cash');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given_delivery('success', 'O-1', 'N-1', amount => 50);
select given('select foloosi.resolve_order(%m, ''O-1'', ''paid'', ''cash'', true)');
select is(paybacks(), array['N-1 due double_payment 50 AED for O-1'], 'after a wrong card payment');
select is(deliver('refund', 'O-1', 'N-1', amount => null, currency => null), array[
    'recorded O-1 paid (refunded)',
    'payback 1: N-1 due double_payment 50 AED for O-1 -> N-1 settled double_payment 50 AED for O-1',
    'transaction 1: N-1/- captured for O-1 50 AED -> N-1/- captured for O-1 50 AED refunded 50'], 'the card is refunded: an order that a person declared paid without a transaction is not moved');

select example('refunded, then closed');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('refund', 'O-1', 'N-1');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'')'), array[
    'event 3: order.cancel O-1 N-1 (resolved)',
    'order O-1: refunded 100 AED by N-1 -> cancelled 100 AED by N-1 decided by postgres'], 'money that went back does not go back again');

select example('a part back, then closed');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('refund', 'O-1', 'N-1', amount => 30);
select is((act('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'')'))[2:3], array[
    'event 4: payback.check O-1 N-1 (order_closed) payback 1',
    'order O-1: paid 100 AED by N-1 -> cancelled 100 AED by N-1 decided by postgres'], 'what is left is to check');
select is(paybacks(), array['N-1 check order_closed 70 AED for O-1'], 'no more than that');

select example('registered by then', unknown_orders => 'review');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('refund', 'O-1', 'N-1');
select is((facts(merchant()))->>'order O-1', 'refunded 100 AED by N-1', 'unknown, then refunded');
select is(act('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')'), array['order O-1: refunded 100 AED by N-1 -> refunded 100 AED by N-1 registered'],
    'refunded stays, the expectation is stored; nobody is told that it is paid');

-- ---------------------------------------------------------------- in whatever order

-- All orders of arrival of some deliveries, each at a merchant of its own: what was captured and refunded of each
-- transaction, and the states of paybacks.
create function arrivals(title text, variadic ds delivery[]) returns table (sequence text, money text, paybacks text, orders text) language plpgsql as $$
declare
    p int[];
begin
    for p in
        with recursive q as (select array[]::int[] as p union all select q.p || i from q, generate_series(1, cardinality(ds)) i where i <> all (q.p))
        select q.p from q where cardinality(q.p) = cardinality(ds) order by 1
    loop
        perform t.example(title);
        for n in 1 .. cardinality(p) loop
            perform t.record(t.merchant(), ds[p[n]]);
        end loop;
        sequence := array_to_string(p, ' ');
        money := (select string_agg(concat_ws(' ', transaction_no, amount, refunded, money_left), ', ' order by transaction_no) from foloosi.transactions where merchant = t.merchant());
        paybacks := (select string_agg(distinct state, ' ' order by state) from foloosi.paybacks where merchant = t.merchant());
        orders := (select string_agg(f.key || ': ' || f.value, ', ') from jsonb_each_text(t.facts(t.merchant())) f where f.key ~ '^(order|sum|payback of|paybacks of)');
        return next;
    end loop;
end $$;
create temporary table six as select * from arrivals('two payments, one goes back', d('success', 'O-1', 'A'), d('success', 'O-1', 'B'), d('refund', 'O-1', 'B'));
select is(array_agg(distinct money), array['A 100 100, B 100 100 0'], 'two payments, one goes back: in all six orders the same is captured and refunded') from six;
select is(array_agg(distinct paybacks) filter (where paybacks like '%due%'), null, 'and nothing is due') from six;
select is(array_agg(sequence || ': ' || orders order by sequence), array[
    '1 2 3: order O-1: paid 100 AED by A', '1 3 2: order O-1: paid 100 AED by A', '2 1 3: order O-1: paid 100 AED by A',
    '2 3 1: order O-1: review 100 AED by A (paid_after_refund)', '3 1 2: order O-1: review 100 AED by A (refund_known)', '3 2 1: order O-1: paid 100 AED by A'],
    'it is paid by what stays; where it was refunded in between, or by something unknown, a person is asked') from six;
create temporary table parts as select * from arrivals('30, 70 and 30 of 100', d('success', 'O-1', 'A'), d('refund', 'O-1', 'A', amount => 30), d('refund', null, 'A', amount => 70),
    d('refund', 'O-1', 'A', amount => 30, copy => 2));
select is(array_agg(distinct money), array['A 100 70 30'], 'partial refunds: in all 24 orders the greatest counts') from parts;
select is(array_agg(distinct orders order by orders), array['order O-1: paid 100 AED by A', 'order O-1: review 100 AED by A (refund_known)'], 'paid, or review if one was known before') from parts;
create temporary table more as select * from arrivals('more than was captured', d('success', 'O-1', 'A'), d('success', 'O-1', 'B'), d('refund', null, 'B', amount => 101), d('refund', null, 'B', currency => 'USD'));
select is(array_agg(distinct money), array['A 100 100, B 100 0 100'], 'more, and another currency: in all 24 orders nothing is known to be back') from more;
select is(array_agg(distinct paybacks) filter (where paybacks like '%due%'), null, 'and nothing is due') from more;

-- ---------------------------------------------------------------- sums

select example('a late success in another currency');
select given_delivery('failed', 'O-1', 'N-0', currency => 'USD');
select given_delivery('refund', null, 'N-9', amount => 50);
select given_delivery('success', 'O-1', 'N-9', amount => 50);
select given_delivery('success', 'O-1', 'N-1');
select is((select refunded || ' ' || money_left from foloosi.orders where merchant = merchant()), '50 100', 'row 15: the order''s sums are of the currency that it has now');
select is((facts(merchant()))->>'sum of O-1', null, 'and right');

select example('another currency than the failure', cancel_after => '1 hour');
select given_delivery('failed', 'O-1', 'N-0', currency => 'USD');
select given_delivery('refund', null, 'N-9', amount => 50);
select given_delivery('success', 'O-1', 'N-9', amount => 50);
select given_delivery('failed', 'O-1', 'N-2');
select is((facts(merchant()))->>'sum of O-1', null, 'row 10: a failure in another one');
select given_delivery('success', 'O-1', 'N-1', currency => 'USD');
select is((facts(merchant()))->>'sum of O-1', null, 'row 12: so does a success');

select example('registered, and a part is back', unknown_orders => 'review');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('refund', 'O-1', 'N-1', amount => 30);
select is((act('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')'))[1:2], array[
    'event 2: order.success O-1 N-1', 'event 3: order.refund O-1 N-1 (refunded_in_part)'], 'the shop hears of the payment, and of the part of it that went back');

select example('a refund that names another''s reference');
select given_delivery('failed', 'O-1', null, 'R-1');
select given_delivery('failed', 'O-2', 'N-2');
select is((deliver('refund', 'O-2', 'N-2', 'R-1'))[1], 'review O-2 cancelled (refund_unknown)', 'row 23: its own transaction has captured nothing');
select is((facts(merchant()))->>'transaction 2', 'N-2/- failed for O-2 100 AED', 'which does not learn another''s reference');
select is((deliver('success', 'O-1', null, 'R-1'))[1], 'review O-1 review (refund_known)', 'row 15: it may have meant the other, whose capture is a doubt');

select example('a refund that names a reference that comes later');
select given_delivery('failed', 'O-1', 'N-1', 'R-1');
select given_delivery('refund', 'O-1', 'N-1', 'R-2');
select ok(awaits_reference, 'no look by reference finds it') from foloosi.refunds where merchant = merchant();
select is((deliver('success', 'O-2', 'N-2', 'R-2'))[1], 'review O-2 review (refund_known)', 'row 12: it may have meant this one');
select ok(not awaits_reference, 'now it is found') from foloosi.refunds where merchant = merchant();
select given_delivery('refund', 'O-1', 'N-1', 'R-3');
select is((deliver('failed', 'O-3', 'N-3', 'R-3'))[1], 'recorded O-3 cancelled', 'row 10: a failure');
select is((deliver('success', 'O-3', 'N-4', 'R-3'))[1], 'review O-3 review (refund_known)', 'row 15: and its second attempt');
select is_empty('select from foloosi.refunds where awaits_reference and merchant = merchant()', 'none is awaited any more');

select * from finish();
rollback;
