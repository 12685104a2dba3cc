-- 0008: what a person asks for, without a cost that payments would notice.
--
-- Block range indexes: an entry for 128 pages, made when autovacuum summarizes them, not for each row.
--
--   * By number, for "the latest orders": ids ascend with the pages. (deliveries has its own since 0002.)
--   * By order, for "all that happened to this one": a Bloom filter for each range says "not here" for all
--     but some 1 % of the others, so that of 10 million deliveries some dozen megabytes are read, not all.

create index orders_id_idx on foloosi.orders using brin (id) with (pages_per_range = 128, autosummarize = on);
create index deliveries_order_idx on foloosi.deliveries
    using brin (order_ref text_bloom_ops (n_distinct_per_range = 6000)) with (pages_per_range = 128, autosummarize = on);
create index events_order_idx on foloosi.events
    using brin (order_ref text_bloom_ops (n_distinct_per_range = 6000)) with (pages_per_range = 64, autosummarize = on);
