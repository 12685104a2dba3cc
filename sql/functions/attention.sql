-- SPDX-License-Identifier: MIT
-- Taking deliveries off the list of what waits for a person.

create or replace function foloosi.dismiss_attention(id bigint, note text default null) returns void
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    p_id bigint := dismiss_attention.id;
    p_note text := dismiss_attention.note;
    d foloosi.deliveries;
begin
    update foloosi.deliveries x set attention = false where x.id = p_id and x.attention returning * into d;
    if found then
        insert into foloosi.decisions (merchant, action, subject_id, order_ref, decided_by, note)
        values (d.merchant, 'dismiss', p_id, d.order_ref, session_user, p_note);
    elsif exists (select from foloosi.deliveries x where x.id = p_id) then
        raise exception 'delivery % does not wait for a person%', p_id, coalesce((
            select format(': %s dismissed it at %s', c.decided_by, to_char(c.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
            from foloosi.decisions c where c.action = 'dismiss' and c.subject_id = p_id order by c.id desc limit 1), '')
            using errcode = 'object_not_in_prerequisite_state', hint = 'What waits: foloosictl attention, or the view foloosi.attention.';
    elsif exists (select from foloosi.paybacks x where x.id = p_id) then
        raise exception '% is a payback', p_id using errcode = 'wrong_object_type',
            hint = 'Close it with foloosi.settle_payback(id, note) or foloosi.withdraw_payback(id, note).';
    elsif exists (select from foloosi.orders x where x.state in ('review', 'verifying', 'pending') and x.id = p_id) then
        raise exception '% is an order', p_id using errcode = 'wrong_object_type',
            hint = 'Decide it with foloosi.resolve_order(merchant, order_ref, state, note).';
    elsif exists (select from foloosi.refunds x where x.id = p_id) then
        raise exception '% is a refund', p_id using errcode = 'wrong_object_type',
            hint = 'Say how much went back with foloosi.record_refund(transaction_id, amount, note).';
    else
        raise exception 'nothing with the id % waits for a person', p_id using errcode = 'no_data_found',
            hint = 'What waits: foloosictl attention, or the view foloosi.attention.';
    end if;
end $$;
comment on function foloosi.dismiss_attention(bigint, text) is
'Take a delivery out of foloosi.attention. Parameters: delivery''s id, note. Errors: the delivery does not wait (who dismissed it and when, if a person did); it is a payback, an order or a refund (with the function that closes it); there is no such thing. Tables: deliveries, decisions (written).';
