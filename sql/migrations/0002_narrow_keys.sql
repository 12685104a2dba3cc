-- 0002: narrower keys. An event costs fewer bytes on disk, less WAL and fewer comparisons.
--
--   * Keys (merchant, order_ref, transaction_no, payment_reference) are opaque, so they compare as
--     bytes (collate "C"), whatever the database's collation: quicker, and no upgrade of the system's
--     library can put these indexes out of order.
--   * A transaction is found by its reference through a hash of 8 bytes, not through the reference itself.
--   * A delivery is found by its digest. Its number, which ascends with the pages, needs no B-tree
--     of its own: a block range index finds it for the person who asks.
--   * orders.updated_at says when a row changed; null says that it never did.
--
-- Functions that get more parameters go, so that functions/ makes the only one of the name.
--
-- No table is rewritten. The indexes whose keys change are built anew, some minutes for tens of
-- millions of rows, during which the handler waits or answers 503.

do $$
begin
    -- PostgreSQL changes no column that a view or a trigger's list of columns names: functions/ and views/ make
    -- ours again.
    drop view if exists foloosi.attention, foloosi.order_history;
exception when dependent_objects_still_exist then
    raise exception 'views of yours stand on foloosi.attention or foloosi.order_history'
        using hint = 'Drop them, migrate, and make them again.';
end
$$;
drop trigger orders_keep_identity on foloosi.orders;
drop trigger transactions_keep_identity on foloosi.transactions;

drop index foloosi.transactions_reference_idx;
alter table foloosi.deliveries drop constraint deliveries_pkey;

do $$
begin
    alter table foloosi.merchants alter merchant type varchar(64) collate "C";
    alter table foloosi.orders alter merchant type varchar(64) collate "C", alter order_ref type varchar(255) collate "C";
    alter table foloosi.transactions alter merchant type varchar(64) collate "C", alter order_ref type varchar(255) collate "C",
        alter transaction_no type varchar(128) collate "C", alter payment_reference type varchar(128) collate "C";
    alter table foloosi.deliveries alter merchant type varchar(64) collate "C", alter order_ref type varchar(255) collate "C";
    alter table foloosi.rejections alter merchant type varchar(64) collate "C";
    alter table foloosi.paybacks alter merchant type varchar(64) collate "C", alter order_ref type varchar(255) collate "C";
    alter table foloosi.events alter merchant type varchar(64) collate "C", alter order_ref type varchar(255) collate "C";
    alter table foloosi.decisions alter merchant type varchar(64) collate "C", alter order_ref type varchar(255) collate "C";
exception when feature_not_supported then
    raise exception 'a view, rule or trigger of yours names a key of foloosi''s tables: %', sqlerrm
        using hint = 'Drop it, migrate, and make it again. \d+ of the table shows triggers and rules.';
end
$$;

create trigger orders_keep_identity before update of id, merchant, order_ref on foloosi.orders
    for each statement execute function foloosi.keep_identity();
create trigger transactions_keep_identity before update of id, merchant on foloosi.transactions
    for each statement execute function foloosi.keep_identity();

-- 28 bits of hash, then 36 bits of id (68,719,476,736 of them): 8 bytes for what took 60. With the id, because a reference
-- belongs to the transaction that came first with it, and so that is one step into the index, however many have it.
create index transactions_reference_idx on foloosi.transactions
    ((hashtextextended(payment_reference, hashtextextended(merchant, 0)) << 36 | id)) where payment_reference is not null;

alter table foloosi.deliveries add constraint deliveries_pkey primary key using index deliveries_digest_key;
create index deliveries_id_idx on foloosi.deliveries using brin (id) with (pages_per_range = 256, autosummarize = on);

alter table foloosi.orders alter updated_at drop not null, alter updated_at drop default;
comment on column foloosi.orders.updated_at is 'When the row last changed; null: not since it was created.';

drop function if exists foloosi.try_locks(foloosi.element[]), foloosi.decide_and_write(foloosi.element[], boolean), foloosi.decide(foloosi.element[]);
