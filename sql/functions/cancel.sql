-- SPDX-License-Identifier: MIT
-- Time cancels: orders that failed and were not paid since, and registered orders that nobody pays.
--
-- Paid money is never cancelled because a webhook was late. So nothing is cancelled for a while where payments may wait
-- elsewhere: after a pause of this function, after deliveries from a spool, while a spool has files.

create or replace function foloosi.cancel_due(n int default 100, spool_waits boolean default false, reconciled text[] default '{}')
returns int
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    moment    timestamptz := foloosi.clock();
    c         foloosi.cancellation;
    o         record;
    was       record;
    cancelled int := 0;
begin
    perform foloosi.need_read_committed();
    perform set_config('synchronous_commit', 'on', true); -- what was sent to the merchant must stay true
    update foloosi.cancellation x
    set ran_at = moment,
        held_until = case when x.ran_at is null or x.ran_at < moment - interval '2 minutes' or x.spooled_at > moment - interval '10 minutes'
                               or cancel_due.spool_waits
                          then moment + interval '10 minutes' else x.held_until end
    where x.one returning * into c;
    if c.held_until > moment then
        return 0;
    end if;

    for o in
        select x.order_ref, x.merchant
        from foloosi.orders x left join foloosi.merchants m on m.merchant = x.merchant
        where x.state = 'pending' and x.cancel_at <= moment
          -- with call-back a failure that would cancel waits for the provider's word
          and (coalesce(m.verify, 'off') = 'off' or x.transaction_id is null
               or exists (select from foloosi.verifications v where v.transaction_id = x.transaction_id and v.outcome = 'failed'))
          and (x.merchant <> all (cancel_due.reconciled)
               or exists (select from foloosi.reconciliations r where r.merchant = x.merchant and r.created_at > x.cancel_at
                          and r.finished_at is not null and r.unclear = 0))
          -- a delivery that could not be recorded may have paid it
          and not exists (select from foloosi.deliveries d where d.attention and d.reason in ('hook_failed', 'refused')
                          and d.order_ref = x.order_ref and d.merchant = x.merchant)
        order by x.cancel_at, x.order_ref, x.merchant limit cancel_due.n
    loop
        continue when not pg_try_advisory_xact_lock(foloosi.lock_key('order', o.merchant, o.order_ref));
        select x.id, x.transaction_id into was from foloosi.orders x
        where x.order_ref = o.order_ref and x.merchant = o.merchant and x.state = 'pending' and x.cancel_at <= moment
        for no key update skip locked;
        continue when not found;
        update foloosi.orders x
        set state = 'cancelled', cancel_at = null, updated_at = now(), reason = case when was.transaction_id is null then 'expired' end
        where x.order_ref = o.order_ref and x.merchant = o.merchant;
        perform foloosi.emit(o.merchant, 'order.cancel', o.order_ref, was.transaction_id, case when was.transaction_id is null then 'expired' else 'failed' end);
        insert into foloosi.decisions (merchant, action, subject_id, order_ref, order_state, order_state_before, order_moved, decided_by, note)
        values (o.merchant, 'cancel', was.id, o.order_ref, 'cancelled', 'pending', true, session_user,
                case when was.transaction_id is null then 'expired' else 'failed' end);
        cancelled := cancelled + 1;
    end loop;
    return cancelled;
end $$;
comment on function foloosi.cancel_due(int, boolean, text[]) is
'Cancel pending orders whose time has come, with order.cancel: reason failed or expired. foloosi-worker calls it all the time; where there is none, a timer may. Parameters: how many at most; spool_waits: a spool has files; reconciled: merchants of which a reconciliation that began after the order''s time must have found nothing unclear. Returns how many were cancelled. Cancels nothing for ten minutes if it did not run for two, if deliveries came from a spool, or if one has files; and no order that a kept delivery still names. Calls: need_read_committed, lock_key, emit, clock. Tables: cancellation, orders, events, decisions (written), merchants, verifications, reconciliations, deliveries (read).';
