-- SPDX-License-Identifier: MIT
-- Merchants' policy.

create or replace function foloosi.set_merchant(
    merchant text, mode text default 'live', unknown_orders text default 'accept',
    late_success text default 'pay', verify text default 'off', remind_after interval default '3 days')
returns foloosi.merchants
language sql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
    insert into foloosi.merchants as m (merchant, mode, unknown_orders, late_success, verify, remind_after)
    values ($1, $2, $3, $4, $5, $6)
    on conflict (merchant) do update
    set mode = excluded.mode, unknown_orders = excluded.unknown_orders, late_success = excluded.late_success,
        verify = excluded.verify, remind_after = excluded.remind_after, updated_at = now()
    returning m.*
$$;
comment on function foloosi.set_merchant(text, text, text, text, text, interval) is
'Make or replace a merchant''s policy. Parameters: name as in the configuration file; mode live|test; unknown_orders accept|review; late_success pay|review; verify off|callback; remind_after, 0: never. Returns the row. Tables: merchants (written).';
