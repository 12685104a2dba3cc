-- SPDX-License-Identifier: MIT
-- What a person reads: attention, everything that waits for one; order_history, each change of an order with its cause.
begin;
\ir tools.psql
select no_plan();

-- ---------------------------------------------------------------- attention

select example('attention', unknown_orders => 'review');
select is(waiting(), '{}', 'nothing has happened, nothing waits');
select given_delivery('success', 'O-1', 'N-1');
select given('select foloosi.register_order(%m, ''O-2'', 100, ''AED'')');
select given_delivery('success', 'O-2', 'N-2');
select given_delivery('failed', 'O-3', 'N-3');
select given_delivery('failed', null, 'N-4');
select given_delivery('pending', 'O-2', 'N-2');
select given_delivery('success', 'O-2', 'N-2', copy => 2);
select is(waiting(), array['order O-1 unknown_order'], 'orders in review wait; what is paid, cancelled, ignored or a duplicate does not');
select given_delivery('success', 'O-2', 'N-5', 'R-5', 12.5, 'USD');
select given_delivery('success', null, 'N-6');
select given_delivery('success', 'O-2', 'TEST-1');
select given_delivery('success', 'O-9', 'N-2');
select given_delivery('success', 'O-2', 'N-2', null, 99);
select given_delivery('success', 'O-2', 'N-7', 'R-5');
select given_delivery('failed', 'O-2', 'N-2');
select given_delivery(null, fault => 'not JSON at byte 17');
select given_delivery('chargeback', 'O-2', 'N-2');
select given_delivery('success', 'O-1', 'N-8');
select given_delivery('success', 'O-2', 'N-9', null, 'NaN');
select is(array(select concat_ws(' | ', kind, coalesce(order_ref, '-'), reason) from foloosi.attention where merchant = merchant() order by kind, id), array[
    'delivery | - | no_order_key', 'delivery | O-2 | test_transaction', 'delivery | O-9 | other_order', 'delivery | O-2 | amount_contradiction',
    'delivery | O-2 | reference_conflict', 'delivery | - | rejected', 'delivery | O-2 | status', 'delivery | O-2 | refused',
    'order | O-1 | unknown_order', 'payback | O-2 | double_payment', 'payback | O-2 | status_contradiction'], 'each that waits, once');
select is(array(select regexp_replace(detail, 'transaction \d+', 'transaction #') from foloosi.attention where merchant = merchant() and detail is not null and reason <> 'refused'
                order by kind, id), array['transaction # belongs to order O-2', 'known as 100.00 AED, now 99.00 AED', 'not JSON at byte 17', 'status chargeback',
    'transaction #: 100.00 AED', 'check: transaction #: 12.50 USD', 'check: transaction #: 100.00 AED'], 'with what one needs to know to decide');
select is((select count(*) from foloosi.attention where merchant = merchant()), (select count(distinct id) from foloosi.attention where merchant = merchant()), 'a number names one thing');
select is(array(select kind || ' ' || id from foloosi.attention where merchant = merchant() and created_at is null), '{}', 'each has its time');

-- every one is closed by what its remedy says
select is(array(select distinct kind || ' ' || r[1] from foloosi.attention, regexp_matches(remedy, 'foloosi\.([a-z_]+)\(', 'g') r where merchant = merchant() order by 1), array[
    'delivery assign_transaction', 'delivery dismiss_attention', 'delivery replay_delivery', 'order resolve_order', 'payback settle_payback', 'payback withdraw_payback'], 'each says what closes it');
create function close_all() returns void language plpgsql as $$
declare
    a record;
begin
    for a in select * from foloosi.attention where merchant = t.merchant() loop
        if a.remedy like '%assign_transaction(%' and a.reason = 'no_order_key' then
            execute 'select ' || replace(regexp_replace(a.remedy, ', or .*', ''), 'order_ref', quote_literal('O-2'));
        elsif a.kind = 'delivery' then
            perform foloosi.dismiss_attention(a.id, 'seen');
        elsif a.kind = 'payback' and a.reason = 'status_contradiction' then
            perform foloosi.withdraw_payback(a.id, 'seen');
        elsif a.kind = 'payback' then
            perform foloosi.settle_payback(a.id, 'seen');
        else
            perform foloosi.resolve_order(a.merchant, a.order_ref, 'paid', 'seen');
        end if;
    end loop;
end $$;
select close_all();
select is(array(select kind || ' ' || reason from foloosi.attention where merchant = merchant() order by id), array['payback double_payment', 'payback double_payment'],
    'closed by them; what the decisions cost waits next') ;
select close_all();
select is(waiting(), '{}', 'and then nothing waits');

select example('verifying', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1');
select is(waiting(), '{}', 'verifying waits for the worker, not for a person');
select is(updated_at, null, 'an order that never changed has no time of a change') from foloosi.orders where merchant = merchant();
update foloosi.orders set created_at = now() - interval '61 minutes' where merchant = merchant();
select is(waiting(), array['order O-1 verifying'], 'overdue since it was created');
update foloosi.orders set updated_at = now() - interval '59 minutes' where merchant = merchant();
select is(waiting(), '{}', 'for an hour');
update foloosi.orders set updated_at = now() - interval '61 minutes' where merchant = merchant();
select is(waiting(), array['order O-1 verifying'], 'overdue, it waits for a person');
select given('select foloosi.resolve_order(%m, ''O-1'', ''paid'')');
select is(waiting(), '{}', 'a person decides');
select isnt(updated_at, null, 'and so it has changed') from foloosi.orders where merchant = merchant();

select example('verifying, a second payment', verify => 'callback');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-2');
select given('select foloosi.resolve_order(%m, ''O-1'', ''paid'')');
update foloosi.transactions set updated_at = now() - interval '59 minutes' where merchant = merchant();
select is(waiting(), '{}', 'what the provider was not asked yet waits for the worker');
update foloosi.transactions set updated_at = now() - interval '61 minutes' where merchant = merchant();
select is(waiting(), array['transaction O-1 verification_overdue', 'transaction O-1 verification_overdue'], 'for an hour');
select is(array(select distinct remedy from foloosi.attention where merchant = merchant()), array[null::text], 'no function closes it');

select example('overdue');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'', now() - interval ''9 minutes'')');
select is(waiting(), '{}', 'time cancels within minutes');
update foloosi.orders set cancel_at = now() - interval '61 minutes' where merchant = merchant();
select is(waiting(), array['order O-1 not_cancelled'], 'an order that nothing cancels waits');
select throws_ok(format('select foloosi.dismiss_attention(%s)', id), '42809', null, 'it is to be decided, not dismissed') from foloosi.orders where merchant = merchant();
select given('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'')');
select is(waiting(), '{}', 'a person decides');

select example('refunds in doubt');
select given_delivery('success', 'O-1', 'N-1');
insert into foloosi.refunds (merchant, transaction_id, amount, currency, source, believed)
select merchant, id, 100, 'AED', 'provider', false from foloosi.transactions where merchant = merchant();
select is(waiting(), array['refund O-1 refund_doubted'], 'the provider says refund, and not how much');
select given('select foloosi.record_refund(x.id, 0, ''nothing'') from foloosi.transactions x where x.merchant = %m');
select is(waiting(), '{}', 'a person says how much');
insert into foloosi.refunds (merchant, transaction_id, source, believed) select merchant, id, 'delivery', false from foloosi.transactions where merchant = merchant();
select is(waiting(), '{}', 'a refund that the provider is asked about');
update foloosi.refunds set created_at = now() - interval '61 minutes' where merchant = merchant() and source = 'delivery';
select is(waiting(), array['refund O-1 refund_doubted'], 'for an hour');
select throws_ok(format('select foloosi.dismiss_attention(%s)', id), '42809', null, 'it is not dismissed') from foloosi.refunds where merchant = merchant() and source = 'delivery';
select given('select foloosi.record_refund(x.id, 100, ''all'') from foloosi.transactions x where x.merchant = %m');
select is(waiting(), '{}', 'nothing is left of it');
select given_delivery('refund', 'O-1', 'N-1');
select given_delivery('success', 'O-2', 'N-2');
select given('select foloosi.record_delivery(%m, ''refund'', ''O-2'', ''N-2'', amount => 101, currency => ''AED'')');
select is(waiting(), array['delivery O-2 refund_differs'], 'more than was captured');
select ok(remedy like format('foloosi.record\_refund(%s, amount, note), or foloosi.dismiss\_attention(%s, note)', t.id, a.id), 'and how much is for a person to say')
from foloosi.attention a, foloosi.transactions t where a.merchant = merchant() and t.merchant = merchant() and t.transaction_no = 'N-2';

-- ---------------------------------------------------------------- order_history

create function history(ref text) returns text[] language sql stable as $$
    select array_agg(concat_ws(' ', coalesce(state_before, '-'), state, cause, 'row ' || rule, '(' || reason || ')', decided_by, note) order by id)
    from foloosi.order_history where merchant = t.merchant() and order_ref = ref
$$;
select example('history', late_success => 'review');
select given_delivery('failed', 'O-1', 'N-1');
select given_delivery('failed', 'O-1', 'N-2');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-1');
select given_delivery('success', 'O-1', 'N-3');
select given('select foloosi.register_order(%m, ''O-1'', 100, ''AED'')');
select given('select foloosi.resolve_order(%m, ''O-1'', ''paid'', ''ok'')');
select given_delivery('failed', 'O-1', 'N-1');
select given('select foloosi.resolve_order(%m, ''O-1'', ''cancelled'', ''returned'')');
select is(history('O-1'), array['- cancelled delivery row 10', 'cancelled review delivery row 15 (late_success)', '- review register postgres', 'review paid resolve postgres ok',
    'paid cancelled resolve postgres returned'], 'each change, with the state before and its cause; what moves nothing is not there');
select is((select row(h.cause_id = d.id, h.transaction_id = d.transaction_id, h.seen_at >= h.created_at)::text from foloosi.order_history h join foloosi.deliveries d on d.id = h.id
           where h.merchant = merchant() and h.rule = 15), '(t,t,t)', 'a delivery is found by its number');
select is((select bool_and(h.cause_id = o.id) from foloosi.order_history h join foloosi.orders o using (merchant, order_ref) where h.merchant = merchant() and h.cause = 'resolve'),
    true, 'a decision says of what');

-- whatever happens, the history is a chain from the order's beginning to its state of now
create function broken_chains() returns setof text language sql stable as $$
    select concat_ws(' ', order_ref, was, state_before, state)
    from (select h.*, lag(state) over (partition by merchant, order_ref order by id) as was
          from foloosi.order_history h where merchant ~ '^shop' and state is not null) h
    where state_before is not null and was is distinct from state_before
    union all
    select concat_ws(' ', 'end of', order_ref, o.state, h.state)
    from foloosi.orders o left join lateral (select state from foloosi.order_history h where h.merchant = o.merchant and h.order_ref = o.order_ref and state is not null
                                             order by id desc limit 1) h on true
    where o.merchant ~ '^shop' and o.state is distinct from h.state
    union all
    select concat_ws(' ', 'beginning of', o.order_ref)
    from foloosi.orders o where o.merchant ~ '^shop' and not exists (
        select from foloosi.order_history h where h.merchant = o.merchant and h.order_ref = o.order_ref and h.state_before is null and h.state is not null)
$$;
select example('chains', unknown_orders => 'review');
select given_delivery('success', 'C-1', 'N-1');
select given('select foloosi.register_order(%m, ''C-1'', 100, ''AED'')');
select given_delivery('success', 'C-1', 'N-2');
select given('select foloosi.settle_payback(payback_id(''N-2''), ''sent'')');
select given('select foloosi.resolve_order(%m, ''C-1'', ''cancelled'')');
select given('select foloosi.resolve_order(%m, ''C-1'', ''paid'')');
select given('select foloosi.register_order(%m, ''C-2'', 100, ''AED'')');
select given_delivery('failed', null, 'N-3');
select given('select foloosi.assign_transaction(transaction_id(''N-3''), ''C-2'')');
select given_delivery('success', 'C-2', 'N-3', null, 5);
select given('select foloosi.resolve_order(%m, ''C-2'', ''paid'', ''a discount'')');
select given_delivery('success', null, 'N-4');
select given('select foloosi.assign_transaction(transaction_id(''N-4''), ''C-3'', true)');
select given_delivery('pending', 'C-4', 'N-5');
select given_delivery('success', 'C-4', 'N-5');
select is(record(merchant(), d('failed', 'C-5', 'N-6'), d('success', 'C-5', 'N-6'), d('success', 'C-5', 'N-7')) is not null, true, 'in a batch too');
select is_empty('select broken_chains()', 'the history of every order is a chain from its beginning to its state of now');
select given_delivery('failed', 'C-6', 'N-8');
select given('select foloosi.resolve_order(%m, ''C-6'', ''cancelled'', ''closed'')');
select is(history('C-6'), array['- cancelled delivery row 10', '- cancelled resolve postgres closed'], 'closing a cancelled order is in its history, though it does not move');

select * from finish();
rollback;
