-- SPDX-License-Identifier: MIT
-- 0013: less work for each payment.
--
--   * deliveries has one block range index instead of two. One costs a row about as much as a look into a b-tree.
--   * Conditions of partial indexes are short: each statement that writes to a table prepares those of all its indexes.
--   * The two tables that each payment writes have no CHECK: each statement reads those of its table from their text and
--     prepares them anew, which is a twentieth of PostgreSQL's CPU. Value checks of these tables sit in domains; what two
--     of them said, record_deliveries() and the functions of persons see to, and nothing else may write there.
--   * The fields of foloosi.element stand in the order in which the steps read them: to reach one, PostgreSQL
--     walks over all before it.

drop index foloosi.deliveries_id_idx, foloosi.deliveries_order_idx;
create index deliveries_order_idx on foloosi.deliveries
    using brin (order_ref text_bloom_ops (n_distinct_per_range = 950), id) with (pages_per_range = 16, autosummarize = on);
-- no summary of pages that are being filled: see 0009
select brin_desummarize_range('foloosi.deliveries_order_idx'::regclass,
    greatest(0, pg_relation_size('foloosi.deliveries') / current_setting('block_size')::int - 1));

-- of what waits for a person, by its transaction, and by its order for cancel_due()
drop index foloosi.deliveries_attention_transaction_idx, foloosi.deliveries_kept_idx;
create index deliveries_attention_transaction_idx on foloosi.deliveries (transaction_id) where attention;
create index deliveries_kept_idx on foloosi.deliveries (order_ref, merchant) where attention;

-- orders that time is to cancel, and those that wait for a person or the worker
drop index foloosi.orders_cancel_idx, foloosi.orders_waiting_idx;
create index orders_waiting_idx on foloosi.orders (cancel_at, id) where cancel_at is not null or state in ('review', 'verifying');

-- A refund may have another reference than its transaction, which captured nothing, and which no transaction has yet.
alter table foloosi.refunds add awaits_reference boolean default false not null;
comment on column foloosi.refunds.awaits_reference is 'No transaction has its payment_reference yet.';
create index refunds_awaits_reference_idx on foloosi.refunds (payment_reference, merchant) where awaits_reference;
update foloosi.refunds r set awaits_reference = true
where r.payment_reference is not null
  and not exists (select from foloosi.transactions t where t.payment_reference = r.payment_reference and t.merchant = r.merchant);

alter table foloosi.transactions drop constraint transactions_transaction_status_ck; -- success, failed or refund
alter table foloosi.orders drop constraint orders_order_ref_ck; -- not empty

drop type foloosi.element cascade; -- with the functions that take one: they are made anew after each migration
create type foloosi.element as (
    i                  int,              -- position in the batch, from 1
    ordinal            int,              -- the caller's own number for it
    merchant           text collate "C",
    -- decided: what the answer says
    outcome            text collate "C",
    reason             text collate "C",
    order_named        text collate "C", -- the order that the answer speaks of
    order_state        text collate "C",
    delivery_id        bigint,
    delivery_new       boolean,
    merchant_known     boolean,
    -- as it arrived
    order_ref          text collate "C", -- as the delivery names it
    digest             bytea,            -- 16 bytes
    transaction_no     text collate "C",
    payment_reference  text collate "C",
    keys               bigint[],         -- locks that it needs; elements that share one are related
    fault              text collate "C", -- not null: rejected by the handler
    status             text collate "C",
    source             text collate "C",
    currency           text collate "C",
    amount             numeric,
    -- decided: what is written
    event              text collate "C",
    transaction_id     bigint,
    transaction_order  text collate "C", -- the order that the transaction gets; null: none
    transaction_write  text collate "C", -- insert, update, learn; null: nothing
    transaction_state  text collate "C",
    order_write        text collate "C", -- insert, update; null: nothing
    order_state_before text collate "C",
    order_amount       numeric,
    order_currency     text collate "C",
    order_late         boolean,
    order_cancel_at    timestamptz,
    rule               smallint,
    detail             text collate "C",
    attention          boolean,
    assigned           bigint,           -- this transaction was given its order, or captured, afterwards: rows 10-18, 24 to 26 only
    order_withheld     boolean,
    message            text collate "C",
    optional1          text collate "C",
    optional2          text collate "C",
    optional3          text collate "C",
    email              text collate "C",
    mobile             text collate "C",
    card               text collate "C",
    -- what few have
    order_key          text collate "C", -- a refund's order key, which decides nothing
    own_order_ref      text collate "C", -- it names no order, but its known transaction has this one
    contradicted       boolean,          -- rows 6 and 7
    refund             text collate "C", -- it says a refund: counted or doubted; null: it does not
    other              boolean,          -- its transaction is one more of its order, or a refund of what is unknown that names it
    renewal            boolean,
    align              boolean,          -- what is known of its order's money changes: align_orders()
    payback            text collate "C"  -- the reason for a payback of the transaction, if it has one
);
comment on type foloosi.element is 'One delivery of a batch on its way through record_deliveries(): what arrived and what was decided.';
