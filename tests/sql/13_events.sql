-- SPDX-License-Identifier: MIT
-- Events on their way: what foloosi-worker reports and what becomes of it; the circuit; attention.
-- tests/e2e/test_events.py and test_worker.py have what takes several sessions.
begin;
\ir tools.psql
select no_plan();

create function mine() returns text language sql stable as $$ select 'c:' || t.merchant() $$;
create function begun() returns void language sql as $$ select foloosi.add_consumer(t.mine(), t.merchant(), endpoint => 'https://shop.example') $$;
-- what waits, in the order of events
create function rows() returns text[] language sql stable as $$
    select coalesce(array_agg(concat_ws(' ', e.order_ref, e.type, d.state, d.attempts, d.status, d.reason) order by e.id), '{}')
    from foloosi.dispatches d join foloosi.events e on e.id = d.event_id join foloosi.consumers c on c.id = d.consumer_id where c.consumer = t.mine()
$$;
create function next(n int default 100) returns text[] language sql as $$
    select coalesce(array_agg(concat_ws(' ', order_ref, type, attempt) order by id), '{}') from foloosi.next_events(t.mine(), n)
$$;
create function event(ref text, nth int default 1) returns bigint language sql stable as $$
    select (array_agg(id order by id))[nth] from foloosi.events where merchant = t.merchant() and order_ref = ref
$$;
create function settle(ref text, outcome text, attempt int default 1, dead boolean default false, delay int default 0, status int default null, reason text default null)
returns int language sql as $$
    select foloosi.settle_events(t.mine(), array[t.event(ref)], array[attempt], array[outcome], array[dead], array[delay], array[status], array[reason])
$$;
create function circuit() returns text language sql stable as $$
    select concat_ws(' ', failures, case when paused_until > clock_timestamp() then 'open' when paused_until is not null then 'half open' else 'closed' end,
        case when disabled_at is not null then 'disabled' end, reason) from foloosi.consumers where consumer = t.mine()
$$;
create function due() returns void language sql as $$
    update foloosi.dispatches set due_at = clock_timestamp() where state <> 'dead' and consumer_id = (select id from foloosi.consumers where consumer = t.mine());
    update foloosi.consumers set paused_until = clock_timestamp() where consumer = t.mine() and paused_until is not null
$$;

-- ---------------------------------------------------------------- outcomes

select example('outcomes'), begun();
select given_delivery('failed', o, 'N-' || o) from unnest(array['DONE', 'REFUSED', 'FAILED', 'DEAD']) o;
select is(next(), array['DONE order.cancel 1', 'REFUSED order.cancel 1', 'FAILED order.cancel 1', 'DEAD order.cancel 1'], 'four events');
select is(foloosi.settle_events(mine(), array[event('DONE'), event('REFUSED'), event('FAILED'), event('DEAD')], array[1, 1, 1, 1], array['done', 'refused', 'failed', 'failed'],
    array[false, false, false, true], array[0, 60000, 60000, 0], array[200, 404, null, 500], array[null, 'HTTP 404', 'no answer in time', 'HTTP 500']), 1, 'one is done');
select is(rows(), array['REFUSED order.cancel waiting 1 404 HTTP 404', 'FAILED order.cancel waiting 1 no answer in time', 'DEAD order.cancel dead 1 500 HTTP 500'], 'the others');
select is(next(), '{}', 'not due yet');
select is(array(select format('%s %s %s: %s', kind, order_ref, reason, detail) from foloosi.attention where merchant = merchant()),
    array['event DEAD HTTP 500: order.cancel to https://shop.example: given up after 1 attempts'], 'the dead one waits for a person');
select due();
select is(next(), array['REFUSED order.cancel 2', 'FAILED order.cancel 2'], 'due');
select is(settle('REFUSED', 'refused', 1, false, 0, 404, 'late'), 0, 'the report of an earlier attempt');
select is(rows(), array['REFUSED order.cancel claimed 2 404 HTTP 404', 'FAILED order.cancel claimed 2 no answer in time', 'DEAD order.cancel dead 1 500 HTTP 500'], 'changes nothing');
select is(settle('REFUSED', 'done', 1), 1, 'but if it was taken then, it was taken');
select is(foloosi.retry_events(mine()), 1, 'dead letters again');
select is(next(), array['DEAD order.cancel 1'], 'from the first attempt on');
select is(foloosi.discard_events(mine(), array[event('DEAD'), event('FAILED'), 0]), 2, 'given up');
select is(rows(), '{}', 'nothing is left');
select throws_ok($$select settle('DONE', 'eaten')$$, '22023', null, 'an unknown outcome');
select throws_ok($$select foloosi.settle_events(mine(), array[1], array[1, 2], array['done'], array[false], array[0], array[200], array[null])$$, '22023', null, 'arrays of two lengths');
select throws_ok($$select foloosi.settle_events('nobody', '{}', '{}', '{}', '{}', '{}', '{}', '{}')$$, 'P0002', null, 'an unknown consumer');
select throws_ok($$select foloosi.add_consumer('x', types => array['order.eaten'])$$, '22023', null, 'an unknown type of event');

-- ---------------------------------------------------------------- behind one that waits

select example('behind'), begun();
select given_delivery('failed', 'A', 'N-1');
select next();
select settle('A', 'failed', 1, false, 3600000, 500, 'HTTP 500');
select given_delivery('success', 'A', 'N-2');
select given_delivery('failed', 'B', 'N-3');
select is(next(), array['B order.cancel 1'], 'another order goes first');
select is((select bool_and(due_at > now() + interval '50 minutes') from foloosi.dispatches d join foloosi.events e on e.id = d.event_id where e.merchant = merchant() and e.order_ref = 'A'),
    true, 'what is behind is not looked at before its time');
update foloosi.dispatches set state = 'dead' where event_id = event('A');
select due();
select is(next(), array['A order.success 1', 'B order.cancel 2'], 'a dead letter holds back nothing');

-- ---------------------------------------------------------------- the circuit

select example('circuit'), begun();
select given_delivery('failed', 'C-' || i, 'N-' || i) from generate_series(1, 12) i;
select cardinality(next(8));
select settle('C-' || i, 'failed', 1, false, 0, 503, 'HTTP 503') from generate_series(1, 4) i;
select is(circuit(), '4 closed HTTP 503', 'four failures');
select settle('C-5', 'failed', 1, false, 0, 503, 'HTTP 503');
select is(circuit(), '5 open HTTP 503', 'the fifth opens it');
select settle('C-6', 'failed', 1, false, 0, 503, 'HTTP 503');
select is(circuit(), '5 open HTTP 503', 'what was under way says nothing new');
select due() from (select) x;
update foloosi.consumers set paused_until = clock_timestamp() + interval '1 hour' where consumer = mine();
select is(next(), '{}', 'open: nothing goes');
select due();
select is(cardinality(next()), 1, 'half open: one goes');
select is(next(), '{}', 'and no other until it is back');
select settle((select order_ref from foloosi.events where id = probe_id), 'failed', attempts, false, 0, 503, 'HTTP 503')
    from foloosi.consumers c join foloosi.dispatches d on d.consumer_id = c.id and d.event_id = c.probe_id where consumer = mine();
select is(circuit(), '6 open HTTP 503', 'it failed: open again');
select due();
select is(cardinality(next()), 1, 'half open once more');
select settle((select order_ref from foloosi.events where id = probe_id), 'done', attempts)
    from foloosi.consumers c join foloosi.dispatches d on d.consumer_id = c.id and d.event_id = c.probe_id where consumer = mine();
select is(circuit(), '0 closed', 'it was heard: closed');
select due();
select is(cardinality(next()), 11, 'all go');
select is(array(select kind from foloosi.attention where merchant = merchant()), '{}', 'nothing waits for a person');
update foloosi.consumers set failing_since = now() - interval '16 minutes' where consumer = mine();
select is(array(select kind || ' ' || detail from foloosi.attention where merchant = merchant()), array['consumer https://shop.example does not take events'], 'out of order for long');

-- ---------------------------------------------------------------- gone

select example('gone'), begun();
select given_delivery('failed', 'G', 'N-1');
select next();
select settle('G', 'gone', 1, false, 0, 410, 'HTTP 410');
select is(circuit(), '0 closed disabled 410: it is gone', '410 disables');
select is(rows(), array['G order.cancel waiting 0 410 HTTP 410'], 'and is no attempt');
select is(next(), '{}', 'nothing goes');
select lives_ok($$select foloosi.enable_consumer(mine())$$, 'enabled');
select is(next(), array['G order.cancel 1'], 'it goes');
select lives_ok($$select foloosi.disable_consumer(mine(), 'holidays')$$, 'disabled by a person');
select is(circuit(), '0 closed disabled holidays', 'with a reason');
select lives_ok($$select foloosi.drop_consumer(mine())$$, 'dropped');
select is(rows(), '{}', 'with all that waited');
select throws_ok($$select foloosi.drop_consumer(mine())$$, 'P0002', null, 'once');

-- ---------------------------------------------------------------- transaction numbers

select is(foloosi.full_xid(x::text::xid), x::text::xid8, 'a number of now: ' || x) from (select pg_snapshot_xmax(pg_current_snapshot())::text::bigint as x) y;

select * from finish();
rollback;
