-- SPDX-License-Identifier: MIT
-- The schema as a person meets it: what is there, what it says of itself, how wide it is.
begin;
\ir tools.psql
select no_plan();

select is(foloosi.schema_version(), (select max(version) from foloosi.schema_migrations), 'schema_version() is the latest migration');
select is(array(select tablename::text from pg_tables where schemaname = 'foloosi' and tablename !~ '^bodies_' and tablename !~ '^schema_' order by 1),
    array['bodies', 'cancellation', 'consumers', 'decisions', 'deliveries', 'dispatches', 'erasures', 'event_gaps', 'events', 'merchants', 'orders', 'other_transactions', 'paybacks', 'reconciled', 'reconciliations', 'refunds', 'rejections', 'reminders', 'retention', 'transactions', 'verifications'], 'the tables');
select is(array(select viewname::text from pg_views where schemaname = 'foloosi' order by 1), array['attention', 'order_history', 'rules'], 'the views');

-- ---------------------------------------------------------------- the order rules as rows

select is(array(select place from foloosi.rules order by place), array(select generate_series(1, 26)), 'rules: tried one after the other');
select is(array(select number::int from foloosi.rules order by number), array(select generate_series(1, 26)), 'rules: each number once');
select is(array(select sentence from foloosi.rules where outcome not in ('recorded', 'duplicate', 'ignored', 'review') or sentence !~ '^(repeats|has|carries|is|names|speaks|says) '), '{}',
    'rules: each is a sentence with an outcome');
select is(array(select r.number from foloosi.rules r cross join lateral (select (foloosi.effects()).*) e
          where (e.outcome[r.number], e.reason[r.number], e.transaction[r.number], e.orders[r.number], e.payback[r.number], e.event[r.number],
                 e.attention[r.number]) is distinct from (r.outcome, r.reason, r.transaction, r.orders, r.payback, r.event, r.attention)), '{}',
    'effects(): each row at the subscript that is its number');

-- ---------------------------------------------------------------- comments

select isnt(obj_description(c.oid, 'pg_class'), null, format('%s has a comment', c.oid::regclass))
    from pg_class c where relnamespace = 'foloosi'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'S')
        and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'i' and relkind = 'S') order by relname; -- an identity's
select is(array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                and col_description(c.oid, a.attnum) is null), '{}', format('every column of %s has a comment', c.oid::regclass))
    from pg_class c where relnamespace = 'foloosi'::regnamespace and relkind in ('r', 'p', 'v', 'm')
        and not (relispartition and relname ~ '^bodies_\d{4}_\d\d$') order by relname; -- a month is made by a function
select isnt(obj_description(p.oid, 'pg_proc'), null, format('%s() has a comment', p.proname))
    from pg_proc p where pronamespace = 'foloosi'::regnamespace order by proname;
select isnt(obj_description(t.oid, 'pg_type'), null, format('type %s has a comment', t.typname))
    from pg_type t left join pg_class c on c.oid = t.typrelid where typnamespace = 'foloosi'::regnamespace
        and (typtype in ('d', 'e') or typtype = 'c' and c.relkind = 'c') order by typname;
select isnt(obj_description('foloosi'::regnamespace, 'pg_namespace'), null, 'the schema has a comment');
select isnt(shobj_description(r.oid, 'pg_authid'), null, format('role %s has a comment', rolname)) from pg_roles r where rolname like 'foloosi%' order by 1;

-- ---------------------------------------------------------------- plans

-- where nothing but a forbidden way is left, its price would be taken for a reason to compile the plan: for seconds
select is_empty($$select oid::regprocedure from pg_proc where pronamespace = 'foloosi'::regnamespace
    and proconfig && array['enable_seqscan=off', 'enable_hashjoin=off'] and not proconfig @> array['jit=off']$$, 'what forbids the planner something compiles nothing');

-- ---------------------------------------------------------------- widths

-- a limit of the C program is the width of each column that the field goes to
create function width(tab text, col text) returns int language sql as $$
    select information_schema._pg_char_max_length(atttypid, atttypmod) from pg_attribute where attrelid = ('foloosi.' || tab)::regclass and attname = col
$$;
select is(width('transactions', 'transaction_no'), :limit_transaction_no, 'LIMIT_TRANSACTION_NO');
select is(width('transactions', 'payment_reference'), :limit_reference, 'LIMIT_REFERENCE');
select is(width('transactions', 'transaction_message'), :limit_message, 'LIMIT_MESSAGE');
select is(width('transactions', c), :limit_optional, 'LIMIT_OPTIONAL: ' || c) from unnest(array['optional1', 'optional2', 'optional3']) c;
select is(width('transactions', 'customer_email'), :limit_email, 'LIMIT_EMAIL');
select is(width('transactions', 'customer_mobile'), :limit_mobile, 'LIMIT_MOBILE');
select is(width('transactions', 'card_last_four'), :limit_card_digits, 'LIMIT_CARD_DIGITS');
select is(width(table_name, column_name), :limit_optional, format('LIMIT_OPTIONAL: %s.%s', table_name, column_name))
    from information_schema.columns where table_schema = 'foloosi' and column_name = 'order_ref' order by table_name;
select is(count(distinct width(table_name, column_name))::int, 1, 'merchant is of one width everywhere')
    from information_schema.columns where table_schema = 'foloosi' and column_name = 'merchant';

-- characters, not bytes: the longest that the handler lets pass fits, four bytes each
select example('the longest');
select is(array(select r.outcome from foloosi.record_delivery(merchant(), 'success', repeat('😀', :limit_optional), repeat('😀', :limit_transaction_no),
    repeat('😀', :limit_reference), 999999999999.9999, 'AED', repeat('😀', :limit_message), repeat('😀', :limit_optional), repeat('😀', :limit_optional),
    repeat('😀', :limit_optional), repeat('😀', :limit_email), repeat('😀', :limit_mobile), repeat('😀', :limit_card_digits)) r), array['recorded'],
    'a delivery with every field at its limit is recorded');

-- ---------------------------------------------------------------- names and types

select is(array(select format('%s on %s', conname, conrelid::regclass) from pg_constraint where connamespace = 'foloosi'::regnamespace
                and contype = 'c' and conname !~ '(_ck|_is_[a-z_]+)$'), '{}', 'every check has a name that was chosen');
select is(array(select format('%s on %s', conname, conrelid::regclass) from pg_constraint where connamespace = 'foloosi'::regnamespace
                and contype in ('p', 'f', 'u', 'x') and conname !~ '_(pk|pkey|key|fkey|fk)$'), '{}', 'so has every key');
select is(array(select format('%s.%s', table_name, column_name) from information_schema.columns where table_schema = 'foloosi'
                and data_type in ('real', 'double precision', 'money')), '{}', 'no number is inexact');
select is(array(select format('%s.%s', table_name, column_name) from information_schema.columns where table_schema = 'foloosi' and column_name = 'amount'
                and table_name !~ '^element' and domain_name is distinct from 'amount'), '{}', 'money is foloosi.amount');
select is(array(select format('%s.%s', table_name, column_name) from information_schema.columns where table_schema = 'foloosi'
                and data_type = 'timestamp without time zone'), '{}', 'every time has its zone');
select is(array(select format('%s.%s', c.table_name, w) from unnest(array['id', 'merchant', 'created_at']) w,
                    unnest(array['orders', 'transactions', 'deliveries', 'events', 'paybacks', 'decisions', 'attention', 'order_history']) c (table_name)
                where not exists (select from information_schema.columns x where x.table_schema = 'foloosi' and x.table_name = c.table_name and x.column_name = w)),
    '{}', 'shared columns have one name in all tables');

-- Consumers rely on it: a session that draws a higher id draws it later (sql/functions/events.sql).
select is((select cache_size::int from pg_sequences where format('%I.%I', schemaname, sequencename) = pg_get_serial_sequence('foloosi.events', 'id')), 1,
    'ids of events are drawn one at a time');

-- ---------------------------------------------------------------- domains

select lives_ok(format('select %L::foloosi.amount', a), 'amount: ' || a) from unnest(array['0', '0.0000', '1', '0.0001', '999999999999.9999']) a;
select throws_ok(format('select %L::foloosi.amount', a), '23514', null, 'amount is not: ' || a)
    from unnest(array['NaN', '-1', '-0.0001', '1000000000000', '999999999999.99999', '0.00001', 'Infinity', '-Infinity']) a;
select lives_ok('select ''AED''::foloosi.currency', 'currency: AED');
select throws_ok(format('select %L::foloosi.currency', c), '23514', null, format('currency is not: "%s"', replace(c, E'\n', '\n')))
    from unnest(array['aed', 'AE', 'AEDX', '', 'AÉD', E'AED\n', ' AED', '784']) c;
select throws_ok(format('select ''x''::foloosi.%I', d), '23514', null, d || ' is one of its words')
    from unnest(array['order_state', 'transaction_state', 'payback_state', 'outcome', 'event_type']) d;

-- ---------------------------------------------------------------- partitions of the bytes

select is(count(*)::int, 13, 'the months of the coming year are there') from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where inhparent = 'foloosi.bodies'::regclass and relname ~ '^bodies_\d{4}_\d\d$';
select is(foloosi.create_partitions(), 0, 'create_partitions() twice makes nothing');
select is(foloosi.create_partitions(14), 2, 'create_partitions() makes the months that are missing');
insert into foloosi.bodies (delivery_id, created_at, body) values (0, date_trunc('month', now()) + interval '20 months', 'x');
select is((select tableoid::regclass::text from foloosi.bodies where delivery_id = 0), 'foloosi.bodies_default', 'bytes of a month without a partition are kept');
select is(foloosi.create_partitions(20), 5, 'and no month is made over them');
select is((select count(*)::int from foloosi.bodies where delivery_id = 0), 1, 'they stay where they are');
set local timezone = 'America/New_York';
select is(foloosi.create_partitions(20), 0, 'months are those of UTC, whatever the zone of the caller');

select * from finish();
rollback;
