-- SPDX-License-Identifier: MIT
-- What time does: cancel_after, expire_after, cancel_at, cancel_due(), and what holds it.
begin;
\ir tools.psql
select no_plan();

-- foloosi-worker calls it all the time; here it did until now, and nothing came from a spool.
create function running() returns text language sql as $$
    update foloosi.cancellation set ran_at = foloosi.clock(), held_until = null, spooled_at = null returning 'given: cancel_due() runs all the time'
$$;
-- It is so much later, cancel_due() ran until then, and now runs: how many of this merchant it cancels, and all that changed.
create function due(by interval) returns text[] language plpgsql as $$
declare
    was    jsonb;
    before bigint;
begin
    perform t.later(by), t.running();
    was := t.facts(t.merchant());
    before := (select count(*) from foloosi.decisions d where d.merchant = t.merchant() and d.action = 'cancel');
    perform foloosi.cancel_due();
    return array[((select count(*) from foloosi.decisions d where d.merchant = t.merchant() and d.action = 'cancel') - before)::text] || t.differences(was, t.facts(t.merchant()));
end $$;

-- ---------------------------------------------------------------- cancel_after

select example('cancel_after', cancel_after => '30 minutes');
select is(deliver('failed', 'O-1', 'N-1', 'R-1'), array[
    'recorded O-1 pending',
    'order O-1: pending 100 AED by N-1 until 00:30:00',
    'transaction 1: N-1/R-1 failed for O-1 100 AED'], 'row 10: where cancelling waits: pending with its time, no event');
select is(waiting(), '{}', 'nothing waits for a person');
select is(due('29 minutes'), array['0'], 'not before its time');
select is(deliver('success', 'O-1', 'N-2', 'R-2'), array[
    'recorded O-1 paid',
    'event 1: order.success O-1 N-2',
    'order O-1: pending 100 AED by N-1 until 00:30:00 -> paid 100 AED by N-2',
    'transaction 2: N-2/R-2 captured for O-1 100 AED'], 'row 12: a declined card and a good one: paid, as if nothing had failed');
select is(due('2 hours'), array['0'], 'and never cancelled at the shop');
select is(deliver('failed', 'O-1', 'N-3'), array['recorded O-1 paid', 'transaction 3: N-3/- failed for O-1 100 AED'], 'row 11: nor by a failure that comes then');

select example('another sum than the failed one', cancel_after => '30 minutes'), later('0');
select given_delivery('failed', 'O-1', 'N-1', amount => 70);
select is((deliver('success', 'O-1', 'N-2'))[1:3], array['recorded O-1 paid', 'event 1: order.success O-1 N-2', 'order O-1: pending 70 AED by N-1 until 00:30:00 -> paid 100 AED by N-2'],
    'row 12: pending without having been registered expects nothing');

select example('nobody pays', cancel_after => '30 minutes'), later('0');
select given_delivery('failed', 'O-1', 'N-1');
select later('20 minutes');
select is(deliver('failed', 'O-1', 'N-2'), array[
    'recorded O-1 pending',
    'order O-1: pending 100 AED by N-1 until 00:30:00 -> pending 100 AED by N-2 until 00:50:00',
    'transaction 2: N-2/- failed for O-1 100 AED'], 'a further failure takes the later time');
select is(due('49 minutes'), array['0'], 'and that counts');
select is(due('50 minutes'), array['1',
    'event 1: order.cancel O-1 N-2 (failed)',
    'order O-1: pending 100 AED by N-2 until 00:50:00 -> cancelled 100 AED by N-2'], 'then it is cancelled: order.cancel, reason failed');
select is(due('60 minutes'), array['0'], 'once');
select is(array(select concat_ws(' ', coalesce(state_before, '-'), state, cause, decided_by, note) from foloosi.order_history where merchant = merchant() order by id),
    array['- pending delivery', 'pending pending delivery', 'pending cancelled cancel postgres failed'], 'time is in the history');
select is((deliver('success', 'O-1', 'N-3'))[1], 'recorded O-1 paid (late)', 'row 15: a success after it: paid, marked late');

select example('an earlier time stays', cancel_after => '30 minutes'), later('0');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'', now() + interval ''2 hours'')');
select is((deliver('failed', 'O-1', 'N-1'))[2], 'order O-1: pending 100 AED registered until 02:00:00 -> pending 100 AED by N-1 registered until 02:00:00', 'a failure does not bring its time nearer');

select example('at once'), later('0');
select is((deliver('failed', 'O-1', 'N-1'))[1:2], array['recorded O-1 cancelled', 'event 1: order.cancel O-1 N-1'], 'cancel_after 0: at once');

-- ---------------------------------------------------------------- expire_after

select example('expire_after', expire_after => '1 hour'), later('0');
select is(act('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')'), array['order O-1: pending 100 AED registered until 01:00:00'], 'a registered order gets its time at once');
select is(act('select foloosi.register_order(%m, ''O-2'', 100, ''AED'', now() + interval ''10 minutes'')'), array['order O-2: pending 100 AED registered until 00:10:00'], 'or its own');
select given('select foloosi.register_order(%m, ''O-3'', 100, ''AED'')');
select given_delivery('success', 'O-3', 'N-3', amount => 7);
select is(due('10 minutes'), array['1',
    'event 2: order.cancel O-2 (expired)',
    'order O-2: pending 100 AED registered until 00:10:00 -> cancelled 100 AED (expired) registered'], 'cancelled in time: reason expired');
select is((due('1 hour'))[1:2], array['1', 'event 3: order.cancel O-1 (expired)'], 'the other, too; what is in review is not');
select is(deliver('success', 'O-1', 'N-1'), array[
    'recorded O-1 paid (late)',
    'event 4: order.success O-1 N-1 (late)',
    'order O-1: cancelled 100 AED (expired) registered -> paid 100 AED by N-1 (late) late registered',
    'transaction 2: N-1/- captured for O-1 100 AED'], 'row 15: cancelled by time: paid, marked late');
select is((deliver('success', 'O-2', 'N-2', amount => 5))[1], 'review O-2 review (amount_differs)', 'row 15 as 14: another sum');

select example('expired, late_success = review', late_success => 'review', expire_after => '1 hour'), later('0');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select due('1 hour');
select is((deliver('success', 'O-1', 'N-1'))[1], 'review O-1 review (late_success)', 'row 15: by late_success: review');

select example('registered again', expire_after => '1 hour'), later('0');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select later('30 minutes');
select is(act('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')'), '{}', 'equal values change nothing, nor the time');
select is(act('select foloosi.register_order(%m, ''O-1'', 90, ''AED'')'), array['order O-1: pending 100 AED registered until 01:00:00 -> pending 90 AED registered until 01:30:00'], 'other values begin anew');
select example('for ever'), later('0');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select is(due('10 years'), array['0'], 'without expire_after a registered order waits for ever');
select is(act('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'')'), array['event 1: order.cancel O-1 (resolved)', 'order O-1: pending 100 AED registered -> cancelled 100 AED registered decided by postgres'],
    'unless a person closes it');

select example('a person was first', expire_after => '1 hour'), later('0');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select is((act('select foloosi.resolve_order(%m, ''O-1'', ''paid'', ''cash'', true)'))[2], 'order O-1: pending 100 AED registered until 01:00:00 -> paid 100 AED registered decided by postgres', 'who decides an order takes its time away');
select is(due('2 hours'), array['0'], 'so it does not expire');

-- ---------------------------------------------------------------- what holds it

select example('it did not run', expire_after => '1 hour'), later('0'), running();
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select later('1 hour');
select is(foloosi.cancel_due(), 0, 'it did not run for an hour: payments may have waited, too');
select later('1 hour 9 minutes'); update foloosi.cancellation set ran_at = foloosi.clock();
select is(foloosi.cancel_due(), 0, 'nothing is cancelled for ten minutes');
select later('1 hour 10 minutes');
select is(foloosi.cancel_due(), 1, 'then it is');
select example('it never ran', expire_after => '1 hour'), later('0');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
update foloosi.cancellation set ran_at = null, held_until = null;
select later('1 hour');
select is(foloosi.cancel_due(), 0, 'it never ran before');
select later('1 hour 2 minutes');
select is(foloosi.cancel_due(), 0, 'a pause of two minutes is none');
select later('1 hour 10 minutes'); update foloosi.cancellation set ran_at = foloosi.clock();
select is(foloosi.cancel_due(), 1, 'ten minutes after the first time');

select example('a spool has files', expire_after => '1 hour'), later('0');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select later('1 hour'), running();
select is(foloosi.cancel_due(100, true), 0, 'a spool has files');
select later('1 hour 1 minute');
select is(foloosi.cancel_due(), 0, 'and had some within ten minutes');

select example('a spool drains', expire_after => '1 hour'), later('0');
create function from_spool(status text, order_ref text, no text) returns text[] language sql as $$
    select array(select concat_ws(' ', r.outcome, r.order_ref, r.order_state, '(' || r.reason || ')') from foloosi.record_deliveries(array[1], array[merchant()], array[order_ref],
        array[sha256(convert_to(no || status, 'UTF8'))], array[convert_to(no || status, 'UTF8')], array[null::text], array['spool'], array[status], array[no], array[null::text], array[100], array['AED'],
        array[null::text], array[order_ref], array[null::text], array[null::text], array[null::text], array[null::text], array[null::text]) r)
$$;
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given('select foloosi.register_order(%m, ''O-2'', 100, ''AED'')');
select later('1 hour'), running();
select is(from_spool('success', 'O-2', 'N-2'), array['recorded O-2 paid'], 'an outage of an hour in which orders expire, and the spool drains after it');
select is(foloosi.cancel_due(), 0, 'deliveries came from a spool: more may come');
select later('1 hour 5 minutes'); update foloosi.cancellation set ran_at = foloosi.clock();
select is(from_spool('success', 'O-1', 'N-1'), array['recorded O-1 paid'], 'one does: no wrongful cancel');
select is(due('2 hours'), array['0'], 'and nothing is left to cancel');

select example('a kept delivery names it', expire_after => '1 hour'), later('0');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select is((deliver('success', 'O-1', 'N-1', null, -1))[1], 'review O-1 pending (refused)', 'a delivery that could not be recorded');
select is(due('2 hours'), array['0'], 'may have paid it: it is not cancelled');
select given('select foloosi.dismiss_attention(max(id)) from foloosi.deliveries where merchant = %m');
select is((due('2 hours'))[1], '1', 'until a person has looked');

select example('money is here', cancel_after => '30 minutes'), later('0');
select given_delivery('failed', 'O-1', 'N-1', 'R-1');
select given_delivery('success', null, 'N-2');
update foloosi.transactions set order_ref = 'O-1' where merchant = merchant() and transaction_no = 'N-2'; -- by what means so ever
insert into foloosi.other_transactions (order_ref, merchant, transaction_id) values ('O-1', merchant(), transaction_id('N-2'));
select is((due('1 hour'))[1], '0', 'no order is cancelled while money names it');

select example('a lock', expire_after => '1 hour'), later('0');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given('select foloosi.register_order(%m, ''O-2'', 100, ''AED'')');
select later('1 hour'), running();
select is(foloosi.cancel_due(1), 1, 'at most so many');
select is(foloosi.cancel_due(1), 1, 'and the next');

-- ---------------------------------------------------------------- where the provider can be asked

create function reconciled(covers date, began interval) returns text language sql as $$
    insert into foloosi.reconciliations (merchant, first_day, last_day, day, covers_from, created_at, finished_at)
    values (merchant(), covers, covers, covers, covers, foloosi.clock() + began, foloosi.clock() + began)
    returning 'given: a reconciliation that found nothing unclear'
$$;
select example('a provider', expire_after => '1 hour'), later('0');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select later('1 hour'), running();
select is(foloosi.cancel_due(100, false, array[merchant()]), 0, 'its list was not read yet');
select reconciled((now() at time zone 'UTC')::date - 2, '-1 minute');
select is(foloosi.cancel_due(100, false, array[merchant()]), 0, 'it was, but before the order''s time');
select is(foloosi.cancel_due(), 0, 'whatever the caller knows of a provider');
select later('1 hour 1 minute'), running(), reconciled((now() at time zone 'UTC')::date, '-30 seconds');
select is(foloosi.cancel_due(100, false, array[merchant()]), 0, 'and not all days since the order was made');
select reconciled((now() at time zone 'UTC')::date - 2, '-10 seconds');
select is(foloosi.cancel_due(100, false, array[merchant()]), 1, 'one that began after it and read all days finds nothing unclear: cancelled');

select example('with call-back', verify => 'callback'), later('0');
select is((deliver('failed', 'O-1', 'N-1'))[2], 'order O-1: pending 100 AED by N-1 until 00:00:00', 'a failure waits for the provider''s word');
select reconciled((now() at time zone 'UTC')::date - 2, '1 second');
select is(due('1 minute'), array['0'], 'which has not come');
select is(foloosi.verify_transaction(transaction_id('N-1'), 'failed'), 'failed', 'it failed');
select is((due('2 minutes'))[1:2], array['1', 'event 1: order.cancel O-1 N-1 (failed)'], 'then time cancels');

-- ---------------------------------------------------------------- in attention

select example('overdue', expire_after => '1 hour'), later('0');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select later('1 hour 1 minute');
select is(waiting(), '{}', 'for a while nobody needs to know');
select later('3 hours');
select is(waiting(), array['order O-1 not_cancelled'], 'overdue: does anything call cancel_due()?');

-- ---------------------------------------------------------------- a merchant's trigger

select example('a trigger refuses', expire_after => '1 hour'), later('0');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given('select foloosi.register_order(%m, ''O-2'', 100, ''AED'')');
create schema shop;
create function shop.no() returns trigger language plpgsql as $$ begin if new.order_ref = 'O-1' and new.state = 'cancelled' then raise exception 'no'; end if; return null; end $$;
create trigger no after update on foloosi.orders for each row execute function shop.no();
set local client_min_messages = error;
select is((due('1 hour'))[1:2], array['1', 'event 1: order.cancel O-2 (expired)'], 'it stops no other order');
select is((facts(merchant()))->>'order O-1', 'pending 100 AED registered until 01:00:00', 'its own stays pending');
drop trigger no on foloosi.orders;
set local client_min_messages = warning;

-- ---------------------------------------------------------------- the clock

select throws_ok(format('set local role %I; create or replace function foloosi.clock() returns timestamptz language sql as ''select now()''', r), '42501', null, r || ' cannot replace the clock')
    from unnest(array['foloosi_handler', 'foloosi_operator', 'foloosi_consumer', 'foloosi_worker', 'foloosi_monitor', 'foloosi_retention']) r;

-- ---------------------------------------------------------------- a success without its order

select example('a success names it, and could not have it', expire_after => '10 minutes'), later('0');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given_delivery('failed', null, 'N-1', 'R-1');
select is((deliver('success', 'O-1', 'N-2', 'R-1'))[1], 'review O-1 pending (reference_conflict)', 'row 19: its money is here');
select is(due('60 minutes'), array['0'], 'what a person is to look at may have paid it: time does not cancel it');
select given('select foloosi.assign_transaction(transaction_id(''N-2''), ''O-1'')');
select is((facts(merchant()))->>'order O-1', 'paid 100 AED by N-2 registered', 'it was paid');
select given('select foloosi.register_order(%m, ''O-2'', 100, ''AED'')');
select given_delivery('success', 'O-3', 'N-3');
select given_delivery('success', 'O-2', 'N-3', copy => 2);
select is(due('120 minutes'), array['0'], 'row 4: so may money that another order has');
select given('select foloosi.dismiss_attention((select max(id) from foloosi.deliveries where merchant = %m), ''it is O-3''''s'')');
select is((due('130 minutes'))[1:2], array['1', 'event 3: order.cancel O-2 (expired)'], 'until a person has looked');

select * from finish();
rollback;
