-- SPDX-License-Identifier: MIT
-- The state machine, which the tables enforce for every session that sends an UPDATE: here it is a superuser's.
begin;
\ir tools.psql
select no_plan();

-- ---------------------------------------------------------------- from each state to each state

-- closed is cancelled by a person. plain: without a new decision; decided: with one.
create temporary table transition as
select f.state as was, w.state as becomes, coalesce(x.plain, false) as plain, coalesce(x.plain or x.decided, false) as decided
from unnest(array['pending', 'verifying', 'paid', 'cancelled', 'closed', 'review', 'refunded']) f (state)
cross join unnest(array['pending', 'verifying', 'paid', 'cancelled', 'review', 'refunded']) w (state)
left join (values
    ('pending', 'verifying', true, true), ('pending', 'paid', true, true), ('pending', 'cancelled', true, true), ('pending', 'review', true, true),
    ('verifying', 'paid', true, true), ('verifying', 'review', true, true), ('verifying', 'cancelled', false, true),
    ('cancelled', 'paid', true, true), ('cancelled', 'review', true, true), ('cancelled', 'verifying', true, true),
    ('closed', 'paid', false, true),
    ('review', 'paid', false, true), ('review', 'cancelled', false, true),
    ('paid', 'cancelled', false, true), ('paid', 'review', false, true),
    -- of these orders no money is left, for they never had any
    ('paid', 'refunded', true, true), ('review', 'refunded', true, true),
    ('refunded', 'paid', false, true), ('refunded', 'cancelled', false, true), ('refunded', 'review', false, true)
) x (was, becomes, plain, decided) on x.was = f.state and x.becomes = w.state
where f.state <> w.state and not (f.state = 'closed' and w.state = 'cancelled');
select is(count(*)::int, 35, '6 times 5 transitions, and 5 of a closed order') from transition;

select example('transitions');
create function order_in(was text) returns text language plpgsql as $$
declare
    ref text := 'T-' || nextval('t.example_seq');
begin
    insert into foloosi.orders (merchant, order_ref, state, decided_by, decided_at)
    values (t.merchant(), ref, case was when 'closed' then 'cancelled' else was end,
            case was when 'closed' then 'someone' end, case was when 'closed' then now() - interval '1 day' end);
    return ref;
end $$;
create function try(was text, becomes text, more text) returns setof text language plpgsql as $$
declare
    ref     text := t.order_in(was);
    allowed boolean := (select case when more = '' then x.plain else x.decided end from transition x where x.was = try.was and x.becomes = try.becomes);
    command text := format('update foloosi.orders set state = %L%s where merchant = %L and order_ref = %L', becomes, more, t.merchant(), ref);
    title   text := format('%s to %s%s', was, becomes, case when more = '' then '' else ', decided' end);
begin
    if allowed then
        return next lives_ok(command, title || ' is allowed');
        return next is(state::text, becomes, title || ' happens') from foloosi.orders where merchant = t.merchant() and order_ref = ref;
    else
        return next throws_ok(command, '23514', null, title || ' is refused');
        return next is(state::text, replace(was, 'closed', 'cancelled'), title || ' does not happen') from foloosi.orders where merchant = t.merchant() and order_ref = ref;
    end if;
end $$;
select try(was, becomes, '') from transition;
select try(was, becomes, ', decided_by = ''a person'', decided_at = now()') from transition;

-- the same state again is no transition
select lives_ok(format('update foloosi.orders set state = state where merchant = %L and order_ref = %L', merchant(), order_in(state)), state || ' to itself')
    from unnest(array['pending', 'verifying', 'paid', 'cancelled', 'closed', 'review', 'refunded']) state;

-- ---------------------------------------------------------------- where the money is decides

create function change(ref text, becomes text) returns text language sql as $$
    select format('update foloosi.orders set state = %L where merchant = %L and order_ref = %L', becomes, t.merchant(), ref)
$$;
select example('refunded');
select given_delivery('success', 'M-1', 'N-1');
select given_delivery('success', 'M-2', 'N-2');
select given_delivery('success', 'M-2', 'N-3');
select given('select foloosi.register_order(%m, ''M-3'', 5, ''AED'')');
select given_delivery('success', 'M-3', 'N-4');
select throws_ok(change('M-1', 'refunded'), '23514', null, 'paid to refunded, while its money is here, is refused');
select throws_ok(change('M-3', 'refunded'), '23514', null, 'review to refunded, while its money is here, is refused');
select given_delivery('refund', null, 'N-2');
select is((facts(merchant()))->>'order M-2', 'paid 100 AED by N-3', 'the other payment pays it');
select throws_ok(change('M-2', 'refunded'), '23514', null, 'paid to refunded, while another payment is here, is refused');
select throws_ok(change('M-2', 'review'), '23514', null, 'paid to review, while what pays it is here, is refused');
update foloosi.orders set transaction_id = transaction_id('N-2') where merchant = merchant() and order_ref = 'M-2';
select lives_ok(change('M-2', 'review'), 'paid to review, when what paid it has gone back, is allowed');
select given_delivery('refund', null, 'N-1');
select is((facts(merchant()))->>'order M-1', 'refunded 100 AED by N-1', 'refunded');
select throws_ok(change('M-1', s), '23514', null, format('refunded to %s by an UPDATE is refused', s)) from unnest(array['pending', 'verifying', 'paid', 'cancelled', 'review']) s;
select given_delivery('success', 'M-1', 'N-5');
select is((facts(merchant()))->>'order M-1', 'review 100 AED by N-5 (paid_after_refund)', 'refunded to review, by a new success, is allowed');

select example('unknown order');
select given('select foloosi.register_order(%m, ''M-1'', 100, ''AED'')');
update foloosi.orders set state = 'review', reason = 'unknown_order' where merchant = merchant();
select throws_ok(change('M-1', 'verifying'), '23514', null, 'review for being unknown to verifying, undecided, is refused');
select lives_ok(format('update foloosi.orders set state = ''verifying'', decided_by = ''x'', decided_at = now() where merchant = %L', merchant()),
    'review for being unknown to verifying, as register_order() does it, is allowed');

-- ---------------------------------------------------------------- what is a decision

create function undecided(title text, set_list text) returns text language sql as $$
    select throws_ok(format('update foloosi.orders set state = ''cancelled'', %s where merchant = %L and order_ref = %L', set_list, t.merchant(), o.ref),
        '23514', null, 'no decision: ' || title)
    from (select t.order_in('paid') as ref) o
$$;
select undecided('a name without a time', 'decided_by = ''a person''');
select undecided('a time without a name', 'decided_at = now()');
select undecided('name and time taken away', 'decided_by = null, decided_at = null');
select undecided('reason and late', 'reason = ''x'', late = true, updated_at = now()');
update foloosi.orders set decided_by = 'a person', decided_at = '2026-01-01' where merchant = merchant() and state = 'paid';
select throws_ok(format('update foloosi.orders set state = ''cancelled'', decided_by = ''a person'', decided_at = ''2026-01-01'' where merchant = %L and state = ''paid''', merchant()),
    '23514', null, 'no decision: the time of the last one');

-- ---------------------------------------------------------------- other ways to say UPDATE

select example('ways');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('failed', 'O-2', 'N-2');
select throws_ok(format('update foloosi.orders set state = ''pending'' where merchant = %L', merchant()), '23514', null, 'many at once');
select throws_ok(format('insert into foloosi.orders (merchant, order_ref, state) values (%L, ''O-1'', ''pending'')
    on conflict (order_ref, merchant) do update set state = excluded.state', merchant()), '23514', null, 'on conflict do update');
select throws_ok(format('merge into foloosi.orders o using (select 1) x on o.merchant = %L and o.order_ref = ''O-1''
    when matched then update set state = ''cancelled''', merchant()), '23514', null, 'merge');
select throws_ok(format('with x as (update foloosi.orders set state = ''review'' where merchant = %L and state = ''paid'' returning 1) select * from x', merchant()),
    '23514', null, 'in a with');
select throws_ok(format('update foloosi.orders set state = ''done'' where merchant = %L', merchant()), '23514', null, 'a state that there is not');
select throws_ok(format('update foloosi.orders set state = null where merchant = %L', merchant()), '23514', null, 'no state');
select throws_ok(format('insert into foloosi.orders (merchant, order_ref, state) values (%L, ''O-3'', ''done'')', merchant()), '23514', null, 'born in a state that there is not');
select is(array(select order_ref || ' ' || state from foloosi.orders where merchant = merchant() order by id), array['O-1 paid', 'O-2 cancelled'], 'nothing has moved');
create function refusal(command text) returns text language plpgsql as $$
declare
    c text; m text; h text;
begin
    execute command;
    return 'not refused';
exception when check_violation then
    get stacked diagnostics c = constraint_name, m = message_text, h = pg_exception_hint;
    return concat_ws('; ', c, regexp_replace(m, '\d+', '#'), h);
end $$;
select is(refusal(format('update foloosi.orders set state = ''cancelled'' where merchant = %L and order_ref = ''O-1''', merchant())),
    'orders_state_machine; order #: paid may not become cancelled; Use foloosi.resolve_order(merchant, order_ref, state, note) to decide an order.',
    'the refusal has the name of the constraint, what may not be, and what to do instead');

-- ---------------------------------------------------------------- what never changes

select throws_ok(format('update foloosi.%s set %s = %2$s where merchant = %L', tab, col, merchant()), '23514', null, format('%s.%s never changes', tab, col))
    from (values ('orders', 'id'), ('orders', 'merchant'), ('orders', 'order_ref'), ('transactions', 'id'), ('transactions', 'merchant')) x (tab, col);
select throws_ok('update foloosi.orders set id = -1', '23514', null, 'nor of all rows');
select throws_ok('update foloosi.orders set order_ref = ''x'' where false', '23514', null, 'nor of none');
select throws_ok(format('insert into foloosi.orders (merchant, order_ref, state) values (%L, ''O-1'', ''pending'')
    on conflict (order_ref, merchant) do update set order_ref = ''O-9''', merchant()), '23514', null, 'nor by on conflict');
select throws_ok(format('insert into foloosi.orders (merchant, order_ref, state) values (%L, ''O-1'', ''pending'')', merchant()), '23505', null, 'an order begins once');
select throws_ok(format('insert into foloosi.transactions (merchant, transaction_no, state, transaction_status) values (%L, ''N-1'', ''failed'', ''failed'')', merchant()),
    '23505', null, 'a number is one transaction');

-- ---------------------------------------------------------------- paybacks

select given_delivery('success', 'O-1', 'N-9');
select throws_ok(format('insert into foloosi.paybacks (merchant, state, reason, transaction_id) values (%L, ''check'', ''x'', %s)', merchant(), transaction_id('N-9')),
    '23505', null, 'at most one open payback for each transaction');
select throws_ok(format('update foloosi.paybacks set state = ''settled'' where merchant = %L', merchant()), '23514', null, 'settled has a time');
select throws_ok(format('update foloosi.paybacks set settled_at = now() where merchant = %L', merchant()), '23514', null, 'what is open has none');
select throws_ok(format('update foloosi.paybacks set state = ''paid'' where merchant = %L', merchant()), '23514', null, 'a state that there is not');
select throws_ok('insert into foloosi.paybacks (merchant, state, reason, transaction_id) values (''m'', ''due'', ''x'', -1)', '23503', null, 'a payback is of a transaction');

select * from finish();
rollback;
