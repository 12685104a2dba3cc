-- SPDX-License-Identifier: MIT
-- What a delivery or an act reads does not grow with the tables.
--
-- A condition that no index serves is not seen in a small database: the planner, forbidden a sequential scan, walks an
-- index from end to end. So here are tables in which each kind of row stands hundreds of times, and a count of the
-- rows and index entries that each call touches. unassign_transaction() reads what came since its transaction, and is not here.
begin;
\ir tools.psql
select no_plan();

select example('many others');
select set_config('t.others', merchant(), true);
do $$
declare
    m text := current_setting('t.others');
begin
    for k in 1 .. 4 loop -- 4 times 100 of each
        perform t.record(m, variadic array(select t.d(s.status, s.key || i, 'N-' || s.no || i, s.ref || i, s.amount, 'AED')
            from generate_series(100 * k, 100 * k + 99) i, (values
                ('success', 'PAID-', 'a', 'Ra-', 100), ('failed', 'FAILED-', 'b', 'Rb-', 100)) s (status, key, no, ref, amount)));
        perform t.record(m, variadic array(select t.d(s.status, s.key || i, 'N-' || s.no || i, s.ref || i, s.amount, 'AED')
            from generate_series(100 * k, 100 * k + 99) i, (values
                ('success', 'PAID-', 'c', 'Rc-', 100),          -- paid twice
                ('success', null, 'd', 'Rd-', 100)) s (status, key, no, ref, amount))); -- no key
        perform t.record(m, variadic array(select t.d(s.status, s.key || i, 'N-' || s.no || i, s.ref || i, s.amount, 'AED')
            from generate_series(100 * k, 100 * k + 99) i, (values
                ('refund', null, 'e', 'Re-', 50),               -- of what is not known
                ('failed', 'PAID-', 'a', 'Ra-', 100)) s (status, key, no, ref, amount))); -- contradicts
        perform t.record(m, variadic array(select t.d(s.status, s.key || i, 'N-' || s.no || i, s.ref || i, s.amount, 'AED')
            from generate_series(100 * k, 100 * k + 99) i, (values
                ('refund', 'GONE-', 'f', 'Rf-', 50), ('bad', null, null, null, null)) s (status, key, no, ref, amount)));
        perform t.record(m, variadic array(select t.d(null, 'REJECTED-' || i, fault => 'not JSON')
            from generate_series(100 * k, 100 * k + 99) i));
    end loop;
end $$;
analyze foloosi.transactions, foloosi.orders, foloosi.deliveries, foloosi.refunds, foloosi.paybacks, foloosi.other_transactions, foloosi.events;
select cmp_ok((select count(*) from foloosi.deliveries where merchant = current_setting('t.others') and attention), '>=', 1200::bigint, 'deliveries wait');
select cmp_ok((select count(*) from foloosi.paybacks where merchant = current_setting('t.others')), '>=', 400::bigint, 'paybacks are open');
select cmp_ok((select count(*) from foloosi.other_transactions where merchant = current_setting('t.others')), '>=', 400::bigint, 'orders have others');

-- Rows and index entries that this transaction has read so far.
create function touched() returns bigint language sql volatile as $$
    select sum(pg_stat_get_xact_tuples_returned(c.oid) + pg_stat_get_xact_tuples_fetched(c.oid))::bigint
    from pg_class c where c.relnamespace = 'foloosi'::regnamespace and c.relkind in ('r', 'i')
$$;
create table most (title text, reads bigint);
create function reads_few(title text, command text, id bigint default null) returns text language plpgsql as $$
declare
    m text := t.merchant();
    before bigint;
    after  bigint;
begin
    before := t.touched();
    execute replace(replace(command, '%m', quote_literal(m)), '%id', coalesce(id::text, ''));
    after := t.touched();
    insert into t.most values (title, after - before);
    return cmp_ok(after - before, '<', 300::bigint, title || ' reads few rows');
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

select example('deliveries');
select few('success', 'A', 'N-1', 'R-1');
select few('success', 'A', 'N-1', 'R-1'); -- again
select few('success', 'A', 'N-1', 'R-1', copy => 2); -- row 5
select few('success', 'A', 'N-2', 'R-2'); -- row 17
select few('success', 'A', 'N-1', 'R-1', 90); -- row 6
select few('failed', 'A', 'N-1', 'R-1'); -- row 7
select few('success', 'B', 'N-1', 'R-1'); -- row 4
select few('success', 'B', 'N-3', 'R-1'); -- row 19
select few('refund', 'A', 'N-2', null, 30);
select few('refund', 'A', 'N-2', null, 100);
select few('refund', null, null, 'R-1', 10, 'USD');
select few('refund', 'A', 'N-4', 'R-4');
select few('success', 'A', 'N-4', 'R-4'); -- row 24
select few('refund', 'C', 'N-5');
select few('success', 'C', 'N-5');
select few('success', 'C', 'N-6');
select few('failed', 'D', 'N-7', 'R-7');
select few('success', 'D', 'N-7', 'R-7'); -- row 15
select few('success', null, 'N-8');
select few('success', null, 'N-8', 'R-8', copy => 2);
select few('success', 'E', null, 'R-8'); -- names its order
select few('success', 'F', null, 'R-9');
select few('success', 'F', 'N-9');
select few('success', 'F', 'N-9', 'R-9'); -- one or two
select few('success', 'FLSSUB_1', 'N-10');
select few('success', 'FLSSUB_1', 'N-11');
select few('pending', 'A', 'N-1');
select few('success', 'A', 'TEST-1');
select few(null, 'A', fault => 'not JSON');
select few('success', 'PAID-100', 'N-12'); -- another merchant's name

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
select later('1 hour');
update foloosi.cancellation set ran_at = foloosi.clock(), held_until = null, spooled_at = null;
select reads_few('cancel_due()', $$select foloosi.cancel_due(10)$$);
select is((facts(merchant())) ->> 'order A', 'cancelled 100 AED by N-1', 'it is cancelled');

select diag(string_agg(reads || ' ' || title, E'\n' order by reads desc)) from most where reads > 100;
select * from finish();
rollback;
