-- SPDX-License-Identifier: MIT
-- Months of foloosi.bodies.

create or replace function foloosi.create_partitions(months int default 12) returns int
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
declare
    first_day date;
    made      int := 0;
begin
    for k in 0 .. months loop
        first_day := (date_trunc('month', now() at time zone 'UTC') + make_interval(months => k))::date;
        continue when to_regclass(format('foloosi.bodies_%s', to_char(first_day, 'YYYY_MM'))) is not null;
        -- a month whose bytes already went to the default partition stays there
        continue when exists (select from foloosi.bodies_default b
            where b.created_at >= first_day::timestamp at time zone 'UTC'
              and b.created_at < (first_day + interval '1 month') at time zone 'UTC');
        execute format('create table foloosi.%I partition of foloosi.bodies for values from (%L) to (%L)',
            'bodies_' || to_char(first_day, 'YYYY_MM'), first_day::text || ' 00:00+00',
            (first_day + interval '1 month')::date::text || ' 00:00+00');
        execute format('comment on table foloosi.%I is %L', 'bodies_' || to_char(first_day, 'YYYY_MM'),
            'Bytes of deliveries of ' || to_char(first_day, 'FMMonth YYYY') || ' (UTC).');
        execute format('comment on column foloosi.%1$I.delivery_id is %2$L; comment on column foloosi.%1$I.created_at is %2$L; comment on column foloosi.%1$I.body is %2$L',
            'bodies_' || to_char(first_day, 'YYYY_MM'), 'As in foloosi.bodies.');
        made := made + 1;
    end loop;
    return made;
end $$;
comment on function foloosi.create_partitions(int) is
'Make the monthly partitions of foloosi.bodies that are missing. Parameters: months ahead. Returns how many were made. Run by every migrate; deliveries of a month without one go to bodies_default.';

select foloosi.create_partitions();
