-- SPDX-License-Identifier: MIT
-- Open paybacks: said again by time and not by deliveries, opened once for one cause, closed by a person or a refund.
begin;
\ir tools.psql
select no_plan();

-- so long ago was the last word about a payback
create function older(hours int) returns text language plpgsql as $$
begin
    update foloosi.paybacks set updated_at = updated_at - hours * interval '1 hour', reminded_at = reminded_at - hours * interval '1 hour'
    where merchant = t.merchant();
    return hours || ' hours pass';
end $$;
create function reminders() returns text[] language sql stable as $$
    select array(select e.type || coalesce(' ' || r.number, '') || coalesce(' ' || (foloosi.event_payload(e) #>> '{data,payback,reminder}'), '')
                 from foloosi.events e left join foloosi.reminders r on r.event_id = e.id
                 where e.merchant = t.merchant() and e.payback_id is not null order by e.id)
$$;

select example('reminders');
select given_delivery('success', 'O-1', 'N-1'), given_delivery('success', 'O-1', 'N-2');
select is(foloosi.remind_paybacks(), 0, 'not at once');
select older(71);
select is(foloosi.remind_paybacks(), 0, 'not before the third day');
select given_delivery('success', 'O-1', 'N-2'), given_delivery('success', 'O-1', 'N-2', copy => 2);
select is(reminders(), array['payback.due'], 'and not by repeats');
select older(2);
select is(foloosi.remind_paybacks(), 1, 'then');
select is(foloosi.remind_paybacks(), 0, 'once');
select is(reminders(), array['payback.due', 'payback.due 1 1'], 'the same event, with its number');
select older(73);
select given_delivery('failed', 'O-1', 'N-2');
select is(foloosi.remind_paybacks(), 0, 'what has just changed is news by itself');
select older(73);
select is(foloosi.remind_paybacks(), 1, 'and again');
select is(reminders(), array['payback.due', 'payback.due 1 1', 'payback.check', 'payback.check 2 2'], 'by its state now');
select older(73);
select is(act(format('select foloosi.settle_payback(%s)', payback_id('N-2'))), array['payback 1: N-2 check double_payment 100 AED for O-1 -> N-2 settled double_payment 100 AED for O-1 settled by postgres',
    'transaction 2: N-2/- captured for O-1 100 AED -> N-2/- captured for O-1 100 AED refunded 100'], 'a person settles');
select is(foloosi.remind_paybacks(), 0, 'then never');

select example('a time of the merchant''s');
select foloosi.set_merchant(merchant(), remind_after => '1 hour');
select given_delivery('success', 'O-1', 'N-1'), given_delivery('success', 'O-1', 'N-2'), older(2);
select is(foloosi.remind_paybacks(), 1, 'an hour');
select foloosi.set_merchant(merchant(), remind_after => '0');
select older(1000);
select is(foloosi.remind_paybacks(), 0, '0 is never');
select throws_ok($$select foloosi.set_merchant(merchant(), remind_after => '-1 hour')$$, '23514', null, 'no time before now');

select example('a refund settles');
select given_delivery('success', 'O-1', 'N-1'), given_delivery('success', 'O-1', 'N-2'), given_delivery('refund', 'O-1', 'N-2'), older(100);
select is(foloosi.remind_paybacks(), 0, 'and there is no reminder');

-- An older version opened a payback for what was captured though it had failed; now such a capture pays its order.
create function captured_though_failed(no text) returns text language sql as $$
    insert into foloosi.paybacks (merchant, order_ref, transaction_id, state, reason, amount, currency)
    select t.merchant, t.order_ref, t.id, 'check', 'captured_though_failed', t.amount, t.currency from foloosi.transactions t
    where t.merchant = t.merchant() and t.transaction_no = no
    returning 'given: the payback of an older version'
$$;

select example('captured though failed', verify => 'callback');
select given_delivery('failed', 'O-1', 'N-1');
select is(foloosi.verify_transaction(transaction_id('N-1'), 'success', 100, 'AED', 'O-1'), 'captured', 'the provider says captured');
select is(foloosi.verify_transaction(transaction_id('N-1'), 'success', 100, 'AED', 'O-1'), 'moot', 'twice');
select is(reminders(), '{}', 'and opens no payback');
select is((facts(merchant()))->>'order O-1', 'paid 100 AED by N-1', 'for it pays its order');

select example('captured, and then a refund');
select given_delivery('success', 'O-1', 'N-2'), given_delivery('success', 'O-1', 'N-1'), given_delivery('failed', 'O-1', 'N-1');
update foloosi.paybacks set reason = 'captured_though_failed' where merchant = merchant();
select is(deliver('refund', 'O-1', 'N-1'), array['recorded O-1 paid (refunded)',
    'payback 1: N-1 check captured_though_failed 100 AED for O-1 -> N-1 settled captured_though_failed 100 AED for O-1',
    'transaction 2: N-1/- captured for O-1 100 AED -> N-1/- captured for O-1 100 AED refunded 100'], 'a refund settles it');

select example('captured, and then it pays', verify => 'callback');
select given_delivery('failed', 'O-1', 'N-1');
select captured_though_failed('N-1');
select given_delivery('success', 'O-1', 'N-1');
select is(act('select foloosi.verify_transaction(t.transaction_id(''N-1''), ''success'', 100, ''AED'', ''O-1'')'), array['event 1: order.success O-1 N-1',
    'order O-1: verifying 100 AED by N-1 (verifying) -> paid 100 AED by N-1',
    'payback 1: N-1 check captured_though_failed 100 AED for O-1 -> N-1 settled withdrawn 100 AED for O-1',
    'transaction 1: N-1/- verifying for O-1 100 AED -> N-1/- captured for O-1 100 AED'], 'what pays an order need not go back');
select throws_like('select foloosi.settle_payback(payback_id(''N-1''))', 'payback % was withdrawn by what pays its order at 20%Z', 'and says so');

select example('captured, in review, decided', late_success => 'review');
select given_delivery('failed', 'O-1', 'N-1');
select captured_though_failed('N-1');
select given_delivery('success', 'O-1', 'N-1');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''paid'')'), array['event 3: order.success O-1 N-1 (resolved)',
    'order O-1: review 100 AED by N-1 (late_success) late -> paid 100 AED by N-1 late decided by postgres',
    'payback 1: N-1 check captured_though_failed 100 AED for O-1 -> N-1 settled withdrawn 100 AED for O-1'],
    'nor what a person takes for the payment');

select * from finish();
rollback;
