-- SPDX-License-Identifier: MIT
-- What monitor() says, and how little it reads.
begin;
\ir tools.psql
select no_plan();

select example('monitor');
create function said(metric text, merchant text default null, detail text default null) returns float8 language sql as
$$ select m.value from foloosi.monitor() m where m.metric = $1 and m.merchant is not distinct from $2 and m.detail is not distinct from $3 $$;

select is(said('foloosi_schema_version'), foloosi.schema_version()::float8, 'the schema''s version');
select is(said('foloosi_attention', merchant(), 'payback'), 0::float8, 'nothing waits: that is said as 0');
select is(said('foloosi_attention_oldest_seconds', merchant(), 'order'), 0::float8, 'and has no age');
select is(said('foloosi_events_last_id'), (select coalesce(max(id), 0)::float8 from foloosi.events), 'the latest event');

select foloosi.add_consumer('erp', merchant => merchant(), after => 0);
select foloosi.add_consumer('refunds', merchant => merchant(), types => array['payback.due'], after => 0);
select given_delivery('success', 'O-1', 'N-1', 'R-1');
select given_delivery('success', 'O-1', 'N-2', 'R-2');
select given_delivery('success', null, 'N-3', 'R-3');

select is(said('foloosi_paybacks', merchant(), 'due'), 1::float8, 'a double payment is one payback due');
select is(said('foloosi_paybacks', merchant(), 'check'), 0::float8, 'and none to check');
select is(said('foloosi_attention', merchant(), 'payback'), 1::float8, 'it waits for a person');
select is(said('foloosi_attention', merchant(), 'delivery'), 1::float8, 'so does the success without an order');
select is(said('foloosi_attention', merchant(), 'order'), 0::float8, 'no order does');
select set_eq($$select merchant, detail, value from foloosi.monitor() where metric = 'foloosi_attention' and value > 0$$,
    $$select merchant::text, kind, count(*)::float8 from foloosi.attention group by 1, 2$$, 'the same as the view');
select is(said('foloosi_events_backlog', merchant(), 'erp'), (select count(*)::float8 from foloosi.events where merchant = merchant()), 'a consumer that was offered nothing yet is behind by all');
select is(said('foloosi_events_backlog', merchant(), 'refunds'), 1::float8, 'another by what it wants');
select is(said('foloosi_consumer_position', merchant(), 'erp'), 0::float8, 'and stands where it began');

-- Time passes, as far as rows are concerned.
set local session_replication_role = replica;
update foloosi.paybacks set created_at = created_at - interval '1 hour';
update foloosi.events set created_at = created_at - interval '2 hours' where id = (select min(id) from foloosi.events where merchant = merchant());
set local session_replication_role = origin;
select is(said('foloosi_paybacks_oldest_seconds', merchant(), 'due'), 3600::float8, 'a payback''s age');
select is(said('foloosi_attention_oldest_seconds', merchant(), 'payback'), 3600::float8, 'is that of the attention');
select is(said('foloosi_events_oldest_seconds', merchant(), 'erp'), 7200::float8, 'the oldest event');
select is(said('foloosi_events_oldest_seconds', merchant(), 'refunds'), 0::float8, 'of those it wants');

-- Offered, finished, given up.
create temporary table batch as select * from foloosi.next_events('erp', 100);
select is(said('foloosi_events_backlog', merchant(), 'erp'), (select count(*)::float8 from foloosi.events where merchant = merchant()), 'what is handed out is not finished');
select is(said('foloosi_events_oldest_seconds', merchant(), 'erp'), 7200::float8, 'nor any younger');
select foloosi.finish_events('erp', array(select id from batch order by id limit 1));
select ok(said('foloosi_events_oldest_seconds', merchant(), 'erp') < 60, 'the oldest is finished: the next is younger');
update foloosi.dispatches set state = 'dead' where consumer_id = (select id from foloosi.consumers where consumer = 'erp')
    and event_id = (select max(id) from batch);
select is(said('foloosi_events_dead', merchant(), 'erp'), 1::float8, 'a dead letter is counted as such');
select is(said('foloosi_events_backlog', merchant(), 'erp'), (select count(*) - 2 from foloosi.events where merchant = merchant())::float8, 'and is not waiting');
update foloosi.consumers set failures = 7, failing_since = now(), paused_until = now() + interval '1 minute' where consumer = 'erp';
select is(array[said('foloosi_consumer_failures', merchant(), 'erp'), said('foloosi_consumer_paused', merchant(), 'erp'), said('foloosi_consumer_disabled', merchant(), 'erp')],
    array[7, 1, 0]::float8[], 'an open circuit');
select foloosi.disable_consumer('erp', 'test');
select is(said('foloosi_consumer_disabled', merchant(), 'erp'), 1::float8, 'a disabled consumer');

-- The names are those of cgi-src/handler/stats.c: tests/e2e/test_metrics.py sees each of them in /metrics.
select is(array(select distinct metric from foloosi.monitor() where metric !~ '^foloosi_[a-z_]+$'), '{}', 'metrics have names that Prometheus takes');
select is_empty($$select metric, merchant, detail from foloosi.monitor() group by 1, 2, 3 having count(*) > 1$$, 'no series comes twice');

-- Without this, a first answer took seconds of compiling, and its role's statement_timeout ended it.
select ok('jit=off' = any (proconfig), 'its statements are not compiled') from pg_proc where oid = 'foloosi.monitor'::regproc;

-- How little it reads: with many payments behind it, whole tables are left alone.
set local session_replication_role = replica;
insert into foloosi.orders (merchant, order_ref, state, amount, currency) select merchant(), 'B-' || i, 'paid', 1, 'AED' from generate_series(1, 20000) i;
insert into foloosi.transactions (merchant, transaction_no, state, transaction_status) select merchant(), 'B-' || i, 'captured', 'success' from generate_series(1, 20000) i;
insert into foloosi.deliveries (merchant, outcome, rule, digest) select merchant(), 'recorded', 12, substr(sha256(i::text::bytea), 1, 16) from generate_series(1, 20000) i;
insert into foloosi.paybacks (merchant, state, reason, transaction_id, settled_at) select merchant(), 'settled', 'withdrawn', -i, now() from generate_series(1, 20000) i;
insert into foloosi.events (merchant, type) select 'other', 'order.success' from generate_series(1, 30000) i;
set local session_replication_role = origin;
create function rows_read() returns table (name text, n bigint) language sql as
$$ select relname::text, coalesce(pg_stat_get_xact_tuples_returned(c.oid), 0) + coalesce(pg_stat_get_xact_tuples_fetched(c.oid), 0)
   from pg_class c where relnamespace = 'foloosi'::regnamespace and relkind = 'r' $$;
create temporary table before as select * from rows_read();
select count(*) > 10 from foloosi.monitor();
select is_empty($$select a.name, a.n - b.n from rows_read() a join before b using (name) where a.n - b.n > case a.name when 'events' then 20010 else 200 end$$,
    'it reads what waits, and of events a page for each consumer');
select ok((select a.n - b.n from rows_read() a join before b using (name) where name = 'paybacks') > 0, '(which is measured)');

select * from finish();
rollback;
