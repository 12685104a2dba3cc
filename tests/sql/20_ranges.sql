-- SPDX-License-Identifier: MIT
-- The block range indexes know nothing of pages that are being filled: to know costs each new row a thousand
-- times its share (migration 0009).
begin;
\ir tools.psql
select no_plan();
create extension pageinspect schema public;

-- indexes of ours that have a summary of the table's last page
create function summarized() returns text[] language sql as $$
    select array(
        select c.relname::text
        from pg_index x join pg_class c on c.oid = x.indexrelid join pg_am a on a.oid = c.relam and a.amname = 'brin',
             public.brin_metapage_info(public.get_raw_page(x.indexrelid::regclass::text, 0)) m,
             public.brin_revmap_data(public.get_raw_page(x.indexrelid::regclass::text, 1)) with ordinality r (pages, n)
        where c.relnamespace = 'foloosi'::regnamespace and c.relkind = 'i'
          -- tests that were rolled back have left pages
          and n = 1 + greatest(0, pg_relation_size(x.indrelid) / 8192 - 1) / m.pagesperrange
          and r.pages not in ('(0,0)', '(4294967295,0)') -- never made, and taken out
        order by 1)
$$;
select example('small tables');
select ok((select count(*) from pg_index x join pg_class c on c.oid = x.indexrelid join pg_am a on a.oid = c.relam
           where a.amname = 'brin' and c.relnamespace = 'foloosi'::regnamespace and c.relkind = 'i') >= 5, 'there are such indexes');
select foloosi.open_last_ranges();
select is(summarized(), '{}', 'nothing is summarized of tables that fill their first pages');
select deliver('success', 'O-' || n, 'N-' || n) from generate_series(1, 20) n;
select is(summarized(), '{}', 'nor after deliveries');
reindex index foloosi.deliveries_order_idx;
select is(summarized(), '{deliveries_order_idx}', 'REINDEX makes a summary of pages that are not full');
select ok(foloosi.open_last_ranges() >= 5, 'open_last_ranges() goes through all');
select is(summarized(), '{}', 'and takes it out');
select is((select count(*)::int from foloosi.order_history where order_ref = 'O-7'), 1, 'what has no summary is found');
select * from finish();
rollback;
