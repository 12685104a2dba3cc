-- SPDX-License-Identifier: MIT
-- Reconciliation: what the provider's list says against what we know. tests/e2e/test_reconcile.py has the
-- walk itself, and several at once.
begin;
\ir tools.psql
select no_plan();

create function begun() returns text language sql as $$
    select set_config('t.run', id::text, true) || '' from foloosi.begin_reconciliation(t.merchant(), '2026-11-20', '2026-11-21')
$$;
create function run() returns bigint language sql stable as $$ select current_setting('t.run')::bigint $$;
-- one row of the list
create function compared(no text, status text default 'success', amount numeric default 100, currency text default 'AED')
returns text language sql as $$
    select verdict from foloosi.compare_transactions(t.run(), array[no], array[status], array[amount], array[currency])
$$;
-- one answer, and all that changed
create function recorded(no text, status text default 'success', amount numeric default 100, currency text default 'AED',
    order_ref text default null, fault text default null, unprefixed text default null, refunded numeric default null)
returns text[] language plpgsql as $$
declare
    was    jsonb := t.facts(t.merchant());
    answer text;
begin
    select concat_ws(' ', r.verdict, r.outcome) into answer
    from foloosi.record_reconciled(t.run(), array[no], array[status], array[amount], array[currency], array[order_ref], array[fault], array[unprefixed], array[refunded]) r;
    return coalesce(answer, 'seen') || t.differences(was, t.facts(t.merchant()));
end $$;
create function ended(finished boolean default true) returns text language sql as $$
    select concat_ws(' ', matched, missing, differed, other, unclear, case when finished_at is not null then 'finished' end)
    from foloosi.end_reconciliation(t.run(), finished)
$$;
create function again() returns text language sql as $$ select t.ended(); select t.begun() $$;

-- ---------------------------------------------------------------- verdicts

select example('verdicts'), begun();
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('failed', 'O-2', 'N-2', amount => 5);
select is(compared('N-1'), 'matched', 'it is known, and the same');
select is(compared('N-1'), 'seen', 'and counts once');
select is(compared('N-2', 'failed', null, null), 'matched', 'a failure, whatever its amount');
select is(compared('N-3'), 'ask', 'it never arrived');
select is(compared('N-4', 'pending'), 'record', 'neither success nor failed');
select is(array(select verdict from foloosi.compare_transactions(run(), array['N-5', 'N-5'], array['success', 'success'], array[1, 1], array['AED', 'AED'])),
    array['ask', 'seen'], 'twice on a page');
select is(recorded('N-3', order_ref => 'O-3'), array['missing recorded', 'event 3: order.success O-3 N-3', 'order O-3: paid 100 AED by N-3',
    'transaction 3: N-3/- captured for O-3 100 AED'], 'what never arrived pays its order');
select is(recorded('N-3', order_ref => 'O-3'), array['seen'], 'once');
select is(compared('N-3'), 'seen', 'once');
select is(recorded('N-4', 'pending'), array['other ignored'], 'another status is kept as ignored');
select is(recorded('N-6', fault => 'the answer is not JSON'), array['unclear'], 'what could not be read is not fed');
select is(recorded('N-7'), array['missing review', 'event 4: order.review - N-7 (no_order_key)', 'transaction 4: N-7/- captured for - 100 AED'],
    'a success without an order key waits for a person, row 9');
select is(recorded('TESTN-8', order_ref => 'O-8'), array['missing review', 'transaction 5: TESTN-8/- test for - 100 AED'], 'row 3');
select is(ended(), '2 3 0 1 1 finished', 'the sum');
select is(array(select source from foloosi.deliveries where merchant = merchant() and source is not null), array_fill('reconcile'::text, array[4]),
    'deliveries of source reconcile, and no others');
select is((select convert_from(b.body, 'UTF8')::jsonb from foloosi.bodies b join foloosi.deliveries d on d.id = b.delivery_id join foloosi.transactions t on t.id = d.transaction_id
           where t.merchant = merchant() and t.transaction_no = 'N-3'),
    '{"source": "reconcile", "data": {"transfer": {"transaction_status": "success", "transaction_no": "N-3", "transaction_amount": "100",
      "transaction_currency": "AED", "api": {"optional1": "O-3"}}}}', 'with a body');

-- ---------------------------------------------------------------- again

select is((select array_agg(r) from foloosi.begin_reconciliation(merchant(), '2026-11-20', '2026-11-21') r where id <> run()) is not null, true, 'what is finished is begun anew');
select begun();
select is(array[compared('N-1'), compared('N-2', 'failed', 5), compared('N-3'), compared('N-7'), compared('TESTN-8')], array_fill('matched'::text, array[5]), 'now all matches');
select is(recorded('N-4', 'pending', 100.00), array['other'], 'what was ignored is not fed again');
select is(ended(), '5 0 0 1 0 finished', 'nothing is missing');

select example('the same words, the same bytes'), begun();
select is((recorded('N-1', amount => 100.00, order_ref => 'O-1'))[1], 'missing recorded', 'fed');
select again();
delete from foloosi.transactions where merchant = merchant(); -- so that it looks missing again
select is(recorded('N-1', amount => 100, order_ref => 'O-1'), array['matched duplicate'], 'its digest is known');

-- ---------------------------------------------------------------- what differs

select example('contradictions'), begun();
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-2', 'N-2');
select given_delivery('success', 'O-3', 'N-3');
select given_delivery('failed', 'O-4', 'N-4');
select is(array[compared('N-1', amount => 99), compared('N-2', currency => 'USD'), compared('N-3', 'failed'), compared('N-4'), compared('N-1', 'success', null, null)],
    array_fill('ask'::text, array[5]), 'it is asked about');
select is(recorded('N-1', amount => 99, order_ref => 'O-1'), array['differed review'], 'row 6');
select is(recorded('N-2', currency => 'USD', order_ref => 'O-2'), array['differed review'], 'row 6');
select is(recorded('N-3', 'failed', order_ref => 'O-3'), array['differed review', 'event 5: payback.check O-3 N-3 (status_contradiction) payback 1',
    'payback 1: N-3 check status_contradiction 100 AED for O-3'], 'row 7');
select is(recorded('N-4', order_ref => 'O-4'), array['differed recorded', 'event 6: order.success O-4 N-4 (late)', 'order O-4: cancelled 100 AED by N-4 -> paid 100 AED by N-4 (late) late',
    'transaction 4: N-4/- failed for O-4 100 AED -> N-4/- captured for O-4 100 AED'], 'row 15');
select again();
select is(recorded('N-1', amount => 99, order_ref => 'O-1'), array['differed duplicate'], 'a difference stays one, and is told once');
select is(recorded('N-2', order_ref => 'O-2'), array['matched'], 'the list differed, the answer to the question does not');
select is(recorded('N-5', order_ref => 'O-1'), array['missing recorded', 'event 7: payback.check O-1 N-5 (double_payment) payback 2',
    'payback 2: N-5 check double_payment 100 AED for O-1', 'transaction 5: N-5/- captured for O-1 100 AED'], 'row 17; to check, for the provider contradicted itself about the other');

select example('refunds'), begun();
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select is(recorded('N-2', 'refund'), array['other review',
    'event 3: payback.check O-1 N-2 (double_payment) payback 1',
    'payback 1: N-2 due double_payment 100 AED for O-1 -> N-2 check double_payment 100 AED for O-1'], 'the list has the payment''s own amount: a doubt, not the whole');
select again();
select is(recorded('N-2', 'refund'), array['other'], 'once');
select is(recorded('N-2', 'refund', refunded => 100), array['seen'], 'in a run');
select again();
select is(recorded('N-2', 'refund', refunded => 100), array['other recorded',
    'payback 1: N-2 check double_payment 100 AED for O-1 -> N-2 settled double_payment 100 AED for O-1',
    'transaction 2: N-2/- captured for O-1 100 AED -> N-2/- captured for O-1 100 AED refunded 100'], 'where it says how much went back, that counts');
select is(recorded('N-1', 'refund', refunded => 30), array['other recorded',
    'event 4: order.refund O-1 N-1 (refunded_in_part)',
    'transaction 1: N-1/- captured for O-1 100 AED -> N-1/- captured for O-1 100 AED refunded 30'], 'a part, too');
select is(array(select source || ' ' || believed from foloosi.refunds where merchant = merchant() order by id), array['provider false', 'provider true', 'provider true'], 'said by the provider');
select is(foloosi.verify_transaction(transaction_id('N-1'), 'refund', 100, 'AED', 'O-1'), 'confirmed', 'asked about it, the provider says refund, and not how much');
select is((facts(merchant()))->>'transaction 1', 'N-1/- captured for O-1 100 AED refunded 30', 'its own word about a part is not taken for the whole');

select example('a refund that an older version ignored'), begun();
select given_delivery('success', 'O-1', 'N-1');
select is((recorded('N-1', 'refund', refunded => 40))[1], 'other recorded', 'recorded');
update foloosi.deliveries set outcome = 'ignored', rule = 2, reason = 'status' where merchant = merchant() and source = 'reconcile refund';
select again();
select is((recorded('N-1', 'refund', refunded => 40))[1], 'other recorded', 'is tried afresh');

-- ---------------------------------------------------------------- keys without the prefix

select example('keys without the prefix'), begun();
select is(recorded('N-1', unprefixed => 'FLSSUB_7'), array['missing recorded', 'event 1: order.success FLSSUB_7 N-1', 'order FLSSUB_7: paid 100 AED by N-1',
    'transaction 1: N-1/- captured for FLSSUB_7 100 AED'], 'a subscription''s');
select is((recorded('N-2', unprefixed => 'X-7'))[1:2], array['missing review', 'event 2: order.review - N-2 (no_order_key)'], 'another is none');

-- ---------------------------------------------------------------- doubts

select example('a success without a number'), begun();
select given_delivery('success', 'O-1', null, 'R-1');
select is(recorded('N-1', order_ref => 'O-1'), array['unclear'], 'may be this one: no double payment is concluded');
select is((select reason from foloosi.reconciled where reconciliation_id = run()), 'its order has a success without a number', 'and why');

select example('verification', verify => 'callback'), begun();
select is(recorded('N-1', order_ref => 'O-1'), array['missing recorded', 'order O-1: verifying 100 AED by N-1 (verifying)', 'transaction 1: N-1/- verifying for O-1 100 AED'],
    'it waits for the worker''s own question like others');
select again();
select is(compared('N-1'), 'matched', 'and has arrived');

-- ---------------------------------------------------------------- position

select example('position'), begun();
select foloosi.advance_reconciliation(run(), '2026-11-20', 3);
select foloosi.advance_reconciliation(run(), '2026-11-20', 2);
select is(array(select concat_ws(' ', day, page) from foloosi.begin_reconciliation(merchant(), '2026-11-20', '2026-11-21') where id = run()), array['2026-11-20 3'], 'never back');
select foloosi.advance_reconciliation(run(), '2026-11-21', 1);
select is(ended(false), '0 0 0 0 0', 'interrupted');
select is(array(select concat_ws(' ', day, page) from foloosi.begin_reconciliation(merchant(), '2026-11-20', '2026-11-21') where id = run()), array['2026-11-21 1'], 'goes on there');
select is(array(select id from foloosi.begin_reconciliation(merchant(), '2026-11-20', '2026-11-22') where id = run()), '{}', 'other days are another run');
update foloosi.reconciliations set updated_at = now() - interval '2 days' where id = run();
select is(array(select id from foloosi.begin_reconciliation(merchant(), '2026-11-20', '2026-11-21') where id = run()), '{}', 'so is it after a day');
select throws_ok($$select foloosi.begin_reconciliation(t.merchant(), '2026-11-21', '2026-11-20')$$, '23514', null, 'days in the wrong order');
select throws_ok($$select foloosi.advance_reconciliation(0, '2026-11-20', 2)$$, 'P0002', null, 'no such run');
select throws_ok($$select * from foloosi.compare_transactions(0, '{}', '{}', '{}', '{}')$$, 'P0002', null, 'no such run');
select throws_ok($$select * from foloosi.record_reconciled(0, '{}', '{}', '{}', '{}', '{}', '{}')$$, 'P0002', null, 'no such run');
select throws_ok($$select foloosi.end_reconciliation(0, true)$$, 'P0002', null, 'no such run');
select is((select count(*) from foloosi.record_reconciled(run(), '{}', '{}', '{}', '{}', '{}', '{}')), 0::bigint, 'nothing to record');

select * from finish();
rollback;
