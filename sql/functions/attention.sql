-- SPDX-License-Identifier: MIT
-- Closing what waits for a person and is no order: paybacks and deliveries.

create or replace function foloosi.money_went_back(payback foloosi.paybacks) returns boolean
language sql immutable
as $$
    select payback.state = 'settled' and payback.reason <> 'withdrawn'
        and (payback.reason <> 'status_contradiction' or payback.settled_by is null)
$$;
comment on function foloosi.money_went_back(foloosi.paybacks) is
'Did settling this payback mean that the money went back? Not if it was withdrawn; and of a contradiction that a person settled, only that person knows.';

create or replace function foloosi.settle_payback(id bigint, note text default null) returns foloosi.paybacks
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    p_id bigint := settle_payback.id;
    p_note text := settle_payback.note;
    p foloosi.paybacks;
begin
    select * into p from foloosi.paybacks x where x.id = p_id;
    if p.id is null then
        raise exception 'there is no payback %', p_id using errcode = 'no_data_found',
            hint = 'Open ones: select * from foloosi.attention where kind = ''payback''.';
    end if;
    if p.order_ref is not null then
        perform foloosi.lock_order(p.merchant, p.order_ref);
    end if;
    perform 1 from foloosi.transactions t where t.id = p.transaction_id for no key update;
    update foloosi.paybacks x
    set state = 'settled', settled_at = now(), settled_by = session_user, note = p_note, updated_at = now()
    where x.id = p_id and x.state <> 'settled' returning * into p;
    if not found then
        select * into p from foloosi.paybacks x where x.id = p_id;
        raise exception 'payback % was settled by % at %', p_id, coalesce(p.settled_by, 'a refund'),
            to_char(p.settled_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') using errcode = 'object_not_in_prerequisite_state';
    end if;
    insert into foloosi.decisions (merchant, action, subject_id, order_ref, decided_by, note)
    values (p.merchant, 'settle', p_id, p.order_ref, session_user, p_note);
    return p;
end $$;
comment on function foloosi.settle_payback(bigint, text) is
'The money of a payback went back, or need not. Parameters: payback''s id, note. Returns its row. Errors: no such payback; it was settled before (by whom and when). Calls: lock_order. Tables: paybacks, decisions (written).';

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
            hint = 'Close it with foloosi.settle_payback(id, note).';
    elsif exists (select from foloosi.orders x where x.state in ('review', 'verifying') and x.id = p_id) then
        raise exception '% is an order', p_id using errcode = 'wrong_object_type',
            hint = 'Decide it with foloosi.resolve_order(merchant, order_ref, state, note).';
    else
        raise exception 'nothing with the id % waits for a person', p_id using errcode = 'no_data_found',
            hint = 'What waits: foloosictl attention, or the view foloosi.attention.';
    end if;
end $$;
comment on function foloosi.dismiss_attention(bigint, text) is
'Take a delivery out of foloosi.attention. Parameters: delivery''s id, note. Errors: the delivery does not wait (who dismissed it and when, if a person did); it is a payback or an order (with the function that closes it); there is no such thing. Tables: deliveries, decisions (written).';
