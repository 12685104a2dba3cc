-- SPDX-License-Identifier: MIT
-- What persons say of money: settle, withdraw, reopen, record_refund; and how an assignment is taken back.
begin;
\ir tools.psql
select no_plan();

-- ---------------------------------------------------------------- settle: all of it went back, as by row 20

select example('settle');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select is(act('select foloosi.settle_payback(payback_id(''N-2''), ''sent'')'), array[
    'payback 1: N-2 due double_payment 100 AED for O-1 -> N-2 settled double_payment 100 AED for O-1 settled by postgres',
    'transaction 2: N-2/- captured for O-1 100 AED -> N-2/- captured for O-1 100 AED refunded 100'], 'settle: refunded is all of it');
select is((deliver('refund', 'O-1', 'N-2'))[1], 'recorded O-1 paid (refunded)', 'settle: its webhook comes, nothing changes');
select is(deliver('refund', 'O-1', 'N-1'), array[
    'recorded O-1 refunded (refunded)',
    'event 3: order.refund O-1 N-1',
    'order O-1: paid 100 AED by N-1 -> refunded 100 AED by N-1',
    'transaction 1: N-1/- captured for O-1 100 AED -> N-1/- captured for O-1 100 AED refunded 100'], 'settle: what went back pays nothing when the other goes back, too');

-- ---------------------------------------------------------------- withdraw: nothing has to go back

select example('withdraw');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
set local session authorization foloosi_operator;
select is((select row(p.state, p.reason, p.settled_by, p.note)::text from foloosi.withdraw_payback((select id from foloosi.paybacks where merchant = merchant()), 'two tickets') p),
    '(settled,withdrawn,foloosi_operator,"two tickets")', 'withdraw: returns the row');
reset session authorization;
select is(waiting(), '{}', 'withdraw: nothing waits');
select is((facts(merchant()))->>'transaction 2', 'N-2/- captured for O-1 100 AED', 'withdraw: nothing went back');
select throws_like('select foloosi.withdraw_payback(payback_id(''N-2''))', 'payback % was withdrawn by foloosi_operator at 20%Z', 'withdraw: twice is an error, who and when');
select throws_like('select foloosi.settle_payback(payback_id(''N-2''))', 'payback % was withdrawn by foloosi_operator at 20%Z', 'settle: of what was withdrawn, too');
select throws_ok('select foloosi.settle_payback(payback_id(''N-2''))', '55000', null, 'by its SQLSTATE');
select is(deliver('success', 'O-1', 'N-2', copy => 2), array['duplicate O-1 paid'], 'withdraw: what is said again opens nothing');
select is(array(select concat_ws(' ', cause, decided_by, note) from foloosi.order_history where merchant = merchant() and cause <> 'delivery'), array['withdraw foloosi_operator two tickets'],
    'withdraw: in the history of the order');
select throws_ok('select foloosi.withdraw_payback(-1)', 'P0002', null, 'withdraw: no such payback');

-- ---------------------------------------------------------------- reopen: a person's act is undone

select example('reopen what was settled');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select given('select foloosi.settle_payback(payback_id(''N-2''), ''sent'')');
select is(act('select foloosi.reopen_payback(payback_id(''N-2''), ''it came back'')'), array[
    'event 3: payback.check O-1 N-2 (double_payment) payback 1',
    'payback 1: N-2 settled double_payment 100 AED for O-1 settled by postgres -> N-2 check double_payment 100 AED for O-1',
    'transaction 2: N-2/- captured for O-1 100 AED refunded 100 -> N-2/- captured for O-1 100 AED'], 'it opens as check; what was said to have gone back is here again');
select throws_ok('select foloosi.reopen_payback(payback_id(''N-2''))', '55000', null, 'what is open is not opened');
select is((deliver('refund', 'O-1', 'N-2'))[2], 'payback 1: N-2 check double_payment 100 AED for O-1 -> N-2 settled double_payment 100 AED for O-1', 'a refund settles it');
select throws_ok('select foloosi.reopen_payback(payback_id(''N-2''))', '55000', null, 'what the provider said is not undone');
select is(array(select concat_ws(' ', cause, note) from foloosi.order_history where merchant = merchant() and cause <> 'delivery' order by id), array['settle sent', 'reopen it came back'], 'all in the history');

select example('reopen what was withdrawn');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select given('select foloosi.withdraw_payback(payback_id(''N-2''))');
select is(act('select foloosi.reopen_payback(payback_id(''N-2''), ''no, it was one'')'), array[
    'event 3: payback.check O-1 N-2 (double_payment) payback 1',
    'payback 1: N-2 settled withdrawn 100 AED for O-1 settled by postgres -> N-2 check double_payment 100 AED for O-1'], 'it opens as check');

select example('reopen what paid the order');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('failed', 'O-1', 'N-1');
select given('select foloosi.settle_payback(payback_id(''N-1''), ''a mistake'')');
select is((facts(merchant()))->>'order O-1', 'refunded 100 AED by N-1', 'settled: refunded');
select is(act('select foloosi.reopen_payback(payback_id(''N-1''), ''it did not go'')'), array[
    'event 4: payback.check O-1 N-1 (status_contradiction) payback 1',
    'event 5: order.review O-1 N-1 (refund_undone)',
    'order O-1: refunded 100 AED by N-1 -> review 100 AED by N-1 (refund_undone)',
    'payback 1: N-1 settled status_contradiction 100 AED for O-1 settled by postgres -> N-1 check status_contradiction 100 AED for O-1',
    'transaction 1: N-1/- captured for O-1 100 AED refunded 100 -> N-1/- captured for O-1 100 AED'], 'money left again: review, reason refund_undone');

select example('reopen what has gone since');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select given('select foloosi.withdraw_payback(payback_id(''N-2''))');
select given_delivery('refund', 'O-1', 'N-2');
select throws_ok('select foloosi.reopen_payback(payback_id(''N-2''))', '55000', null, 'nothing is left of its transaction');
select throws_ok('select foloosi.reopen_payback(-1)', 'P0002', null, 'no such payback');

-- ---------------------------------------------------------------- record_refund: whatever the provider said

select example('a chargeback that is won back');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('refund', 'O-1', 'N-1');
select is(act('select foloosi.record_refund(transaction_id(''N-1''), 0, ''the bank gave it back'')'), array[
    'event 3: order.review O-1 N-1 (refund_undone)',
    'order O-1: refunded 100 AED by N-1 -> review 100 AED by N-1 (refund_undone)',
    'transaction 1: N-1/- captured for O-1 100 AED refunded 100 -> N-1/- captured for O-1 100 AED refunded 0'], 'money left again in a refunded order: review, refund_undone, order.review');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''paid'')'), array[
    'event 4: order.success O-1 N-1 (resolved)',
    'order O-1: review 100 AED by N-1 (refund_undone) -> paid 100 AED by N-1 decided by postgres'], 'a person decides');
select is(deliver('refund', 'O-1', 'N-1', copy => 2), array['review O-1 paid (refund_differs)'], 'row 22: more than the person said: a doubt, and it is not moved');
select is(waiting(), array['delivery O-1 refund_differs'], 'which waits');
select is((deliver('success', 'O-1', 'N-2'))[3], 'payback 1: N-2 check double_payment 100 AED for O-1', 'so what comes besides is to check');
select is((act('select foloosi.record_refund(transaction_id(''N-1''), 0, ''still here'')')), '{}', 'said again by the person, the doubt is over');
select is((deliver('success', 'O-1', 'N-3'))[3], 'payback 2: N-3 due double_payment 100 AED for O-1', 'and what comes then is due');

select example('two payments, all went back, one comes again');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select given_delivery('refund', 'O-1', 'N-2');
select given_delivery('refund', 'O-1', 'N-1');
select is((facts(merchant()))->>'order O-1', 'refunded 100 AED by N-1', 'all went back');
select given('select foloosi.record_refund(transaction_id(''N-2''), 0, ''won'')');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''paid'')'), array[
    'event 5: order.success O-1 N-2 (resolved)',
    'order O-1: review 100 AED by N-1 (refund_undone) -> paid 100 AED by N-2 decided by postgres'], 'paid by what is here');

select example('it was here after all: pending');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'', now() + interval ''1 hour'')');
select given_delivery('refund', null, 'N-1');
select given_delivery('success', 'O-1', 'N-1');
select is((facts(merchant()))->>'order O-1', 'pending 100 AED registered until 01:00:00', 'its payment had gone back before, so it was not moved');
select is(act('select foloosi.record_refund(transaction_id(''N-1''), 0, ''won'')'), array[
    'event 1: order.review O-1 N-1 (refund_undone)',
    'order O-1: pending 100 AED registered until 01:00:00 -> review 100 AED by N-1 (refund_undone) registered',
    'transaction 1: N-1/- captured for O-1 100 AED refunded 100 -> N-1/- captured for O-1 100 AED refunded 0'], 'money names it again: review, and neither time nor a failure cancels it');
select is((deliver('failed', 'O-1', 'N-2'))[1], 'recorded O-1 review', 'row 11');
select example('it was here after all: cancelled');
select given_delivery('failed', 'O-1', 'N-1', amount => 70);
select given_delivery('refund', null, 'N-2');
select given_delivery('success', 'O-1', 'N-2');
select is((act('select foloosi.record_refund(transaction_id(''N-2''), 0, ''won'')'))[1:2], array['event 2: order.review O-1 N-2 (refund_undone)', 'order O-1: cancelled 70 AED by N-1 -> review 100 AED by N-2 (refund_undone)'],
    'an order that a failure cancelled: review');
select example('it was here after all: unknown');
select given_delivery('refund', null, 'N-1');
select given_delivery('success', 'O-1', 'N-1');
select is((act('select foloosi.record_refund(transaction_id(''N-1''), 0, ''won'')'))[1:2], array['event 1: order.review O-1 N-1 (refund_undone)', 'order O-1: review 100 AED by N-1 (refund_undone)'],
    'an order that was not created: it is now, for a person');
select is(array(select concat_ws(' ', coalesce(state_before, '-'), state, cause) from foloosi.order_history where merchant = merchant()), array['- review refund'], 'which is its beginning');
select example('it was here after all: closed');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'')');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('refund', 'O-1', 'N-1');
select is((act('select foloosi.record_refund(transaction_id(''N-1''), 0, ''won'')'))[1:2], array['event 3: payback.check O-1 N-1 (order_closed) payback 2', 'payback 2: N-1 check order_closed 100 AED for O-1'],
    'what a person closed stays closed: a payback to check');

select example('a part by a person');
select given_delivery('success', 'O-1', 'N-1');
select is(act('select foloosi.record_refund(transaction_id(''N-1''), 30, ''in cash'')'), array[
    'event 2: order.refund O-1 N-1 (refunded_in_part)',
    'transaction 1: N-1/- captured for O-1 100 AED -> N-1/- captured for O-1 100 AED refunded 30'], 'a part: order.refund');
select is(act('select foloosi.record_refund(transaction_id(''N-1''), 20, ''counted again'')'), array[
    'transaction 1: N-1/- captured for O-1 100 AED refunded 30 -> N-1/- captured for O-1 100 AED refunded 20'], 'less: the last word counts, nothing is emitted');
select is((act('select foloosi.record_refund(transaction_id(''N-1''), 100, ''all'')'))[1:2], array['event 3: order.refund O-1 N-1', 'order O-1: paid 100 AED by N-1 -> refunded 100 AED by N-1'], 'all of it');
select is(array(select concat_ws(' ', cause, note) from foloosi.order_history where merchant = merchant() and cause <> 'delivery' order by id), array['refund in cash', 'refund counted again', 'refund all'], 'in the history');

select example('a payback and a person''s word');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select is(act('select foloosi.record_refund(transaction_id(''N-2''), 100, ''in cash'')'), array[
    'payback 1: N-2 due double_payment 100 AED for O-1 -> N-2 settled double_payment 100 AED for O-1',
    'transaction 2: N-2/- captured for O-1 100 AED -> N-2/- captured for O-1 100 AED refunded 100'], 'settled, when nothing is left');
select is(act('select foloosi.record_refund(transaction_id(''N-2''), 60, ''no, 60'')'), array[
    'event 3: payback.check O-1 N-2 (double_payment) payback 2',
    'payback 2: N-2 check double_payment 40 AED for O-1',
    'transaction 2: N-2/- captured for O-1 100 AED refunded 100 -> N-2/- captured for O-1 100 AED refunded 60'], 'money is here again: to check');

select example('without an order');
select given_delivery('success', null, 'N-1');
select is(act('select foloosi.record_refund(transaction_id(''N-1''), 100, ''sent back'')'), array[
    'transaction 1: N-1/- captured for - 100 AED -> N-1/- captured for - 100 AED refunded 100'], 'of a transaction without an order');
select is(array(select concat_ws(' ', action, order_ref, note) from foloosi.decisions where merchant = merchant()), array['refund sent back'], 'and so it is written');

select example('what is refused');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('failed', 'O-2', 'N-2');
select throws_ok(format('select foloosi.record_refund(%s, %s)', coalesce(transaction_id(bad[1])::text, '-1'), bad[2]), bad[3], null, 'record_refund: ' || bad[1] || ' ' || bad[2])
    from (values (array['N-1', '100.01, ''x''', '22023']), (array['N-1', '-1, ''x''', '23514']), (array['N-1', 'null, ''x''', '22004']), (array['N-1', '10, null', '22004']),
                 (array['N-1', '10, ''''', '22004']), (array['N-2', '10, ''x''', '55000']), (array['N-9', '10, ''x''', 'P0002'])) x (bad);
select is((select count(*)::int from foloosi.refunds where merchant = merchant()), 0, 'and leaves nothing');

-- ---------------------------------------------------------------- unassign: an assignment is taken back

select example('unassign: it paid a new order');
select given_delivery('success', null, 'N-1');
select given('select foloosi.assign_transaction(transaction_id(''N-1''), ''O-1'', true)');
select is(act('select foloosi.unassign_transaction(transaction_id(''N-1''), ''a typing error'')'), array[
    'event 3: order.review O-1 N-1 (unassigned)',
    'order O-1: paid 100 AED by N-1 -> review 100 AED (unassigned) decided by postgres',
    'transaction 1: N-1/- captured for O-1 100 AED -> N-1/- captured for - 100 AED'], 'the order loses it: review, order.review');
select is(waiting(), array['delivery - no_order_key', 'order O-1 unassigned'], 'the money waits for a person again');
select is(deliver('success', 'O-1', 'N-1'), array['duplicate O-1 review'], 'no delivery gives it back');
select is((act('select foloosi.assign_transaction(transaction_id(''N-1''), ''O-2'', true)'))[1], 'event 4: order.success O-2 N-1', 'but a person may say the right one');
select is(array(select concat_ws(' ', order_ref, cause, note) from foloosi.order_history where merchant = merchant() and cause <> 'delivery' order by id),
    array['O-1 assign', 'O-1 unassign a typing error', 'O-2 assign'], 'in the history of both');

select example('unassign: it paid a registered order');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given_delivery('success', null, 'N-1');
select given('select foloosi.assign_transaction(transaction_id(''N-1''), ''O-1'')');
select is((act('select foloosi.unassign_transaction(transaction_id(''N-1''), ''x'')'))[1:2], array['event 3: order.review O-1 N-1 (unassigned)', 'order O-1: paid 100 AED by N-1 registered -> review 100 AED (unassigned) registered decided by postgres'],
    'what the shop was told is not silently taken back: a person decides');

select example('unassign: it paid a cancelled order');
select given_delivery('failed', 'O-1', 'N-1');
select given_delivery('success', null, 'N-2');
select given('select foloosi.assign_transaction(transaction_id(''N-2''), ''O-1'')');
select is((act('select foloosi.unassign_transaction(transaction_id(''N-2''), ''x'')'))[1:2], array['event 4: order.cancel O-1 N-2 (unassigned)', 'order O-1: paid 100 AED by N-2 (late) late -> cancelled 100 AED by N-1'],
    'cancelled as before, order.cancel');
select is((deliver('success', 'O-1', 'N-3'))[1], 'recorded O-1 paid (late)', 'row 15, not 16: by a failure, and not by a person');

select example('unassign: its failure cancelled the order');
select given_delivery('failed', null, 'N-1');
select given('select foloosi.assign_transaction(transaction_id(''N-1''), ''O-1'', true)');
select is(act('select foloosi.unassign_transaction(transaction_id(''N-1''), ''x'')'), array[
    'order O-1: cancelled 100 AED by N-1 -> cancelled 100 AED',
    'transaction 1: N-1/- failed for O-1 100 AED -> N-1/- failed for - 100 AED'], 'the shop was told of the cancelling: it stays, and names no transaction that is not its own');
select is((deliver('success', 'O-1', 'N-2'))[1], 'recorded O-1 paid (late)', 'row 15: no person closed it');

select example('unassign: it doubled');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', null, 'N-2');
select given('select foloosi.assign_transaction(transaction_id(''N-2''), ''O-1'')');
select is(act('select foloosi.unassign_transaction(transaction_id(''N-2''), ''x'')'), array[
    'payback 1: N-2 due double_payment 100 AED for O-1 -> N-2 settled withdrawn 100 AED for O-1',
    'transaction 2: N-2/- captured for O-1 100 AED -> N-2/- captured for - 100 AED'], 'its payback was the order''s; the order stays paid');

select example('unassign: too late');
select given_delivery('success', null, 'N-1');
select given('select foloosi.assign_transaction(transaction_id(''N-1''), ''O-1'', true)');
select given('select foloosi.add_consumer(''relay'', merchant())');
select * from foloosi.next_events('relay', 10);
select lives_ok('select foloosi.unassign_transaction(transaction_id(''N-1''), ''x'')', 'relayed events do not matter');
select given('select foloosi.assign_transaction(transaction_id(''N-1''), ''O-2'', true)');
select given_delivery('failed', 'O-2', 'N-2');
select throws_ok('select foloosi.unassign_transaction(transaction_id(''N-1''), ''x'')', '55000', null, 'a webhook came since');
select given_delivery('success', null, 'N-3');
select given('select foloosi.assign_transaction(transaction_id(''N-3''), ''O-3'', true)');
select given('select foloosi.resolve_order(%m, ''O-3'', ''cancelled'')');
select throws_ok('select foloosi.unassign_transaction(transaction_id(''N-3''), ''x'')', '55000', null, 'a person acted since');
select given_delivery('success', 'O-4', 'N-4');
select throws_ok('select foloosi.unassign_transaction(transaction_id(''N-4''), ''x'')', '55000', null, 'no person assigned it');
select throws_ok('select foloosi.unassign_transaction(-1, ''x'')', 'P0002', null, 'no such transaction');

-- ---------------------------------------------------------------- dismissed

select example('dismiss twice');
select given_delivery('chargeback', 'O-1', 'N-1');
set local session authorization foloosi_operator;
select foloosi.dismiss_attention((select max(id) from foloosi.attention where merchant = merchant()), 'seen');
reset session authorization;
select throws_like(format('select foloosi.dismiss_attention(%s)', (select max(id) from foloosi.deliveries where merchant = merchant())), 'delivery % does not wait for a person: foloosi_operator dismissed it at 20%Z',
    'each act says who and when, if it was done before');

-- ---------------------------------------------------------------- what the second half of an act must not repeat or forget

select example('withdrawn before the order was paid by a person');
select given_delivery('success', 'O-1', 'N-1', amount => 1);
select given_delivery('failed', 'O-1', 'N-1', amount => 1);
select given('select foloosi.withdraw_payback(payback_id(''N-1''), ''the shop says it succeeded'')');
select given_delivery('success', 'O-1', 'N-2');
select is((facts(merchant()))->>'payback 2', 'N-2 check double_payment 100 AED for O-1', 'two payments');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given('select foloosi.resolve_order(%m, ''O-1'', ''paid'')');
select is((facts(merchant()))->>'payback 3', 'N-1 check double_payment 1 AED for O-1', 'decided anew: what does not pay goes back, whatever was said of it before; a person looks');

select example('unassign from a refunded order');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('refund', null, 'N-1');
select given_delivery('success', null, 'N-2');
select given('select foloosi.assign_transaction(transaction_id(''N-2''), ''O-1'')');
select is(act('select foloosi.unassign_transaction(transaction_id(''N-2''), ''x'')'), array[
    'order O-1: review 100 AED by N-2 (paid_after_refund) -> refunded 100 AED by N-1 decided by postgres',
    'transaction 2: N-2/- captured for O-1 100 AED -> N-2/- captured for - 100 AED'], 'refunded as before, and nobody is told of the refund again');

select example('it was here after all, in a currency that the failure before did not name');
select given_delivery('failed', 'O-1', 'N-1', null, null, null);
select given_delivery('refund', null, 'N-1');
select given_delivery('success', 'O-1', 'N-1');
select is((act(format('select foloosi.record_refund(%s, 0, ''x'')', transaction_id('N-1'))))[1:2], array[
    'event 2: order.review O-1 N-1 (refund_undone)', 'order O-1: cancelled by N-1 -> review 100 AED by N-1 (refund_undone)'], 'to a person');
select is(array(select refunded || ' ' || money_left || ' ' || currency from foloosi.orders where merchant = merchant()), array['0 100 AED'], 'all of it is left');

select example('it was here after all, and named an order');
select given_delivery('refund', null, 'N-1', amount => 50);
select given_delivery('success', 'O-1', 'N-1', amount => 50);
select is((facts(merchant()))->>'order O-1', null, 'row 24: no order');
select given('select foloosi.record_refund(transaction_id(''N-1''), 0, ''a chargeback was won'')');
select is((facts(merchant()))->>'order O-1', 'review 50 AED by N-1 (refund_undone)', 'it is made');
select is((select array_agg(x.awaits_order) from foloosi.other_transactions x where x.merchant = merchant()), array[false], 'and none waits for it any more');

-- ---------------------------------------------------------------- what is no money

select example('what is no money');
select given_delivery('success', 'O-1', 'N-1');
select throws_ok(format('select foloosi.register_order(%L, ''O-2'', %s, ''AED'')', merchant(), a), '23514', 'an amount has at most 12 digits before the point, 4 behind it and no sign: ' || a, 'register_order: ' || a)
from unnest(array['-5', '5.00001', '1000000000000']) a;
select throws_ok(format('select foloosi.register_order(%L, ''O-2'', 5, ''AEDX'')', merchant()), '23514', 'a currency has three letters: AEDX', 'register_order: a currency');
select throws_ok(format('select foloosi.register_order(%L, %L, 5, ''AED'')', merchant(), repeat('x', 300)), '22001', 'an order_ref has at most 255 characters, not 300', 'register_order: a key');
select throws_ok(format('select foloosi.record_refund(transaction_id(''N-1''), %s, ''x'')', a), '23514', 'an amount has at most 12 digits before the point, 4 behind it and no sign: ' || a, 'record_refund: ' || a)
from unnest(array['-1', '1.123456']) a;

select * from finish();
rollback;
