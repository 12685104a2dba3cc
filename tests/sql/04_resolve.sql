-- SPDX-License-Identifier: MIT
-- resolve_order(): a person decides an order, or closes it.
begin;
\ir tools.psql
select no_plan();

select example('review to paid');
select given('select foloosi.register_order(%m, ''O-1'', 250, ''AED'')');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2', null, 250);
select given_delivery('failed', 'O-1', 'N-3');
select is(waiting(), array['order O-1 amount_differs'], 'it waits');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''paid'', ''a discount'')'), array[
    'event 2: order.success O-1 N-2 (resolved)',
    'event 3: payback.due O-1 N-1 (double_payment) payback 1',
    'order O-1: review 250 AED by N-1 (amount_differs) registered -> paid 250 AED by N-2 registered decided by postgres',
    'payback 1: N-1 due double_payment 100 AED for O-1'], 'to paid: order.success; what equals the expected sum pays, every other captured one goes back');
select is(waiting(), array['payback O-1 double_payment'], 'only the payback waits');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''paid'')'), '{}', 'to paid again: nothing');
select is((deliver('success', 'O-1', 'N-4'))[1], 'recorded O-1 paid (double_payment)', 'row 17 from then on');

select example('review to cancelled');
select given('select foloosi.register_order(%m, ''O-1'', 250, ''AED'')');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'', ''sold out'')'), array[
    'event 2: order.cancel O-1 N-1 (resolved)',
    'event 3: payback.due O-1 N-1 (order_closed) payback 1',
    'event 4: payback.due O-1 N-2 (order_closed) payback 2',
    'order O-1: review 250 AED by N-1 (amount_differs) registered -> cancelled 250 AED by N-1 registered decided by postgres',
    'payback 1: N-1 due order_closed 100 AED for O-1',
    'payback 2: N-2 due order_closed 100 AED for O-1'], 'to cancelled: order.cancel, all captured go back');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'')'), '{}', 'to cancelled again: nothing');

select example('pending');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''paid'', ''bank transfer'', true)'), array[
    'event 1: order.success O-1 (resolved)',
    'order O-1: pending 100 AED registered -> paid 100 AED registered decided by postgres'], 'pending to paid: by other means, no transaction');
select is((deliver('success', 'O-1', 'N-1'))[3], 'payback 1: N-1 due double_payment 100 AED for O-1', 'row 17 for a success that comes nevertheless');
select given('select foloosi.register_order(%m, ''O-2'', 100, ''AED'')');
select is(act('select foloosi.resolve_order(%m, ''O-2'', ''cancelled'')'), array[
    'event 3: order.cancel O-2 (resolved)',
    'order O-2: pending 100 AED registered -> cancelled 100 AED registered decided by postgres'], 'pending to cancelled: closed');

select example('cancelled by a failure');
select given_delivery('failed', 'O-1', 'N-1');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'')'), array[
    'order O-1: cancelled 100 AED by N-1 -> cancelled 100 AED by N-1 decided by postgres'], 'cancelled by a failure to cancelled: closed; its order.cancel is out');
select is((deliver('success', 'O-1', 'N-1'))[1], 'review O-1 cancelled (order_closed)', 'row 16 from then on');
select given_delivery('failed', 'O-2', 'N-2');
select throws_ok(format('select foloosi.resolve_order(%L, ''O-2'', ''paid'')', merchant()), '55000', null, 'cancelled by a failure to paid: the failure does not pay it, and nothing else does');
select is(act('select foloosi.resolve_order(%m, ''O-2'', ''paid'', ''cash'', without_transaction => true)'), array[
    'event 4: order.success O-2 (resolved)',
    'order O-2: cancelled 100 AED by N-2 -> paid 100 AED decided by postgres'], 'unless a person says that it was paid in another way');

select example('closed, then opened');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'')');
select given_delivery('success', 'O-1', 'N-1');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''paid'', ''they insist'')'), array[
    'event 3: order.success O-1 N-1 (resolved)',
    'order O-1: cancelled 100 AED registered decided by postgres -> paid 100 AED by N-1 registered decided by postgres',
    'payback 1: N-1 due order_closed 100 AED for O-1 -> N-1 settled withdrawn 100 AED for O-1'],
    'closed to paid: what came for it pays it, and its payback is withdrawn');
select ok((act('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'')'))[2] like 'event 5: payback.due O-1 N-1 (order_closed)%',
    'and cancelled after all: what was only withdrawn is due again');

select example('paid to cancelled');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'', ''returned'')'), array[
    'event 3: order.cancel O-1 N-1 (resolved)',
    'event 4: payback.due O-1 N-1 (order_closed) payback 2',
    'order O-1: paid 100 AED by N-1 -> cancelled 100 AED by N-1 decided by postgres',
    'payback 2: N-1 due order_closed 100 AED for O-1'], 'paid to cancelled: its money goes back; the other one has its payback');
select is((deliver('success', 'O-1', 'N-1', copy => 2)), array['duplicate O-1 cancelled'], 'and no webhook takes that back');

select example('paybacks that were');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select given('select foloosi.settle_payback(payback_id(''N-2''), ''sent'')');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'')'), array[
    'event 3: order.cancel O-1 N-1 (resolved)',
    'event 4: payback.due O-1 N-1 (order_closed) payback 2',
    'order O-1: paid 100 AED by N-1 -> cancelled 100 AED by N-1 decided by postgres',
    'payback 2: N-1 due order_closed 100 AED for O-1'], 'money that has gone back does not go back twice');

select example('what is in question has its own question');
select given('select foloosi.register_order(%m, ''O-1'', 250, ''AED'')');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2', null, 250);
select given_delivery('failed', 'O-1', 'N-1');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''paid'')'), array[
    'event 3: order.success O-1 N-2 (resolved)',
    'order O-1: review 250 AED by N-1 (amount_differs) registered -> paid 250 AED by N-2 registered decided by postgres'],
    'to paid: a transaction with a payback does not pay, the next captured one does');

select example('the one in question is not the first', late_success => 'review');
select given_delivery('failed', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select given_delivery('success', 'O-1', 'N-1');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''paid'')'), array[
    'event 3: order.success O-1 N-2 (resolved)',
    'event 4: payback.due O-1 N-1 (double_payment) payback 1',
    'order O-1: review 100 AED by N-2 (late_success) late -> paid 100 AED by N-2 late decided by postgres',
    'payback 1: N-1 due double_payment 100 AED for O-1'], 'to paid: what put the order in question pays it, though another was known before');

select example('verifying', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''paid'')'), array[
    'event 1: order.success O-1 N-1 (resolved)',
    'order O-1: verifying 100 AED by N-1 (verifying) -> paid 100 AED by N-1 decided by postgres'], 'verifying to paid: a person believes it before the provider was asked');
select is(act('select foloosi.verify_transaction(transaction_id(''N-1''), ''success'', 100, ''AED'', ''O-1'')'), array[
    'transaction 1: N-1/- verifying for O-1 100 AED -> N-1/- captured for O-1 100 AED'], 'verifying to paid: the provider confirms it: nothing is doubled');
select given_delivery('success', 'O-2', 'N-2');
select is(act('select foloosi.resolve_order(%m, ''O-2'', ''cancelled'')'), array[
    'event 2: order.cancel O-2 N-2 (resolved)',
    'order O-2: verifying 100 AED by N-2 (verifying) -> cancelled 100 AED by N-2 decided by postgres'], 'verifying to cancelled: nothing is captured, nothing goes back');
select is(act('select foloosi.verify_transaction(transaction_id(''N-2''), ''success'', 100, ''AED'', ''O-2'')'), array[
    'event 3: payback.due O-2 N-2 (order_closed) payback 1',
    'payback 1: N-2 due order_closed 100 AED for O-2',
    'transaction 2: N-2/- verifying for O-2 100 AED -> N-2/- captured for O-2 100 AED'], 'verifying to cancelled: before the provider says so');

select example('late is never forgotten', late_success => 'review');
select given_delivery('failed', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-1');
select is((act('select foloosi.resolve_order(%m, ''O-1'', ''paid'')'))[2],
    'order O-1: review 100 AED by N-1 (late_success) late -> paid 100 AED by N-1 late decided by postgres', 'a late success that a person believes');

select example('what is refused');
select given_delivery('success', 'O-1', 'N-1');
select throws_ok(format('select foloosi.resolve_order(%L, ''O-1'', %L)', merchant(), state), '22023', null, format('resolve_order to %L', state))
    from unnest(array['pending', 'verifying', 'review', 'refunded', '', 'PAID', null]) state;
select throws_ok(format('select foloosi.resolve_order(%L, ''O-2'', ''paid'')', merchant()), 'P0002', null, 'an order that is not there');
select throws_ok('select foloosi.resolve_order(''nobody'', ''O-1'', ''paid'')', 'P0002', null, 'of a merchant that is not there');
select throws_ok(format('select foloosi.resolve_order(%L, null, ''paid'')', merchant()), 'P0002', null, 'no order');
select is((facts(merchant()))->>'order O-1', 'paid 100 AED by N-1', 'nothing has changed');

select example('history');
select given('select foloosi.register_order(%m, ''O-1'', 250, ''AED'')');
select given_delivery('success', 'O-1', 'N-1');
set local session authorization foloosi_operator;
select is((select row(o.state, o.decided_by, o.decided_at is not null)::text from foloosi.resolve_order(merchant(), 'O-1', 'paid', 'a discount') o),
    '(paid,foloosi_operator,t)', 'returns the order''s row');
select given('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'', ''returned'')');
reset session authorization;
select is(array(select concat_ws(' ', coalesce(state_before, '-'), state, cause, decided_by, note) from foloosi.order_history where merchant = merchant() order by id),
    array['- pending register postgres', 'pending review delivery', 'review paid resolve foloosi_operator a discount',
        'paid cancelled resolve foloosi_operator returned'], 'each step with its cause, role and note');

select example('transactions of an order');
select given_delivery('failed', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select given_delivery('success', 'O-1', 'N-3');
select given_delivery('failed', 'O-1', 'N-4');
select given_delivery('success', 'O-2', 'N-5');
select is(array(select transaction_no from foloosi.transactions_of(merchant(), 'O-1') order by transaction_no), array['N-1', 'N-2', 'N-3', 'N-4']::varchar[],
    'transactions_of(): the one that the order names, the one that it named, and the others');
select is(array(select transaction_no from foloosi.transactions_of(merchant(), 'O-2')), array['N-5']::varchar[], 'transactions_of(): usually one');
select is(count(*), 0::bigint, 'which is not listed') from foloosi.other_transactions where merchant = merchant() and order_ref = 'O-2';
select is_empty($$select * from foloosi.transactions_of('nobody', 'O-1')$$, 'transactions_of(): none');

select example('names of the first version');
insert into foloosi.orders (merchant, order_ref, state, amount, currency, reason)
select merchant(), n, 'review', 100, 'AED', 'unknown_order' from unnest(array['O-1 ', 'O-1', 'undefined']) n;
select is(act('select foloosi.resolve_order(%m, ''O-1 '', ''cancelled'')'), array[
    'event 1: order.cancel O-1  (resolved)', 'order O-1 : review 100 AED (unknown_order) -> cancelled 100 AED decided by postgres'], 'an order is found by its own name first, blank and all');
select is((act('select foloosi.resolve_order(%m, ''undefined'', ''cancelled'')'))[2], 'order undefined: review 100 AED (unknown_order) -> cancelled 100 AED decided by postgres',
    'also by one that is no key any more');
select is((act('select foloosi.resolve_order(%m, '' O-1'', ''cancelled'')'))[2], 'order O-1: review 100 AED (unknown_order) -> cancelled 100 AED decided by postgres', 'else by its clean one');

select * from finish();
rollback;
