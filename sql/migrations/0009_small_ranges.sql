-- 0009: the Bloom filters of 0008, an eighth as large, and none for pages that are being filled.
--
-- A row that comes into pages whose filter is made already changes that filter: it is unpacked, packed
-- and logged as a whole. With 128 pages it has 7 KB, and that took 1.5 ms a row; with 16 it takes
-- 0.05. New rows come behind the last filter, where they cost nothing, but for two kinds:
--   * an update that finds no room on its page (a repeat is counted) goes where there is some;
--   * CREATE INDEX, which TRUNCATE and a restore do as well, makes a filter for the last pages of the table,
--     full or not. So it is taken out again here; open_last_ranges() is the same for later.

drop index foloosi.deliveries_order_idx, foloosi.events_order_idx;
create index deliveries_order_idx on foloosi.deliveries
    using brin (order_ref text_bloom_ops (n_distinct_per_range = 950)) with (pages_per_range = 16, autosummarize = on);
create index events_order_idx on foloosi.events
    using brin (order_ref text_bloom_ops (n_distinct_per_range = 1300)) with (pages_per_range = 16, autosummarize = on);

select brin_desummarize_range(indexrelid, greatest(0, pg_relation_size(indrelid) / current_setting('block_size')::int - 1))
from pg_index join pg_class c on c.oid = indexrelid
where c.relnamespace = 'foloosi'::regnamespace and c.relkind = 'i' and c.relam = (select oid from pg_am where amname = 'brin');
