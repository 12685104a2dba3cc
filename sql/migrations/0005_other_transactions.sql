-- 0005: an order's transactions are found without an index over all transactions.
--
-- Nearly every order has one transaction, and names it. So only the others need to be listed:
-- foloosi.transactions_of(merchant, order_ref) reads both. That is 30 bytes on disk, 90 bytes of WAL and one random index
-- page less for each payment.

-- Deliveries wait until all is done: one that came between the copy below and the new functions would be listed nowhere.
lock table foloosi.transactions, foloosi.orders in access exclusive mode;

create table foloosi.other_transactions (
    order_ref      varchar(255) collate "C" not null,
    merchant       varchar(64) collate "C" not null,
    transaction_id bigint not null,
    constraint other_transactions_pkey primary key (order_ref, merchant, transaction_id)
);
comment on table foloosi.other_transactions is 'Transactions of an order beyond the one in its transaction_id. A transaction that has an order is named by the order or listed here; one may be both. Read it through transactions_of().';
comment on column foloosi.other_transactions.order_ref is 'The order.';
comment on column foloosi.other_transactions.merchant is 'Whose order it is.';
comment on column foloosi.other_transactions.transaction_id is 'The transaction (foloosi.transactions.id).';

insert into foloosi.other_transactions (order_ref, merchant, transaction_id)
select t.order_ref, t.merchant, t.id
from foloosi.transactions t left join foloosi.orders o on o.order_ref = t.order_ref and o.merchant = t.merchant
where t.order_ref is not null and o.transaction_id is distinct from t.id;

drop index foloosi.transactions_order_idx;

-- An order that turns to another transaction must not lose the one that it named. A trigger, so that it holds
-- for whoever writes.
create function foloosi.list_other_transaction() returns trigger
language plpgsql set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    insert into foloosi.other_transactions (order_ref, merchant, transaction_id)
    values (old.order_ref, old.merchant, old.transaction_id) on conflict do nothing;
    return null;
end $$;
comment on function foloosi.list_other_transaction() is 'Trigger: the transaction that an order no longer names stays among its transactions. Tables: other_transactions (written).';
create trigger orders_list_other_transaction after update of transaction_id on foloosi.orders
    for each row when (old.transaction_id is distinct from new.transaction_id and old.transaction_id is not null)
    execute function foloosi.list_other_transaction();
