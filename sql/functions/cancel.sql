-- SPDX-License-Identifier: MIT
-- Time cancels: orders that failed and were not paid since, and registered orders that nobody pays.
--
-- Paid money is never cancelled because a webhook was late or lost. So nothing is cancelled for a while where payments may
-- wait elsewhere: after a pause of this function, after deliveries from a spool, while a spool has files. And where
-- the provider can be asked, it is asked first: by its list, and with verify = callback about each failure.

create or replace function foloosi.was_reconciled(p_merchant text, p_since timestamptz, p_after timestamptz) returns boolean
language sql stable
set search_path = pg_catalog, foloosi, pg_temp
as $$
    -- the provider's days may begin elsewhere: one more is read
    select exists (select from foloosi.reconciliations r where r.merchant = p_merchant and r.created_at > p_after
                   and r.covers_from < (p_since at time zone 'UTC')::date)
$$;
comment on function foloosi.was_reconciled(text, timestamptz, timestamptz) is
'Has a reconciliation that began after a moment found nothing unclear, and have it and those before it read all days since another moment? Parameters: merchant, since when, after when it began. Tables: reconciliations (read).';

create or replace function foloosi.may_cancel(o foloosi.orders, moment timestamptz, asked boolean) returns boolean
language sql stable
set search_path = pg_catalog, foloosi, pg_temp
as $$
    select o.state = 'pending' and o.cancel_at <= moment
        -- a delivery that could not be recorded may have paid it, or one whose success may not have it
        and not exists (select from foloosi.deliveries d where d.attention and (d.reason in ('hook_failed', 'refused') or d.rule in (4, 19))
                        and d.order_ref = o.order_ref and d.merchant = o.merchant)
        and not exists (
            select from foloosi.transactions_of(o.merchant, o.order_ref) t
            where t.state = 'verifying' or t.money_left > 0
               -- with call-back each failure waits for the provider's word
               or t.state = 'failed' and m.callback and not exists (
                    select from foloosi.verifications v
                    where v.transaction_id = t.id and v.outcome = 'failed' and v.verified_at >= o.cancel_at))
        and (not (asked or m.callback) or foloosi.was_reconciled(o.merchant, o.created_at, o.cancel_at))
    from (select coalesce((select p.verify = 'callback' from foloosi.merchants p where p.merchant = o.merchant), false) as callback) m
$$;
comment on function foloosi.may_cancel(foloosi.orders, timestamptz, boolean) is
'May time cancel this order? Parameters: its row; the time; asked: the provider''s list is to be read first. Calls: transactions_of, was_reconciled. Tables: merchants, deliveries, verifications (read).';

create or replace function foloosi.held_until() returns timestamptz
language sql volatile security definer -- volatile, to see what cancel_due() did in the same statement
set search_path = pg_catalog, foloosi, pg_temp
as $$ select c.held_until from foloosi.cancellation c where c.held_until > foloosi.clock() $$;
comment on function foloosi.held_until() is 'Until when cancel_due() cancels nothing; null: it does. Calls: clock. Tables: cancellation (read).';

create or replace function foloosi.cancel_due(n int default 100, spool_waits boolean default false, reconciled text[] default '{}')
returns int
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
set plan_cache_mode = force_generic_plan -- as record_deliveries(), and for the same reason: the worker keeps its session
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set random_page_cost = 0 set seq_page_cost = 0
as $$
#variable_conflict use_column
declare
    moment    timestamptz := foloosi.clock();
    c         foloosi.cancellation;
    due       record;
    o         foloosi.orders;
    why       text;
    cancelled int := 0;
    failed    int := 0;
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

    for due in
        select x as row, p.asked
        from foloosi.orders x
        cross join lateral (
            -- a merchant whose list was read lately has a provider that can be asked, whatever this caller knows
            select x.merchant = any (cancel_due.reconciled)
                or exists (select from foloosi.reconciliations r where r.merchant = x.merchant and r.created_at > moment - interval '2 days') as asked) p
        where x.state = 'pending' and x.cancel_at <= moment and foloosi.may_cancel(x, moment, p.asked)
        order by x.cancel_at, x.order_ref, x.merchant
    loop
        exit when cancelled >= cancel_due.n or failed >= cancel_due.n;
        o := due.row;
        continue when not pg_try_advisory_xact_lock(foloosi.lock_key('order', o.merchant, o.order_ref));
        select x.* into o from foloosi.orders x where x.order_ref = o.order_ref and x.merchant = o.merchant for no key update skip locked;
        continue when not found or not foloosi.may_cancel(o, moment, due.asked);
        why := case when o.transaction_id is null then 'expired' else 'failed' end;
        begin
            update foloosi.orders x
            set state = 'cancelled', cancel_at = null, updated_at = now(), reason = nullif(why, 'failed')
            where x.order_ref = o.order_ref and x.merchant = o.merchant;
            perform foloosi.must_have_changed(found);
            perform foloosi.emit(o.merchant, 'order.cancel', o.order_ref, o.transaction_id, why);
            perform foloosi.write_decision('cancel', o.id, o.merchant, o.order_ref, 'pending', why);
            set constraints all immediate;
            cancelled := cancelled + 1;
        exception when others or assert_failure or query_canceled then
            -- a merchant's own trigger: it is tried again, and the order stands in attention
            raise warning 'order % is not cancelled: SQLSTATE %', o.id, sqlstate;
            exit when sqlstate = '57014'; -- the caller's time is over
            failed := failed + 1;
        end;
    end loop;
    return cancelled;
end $$;
comment on function foloosi.cancel_due(int, boolean, text[]) is
'Cancel pending orders whose time has come, with order.cancel: reason failed or expired. foloosi-worker calls it all the time; where there is none, a timer may, each minute. Parameters: how many at most; spool_waits: a spool has files; reconciled: merchants of which a reconciliation that began after the order''s time must have found nothing unclear, and all days since the order was made were read; those with one in the last two days are meant by themselves. Returns how many were cancelled. Cancels nothing for ten minutes if it did not run for two, if deliveries came from a spool, or if one has files; and no order that a kept delivery still names or, with verify = callback, whose failures and list the provider was not asked about. Calls: need_read_committed, may_cancel, lock_key, must_have_changed, emit, write_decision, clock. Tables: cancellation, orders, events, decisions (written), reconciliations (read).';
