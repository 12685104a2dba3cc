-- SPDX-License-Identifier: MIT
-- The provider's word (verify = callback): nothing is captured, cancelled or refunded before it.
begin;
\ir tools.psql
select no_plan();

create function word(no text, status text, amount numeric default null, currency text default null, order_ref text default null, refunded numeric default null)
returns text[] language plpgsql as $$
declare
    was    jsonb := t.facts(t.merchant());
    answer text;
begin
    answer := foloosi.verify_transaction(t.transaction_id(no), status, amount, currency, order_ref, refunded);
    return answer || t.differences(was, t.facts(t.merchant()));
end $$;

-- ---------------------------------------------------------------- successes

select example('confirmed', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1');
select is(word('N-1', 'success', 100, 'AED', 'O-1'), array[
    'confirmed',
    'event 1: order.success O-1 N-1',
    'order O-1: verifying 100 AED by N-1 (verifying) -> paid 100 AED by N-1',
    'transaction 1: N-1/- verifying for O-1 100 AED -> N-1/- captured for O-1 100 AED'], 'it is captured, and the order is paid');
select is(word('N-1', 'success', 100, 'AED', 'O-1'), array['moot'], 'said again: nothing');
select given('select foloosi.register_order(%m, ''O-2'', 250, ''AED'')');
select given_delivery('success', 'O-2', 'N-2', amount => 250);
select is((word('N-2', 'SUCCESS', 250.00, 'aed', null))[2:3], array['event 2: order.success O-2 N-2', 'order O-2: verifying 250 AED by N-2 (verifying) registered -> paid 250 AED by N-2 registered'],
    'a provider that does not say the order');

select example('it differs', verify => 'callback');
select given_delivery('success', no || ':O', no) from unnest(array['N-1', 'N-2', 'N-3', 'N-4', 'N-5', 'N-6']) no;
select is((word('N-1', 'failed'))[1:3], array['differs', 'event 1: order.review N-1:O N-1 (not_captured)', 'order N-1:O: verifying 100 AED by N-1 (verifying) -> review 100 AED by N-1 (not_captured)'], 'it was not captured: denied');
select is((word('N-2', 'success', 99, 'AED'))[2], 'event 2: order.review N-2:O N-2 (amount_differs)', 'another amount');
select is((word('N-3', 'success', 100, 'USD'))[2], 'event 3: order.review N-3:O N-3 (currency_differs)', 'another currency');
select is((word('N-4', 'success', 100, 'AED', 'another'))[2], 'event 4: order.review N-4:O N-4 (order_differs)', 'another order');
select is((word('N-5', 'success', 100, 'AED', ''))[2], 'event 5: order.review N-5:O N-5 (order_differs)', 'no order, though it says such things');
select is((word('N-6', null))[2], 'event 6: order.review N-6:O N-6 (unverifiable)', 'it cannot be asked');
select is(array(select distinct state || ' ' || coalesce(money_left::text, '-') from foloosi.transactions where merchant = merchant()), array['denied -'], 'none is captured');
select throws_ok(format('select foloosi.resolve_order(%L, ''N-1:O'', ''paid'')', merchant()), '55000', null, 'what was denied never pays by itself');
select is((act('select foloosi.resolve_order(%m, ''N-1:O'', ''paid'', ''I saw it in the panel'', true)'))[2], 'order N-1:O: review 100 AED by N-1 (not_captured) -> paid 100 AED decided by postgres',
    'a person may say that it was paid all the same');

select example('denied, while a captured one waits', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1');
select given('select foloosi.verify_transaction(transaction_id(''N-1''), ''failed'')');
select given_delivery('success', 'O-1', 'N-2');
select is((facts(merchant()))->>'order O-1', 'review 100 AED by N-1 (not_captured)', 'a person is to decide');
select is(word('N-2', 'success', 100, 'AED', 'O-1'), array['confirmed', 'transaction 2: N-2/- verifying for O-1 100 AED -> N-2/- captured for O-1 100 AED'], 'row 18: the other was captured');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''paid'')'), array[
    'event 2: order.success O-1 N-2 (resolved)',
    'order O-1: review 100 AED by N-1 (not_captured) -> paid 100 AED by N-2 decided by postgres'], 'paid by what was captured, which is not sent back');

select example('who is denied hands over', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1', amount => 90);
select given_delivery('success', 'O-1', 'N-2');
select given_delivery('success', 'O-1', 'N-3');
select is(word('N-1', 'failed'), array[
    'differs',
    'order O-1: verifying 90 AED by N-1 (verifying) -> verifying 100 AED by N-2 (verifying)',
    'transaction 1: N-1/- verifying for O-1 90 AED -> N-1/- denied for O-1 90 AED'], 'to the next waiting success; no event');
select is((word('N-3', 'success', 100, 'AED'))[2:3], array['event 1: order.success O-1 N-3', 'order O-1: verifying 100 AED by N-2 (verifying) -> paid 100 AED by N-3'],
    'the first that is confirmed pays');
select is((word('N-2', 'success', 100, 'AED'))[2:3], array['event 2: payback.due O-1 N-2 (double_payment) payback 1', 'payback 1: N-2 due double_payment 100 AED for O-1'], 'the next is a double payment');

select example('denied without an order', verify => 'callback');
select given_delivery('success', null, 'N-1');
select is(word('N-1', 'failed'), array['differs', 'transaction 1: N-1/- verifying for - 100 AED -> N-1/- denied for - 100 AED'], 'nothing to move');
select is(deliver('success', null, 'N-1', copy => 2), array['duplicate - -'], 'said again it is known, and stays denied');

select example('denied, and then it names an order', verify => 'callback');
select given_delivery('success', null, 'N-1');
select given_delivery('success', null, 'N-2');
select given('select foloosi.verify_transaction(transaction_id(''N-1''), ''failed'')');
select given('select foloosi.verify_transaction(transaction_id(''N-2''), ''failed'')');
select is(deliver('success', 'O-1', 'N-1'), array[
    'review O-1 review (not_captured)',
    'event 3: order.review O-1 N-1 (not_captured)',
    'order O-1: review 100 AED by N-1 (not_captured)',
    'transaction 1: N-1/- denied for - 100 AED -> N-1/- denied for O-1 100 AED'], 'a person decides: it never pays by itself');
select is((act('select foloosi.assign_transaction(transaction_id(''N-2''), ''O-2'', true)'))[1:2], array['event 4: order.review O-2 N-2 (not_captured)', 'order O-2: review 100 AED by N-2 (not_captured)'],
    'nor if a person names the order');

select example('the policy is off by now', verify => 'callback');
select given_delivery('success', null, 'N-1');
select given_delivery('success', null, 'N-2');
select given_delivery('success', 'O-2', 'N-3');
select given('select foloosi.verify_transaction(transaction_id(''N-3''), ''success'', 100, ''AED'')');
select given('select foloosi.set_merchant(%m, verify => ''off'')');
select is((deliver('success', 'O-1', 'N-1'))[1:2], array['recorded O-1 verifying (verifying)', 'order O-1: verifying 100 AED by N-1 (verifying)'], 'what nobody verified is not captured by that');
select is(deliver('success', 'O-2', 'N-2'), array['recorded O-2 paid (verifying)', 'transaction 2: N-2/- verifying for - 100 AED -> N-2/- verifying for O-2 100 AED'], 'nor sent back');

-- ---------------------------------------------------------------- the rows that wait

select example('rows 16, 17 and 25', verify => 'callback');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'')');
select is(deliver('success', 'O-1', 'N-1'), array['review O-1 cancelled (verifying)', 'transaction 1: N-1/- verifying for O-1 100 AED'], 'row 16: no payback before the provider''s word');
select is((word('N-1', 'success', 100, 'AED', 'O-1'))[1:3], array['confirmed', 'event 2: payback.due O-1 N-1 (order_closed) payback 1', 'payback 1: N-1 due order_closed 100 AED for O-1'], 'row 16: with it');
select given_delivery('success', 'O-2', 'N-2');
select given('select foloosi.verify_transaction(transaction_id(''N-2''), ''success'', 100, ''AED'', ''O-2'')');
select is(deliver('success', 'O-2', 'N-3'), array['recorded O-2 paid (verifying)', 'transaction 3: N-3/- verifying for O-2 100 AED'], 'row 17: nor here');
select is(word('N-3', 'failed'), array['differs', 'transaction 3: N-3/- verifying for O-2 100 AED -> N-3/- denied for O-2 100 AED'], 'row 17: what is denied has none at all');
select given_delivery('refund', null, 'N-2');
select given('select foloosi.verify_transaction(transaction_id(''N-2''), ''refund'', 100, ''AED'', ''O-2'')');
select is((facts(merchant()))->>'order O-2', 'refunded 100 AED by N-2', 'all of it went back');
select is(deliver('success', 'O-2', 'N-4'), array['review O-2 refunded (verifying)', 'transaction 4: N-4/- verifying for O-2 100 AED'], 'row 25: the order is not moved before the provider''s word');
select is((word('N-4', 'success', 100, 'AED', 'O-2'))[1:3], array['confirmed', 'event 5: order.review O-2 N-4 (paid_after_refund)', 'order O-2: refunded 100 AED by N-2 -> review 100 AED by N-4 (paid_after_refund)'], 'row 25: with it');
select example('row 9', verify => 'callback');
select is((deliver('success', null, 'N-1'))[3], 'transaction 1: N-1/- verifying for - 100 AED', 'row 9: verifying, without an order');
select is(word('N-1', 'success', 100, 'AED', 'O-1'), array['confirmed', 'transaction 1: N-1/- verifying for - 100 AED -> N-1/- captured for - 100 AED'], 'row 9: confirmed: it still waits for a person to name its order');

select example('another amount before the provider''s word', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1');
select is((deliver('success', 'O-1', 'N-1', amount => 90))[1], 'review O-1 verifying (amount_contradiction)', 'row 6: a doubt from then on');
select given_delivery('success', 'O-1', 'N-2');
select is((word('N-1', 'success', 100, 'AED', 'O-1'))[2:3], array['event 1: order.success O-1 N-1', 'order O-1: verifying 100 AED by N-1 (verifying) -> paid 100 AED by N-1'], 'the provider''s word pays');
select is((word('N-2', 'success', 100, 'AED', 'O-1'))[2:3], array['event 2: payback.check O-1 N-2 (double_payment) payback 1', 'payback 1: N-2 check double_payment 100 AED for O-1'],
    'what the other captured is only to check');
select example('the same in a batch', verify => 'callback');
select record(merchant(), d('success', 'O-1', 'N-1'), d('success', 'O-1', 'N-1', amount => 90), d('success', 'O-1', 'N-2'));
select given('select foloosi.verify_transaction(transaction_id(''N-1''), ''success'', 100, ''AED'', ''O-1'')');
select is((word('N-2', 'success', 100, 'AED', 'O-1'))[3], 'payback 1: N-2 check double_payment 100 AED for O-1', 'the same');

-- ---------------------------------------------------------------- nobody asked yet

select example('registered by then', verify => 'callback', unknown_orders => 'review');
select is(deliver('success', 'O-1', 'N-1'), array[
    'review O-1 review (unknown_order)',
    'event 1: order.review O-1 N-1 (unknown_order)',
    'order O-1: review 100 AED by N-1 (unknown_order)',
    'transaction 1: N-1/- verifying for O-1 100 AED'], 'row 12: by policy: review');
select is(act('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')'), array[
    'order O-1: review 100 AED by N-1 (unknown_order) -> verifying 100 AED by N-1 (verifying) registered decided by postgres'], 'a success that nobody verified does not pay: verifying, without event');
select is((word('N-1', 'success', 100, 'AED', 'O-1'))[2], 'event 2: order.success O-1 N-1', 'until the provider''s word');
select given_delivery('success', 'O-2', 'N-2');
select given('select foloosi.register_order(%m, ''O-2'', 100, ''AED'')');
select is((word('N-2', 'failed'))[2:3], array['event 4: order.review O-2 N-2 (not_captured)', 'order O-2: verifying 100 AED by N-2 (verifying) registered decided by postgres -> review 100 AED by N-2 (not_captured) registered decided by postgres'],
    'or it does not pay at all');
select given_delivery('success', 'O-3', 'N-3');
select is((act('select foloosi.register_order(%m, ''O-3'', 99, ''AED'')'))[1], 'event 6: order.review O-3 N-3 (amount_differs)', 'another sum needs no call to differ');
select given_delivery('success', 'O-4', 'N-4');
select given('select foloosi.verify_transaction(transaction_id(''N-4''), ''success'', 100, ''AED'')');
select is((act('select foloosi.register_order(%m, ''O-4'', 100, ''AED'')'))[1], 'event 8: order.success O-4 N-4', 'confirmed before: paid at once');

-- ---------------------------------------------------------------- failures

select example('a failure that was none', verify => 'callback');
select given_delivery('failed', 'O-1', 'N-1', amount => null, currency => null);
select is(word('N-1', 'success', 100, 'AED', 'O-1'), array[
    'captured',
    'event 1: order.success O-1 N-1',
    'order O-1: pending by N-1 until 00:00:00 -> paid 100 AED by N-1',
    'transaction 1: N-1/- failed for O-1 -> N-1/- captured for O-1 100 AED'], 'captured after all: paid, and never cancelled');
select given('select foloosi.register_order(%m, ''O-2'', 250, ''AED'')');
select given_delivery('failed', 'O-2', 'N-2');
select is((word('N-2', 'success', 100, 'AED', 'O-2'))[2], 'event 2: order.review O-2 N-2 (amount_differs)', 'captured with another sum: review');
select given_delivery('failed', 'O-3', 'N-3');
select is((word('N-3', 'success', 100, 'AED', 'O-9'))[1:2], array['differs', 'event 3: order.review O-3 N-3 (order_differs)'], 'captured for another order: a person looks');
select given_delivery('failed', 'O-4', 'N-4');
select is(word('N-4', 'pending'), array['unclear'], 'neither: nothing follows');

-- ---------------------------------------------------------------- refunds

select example('a refund waits', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1');
select given('select foloosi.verify_transaction(transaction_id(''N-1''), ''success'', 100, ''AED'', ''O-1'')');
select is((deliver('refund', 'O-1', 'N-1'))[1], 'recorded O-1 paid (refunded)', 'row 20: kept, and waits for the provider''s word');
select is((facts(merchant()))->>'transaction 1', 'N-1/- captured for O-1 100 AED', 'nothing counts as refunded yet');
select given_delivery('success', 'O-1', 'N-2');
select is((word('N-2', 'success', 100, 'AED'))[3], 'payback 1: N-2 check double_payment 100 AED for O-1', 'until then it is a doubt');
select is((word('N-1', 'refund', 100, 'AED'))[1:2], array['confirmed', 'order O-1: paid 100 AED by N-1 -> paid 100 AED by N-2'], 'the provider says refund: it counts');
select is((facts(merchant()))->>'transaction 1', 'N-1/- captured for O-1 100 AED refunded 100', 'all of it');

select example('refund confirms success and refund', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('refund', 'O-1', 'N-1');
select is(word('N-1', 'refund', 100, 'AED', 'O-1'), array[
    'confirmed',
    'event 1: order.refund O-1 N-1',
    'order O-1: verifying 100 AED by N-1 (verifying) -> refunded 100 AED by N-1',
    'transaction 1: N-1/- verifying for O-1 100 AED -> N-1/- captured for O-1 100 AED refunded 100'], 'and nobody is told that it is paid');

select example('a refund that nobody else said', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1');
select is((word('N-1', 'refund', 100, 'AED', 'O-1'))[2:3], array['event 1: order.review O-1 N-1 (refund_known)', 'order O-1: verifying 100 AED by N-1 (verifying) -> review 100 AED by N-1 (refund_known)'],
    'with the payment''s own amount: a doubt, not the whole');
select is((facts(merchant()))->>'transaction 1', 'N-1/- captured for O-1 100 AED', 'nothing is known to be back');
select given_delivery('success', 'O-2', 'N-2');
select is((word('N-2', 'refund', 100, 'AED', 'O-2', 100))[2:3], array['event 2: order.refund O-2 N-2', 'order O-2: verifying 100 AED by N-2 (verifying) -> refunded 100 AED by N-2'],
    'from a member configured for it: believed');
select given_delivery('success', 'O-3', 'N-3');
select is((facts(merchant()))->>'order O-3', 'verifying 100 AED by N-3 (verifying)', 'a third');
select is((word('N-3', 'success', 100, 'AED', 'O-3', 30))[3], 'order O-3: verifying 100 AED by N-3 (verifying) -> review 100 AED by N-3 (refund_known)', 'a part of it');
select is((facts(merchant()))->>'transaction 3', 'N-3/- captured for O-3 100 AED refunded 30', 'is known');

-- ---------------------------------------------------------------- what was denied pays nothing

select example('registered, and it was denied', verify => 'callback', unknown_orders => 'review');
select given_delivery('success', 'O-1', 'N-1');
select given('select foloosi.verify_transaction(transaction_id(''N-1''), ''failed'', 100, ''AED'', ''O-1'')');
select is(act('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')'), array[
    'order O-1: review 100 AED by N-1 (unknown_order) -> review 100 AED by N-1 (unknown_order) registered'], 'register_order: what was denied does not pay an order that was unknown');
select given_delivery('success', 'O-2', 'N-2');
select given('select foloosi.verify_transaction(transaction_id(''N-2''), ''failed'', 100, ''AED'', ''O-2'')');
select is((act('select foloosi.register_order(%m, ''O-2'', 50, ''AED'')'))[1], 'order O-2: review 100 AED by N-2 (unknown_order) -> review 50 AED by N-2 (unknown_order) registered', 'nor one of another sum');

select example('believed by a person, and then denied', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select given('select foloosi.resolve_order(%m, ''O-1'', ''paid'', ''it is in the panel'')');
select is(word('N-2', 'success', 100, 'AED', 'O-1'), array[
    'confirmed',
    'order O-1: paid 100 AED by N-1 decided by postgres -> paid 100 AED by N-2 decided by postgres',
    'transaction 2: N-2/- verifying for O-1 100 AED -> N-2/- captured for O-1 100 AED'], 'row 17: what is captured, and equals, pays; what waits for the provider''s word does not');
select is(word('N-1', 'failed'), array['differs', 'transaction 1: N-1/- verifying for O-1 100 AED -> N-1/- denied for O-1 100 AED'], 'denied: nothing goes back');
select is(waiting(), '{}', 'and nothing waits');

select example('another sum beside a denied payer', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2', amount => 70);
select given('select foloosi.resolve_order(%m, ''O-1'', ''paid'', ''it is in the panel'')');
select given('select foloosi.verify_transaction(transaction_id(''N-1''), ''failed'')');
select is((word('N-2', 'success', 70, 'AED', 'O-1'))[2:3], array['event 2: payback.check O-1 N-2 (double_payment) payback 1', 'payback 1: N-2 check double_payment 70 AED for O-1'],
    'what may have paid it in truth is only to check');

-- ---------------------------------------------------------------- what nobody would see otherwise

select example('a person believed it, and it was denied', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1');
select given('select foloosi.resolve_order(%m, ''O-1'', ''paid'', ''it is in the panel'')');
select is(waiting(), '{}', 'paid, because a person said so');
select given('select foloosi.verify_transaction(transaction_id(''N-1''), ''failed'')');
select is(waiting(), array['order O-1 payer_denied'], 'paid by what the provider denied: a person looks');
select given_delivery('success', 'O-1', 'N-2');
select given('select foloosi.verify_transaction(transaction_id(''N-2''), ''success'', 100, ''AED'', ''O-1'')');
select is(waiting(), '{}', 'until something else pays it');
select given_delivery('success', 'O-2', 'N-3');
select given('select foloosi.resolve_order(%m, ''O-2'', ''paid'', ''it is in the panel'')');
select given('select foloosi.verify_transaction(transaction_id(''N-3''), ''failed'')');
select is(act('select foloosi.resolve_order(%m, ''O-2'', ''paid'', ''cash'', true)'), array['order O-2: paid 100 AED by N-3 decided by postgres -> paid 100 AED decided by postgres'], 'or a person says that it was paid in another way');
select is(waiting(), '{}', 'and nothing waits');

select example('denied, and the list says success', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1');
select given('select foloosi.verify_transaction(transaction_id(''N-1''), ''failed'')');
select given('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'')');
select set_config('t.run', id::text, true) from foloosi.begin_reconciliation(merchant());
select is((select verdict from foloosi.compare_transactions(current_setting('t.run')::bigint, array['N-1'], array['success'], array[100], array['AED'])), 'ask', 'it is not what we know');
select is((select r.verdict || ' ' || r.outcome from foloosi.record_reconciled(current_setting('t.run')::bigint, array['N-1'], array['success'], array[100], array['AED'], array['O-1'], array[null]) r),
    'differed review', 'nor is it said again');
select is(waiting(), array['delivery O-1 not_captured'], 'the provider took it, after all: a person looks');

select example('the provider confirms a refund before the success is known', verify => 'callback');
select given_delivery('refund', null, 'N-1', amount => null, currency => null);
select is(word('N-1', 'refund', 100, 'AED'), array['confirmed'], 'nothing was captured that could be refunded');
select is(deliver('success', 'O-1', 'N-1'), array[
    'recorded O-1 verifying (verifying)',
    'order O-1: verifying 100 AED by N-1 (verifying)',
    'transaction 1: N-1/- unknown for - -> N-1/- verifying for O-1 100 AED'], 'row 12, not 24: nothing is captured before the provider''s word');
select is(deliver('success', 'O-1', 'N-1', copy => 2), array['duplicate O-1 verifying'], 'row 5');
select is(word('N-1', 'success', 100, 'AED'), array[
    'confirmed',
    'event 1: order.refund O-1 N-1',
    'order O-1: verifying 100 AED by N-1 (verifying) -> refunded 100 AED by N-1',
    'transaction 1: N-1/- verifying for O-1 100 AED -> N-1/- captured for O-1 100 AED refunded 100'], 'then it is, and has gone back');

select example('the one that pays has another currency than the one that was waited for', verify => 'callback');
select given_delivery('failed', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2', null, 70, 'USD');
select is((word('N-1', 'success', 100, 'AED'))[1:3], array[
    'captured',
    'event 1: order.success O-1 N-1',
    'order O-1: verifying 70 USD by N-2 (verifying) -> paid 100 AED by N-1'], 'it is paid in that currency');
select is(array(select money_left || ' ' || currency from foloosi.orders where merchant = merchant()), array['100 AED'], 'of which all is left');

select example('captured for another order, after it failed', cancel_after => '10 minutes');
select given_delivery('failed', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select is(word('N-1', 'success', 100, 'AED', 'O-2'), array[
    'differs',
    'event 2: order.review - N-1 (order_differs)',
    'transaction 1: N-1/- failed for O-1 100 AED -> N-1/- captured for - 100 AED'], 'as row 4: captured, without an order');
select is(waiting(), array['delivery O-1 order_differs'], 'which a person gives it');
select is((act('select foloosi.assign_transaction(transaction_id(''N-1''), ''O-2'', true)'))[1], 'event 3: order.success O-2 N-1', 'the right one');
select is(waiting(), '{}', 'and it waits no longer');

select example('captured without an order, after it failed');
select given_delivery('failed', null, 'N-1');
select is(word('N-1', 'success', 100, 'AED'), array[
    'captured',
    'event 1: order.review - N-1 (no_order_key)',
    'transaction 1: N-1/- failed for - 100 AED -> N-1/- captured for - 100 AED'], 'as row 9: order.review');
select is(waiting(), array['delivery - no_order_key'], 'it waits for its order');

select * from finish();
rollback;
