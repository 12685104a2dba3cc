-- SPDX-License-Identifier: MIT
-- Open paybacks are not forgotten: after the merchant's remind_after their event comes again.
--
-- A reminder is by time, never by a delivery: repeats open nothing and emit nothing, as the rules have it.
-- Its event is written as all of its order are, under the order's lock, and after a row: see events.sql. A
-- lock that is not free is left alone, for there is another minute.

create or replace function foloosi.remind_paybacks(n int default 100) returns int
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    p        record;
    again    foloosi.paybacks;
    event    bigint;
    reminded int := 0;
begin
    perform foloosi.need_read_committed();
    perform set_config('synchronous_commit', 'on', true); -- an event's number must never be given twice
    for p in
        select x.id, x.merchant, x.order_ref, x.transaction_id, x.reminders
        from foloosi.paybacks x left join foloosi.merchants m on m.merchant = x.merchant
        where x.state in ('due', 'check') and coalesce(m.remind_after, '3 days') > '0'
          and greatest(x.updated_at, x.reminded_at) + coalesce(m.remind_after, '3 days') <= now()
        order by x.id limit n
    loop
        continue when not pg_try_advisory_xact_lock(case when p.order_ref is not null
            then foloosi.lock_key('order', p.merchant, p.order_ref) else foloosi.lock_key('transaction', '', p.transaction_id::text) end);
        update foloosi.paybacks x set reminders = x.reminders + 1, reminded_at = now()
        where x.id = p.id and x.state in ('due', 'check') and x.reminders = p.reminders -- no other session was faster
        returning * into again;
        continue when not found;
        insert into foloosi.events (merchant, type, order_ref, transaction_id, payback_id, reason)
        values (again.merchant, 'payback.' || again.state, again.order_ref, again.transaction_id, again.id, again.reason)
        returning id into event;
        insert into foloosi.reminders (event_id, number) values (event, again.reminders);
        reminded := reminded + 1;
    end loop;
    return reminded;
end $$;
comment on function foloosi.remind_paybacks(int) is
'Emit payback.due or payback.check again for paybacks that have been open for the merchant''s remind_after since they last changed or were reminded of. foloosi-worker calls it each minute; without one, cron may. Parameters: how many at most. Returns how many. Calls: need_read_committed, lock_key. Tables: paybacks, events, reminders (written), merchants (read).';
