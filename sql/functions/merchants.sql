-- SPDX-License-Identifier: MIT
-- Merchants' policy.

create or replace function foloosi.set_merchant(
    merchant text, mode text default 'live', unknown_orders text default 'accept',
    late_success text default 'pay', verify text default 'off', remind_after interval default '3 days',
    second_payment text default 'due', cancel_after interval default '0', expire_after interval default null,
    recurring text[] default '{FLSSUB_}', renewal_gap interval default '1 day', time_zone text default 'UTC')
returns foloosi.merchants
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
declare
    m foloosi.merchants;
begin
    perform now() at time zone $12; -- an unknown time zone is an error here, and not later
    insert into foloosi.merchants as x (merchant, mode, unknown_orders, late_success, verify, remind_after, second_payment,
        cancel_after, expire_after, recurring, renewal_gap, time_zone)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    on conflict on constraint merchants_pkey do update
    set mode = excluded.mode, unknown_orders = excluded.unknown_orders, late_success = excluded.late_success,
        verify = excluded.verify, remind_after = excluded.remind_after, second_payment = excluded.second_payment,
        cancel_after = excluded.cancel_after, expire_after = excluded.expire_after, recurring = excluded.recurring,
        renewal_gap = excluded.renewal_gap, time_zone = excluded.time_zone, updated_at = now()
    returning x.* into m;
    return m;
end $$;
comment on function foloosi.set_merchant(text, text, text, text, text, interval, text, interval, interval, text[], interval, text) is
'Make or replace a merchant''s policy. Parameters: name as in the configuration file; mode live|test; unknown_orders accept|review; late_success pay|review; verify off|callback; remind_after, 0: never; second_payment due|check; cancel_after, 0: at once; expire_after, null: never; recurring: prefixes of subscriptions; renewal_gap; time_zone. Returns the row. Tables: merchants (written).';
