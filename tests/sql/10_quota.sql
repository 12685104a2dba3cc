-- SPDX-License-Identifier: MIT
-- Rejected deliveries have a quota per merchant and hour: a leaked token fills no disk.
begin;
\ir tools.psql
select no_plan();

create function quota(n int) returns void language sql as $$ update foloosi.merchants set rejected_per_hour = n where merchant = t.merchant() $$;
-- kept, dropped, deliveries, bodies
create function kept() returns text language sql stable as $$
    select concat_ws(' ', coalesce(sum(r.kept), 0), coalesce(sum(r.dropped), 0), (select count(*) from foloosi.deliveries d where d.merchant = t.merchant()),
        (select count(*) from foloosi.bodies b join foloosi.deliveries d on d.id = b.delivery_id where d.merchant = t.merchant()))
    from foloosi.rejections r where r.merchant = t.merchant()
$$;
create function bad(n int) returns delivery language sql as $$ select t.d(null, null, null, null, null, null, n, 'not JSON at byte ' || n) $$;

select example('one at a time');
select quota(3);
select is(record(merchant(), bad(1)), array['rejected - -'], 'a rejected one');
select is((select row(outcome, rule, reason, detail, order_ref, attention, repeats)::text from foloosi.deliveries where merchant = merchant()),
    '(rejected,0,,"not JSON at byte 1",,t,0)', 'is kept with its faults, for a person');
select is(kept(), '1 0 1 1', 'and counted');
select is(record(merchant(), bad(1)), array['rejected - -'], 'again');
select is(kept(), '1 0 1 1', 'a repeat of a kept one takes nothing from the quota');
select is((select repeats from foloosi.deliveries where merchant = merchant()), 1, 'and is counted there');
select is(record(merchant(), bad(2), bad(3)), array['rejected - -', 'rejected - -'], 'up to the quota');
select is(kept(), '3 0 3 3', 'all are kept');
select is(record(merchant(), bad(4)), array['rejected - -'], 'over the quota: the same answer');
select is(kept(), '3 1 3 3', 'but only counted');
select is(record(merchant(), bad(4)), array['rejected - -'], 'again');
select is(kept(), '3 2 3 3', 'what was not kept is not recognised');
select is(record(merchant(), bad(2)), array['rejected - -'], 'a kept one again');
select is(kept(), '3 2 3 3', 'is recognised over the quota too');
select is((deliver('success', 'O-1', 'N-1'))[1], 'recorded O-1 paid', 'valid deliveries have no quota');
select is((deliver('pending', 'O-1', 'N-2'))[1], 'ignored O-1 paid (status)', 'nor have ignored ones');

select is(array(select r.delivery_id is null from foloosi.record_deliveries(array[1, 2], array[merchant(), merchant()], array[null, null]::text[],
    array[sha256((bad(9)).body), sha256((bad(1)).body)], array[(bad(9)).body, (bad(1)).body], array['x', 'x'], array[null, null]::text[], array[null, null]::text[],
    array[null, null]::text[], array[null, null]::text[], array[null, null]::numeric[], array[null, null]::text[], array[null, null]::text[], array[null, null]::text[],
    array[null, null]::text[], array[null, null]::text[], array[null, null]::text[], array[null, null]::text[], array[null, null]::text[]) r order by ordinal),
    array[true, false], 'the caller is told what was not kept: no delivery_id');

select example('the next hour');
select quota(2);
select record(merchant(), bad(1), bad(2), bad(3)) is not null;
select is(kept(), '2 1 2 2', 'this hour is full');
update foloosi.rejections set hour = hour - interval '1 hour' where merchant = merchant();
select record(merchant(), bad(3), bad(4), bad(5)) is not null;
select is(kept(), '4 2 4 4', 'the next hour has its own quota');

select example('in a batch');
select quota(3);
select is(record(merchant(), bad(1), d('success', 'O-1', 'N-1'), bad(2), bad(1), bad(3), bad(4), d('success', 'O-2', 'N-2'), bad(4), bad(5)), array['rejected - -',
    'recorded O-1 paid', 'rejected - -', 'rejected - -', 'rejected - -', 'rejected - -', 'recorded O-2 paid', 'rejected - -', 'rejected - -'], 'a batch over the quota');
select is(kept(), '3 3 5 5', 'the first of them are kept');
select is(array(select detail from foloosi.deliveries where merchant = merchant() and outcome = 'rejected' order by id),
    array['not JSON at byte 1', 'not JSON at byte 2', 'not JSON at byte 3'], 'in their order');

select example('other quotas');
select quota(0);
select is(record(merchant(), bad(1)), array['rejected - -'], 'none: the answer is the same');
select is(kept(), '0 1 0 0', 'none: only counted');
select quota(5);
select record(merchant(), bad(1), bad(2)) is not null;
select quota(1);
select record(merchant(), bad(3)) is not null;
select is(kept(), '2 2 2 2', 'a quota that was lowered takes back nothing');

select example('the default');
select given('delete from foloosi.merchants where merchant = %m');
select record(merchant(), variadic array(select bad(i) from generate_series(a, a + 255) i)) is not null from generate_series(1, 769, 256) a;
select is(kept(), '1000 24 1000 1000', '1,000 an hour, for a merchant without a row too');

select example('two merchants');
select quota(1);
select example('two merchants, the other');
select quota(2);
select is(array(select count(r.delivery_id)::int from foloosi.record_deliveries(array[1, 2, 3, 4, 5, 6], array_fill(merchant(), array[3]) || array_fill(merchant() || 'x', array[3]), array_fill(null::text, array[6]),
    array(select sha256((bad(i)).body) from generate_series(1, 6) i), array(select (bad(i)).body from generate_series(1, 6) i), array_fill('x'::text, array[6]), array_fill(null::text, array[6]),
    array_fill(null::text, array[6]), array_fill(null::text, array[6]), array_fill(null::text, array[6]), array_fill(null::numeric, array[6]), array_fill(null::text, array[6]),
    array_fill(null::text, array[6]), array_fill(null::text, array[6]), array_fill(null::text, array[6]), array_fill(null::text, array[6]), array_fill(null::text, array[6]),
    array_fill(null::text, array[6]), array_fill(null::text, array[6])) r group by ordinal > 3 order by ordinal > 3), array[2, 3], 'each merchant has its own quota, also in one batch');

-- ---------------------------------------------------------------- counters have an end

select example('a counter at its end');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('x', fault => 'not JSON');
select given_delivery('pending', 'O-1', 'N-1');
create function full_counters() returns void language sql as $$ update foloosi.deliveries set repeats = 2147483647 where merchant = t.merchant() $$;
select full_counters();
select is(deliver('success', 'O-1', 'N-1'), array['duplicate O-1 paid'], 'a repeat is a repeat');
select is(deliver('x', fault => 'not JSON'), array['rejected - -'], 'one that is rejected again');
select is(deliver('pending', 'O-1', 'N-1'), array['ignored O-1 paid (status)'], 'one that is ignored again');
select is(record(merchant(), ('success', 'O-1', 'N-1', null, 1, 'AED', 1, 'not JSON', (d('success', 'O-1', 'N-1')).body)::delivery), array['duplicate O-1 paid'], 'a recorded one that is rejected now');
select is(record(merchant(), ('success', 'O-2', 'N-2', null, -1, 'AED', 1, null, (d('x', fault => 'not JSON')).body)::delivery), array['review O-2 - (refused)'], 'a rejected one that the database refuses now');
select is(array_agg(distinct repeats), array[2147483647], 'and the counter stays where it is') from foloosi.deliveries where merchant = merchant();

select * from finish();
rollback;
