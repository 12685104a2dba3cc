-- SPDX-License-Identifier: MIT
-- A customer's data go on request; no other customer's, and nothing of the books.
begin;
\ir tools.psql
select no_plan();

create function buy(no text, email text, mobile text default '555534533', optional2 text default null, body text default null) returns text language sql as $$
    select r.outcome from foloosi.record_delivery(t.merchant(), 'success', 'O-' || no, no, 'R-' || no, 100, 'AED', optional2 => optional2, customer_email => email,
        customer_mobile => mobile, card_last_four => '0042', body => convert_to(body, 'UTF8')) r
$$;
create function erase(dry_run boolean, variadic customers text[]) returns text language sql as $$
    select concat_ws(' ', e.transactions, e.bodies, e.texts, case when e.id is not null then 'noted' end) from foloosi.erase_customer(customers, 'request 17', dry_run) e
$$;
create function left_of(n text) returns text language sql stable as $$
    select concat_ws('|', t.customer_email, t.customer_mobile, t.card_last_four, t.optional1, t.optional2, t.amount, t.state,
        (select count(*) from foloosi.bodies b join foloosi.deliveries d on d.id = b.delivery_id where d.transaction_id = t.id))
    from foloosi.transactions t where t.merchant = t.merchant() and t.transaction_no = n
$$;

select example('erase');
select buy('1', 'ann@example.com');
select buy('2', 'Ann@Example.COM', '+971501234567', 'for Ann');
select buy('3', 'joann@example.com');
select buy('4', 'ann@example.com.au');
select buy('5', null, null, 'gift for <ann@example.com>.');
select buy('6', 'other@example.com', null, null, '{"data":{"transfer":{"api":{"customer_email":"\u0061nn\u0040example.com"}}}}');
select is(record(merchant(), d(null, fault => 'not JSON at byte 9: ann@example.com')), array['rejected - -'], 'given rejected bytes');
update foloosi.bodies b set body = '\xff' || convert_to('{customer_email: ann@example.com', 'UTF8') from foloosi.deliveries d
where d.id = b.delivery_id and d.merchant = merchant() and d.outcome = 'rejected';
select given($$select foloosi.resolve_order(%m, 'O-1', 'cancelled', 'wrote to ANN@example.com, no answer')$$);
select is(array(select coalesce(foloosi.unless_personal(v, k), '-') from (values ('O-1', 'O-1'), ('website:7', '7'), ('ORD1001', '1001'),
    ('+971501234567', '7'), ('for Ann', 'n'), ('gift', '7')) x (v, k)), array['O-1', 'website:7', 'ORD1001', '-', '-', '-'], 'the order key stays, with its prefix; what only ends like it does not');
create table facts_before as select facts(merchant()) as f;

select is(erase(true, 'ann@example.com'), '3 5 2', 'a dry run counts transactions, bodies, texts');
select is(left_of('1'), 'ann@example.com|555534533|0042|O-1|100|captured|1', 'and changes nothing');
select is(erase(false, 'ann@example.com'), '3 5 2 noted', 'the run says the same');
select is(left_of('1'), 'O-1|100|captured|0', 'fields and bytes are gone, money is not');
select is(left_of('2'), 'O-2|100|captured|0', 'in any case of letters');
select is(left_of('3'), 'joann@example.com|555534533|0042|O-3|100|captured|1', 'a longer address is another customer''s');
select is(left_of('4'), 'ann@example.com.au|555534533|0042|O-4|100|captured|1', 'at either end');
select is(left_of('5'), 'O-5|100|captured|0', 'free text that names the customer');
select is(left_of('6'), 'other@example.com|0042|O-6|100|captured|0', 'bytes that hide the customer behind escapes');
select is((select count(*) from foloosi.bodies b join foloosi.deliveries d on d.id = b.delivery_id where d.merchant = merchant() and d.outcome = 'rejected'), 0::bigint, 'rejected bytes that are not even text');
select is((select detail from foloosi.deliveries where merchant = merchant() and outcome = 'rejected'), 'not JSON at byte 9: [erased]', 'a detail is blanked');
select is((select note from foloosi.decisions where merchant = merchant() and note is not null), 'wrote to [erased], no answer', 'and a note');
select is(differences((select f from facts_before), facts(merchant())), '{}', 'the books are as they were');
select is((select row(erased_by, note, transactions, bodies, texts)::text from foloosi.erasures), format('(%s,"request 17",3,5,2)', session_user), 'who, why and how much is written down');
select is_empty($$select from foloosi.erasures e where e::text ~* 'ann'$$, 'and not whose data');
select is(erase(false, 'ann@example.com'), '0 0 0', 'again: no customer, and nothing is noted');
select is((select count(*) from foloosi.erasures), 1::bigint, 'once is once');
select is(buy('1', 'ann@example.com'), 'duplicate', 'the same bytes again are a duplicate');
select is(left_of('1'), 'O-1|100|captured|0', 'which brings nothing back');
select is((select repeats from foloosi.deliveries d join foloosi.transactions t on t.id = d.transaction_id where t.merchant = merchant() and t.transaction_no = '1' order by d.id limit 1), 1, 'and is counted');

select is(erase(false, '+971501234567', 'other@example.com'), '1 0 0 noted', 'several names, one request');
select is(erase(true, '555534533'), '2 2 0', 'by phone');
select is(erase(true, '55553453'), '0 0 0', 'a part of a number is none');
select is(erase(true, 'a.b@example.com', 'aXb@example.com'), '0 0 0', 'found no customer');
select is(erase(true, '.*@example.com'), '0 0 0', 'what means something to a pattern means nothing here');
select is(erase(true, E'%@example.com\\'), '0 0 0', 'whatever it is');
select throws_ok(format('select foloosi.erase_customer(%L)', c), '22023', 'not an e-mail address, nor a phone number of at least 6 digits', 'refused: ' || coalesce(replace(c::text, E'\n', '\n'), 'null'))
from (values ('{}'::text[]), (null), ('{null}'), ('{""}'), ('{100}'), ('{ann}'), ('{@}'), ('{"a@b c"}'), ('{ann@example.com,100}'), (array[E'a@b\n']), (array[repeat('a', 320) || '@b'])) v (c);
select throws_ok($$select foloosi.erase_customer(array['ann@example.com'], 'asked by Ann@example.com')$$, '22023', 'the note names the customer', 'the note must not name the customer');

select given($$select foloosi.record_refund((select id from foloosi.transactions where merchant = %m and transaction_no = '4'), 0, 'wrote to zoe@example.com')$$);
select is(erase(false, 'zoe@example.com'), '0 0 2 noted', 'a note of a refund is one of an act, too');
select is((select note from foloosi.refunds where merchant = merchant()), 'wrote to [erased]', 'both are blanked');

select * from finish();
rollback;
