-- SPDX-License-Identifier: MIT
-- What a delivery or an act reads does not grow with the tables.
--
-- A condition that no index serves is not seen in a small database: the planner, forbidden a sequential scan, reads an
-- index from end to end. Nor is a plan that was made for a small table, and that a session keeps. So deliveries of all
-- kinds come once while the tables have some dozens of rows, and twice more where each kind of row stands hundreds of times:
-- for another merchant, and for the one whose rows these are. The rows that each call reads are counted.
-- unassign_transaction() reads what came since its transaction, and is not here.
begin;
\ir tools.psql
select no_plan();

\set analyze 'analyze foloosi.transactions, foloosi.orders, foloosi.deliveries, foloosi.refunds, foloosi.paybacks, foloosi.other_transactions, foloosi.events, foloosi.verifications;'
-- Rows of each kind, of another merchant.
select example('many others');
select set_config('t.others', merchant(), true);
create function fill(first int, last int) returns text language plpgsql as $$
declare
    m text := current_setting('t.others');
begin
    for k in first / 50 .. last / 50 - 1 loop
        perform t.record(m, variadic array(select t.d(s.status, s.key || i, 'N-' || s.no || i, s.ref || i, s.amount, 'AED')
            from generate_series(50 * k, 50 * k + 49) i, (values
                ('success', 'PAID-', 'a', 'Ra-', 100), ('failed', 'FAILED-', 'b', 'Rb-', 100)) s (status, key, no, ref, amount)));
        perform t.record(m, variadic array(select t.d(s.status, s.key || i, 'N-' || s.no || i, s.ref || i, s.amount, 'AED')
            from generate_series(50 * k, 50 * k + 49) i, (values
                ('success', 'PAID-', 'c', 'Rc-', 100),          -- paid twice
                ('success', null, 'd', 'Rd-', 100)) s (status, key, no, ref, amount))); -- no key
        perform t.record(m, variadic array(select t.d(s.status, s.key || i, 'N-' || s.no || i, s.ref || i, s.amount, 'AED')
            from generate_series(50 * k, 50 * k + 49) i, (values
                ('refund', null, 'e', 'Re-', 50),               -- of what is not known
                ('failed', 'PAID-', 'a', 'Ra-', 100)) s (status, key, no, ref, amount))); -- contradicts
        perform t.record(m, variadic array(select t.d(s.status, s.key || i, 'N-' || s.no || i, s.ref || i, s.amount, 'AED')
            from generate_series(50 * k, 50 * k + 49) i, (values
                ('refund', 'GONE-', 'f', 'Rf-', 50), ('bad', null, null, null, null)) s (status, key, no, ref, amount)));
        perform t.record(m, variadic array(select t.d(null, 'REJECTED-' || i, fault => 'not JSON')
            from generate_series(50 * k, 50 * k + 49) i));
    end loop;
    return format('%s of each', last);
end $$;
select fill(0, 50);
:analyze

-- Rows that this transaction has read so far, by sequential scans and by indexes; dead ones, as other tests leave them, do not count.
create function rows_read() returns jsonb language sql volatile as $$
    select jsonb_object_agg(x.name, x.rows)
    from (select coalesce(i.indrelid, c.oid)::regclass as name,
                 sum(pg_stat_get_xact_tuples_fetched(c.oid) + case when c.relkind = 'r' then pg_stat_get_xact_tuples_returned(c.oid) else 0 end) as rows
          from pg_class c left join pg_index i on i.indexrelid = c.oid
          where c.relnamespace = 'foloosi'::regnamespace and c.relkind in ('r', 'i') group by 1) x
$$;
create function reads_few(title text, command text, id bigint default null, most int default 300) returns text language plpgsql as $$
declare
    m text := t.merchant();
    before jsonb;
    after  jsonb;
begin
    before := t.rows_read();
    execute replace(replace(command, '%m', quote_literal(m)), '%id', coalesce(id::text, ''));
    after := t.rows_read();
    return is((select string_agg(format('%s rows of %s', a.value::int - b.value::int, a.key), ', ' order by a.key)
               from jsonb_each_text(after) a join jsonb_each_text(before) b on b.key = a.key where a.value::int - b.value::int > most), null,
              title || ' reads few rows');
end $$;
-- the same of one delivery
create function few(
    status text, order_ref text default null, no text default null, ref text default null, amount numeric default 100,
    currency text default 'AED', copy int default 1, fault text default null)
returns text language plpgsql as $$
declare
    x t.delivery := t.d(status, order_ref, no, ref, amount, currency, copy, fault);
begin
    return t.reads_few(concat_ws(' ', status, order_ref, no, ref, amount, currency, copy, fault), format('select t.record(%%m, %L::t.delivery)', x));
end $$;

select example('nearly empty tables');
\ir reads.psql

select set_config('t.merchant', current_setting('t.others'), true);
select fill(50, 500);
select cmp_ok((select count(*) from foloosi.deliveries where merchant = current_setting('t.others') and attention), '>=', 1200::bigint, 'deliveries wait');
select cmp_ok((select count(*) from foloosi.paybacks where merchant = current_setting('t.others')), '>=', 400::bigint, 'paybacks are open');
select cmp_ok((select count(*) from foloosi.other_transactions where merchant = current_setting('t.others')), '>=', 400::bigint, 'orders have others');
select cmp_ok((select count(*) from foloosi.refunds where merchant = current_setting('t.others')), '>=', 400::bigint, 'refunds are known');

select example('full tables of another');
\ir reads.psql
select set_config('t.merchant', current_setting('t.others'), true); -- of its own, too
\ir reads.psql

-- persons have sessions of their own, and the worker's is planned anew when a table has grown
:analyze
discard plans;

select example('persons');
select given_delivery('success', 'A', 'N-1', 'R-1');
select given_delivery('success', 'A', 'N-2', 'R-2');
select given_delivery('success', null, 'N-3', 'R-3');
select given_delivery('failed', 'A', 'N-1', 'R-1');
select given_delivery('bad', 'A');
select reads_few('register_order()', $$select foloosi.register_order(%m, 'X', 100, 'AED')$$);
select reads_few('assign_transaction()', $$select foloosi.assign_transaction(%id, 'X')$$, transaction_id('N-3'));
select reads_few('settle_payback()', $$select foloosi.settle_payback(%id, 'x')$$, payback_id('N-2'));
select reads_few('reopen_payback()', $$select foloosi.reopen_payback(%id, 'x')$$, payback_id('N-2'));
select reads_few('withdraw_payback()', $$select foloosi.withdraw_payback(%id, 'x')$$, payback_id('N-2'));
select reads_few('record_refund()', $$select foloosi.record_refund(%id, 10, 'x')$$, transaction_id('N-1'));
select reads_few('record_refund() of nothing', $$select foloosi.record_refund(%id, 0, 'x')$$, transaction_id('N-1'));
select reads_few('resolve_order()', $$select foloosi.resolve_order(%m, 'A', 'cancelled', 'x')$$);
select reads_few('resolve_order() to paid', $$select foloosi.resolve_order(%m, 'A', 'paid', 'x')$$);
select reads_few('dismiss_attention()', $$select foloosi.dismiss_attention(%id, 'x')$$, (select max(id) from foloosi.deliveries where merchant = merchant() and attention));

select example('the provider', verify => 'callback');
select given_delivery('success', 'A', 'N-1', 'R-1');
select given_delivery('success', 'B', 'N-2', 'R-2');
select reads_few('verify_transaction()', $$select foloosi.verify_transaction(%id, 'success', 100, 'AED')$$, transaction_id('N-1'));
select reads_few('verify_transaction() of a denied one', $$select foloosi.verify_transaction(%id, 'failed', 100, 'AED')$$, transaction_id('N-2'));
select reads_few('next_verifications()', $$select * from foloosi.next_verifications(array[%m], 1)$$);

select example('time', cancel_after => '10 minutes');
select given_delivery('failed', 'A', 'N-1', 'R-1');
select later(foloosi.clock() - now() + '1 hour');
update foloosi.cancellation set ran_at = foloosi.clock(), held_until = null, spooled_at = null;
select reads_few('cancel_due()', $$select foloosi.cancel_due(10)$$);
select is((facts(merchant())) ->> 'order A', 'cancelled 100 AED by N-1', 'it is cancelled');

select * from finish();
rollback;
