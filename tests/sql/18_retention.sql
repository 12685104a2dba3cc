-- SPDX-License-Identifier: MIT
-- Old bytes and personal fields go; what makes a repeat a repeat, and the books, stay.
begin;
\ir tools.psql
select no_plan();

-- a delivery with everything personal in it; copy makes other bytes
create function buy(status text, order_ref text, no text, copy int default 1, email text default 'Ann@Example.com', optional1 text default null) returns text language sql as $$
    select concat_ws(' ', r.outcome, r.order_ref, r.order_state, '(' || r.reason || ')') from foloosi.record_delivery(t.merchant(), status, order_ref, no, 'R-' || no,
        100, 'AED', 'approved', coalesce(optional1, order_ref), 'Ann Other', order_ref, email, '+971 50 1234567', '0042',
        convert_to(format('{"data":{"transfer":{"copy":%s,"no":%s,"status":%s,"api":{"customer_email":%s}}}}', copy, to_json(no), to_json(status), to_json(email)), 'UTF8')) r
$$;
create function personal(no text) returns text language sql stable as $$
    select concat_ws('|', customer_email, customer_mobile, card_last_four, optional1, optional2, optional3, case when masked_at is not null then 'masked' end)
    from foloosi.transactions where merchant = t.merchant() and transaction_no = no
$$;
create function backdate(days int) returns void language plpgsql as $$
begin
    perform set_config('session_replication_role', 'replica', true);
    update foloosi.transactions set created_at = now() - make_interval(days => days) where merchant = t.merchant();
    update foloosi.deliveries set created_at = now() - make_interval(days => days) where merchant = t.merchant();
    update foloosi.bodies b set created_at = now() - make_interval(days => days) from foloosi.deliveries d where d.id = b.delivery_id and d.merchant = t.merchant();
    perform set_config('session_replication_role', 'origin', true);
end $$;
-- one whole run, as foloosictl retain makes it: what was done, how much
create function retained(bodies_days int default null, personal_days int default null, dry_run boolean default false) returns text[] language plpgsql as $$
declare
    step  text;
    r     record;
    after bigint;
    done  text[] := '{}';
    sum   bigint;
begin
    foreach step in array array['retain_months', 'retain_bodies', 'retain_default', 'retain_personal'] loop
        after := 0;
        sum := 0;
        loop
            execute format('select * from foloosi.%I($1, $2, $3)', step)
                into r using case when step = 'retain_personal' then personal_days else bodies_days end, after, dry_run;
            sum := sum + r.amount;
            if step = 'retain_bodies' and r.subject is not null then
                done := done || concat_ws(' ', r.what, r.subject, case when r.amount > 0 then 'some' end);
            end if;
            exit when r.state <> 'more';
            after := r.next;
        end loop;
        if sum > 0 and step <> 'retain_bodies' then
            done := done || concat_ws(' ', r.what, r.subject, sum);
        end if;
    end loop;
    return done;
end $$;
create function bodies() returns bigint language sql stable as $$
    select count(*) from foloosi.bodies b join foloosi.deliveries d on d.id = b.delivery_id where d.merchant = t.merchant()
$$;

select is((select row(bodies_days, personal_days, ran_at is null)::text from foloosi.retention), '(400,90,t)', 'the defaults');
select example('retention');
select is(buy('success', 'O-1', 'N-1'), 'recorded O-1 paid', 'a payment');
select is(buy('failed', 'O-2', 'N-2'), 'recorded O-2 cancelled', 'and a failure');
create table facts_before as select facts(merchant()) as f;
select is(retained(), '{}', 'nothing is old');
select is((select row(masked_to < (select min(id) from foloosi.transactions), ran_at is not null)::text from foloosi.retention), '(t,t)', 'the run is noted; the mark passes nothing that is younger than a day');

select backdate(89);
select is(retained(), '{}', '89 days: nothing yet');
select backdate(91);
select is(retained(dry_run => true), array['personal fields masked transactions 2'], '91 days, dry run: it says what it would do');
select is(personal('N-1'), 'Ann@Example.com|+971 50 1234567|0042|O-1|Ann Other|O-1', 'and does nothing');
select is(retained(), array['personal fields masked transactions 2'], '91 days: masked');
select is(personal('N-1'), 'O-1|O-1|masked', 'what is personal is gone; the order key stays, wherever it stands');
select is((select masked_to from foloosi.retention), (select max(id) from foloosi.transactions), 'the mark moves on');
select is(retained(), '{}', 'again: nothing');
select is(bodies(), 2::bigint, 'bytes stay longer');
select is(differences((select f from facts_before), facts(merchant())), '{}', 'the books are as they were');
select is(buy('success', 'O-1', 'N-1'), 'duplicate O-1 paid', 'the same bytes again are a duplicate');
select is(buy('success', 'O-2', 'N-2'), 'recorded O-2 paid (late)', 'the failure becomes a success');
select is(personal('N-2'), 'O-2|O-2|masked', 'but what was masked stays masked');
select is(buy('success', 'O-1', 'N-1', 2), 'duplicate O-1 paid', 'other bytes that say the same are known, too');

select backdate(460);
select is(bodies(), 4::bigint, 'bytes of a month that has no partition are in the default one');
select is(retained(dry_run => true), array['bodies deleted bodies_default 4'], 'dry run: they would go');
select is(retained(), array['bodies deleted bodies_default 4'], 'and go');
select is(bodies(), 0::bigint, 'they are gone');
select is(array(select concat_ws(' ', outcome, repeats) from foloosi.deliveries where merchant = merchant() order by id),
    array['recorded 1', 'recorded 0', 'recorded 0', 'duplicate 0'], 'the ledger stands');
select is(buy('success', 'O-1', 'N-1'), 'duplicate O-1 paid', 'the same bytes again are a duplicate');
select is(bodies(), 0::bigint, 'of which nothing is kept again');
select is((select sum(repeats) from foloosi.deliveries where merchant = merchant()), 2::bigint, 'and which is counted');
select isnt_empty('select foloosi.event_payload(e) from foloosi.events e where merchant = merchant()', 'events can still be told');

select example('months');
create table foloosi.bodies_2020_01 partition of foloosi.bodies for values from ('2020-01-01 00:00+00') to ('2020-02-01 00:00+00');
create table foloosi.bodies_2020_02 partition of foloosi.bodies for values from ('2020-02-01 00:00+00') to ('2020-03-01 00:00+00');
select buy('success', 'O-1', 'N-1');
update foloosi.bodies b set created_at = '2020-01-31 23:59+00' from foloosi.deliveries d where d.id = b.delivery_id and d.merchant = merchant();
select is(retained(bodies_days => (now()::date - '2020-02-01') - 1, dry_run => true), array['bytes dropped bodies_2020_01 some'], 'a month goes when its end is long enough ago');
select is(retained(bodies_days => (now()::date - '2020-02-01') + 1), '{}', 'and not before');
select is(retained(), array['bytes dropped bodies_2020_01 some', 'bytes dropped bodies_2020_02 some'], 'the default: both');
select is(to_regclass('foloosi.bodies_2020_01'), null, 'the partition is gone');
select is(bodies(), 0::bigint, 'with the bytes');
select is(buy('success', 'O-1', 'N-1'), 'duplicate O-1 paid', 'the same bytes again are a duplicate');
select is((select bodies_days || ' ' || personal_days from foloosi.set_retention(30, 7)), '30 7', 'a person sets the days');
select throws_ok('select foloosi.set_retention(-1)', '23514', null, 'not to less than none');
select foloosi.set_retention();
do $$ begin execute format('drop table foloosi.bodies_%s', to_char(now() at time zone 'UTC' + interval '11 months', 'YYYY_MM')); end $$;
select is(retained(), array['months made ahead bodies 1'], 'months ahead are made');

select example('a month without a partition');
do $$ begin execute format('drop table foloosi.bodies_%s', to_char(now() at time zone 'UTC', 'YYYY_MM')); end $$;
select is(buy('success', 'O-1', 'N-1'), 'recorded O-1 paid', 'loses nothing');
select is((select count(*) from foloosi.bodies_default b join foloosi.deliveries d on d.id = b.delivery_id where d.merchant = merchant()), 1::bigint, 'its bytes are in the default partition');
select is(retained(), '{}', 'where they stay, young as they are, and that month is not made any more');

select example('many');
select buy('failed', 'O-' || n, 'N-' || n) from generate_series(1, 1100) n;
select backdate(100);
select is(retained(dry_run => true), array['personal fields masked transactions 1100'], 'more than a page is found');
select is(retained(), array['personal fields masked transactions 1100'], 'and masked, page by page');

-- ---------------------------------------------------------------- after a restore

create table numbers as select last_value as id, (select last_value from foloosi.events_id_seq) as event from foloosi.id_seq;
insert into foloosi.consumers (consumer, position, owner) values ('restored', 0, 'foloosi_consumer');
insert into foloosi.event_gaps select id, 1, 2, '9000000000' from foloosi.consumers where consumer = 'restored';
select is(array(select numbers || ' ' || (goes_on_after - was) from foloosi.after_restore(500)), array['foloosi.id_seq 500', 'foloosi.events_id_seq 500'], 'numbers go on far behind those that were given away');
select is(buy('success', 'O-new', 'N-new'), 'recorded O-new paid', 'a payment');
select ok((select max(e.id) > min(n.event) + 500 from foloosi.events e, numbers n), 'its event has such a number');
select is_empty('select from foloosi.event_gaps', 'gaps that no transaction can fill any more are forgotten');
select throws_ok('select foloosi.after_restore(0)', '22023', null, 'a step back is refused');
savepoint counting;
alter sequence foloosi.id_seq increment by 1;
select throws_ok('select foloosi.after_restore(500)', '55000', null, 'a sequence that was made anew, and gives numbers twice');
rollback to counting;

-- ---------------------------------------------------------------- which roles

set local session authorization foloosi_retention;
select is((select state from foloosi.retain_bodies(null, 0, true)), 'done', 'retention''s role may call it');
select throws_ok('select foloosi.retain_bodies(-40000, 0)', '22023', null, 'but not for what is new');
select throws_ok('select foloosi.retain_personal(-1, 0)', '22023', null, 'personal fields neither');
select throws_ok('select * from foloosi.transactions', '42501', null, 'and reads nothing');
select throws_ok($$select foloosi.erase_customer(array['a@b.c'])$$, '42501', null, 'nor does it erase');
select throws_ok('select foloosi.set_retention(0, 0)', '42501', null, 'nor decide for how long');
reset session authorization;
set local session authorization foloosi_operator;
select throws_ok('select foloosi.retain_bodies(0, 0)', '42501', null, 'an operator sets the days, and drops nothing himself');
reset session authorization;

select * from finish();
rollback;
