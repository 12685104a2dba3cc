-- SPDX-License-Identifier: MIT
-- What each role may do, tried as that role; and what none may.
begin;
\ir tools.psql
select no_plan();

select example('roles');
select given_delivery('success', 'O-1', 'N-1', 'R-1');
select given_delivery('success', 'O-1', 'N-2', 'R-2');

create view relations as
    select c.oid, c.oid::regclass::text as name, relkind from pg_class c where relnamespace = 'foloosi'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'S');
create view routines as
    select p.oid, p.proname::text as name, p.oid::regprocedure::text as signature, prosecdef, proconfig from pg_proc p where pronamespace = 'foloosi'::regnamespace;
-- What a role does to every relation: the SQLSTATEs that it meets ('none': it went through).
create function sqlstates(command text, among text default 'rpvm') returns text[] language plpgsql as $$
declare
    r     record;
    found text[] := '{}';
begin
    for r in select c.oid::regclass::text as name, (select quote_ident(attname) from pg_attribute where attrelid = c.oid and attnum > 0 and attidentity = '' order by attnum limit 1) as col
             from pg_class c where relnamespace = 'foloosi'::regnamespace and strpos(among, relkind) > 0 loop
        begin
            execute replace(replace(command, '%t', r.name), '%c', r.col);
            found := found || 'none'::text;
        exception when others then
            found := found || sqlstate::text;
        end;
    end loop;
    return array(select distinct f from unnest(found) f order by f);
end $$;
grant select on all tables in schema t to public;

-- ---------------------------------------------------------------- the roles themselves

select is(array(select concat_ws(' ', rolname, case when rolcanlogin then 'login' end, case when rolsuper then 'super' end, case when rolcreaterole then 'createrole' end,
                case when rolcreatedb then 'createdb' end, case when rolbypassrls then 'bypassrls' end, case when rolreplication then 'replication' end)
                from pg_roles where rolname like 'foloosi%' order by rolname),
    array['foloosi_consumer login', 'foloosi_handler login', 'foloosi_monitor login', 'foloosi_operator login', 'foloosi_owner', 'foloosi_retention login', 'foloosi_worker login'], 'only the owner cannot log in, and none may do more');
select is_empty($$select m.member::regrole, m.roleid::regrole from pg_auth_members m where m.member::regrole::text ~ '^foloosi'$$, 'none is a member of anything');
select is_empty($$select name, o.rolname from t.relations r join pg_class c on c.oid = r.oid join pg_roles o on o.oid = c.relowner where o.rolname <> 'foloosi_owner'
    union all select signature, o.rolname from t.routines r join pg_proc p on p.oid = r.oid join pg_roles o on o.oid = p.proowner where o.rolname <> 'foloosi_owner'
    union all select nspname, nspowner::regrole::text from pg_namespace where nspname = 'foloosi' and nspowner <> 'foloosi_owner'::regrole$$,
    'the owner owns the schema and all in it');

-- ---------------------------------------------------------------- PUBLIC

select is_empty($$select name, a.privilege_type from t.relations r join pg_class c on c.oid = r.oid, aclexplode(c.relacl) a where a.grantee = 0
    union all select name || '.' || t.attname, a.privilege_type from t.relations r join pg_attribute t on t.attrelid = r.oid, aclexplode(t.attacl) a where a.grantee = 0
    union all select signature, a.privilege_type from t.routines r join pg_proc p on p.oid = r.oid, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0
    union all select nspname, a.privilege_type from pg_namespace, aclexplode(nspacl) a where nspname = 'foloosi' and a.grantee = 0$$, 'PUBLIC has nothing');
create role nobody_in_particular;
set local session authorization nobody_in_particular;
select is(sqlstates('select * from %t'), array['42501'], 'PUBLIC reads nothing');
select throws_ok('select foloosi.schema_version()', '42501', null, 'PUBLIC calls nothing');
reset session authorization;
set local role foloosi_owner;
create function foloosi.made_later() returns int language sql as 'select 1';
create table foloosi.made_later (x int);
reset role;
select is_empty($$select a.* from pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) a where proname = 'made_later' and grantee = 0$$,
    'PUBLIC has nothing of a function that the owner makes later');
select is(has_table_privilege('foloosi_operator', 'foloosi.made_later', 'select') and not has_table_privilege('foloosi_operator', 'foloosi.made_later', 'insert, update, delete'), true,
    'the operator reads a table that the owner makes later');
select is(has_table_privilege('foloosi_handler', 'foloosi.made_later', 'select'), false, 'the handler does not');
drop table foloosi.made_later;
drop function foloosi.made_later();

-- ---------------------------------------------------------------- security definer

select is_empty($$select signature, proconfig from t.routines where prosecdef
    and not exists (select from unnest(proconfig) c where c ~ '^search_path=' and c ~ ', ?pg_temp$' and c !~ 'public|\$user')$$,
    'every security definer function pins its search_path, pg_temp last');
select is_empty($$select signature from t.routines where prosecdef and oid in (select p.oid from pg_proc p, aclexplode(p.proacl) a where a.grantee = 0)$$, 'and none is PUBLIC''s');
select isnt_empty($$select from t.routines where prosecdef and name = 'record_deliveries'$$, 'record_deliveries() is one of them');

-- ---------------------------------------------------------------- handler

set local session authorization foloosi_handler;
select is(sqlstates('select * from %t'), array['42501'], 'handler: select on any table or view is refused');
select is(sqlstates('select 1 from %t'), array['42501'], 'handler: even without a column');
select is(sqlstates('insert into %t default values', 'rp'), array['42501'], 'handler: so is insert');
select is(sqlstates('update %t set %c = %c', 'rp'), array['42501'], 'handler: so is update');
select is(sqlstates('delete from %t', 'rp'), array['42501'], 'handler: so is delete');
select is(sqlstates('truncate %t', 'rp'), array['42501'], 'handler: so is truncate');
select is(sqlstates('lock table %t in access share mode', 'rp'), array['42501'], 'handler: so is lock');
select is(sqlstates('copy %t to ''/dev/null''', 'rp'), array['42501'], 'handler: so is copy');
select is(sqlstates('select nextval(''%t'')', 'S'), array['42501'], 'handler: so are sequences');
select throws_ok('create table foloosi.x ()', '42501', null, 'handler: creates nothing in the schema');
select throws_ok('set local role foloosi_owner', '42501', null, 'handler: does not become the owner');
select throws_ok('set local role foloosi_operator', '42501', null, 'handler: nor the operator');
select throws_ok('set local session_replication_role = replica', '42501', null, 'handler: does not switch triggers off');
select lives_ok('select foloosi.schema_version()', 'handler: schema_version()');
select is((record(merchant(), d('success', 'O-2', 'N-3')))[1], 'recorded O-2 paid', 'handler: record_deliveries()');
reset session authorization;
select is(array(select name from routines where has_function_privilege('foloosi_handler', oid, 'execute') order by name), array['record_deliveries', 'schema_serves', 'schema_version'],
    'handler: executes these and nothing else');

-- names of its own in pg_temp deceive no function
set local session authorization foloosi_handler;
create temporary table orders (id bigint, merchant text, order_ref text, state text);
create temporary table deliveries (id bigint);
create function pg_temp.lock_key(text, text, text) returns bigint language sql as 'select 1/0::bigint';
create function pg_temp.hashtextextended(text, bigint) returns bigint language sql as 'select 1/0::bigint';
select is((record(merchant(), d('success', 'O-3', 'N-4')))[1], 'recorded O-3 paid', 'handler: its own names in pg_temp change nothing');
reset session authorization;
select is(count(*)::int, 1, 'handler: the order is in the schema') from foloosi.orders where merchant = merchant() and order_ref = 'O-3';

-- ---------------------------------------------------------------- operator

set local session authorization foloosi_operator;
select is(sqlstates('select * from %t'), array['none'], 'operator: select on every table and view');
select is(sqlstates('insert into %t default values', 'rp'), array['42501'], 'operator: insert is refused');
select is(sqlstates('update %t set %c = %c', 'rp'), array['23514', '42501'], 'operator: so is update: by privilege, or for id by a trigger');
select is(sqlstates('update %t set %c = %c where false', 'rp'), array['23514', '42501'], 'operator: even of no row');
select is(sqlstates('delete from %t', 'rp'), array['42501'], 'operator: so is delete');
select is(sqlstates('truncate %t', 'rp'), array['42501'], 'operator: so is truncate');
select is(sqlstates('merge into %t x using (select 1) y on true when matched then delete', 'r'), array['42501'], 'operator: so is merge');
select is(sqlstates('copy %t from ''/dev/null''', 'rp'), array['42501'], 'operator: so is copy');
select is(sqlstates('lock table %t in share mode', 'rp'), array['42501'], 'operator: so is a lock that would stop deliveries');
select is(sqlstates('select nextval(''%t'')', 'S'), array['42501'], 'operator: so is nextval');
select is(sqlstates('create trigger x before insert on %t for each row execute function suppress_redundant_updates_trigger()', 'rp'), array['42501'], 'operator: so is a trigger');
select is(sqlstates('alter table %t add column x int', 'rp'), array['42501'], 'operator: so is alter');
select is(sqlstates('drop table %t', 'rp'), array['42501'], 'operator: so is drop');
select throws_ok(format('update foloosi.orders set %s = %s where order_ref = ''O-1''', col, value), sqlstate_, null, format('operator: update orders.%s is refused', col))
    from (values ('state', '''cancelled''', '42501'), ('amount', '1', '42501'), ('decided_by', '''me''', '42501'), ('order_ref', '''O-9''', '42501'), ('merchant', '''m''', '42501'),
                 ('id', '-1', '23514')) x (col, value, sqlstate_);
select throws_ok('insert into foloosi.orders (merchant, order_ref, state) values (''m'', ''x'', ''paid'') on conflict (order_ref, merchant) do update set id = 1', '42501', null,
    'operator: on conflict is refused');
select throws_ok('create table foloosi.x ()', '42501', null, 'operator: creates nothing in the schema');
select throws_ok('set local role foloosi_owner', '42501', null, 'operator: does not become the owner');
select lives_ok('select * from foloosi.orders where order_ref = ''O-1'' for update', 'operator: may hold an order: select for update');
select lives_ok('select * from foloosi.transactions where transaction_no = ''N-1'' for update', 'operator: and a transaction');
select is(sqlstates('select * from %t for update', 'rp'), array['42501', 'none'], 'operator: and nothing else');
reset session authorization;
select is(array(select name from relations where relkind <> 'S' and has_table_privilege('foloosi_operator', oid, 'insert, update, delete, truncate, references, trigger')), '{}',
    'operator: no table privilege but select');
select is(array(select a.attrelid::regclass || '.' || attname || ' ' || x.privilege_type from pg_attribute a join relations r on r.oid = a.attrelid, aclexplode(a.attacl) x
                where x.grantee = 'foloosi_operator'::regrole order by 1), array['foloosi.orders.id UPDATE', 'foloosi.transactions.id UPDATE'],
    'operator: two column privileges, that a trigger makes empty');
select is(array(select name from routines where has_function_privilege('foloosi_operator', oid, 'execute') order by name),
    array['add_consumer', 'assign_transaction', 'cancel_due', 'clean_key', 'clock', 'disable_consumer', 'discard_events', 'dismiss_attention', 'drop_consumer', 'enable_consumer', 'erase_customer', 'event_payload', 'explain_delivery', 'held_until', 'money_text', 'monitor', 'record_delivery', 'record_refund', 'register_order', 'remind_paybacks', 'reopen_payback', 'replay_delivery', 'replay_transfer', 'resolve_order', 'retry_events', 'schema_version', 'set_merchant', 'set_retention', 'settle_payback', 'transactions_of', 'trim_white', 'unassign_transaction', 'withdraw_payback'],
    'operator: executes these and nothing else');
set local session authorization foloosi_operator;
select lives_ok('select foloosi.set_merchant(''by.operator'')', 'operator: set_merchant()');
select lives_ok('select foloosi.register_order(''by.operator'', ''O-1'', 100, ''AED'')', 'operator: register_order()');
select is(array(select order_state from foloosi.record_delivery('by.operator', 'success', 'O-1', 'N-1', amount => 100, currency => 'AED')), array['paid'], 'operator: record_delivery()');
select is(array(select order_state from foloosi.record_delivery('by.operator', 'success', null, 'N-2', amount => 100, currency => 'AED')), array[null::text], 'operator: without an order');
select lives_ok('select foloosi.assign_transaction((select id from foloosi.transactions where merchant = ''by.operator'' and transaction_no = ''N-2''), ''O-1'')', 'operator: assign_transaction()');
select lives_ok('select foloosi.settle_payback((select id from foloosi.paybacks where merchant = ''by.operator''))', 'operator: settle_payback()');
select lives_ok('select foloosi.resolve_order(''by.operator'', ''O-1'', ''cancelled'')', 'operator: resolve_order()');
select is(array(select order_state from foloosi.record_delivery('by.operator', 'success', 'O-2', 'N-1', amount => 100, currency => 'AED')), array[null::text], 'operator: another order');
select lives_ok('select foloosi.dismiss_attention((select id from foloosi.attention where merchant = ''by.operator'' and kind = ''delivery''))', 'operator: dismiss_attention()');
select is((select count(*)::int from (select foloosi.event_payload(e) from foloosi.events e where merchant = 'by.operator') x), 5, 'operator: event_payload()');
reset session authorization;

-- ---------------------------------------------------------------- consumer

set local session authorization foloosi_consumer;
select is(sqlstates('select * from %t'), array['42501'], 'consumer: select is refused');
select is(sqlstates('insert into %t default values', 'rp'), array['42501'], 'consumer: so is insert');
select is(sqlstates('update %t set %c = %c', 'rp'), array['42501'], 'consumer: so is update');
select is(sqlstates('delete from %t', 'rp'), array['42501'], 'consumer: so is delete');
select lives_ok('select foloosi.schema_version()', 'consumer: schema_version()');
reset session authorization;
select is(array(select name from routines where has_function_privilege('foloosi_consumer', oid, 'execute') order by name),
    array['finish_events', 'next_events', 'retry_events', 'schema_version'], 'consumer: executes event functions and nothing else');

-- ---------------------------------------------------------------- worker

set local session authorization foloosi_worker;
select is(sqlstates('select * from %t'), array['42501'], 'worker: select is refused');
select is(sqlstates('insert into %t default values', 'rp'), array['42501'], 'worker: so is insert');
select is(sqlstates('update %t set %c = %c', 'rp'), array['42501'], 'worker: so is update');
select is(sqlstates('delete from %t', 'rp'), array['42501'], 'worker: so is delete');
select lives_ok('select foloosi.schema_version()', 'worker: schema_version()');
select lives_ok($$select foloosi.add_consumer('by.worker')$$, 'worker: add_consumer()');
select lives_ok($$select foloosi.next_events('by.worker')$$, 'worker: next_events()');
reset session authorization;
select is(array(select name from routines where has_function_privilege('foloosi_worker', oid, 'execute') order by name),
    array['add_consumer', 'advance_reconciliation', 'begin_reconciliation', 'cancel_due', 'compare_transactions', 'end_reconciliation', 'held_until', 'next_events', 'next_mails', 'next_verifications',
          'postpone_verification', 'record_reconciled', 'remind_paybacks', 'schema_version', 'settle_events', 'verify_transaction'],
    'worker: executes these and nothing else');

-- ---------------------------------------------------------------- a consumer belongs to a role

create role erp_relay in role foloosi_consumer;
create role erp_cron in role erp_relay;
create role ann in role foloosi_operator;
set local session authorization ann;
select lives_ok($$select foloosi.add_consumer('any'), foloosi.add_consumer('erp', owner => 'erp_relay')$$, 'an operator adds consumers for others');
select throws_ok($$select foloosi.add_consumer('typo', owner => 'erp_realy')$$, '42704', null, 'whose role must be there');
reset session authorization;
select is(array(select consumer || ' ' || owner from foloosi.consumers where consumer in ('any', 'erp', 'by.worker') order by 1),
    array['any foloosi_consumer', 'by.worker foloosi_worker', 'erp erp_relay'], 'each has its owner');

create function tries(who text) returns text[] language plpgsql as $$
declare
    answers text[] := '{}';
begin
    for consumer in 1 .. 3 loop
        for what in 1 .. 4 loop
            begin
                execute format((array['select foloosi.next_events(%L)', 'select foloosi.finish_events(%L, array[1])', 'select foloosi.retry_events(%L, array[1], ''10 days'')',
                    'select foloosi.settle_events(%L, ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'', ''{}'')'])[what], (array['any', 'erp', 'by.worker'])[consumer]);
                answers := answers || 'done'::text;
            exception when insufficient_privilege then
                answers := answers || case when sqlerrm like '%no member' then 'not its own' else 'no right' end;
            end;
        end loop;
    end loop;
    return answers;
end $$;
grant usage on schema t to public;
set local session authorization foloosi_consumer;
select is(t.tries('foloosi_consumer'), array['done', 'done', 'done', 'no right', 'not its own', 'not its own', 'not its own', 'no right', 'not its own', 'not its own', 'not its own', 'no right'],
    'foloosi_consumer takes, finishes and delays its own events, neither another role''s nor the worker''s');
set local session authorization erp_cron;
select is(t.tries('erp_cron'), array['done', 'done', 'done', 'no right', 'done', 'done', 'done', 'no right', 'not its own', 'not its own', 'not its own', 'no right'],
    'a member of a member');
set local session authorization foloosi_worker;
select is(t.tries('foloosi_worker'), array['not its own', 'no right', 'no right', 'not its own', 'not its own', 'no right', 'no right', 'not its own', 'done', 'no right', 'no right', 'done'], 'the worker takes its own only');
select throws_ok($$select foloosi.add_consumer('theft', owner => 'foloosi_consumer')$$, '42501', null, 'and makes none for others');
set local session authorization ann;
select is((t.tries('ann'))[3:3] || (t.tries('ann'))[7:7] || (t.tries('ann'))[11:11], array['done', 'done', 'done'], 'an operator has any tried again');
reset session authorization;
select throws_ok(format('select foloosi.next_events(''any'', 1, %L)', lease), '22023', null, 'a lease of ' || lease) from unnest(array['0.9 s', '25 hours', '100 years']) lease;
select throws_ok(format('select foloosi.retry_events(''any'', array[1], %L)', later), '22023', null, 'tried again in ' || later) from unnest(array['-1 s', '31 days']) later;

-- ---------------------------------------------------------------- monitor

set local session authorization foloosi_monitor;
select is(sqlstates('select * from %t'), array['42501'], 'monitor: select is refused');
select lives_ok('select * from foloosi.monitor()', 'monitor: monitor()');
reset session authorization;
select is(array(select name from routines where has_function_privilege('foloosi_monitor', oid, 'execute')), array['monitor'], 'monitor: and nothing else');

-- ---------------------------------------------------------------- retention

set local session authorization foloosi_retention;
select is(sqlstates('select * from %t'), array['42501'], 'retention: select is refused');
select is(sqlstates('insert into %t default values', 'rp'), array['42501'], 'retention: so is insert');
select is(sqlstates('update %t set %c = %c', 'rp'), array['42501'], 'retention: so is update');
select is(sqlstates('delete from %t', 'rp'), array['42501'], 'retention: so is delete');
select is(sqlstates('drop table %t', 'rp'), array['42501'], 'retention: so is drop');
reset session authorization;
select is(array(select name from routines where has_function_privilege('foloosi_retention', oid, 'execute') order by name),
    array['retain_bodies', 'retain_default', 'retain_months', 'retain_personal', 'schema_version'], 'retention: executes these and nothing else');

-- ---------------------------------------------------------------- what keeps personal data out of the log

select is(array(select w from unnest(array['log_min_messages=log', 'log_min_error_statement=panic', 'log_error_verbosity=terse', 'log_parameter_max_length=0',
                'log_parameter_max_length_on_error=0']) w where not w = any (r.rolconfig)), '{}', rolname || ': the server''s log gets no values')
    from pg_roles r where rolname in ('foloosi_handler', 'foloosi_operator', 'foloosi_consumer', 'foloosi_worker', 'foloosi_monitor', 'foloosi_retention') order by rolname;
select is(array(select w from unnest(array['synchronous_commit=on']) w where not w = any (r.rolconfig)), '{}', 'handler: recorded means on disk')
    from pg_roles r where rolname = 'foloosi_handler';

select * from finish();
rollback;
