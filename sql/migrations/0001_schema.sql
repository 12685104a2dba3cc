-- 0001: the tables of schema foloosi, their constraints, and the state machine
-- of an order, which the database itself enforces.
--
-- Conventions
--   * Every row carries its merchant. Keys lead with the selective column, so that
--     no plan can choose to scan "all rows of a merchant".
--   * Ids of orders, transactions, deliveries, paybacks and decisions come from one sequence:
--     a number names one thing in the whole schema, whatever table it is in.
--   * Widths equal the LIMIT_ constants of cgi-src/transfer.h; a test compares them.
--   * Value checks sit in domains: PostgreSQL keeps a domain's checks ready for the
--     session, but reads a table's CHECK anew for every statement.
--   * No foreign keys between the tables of the hot path: only record_deliveries()
--     writes them, in one transaction, and a key check for each row costs more
--     than the row. tests/sql proves the references instead.
--   * Columns stand as one reads them with psql; the fixed-width ones last, where they cost one padding.

create sequence foloosi.id_seq cache 1;
comment on sequence foloosi.id_seq is 'One number space for orders, transactions, deliveries, paybacks and decisions.';

-- ---------------------------------------------------------------- domains

create domain foloosi.amount as numeric
    constraint amount_is_exact_money
    check (value >= 0 and value < 1000000000000 and scale(value) <= 4); -- NaN is not < 10^12
comment on domain foloosi.amount is 'Exact money: at most 12 integer digits and 4 decimals; no sign, no NaN.';

create domain foloosi.currency as text
    constraint currency_is_three_capitals check (value ~ '^[A-Z]{3}$');
comment on domain foloosi.currency is 'ISO 4217 alphabetic code in upper case.';

create domain foloosi.order_state as text
    constraint order_state_is_known check (value in ('pending', 'verifying', 'paid', 'cancelled', 'review'));
comment on domain foloosi.order_state is 'pending, verifying, paid, cancelled or review.';

create domain foloosi.transaction_state as text
    constraint transaction_state_is_known check (value in ('captured', 'failed', 'verifying'));
comment on domain foloosi.transaction_state is 'captured: the provider said success; failed: it said failed; verifying: it said success and is being asked again.';

create domain foloosi.payback_state as text
    constraint payback_state_is_known check (value in ('due', 'check', 'settled'));
comment on domain foloosi.payback_state is 'due: the money must go back; check: it may have to; settled: closed.';

create domain foloosi.outcome as text
    constraint outcome_is_known check (value in ('recorded', 'duplicate', 'ignored', 'review', 'rejected'));
comment on domain foloosi.outcome is 'What became of a delivery.';

create domain foloosi.event_type as text
    constraint event_type_is_known
    check (value in ('order.success', 'order.cancel', 'order.review', 'payback.due', 'payback.check'));
comment on domain foloosi.event_type is 'A fact for the merchant''s systems.';

-- ---------------------------------------------------------------- merchants

create table foloosi.merchants (
    merchant          varchar(64) not null,
    mode              text not null default 'live'   constraint merchants_mode_ck check (mode in ('live', 'test')),
    unknown_orders    text not null default 'accept' constraint merchants_unknown_orders_ck check (unknown_orders in ('accept', 'review')),
    late_success      text not null default 'pay'    constraint merchants_late_success_ck check (late_success in ('pay', 'review')),
    verify            text not null default 'off'    constraint merchants_verify_ck check (verify in ('off', 'callback')),
    rejected_per_hour int not null default 1000      constraint merchants_rejected_per_hour_ck check (rejected_per_hour >= 0),
    created_at        timestamptz not null default now(),
    updated_at        timestamptz not null default now(),
    constraint merchants_pkey primary key (merchant),
    constraint merchants_merchant_ck check (merchant ~ '^[A-Za-z0-9._-]+$')
);
comment on table foloosi.merchants is 'Policy of each merchant: one Foloosi account in one mode. A merchant without a row has all defaults. Written by set_merchant().';
comment on column foloosi.merchants.merchant is 'Its name, as in the configuration file and in the endpoint''s URL.';
comment on column foloosi.merchants.mode is 'live or test. A live merchant does not believe transaction numbers that begin with TEST.';
comment on column foloosi.merchants.unknown_orders is 'A success for an order that nobody registered: accept (paid) or review.';
comment on column foloosi.merchants.late_success is 'A success for an order that a failure cancelled: pay or review.';
comment on column foloosi.merchants.verify is 'off, or callback: a success waits as verifying until the worker has asked the provider.';
comment on column foloosi.merchants.rejected_per_hour is 'How many rejected deliveries are kept with their bytes each hour; the rest is only counted.';
comment on column foloosi.merchants.created_at is 'When the row was made.';
comment on column foloosi.merchants.updated_at is 'When the policy was last set.';

-- ---------------------------------------------------------------- orders

create table foloosi.orders (
    id             bigint not null default nextval('foloosi.id_seq'),
    merchant       varchar(64) not null,
    order_ref      varchar(255) not null constraint orders_order_ref_ck check (order_ref <> ''),
    state          foloosi.order_state not null,
    amount         foloosi.amount,
    currency       foloosi.currency,
    reason         text,
    late           boolean not null default false,
    decided_by     text,
    transaction_id bigint,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    registered_at  timestamptz,
    decided_at     timestamptz,
    constraint orders_pkey primary key (order_ref, merchant)
);
create index orders_waiting_idx on foloosi.orders (id) where state in ('review', 'verifying');
comment on table foloosi.orders is 'What customers buy, one row for each order key of a merchant. The state may only change as orders_state_machine() allows.';
comment on column foloosi.orders.id is 'Number of the order in this schema.';
comment on column foloosi.orders.merchant is 'Whose order it is.';
comment on column foloosi.orders.order_ref is 'The merchant''s own number for it.';
comment on column foloosi.orders.state is 'pending, verifying, paid, cancelled or review.';
comment on column foloosi.orders.amount is 'The expected amount if registered; otherwise the amount of the transaction in transaction_id.';
comment on column foloosi.orders.currency is 'Its currency.';
comment on column foloosi.orders.reason is 'Why it is in review, or late; null: nothing to add.';
comment on column foloosi.orders.late is 'Paid, or put to review, by a success that came after a failure had cancelled it.';
comment on column foloosi.orders.decided_by is 'Database role of the person who decided; null: only webhooks did. A cancelled order with a name here is closed.';
comment on column foloosi.orders.transaction_id is 'The transaction that brought the order into its present state: the one that pays it, cancelled it, or is in question.';
comment on column foloosi.orders.created_at is 'When the order became known.';
comment on column foloosi.orders.updated_at is 'When the row last changed.';
comment on column foloosi.orders.registered_at is 'When register_order() announced it with its expected amount; null: never.';
comment on column foloosi.orders.decided_at is 'When a person last decided its state; null: only webhooks did.';

-- The state machine. It is a trigger, so that it holds for every writer: a wrong
-- UPDATE fails whoever sends it. paid, review and closed (cancelled by a person) are left
-- only by an UPDATE that carries a new decision, and nothing becomes pending again.
create function foloosi.orders_state_machine() returns trigger
language plpgsql set search_path = pg_catalog, foloosi, pg_temp
as $$
declare
    decided boolean := new.decided_by is not null and new.decided_at is not null
                       and new.decided_at is distinct from old.decided_at;
    allowed boolean := case old.state
        when 'pending'   then new.state in ('paid', 'cancelled', 'review', 'verifying')
        when 'verifying' then new.state in ('paid', 'review') or (new.state = 'cancelled' and decided)
        when 'cancelled' then (new.state in ('paid', 'review', 'verifying') and old.decided_by is null)
                              or (new.state = 'paid' and decided)
        when 'review'    then new.state in ('paid', 'cancelled') and decided
        when 'paid'      then new.state in ('cancelled', 'review') and decided
        else false end;
begin
    if not allowed then
        raise exception 'order %: % may not become %', old.id, old.state, new.state
            using errcode = 'check_violation', schema = 'foloosi', table = 'orders',
                  constraint = 'orders_state_machine',
                  hint = 'Use foloosi.resolve_order(merchant, order_ref, state, note) to decide an order.';
    end if;
    return new;
end $$;
comment on function foloosi.orders_state_machine() is 'Trigger: which state of an order may follow which.';

create trigger orders_state_machine before update of state on foloosi.orders
    for each row when (old.state is distinct from new.state)
    execute function foloosi.orders_state_machine();

-- An order begins pending (registered), or as what its first delivery says. It never begins twice,
-- never changes its name, and is never deleted by accident: see also sql/grants.sql.
create function foloosi.keep_identity() returns trigger
language plpgsql set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    raise exception 'foloosi.%: id, merchant and order_ref of a row never change', tg_table_name
        using errcode = 'check_violation', schema = 'foloosi', table = tg_table_name;
end $$;
comment on function foloosi.keep_identity() is 'Trigger: refuses any UPDATE that names an identifying column. It lets operators hold a row (FOR UPDATE needs the privilege) without being able to write.';

create trigger orders_keep_identity before update of id, merchant, order_ref on foloosi.orders
    for each statement execute function foloosi.keep_identity();

-- ---------------------------------------------------------------- transactions

create table foloosi.transactions (
    id                  bigint not null default nextval('foloosi.id_seq'),
    merchant            varchar(64) not null,
    transaction_no      varchar(128),
    payment_reference   varchar(128),
    order_ref           varchar(255),
    state               foloosi.transaction_state not null,
    transaction_status  text not null constraint transactions_transaction_status_ck check (transaction_status in ('success', 'failed')),
    amount              foloosi.amount,
    currency            foloosi.currency,
    transaction_message varchar(1024),
    optional1           varchar(255),
    optional2           varchar(255),
    optional3           varchar(255),
    customer_email      varchar(320),
    customer_mobile     varchar(64),
    card_last_four      varchar(32),
    created_at          timestamptz not null default now(),
    updated_at          timestamptz not null default now(),
    constraint transactions_pkey primary key (id)
);
create unique index transactions_no_key on foloosi.transactions (transaction_no, merchant) where transaction_no is not null;
create index transactions_reference_idx on foloosi.transactions (payment_reference, merchant, id) where payment_reference is not null;
create index transactions_order_idx on foloosi.transactions using hash (order_ref) where order_ref is not null;
create trigger transactions_keep_identity before update of id, merchant on foloosi.transactions
    for each statement execute function foloosi.keep_identity();
comment on table foloosi.transactions is 'Payment attempts at Foloosi, as the provider last described them.';
comment on column foloosi.transactions.id is 'Number of the transaction in this schema.';
comment on column foloosi.transactions.merchant is 'At whose account.';
comment on column foloosi.transactions.transaction_no is 'The provider''s number; null on some failures. Guessable, never a secret.';
comment on column foloosi.transactions.payment_reference is 'The gateway''s reference; null on some failures.';
comment on column foloosi.transactions.order_ref is 'The order that it is for; null: none was named, or the naming waits for a person.';
comment on column foloosi.transactions.state is 'captured, failed or verifying.';
comment on column foloosi.transactions.transaction_status is 'What the provider last said: success or failed. A failed after a success changes nothing here.';
comment on column foloosi.transactions.amount is 'transaction_amount.';
comment on column foloosi.transactions.currency is 'transaction_currency.';
comment on column foloosi.transactions.transaction_message is 'The provider''s words.';
comment on column foloosi.transactions.optional1 is 'The merchant''s own field; by convention the order key.';
comment on column foloosi.transactions.optional2 is 'The merchant''s own field.';
comment on column foloosi.transactions.optional3 is 'The merchant''s own field.';
comment on column foloosi.transactions.customer_email is 'Personal.';
comment on column foloosi.transactions.customer_mobile is 'Personal.';
comment on column foloosi.transactions.card_last_four is 'Personal. Text: leading zeros count.';
comment on column foloosi.transactions.created_at is 'When it became known.';
comment on column foloosi.transactions.updated_at is 'When the row last changed.';

-- ---------------------------------------------------------------- deliveries and their bytes

create table foloosi.deliveries (
    id                 bigint not null default nextval('foloosi.id_seq'),
    merchant           varchar(64) not null,
    outcome            foloosi.outcome not null,
    reason             text,
    order_ref          varchar(255),
    order_state        text,
    order_state_before text,
    order_moved        boolean not null default false,
    attention          boolean not null default false,
    rule               smallint,
    repeats            int not null default 0,
    transaction_id     bigint,
    created_at         timestamptz not null default now(),
    last_seen_at       timestamptz,
    digest             bytea not null,
    source             text,
    detail             text,
    constraint deliveries_pkey primary key (id)
);
create unique index deliveries_digest_key on foloosi.deliveries (digest, merchant);
create index deliveries_attention_idx on foloosi.deliveries (id) where attention;
comment on table foloosi.deliveries is 'The ledger of what arrived, one row for each distinct body of a merchant: what makes a repeat a repeat. Small, not partitioned, never purged; the bytes are in foloosi.bodies.';
comment on column foloosi.deliveries.id is 'Number of the delivery in this schema.';
comment on column foloosi.deliveries.merchant is 'At whose endpoint it arrived.';
comment on column foloosi.deliveries.outcome is 'What became of it: recorded, duplicate, ignored, review or rejected.';
comment on column foloosi.deliveries.reason is 'Why, in one word; null: nothing to add.';
comment on column foloosi.deliveries.order_ref is 'The order that it names, or that its transaction belongs to.';
comment on column foloosi.deliveries.order_state is 'State of the order after it; null: no such order.';
comment on column foloosi.deliveries.order_state_before is 'State of the order before it moved it; null: it created it, or did not move it.';
comment on column foloosi.deliveries.order_moved is 'It created its order or changed its state.';
comment on column foloosi.deliveries.attention is 'Waits for a person by itself, until dismiss_attention() or assign_transaction().';
comment on column foloosi.deliveries.rule is 'The row of the order rules that decided (README, "Order rules"); 0: none, it was rejected; 19: one reference under two numbers; null: the database refused it.';
comment on column foloosi.deliveries.repeats is 'How often its bytes came again.';
comment on column foloosi.deliveries.transaction_id is 'The transaction that it speaks of; null: none is known.';
comment on column foloosi.deliveries.created_at is 'When it was first recorded.';
comment on column foloosi.deliveries.last_seen_at is 'When its bytes last came again; null: never.';
comment on column foloosi.deliveries.digest is 'The first 16 bytes of the SHA-256 of its bytes: half the index, and a collision still takes 2^64 work by somebody who holds the token.';
comment on column foloosi.deliveries.source is 'How it came if not as a webhook: spool, reconcile, replay, or psql and the role of the person.';
comment on column foloosi.deliveries.detail is 'The faults of a rejected one, the difference of one in review, or the error that refused it.';

create table foloosi.bodies (
    delivery_id bigint not null,
    created_at  timestamptz not null default now(),
    body        bytea not null
) partition by range (created_at);
create index bodies_delivery_idx on foloosi.bodies using brin (delivery_id);
comment on table foloosi.bodies is 'The raw bytes of deliveries, partitioned by month so that retention can drop them whole. create_partitions() makes the months ahead.';
comment on column foloosi.bodies.delivery_id is 'Whose bytes (foloosi.deliveries.id). Ascending in time, so a block range index finds it.';
comment on column foloosi.bodies.created_at is 'When they were stored; the same as the delivery''s for the first time.';
comment on column foloosi.bodies.body is 'The bytes as they arrived.';

-- What no month has been made for: nothing may be lost because somebody forgot.
create table foloosi.bodies_default partition of foloosi.bodies default;
comment on table foloosi.bodies_default is 'Bytes of a month that create_partitions() was not run for.';
comment on column foloosi.bodies_default.delivery_id is 'As in foloosi.bodies.';
comment on column foloosi.bodies_default.created_at is 'As in foloosi.bodies.';
comment on column foloosi.bodies_default.body is 'As in foloosi.bodies.';

create table foloosi.rejections (
    merchant varchar(64) not null,
    hour     timestamptz not null,
    kept     int not null default 0,
    dropped  int not null default 0,
    constraint rejections_pkey primary key (merchant, hour)
);
comment on table foloosi.rejections is 'Rejected deliveries of each merchant and hour: a leaked token fills no disk.';
comment on column foloosi.rejections.merchant is 'Whose endpoint.';
comment on column foloosi.rejections.hour is 'Beginning of the hour.';
comment on column foloosi.rejections.kept is 'How many were kept with their bytes, up to the merchant''s rejected_per_hour.';
comment on column foloosi.rejections.dropped is 'How many were only counted.';

-- ---------------------------------------------------------------- events and paybacks

create table foloosi.paybacks (
    id             bigint not null default nextval('foloosi.id_seq'),
    merchant       varchar(64) not null,
    order_ref      varchar(255),
    state          foloosi.payback_state not null,
    reason         text not null,
    amount         foloosi.amount,
    currency       foloosi.currency,
    transaction_id bigint not null,
    settled_by     text,
    note           text,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    settled_at     timestamptz,
    constraint paybacks_pkey primary key (id),
    constraint paybacks_transaction_fkey foreign key (transaction_id) references foloosi.transactions (id),
    constraint paybacks_settled_ck check ((state = 'settled') = (settled_at is not null))
);
create unique index paybacks_open_key on foloosi.paybacks (transaction_id) where state in ('due', 'check');
create index paybacks_transaction_idx on foloosi.paybacks (transaction_id);
comment on table foloosi.paybacks is 'Cases in which a transaction''s money must, or may have to, go back. At most one open case for each transaction.';
comment on column foloosi.paybacks.id is 'Number of the case in this schema.';
comment on column foloosi.paybacks.merchant is 'At whose account.';
comment on column foloosi.paybacks.order_ref is 'The order that the transaction was for; null: none.';
comment on column foloosi.paybacks.state is 'due, check or settled.';
comment on column foloosi.paybacks.reason is 'double_payment, order_closed, status_contradiction; or withdrawn: the order was paid after all.';
comment on column foloosi.paybacks.amount is 'How much, as captured.';
comment on column foloosi.paybacks.currency is 'In which currency.';
comment on column foloosi.paybacks.transaction_id is 'Whose money.';
comment on column foloosi.paybacks.settled_by is 'Database role that closed it; null: a refund delivery did, or it is open.';
comment on column foloosi.paybacks.note is 'What the person wrote.';
comment on column foloosi.paybacks.created_at is 'When the case was opened.';
comment on column foloosi.paybacks.updated_at is 'When it last changed.';
comment on column foloosi.paybacks.settled_at is 'When it was closed.';

create table foloosi.events (
    id             bigint not null generated always as identity,
    merchant       varchar(64) not null,
    type           foloosi.event_type not null,
    order_ref      varchar(255),
    reason         text,
    transaction_id bigint,
    payback_id     bigint,
    created_at     timestamptz not null default now(),
    constraint events_pkey primary key (id)
);
comment on table foloosi.events is 'Facts for the merchant''s systems, written in the transaction that made them true. event_payload(events) gives the Standard Webhooks payload.';
comment on column foloosi.events.id is 'Ascending; of one order, in the order of what happened.';
comment on column foloosi.events.merchant is 'Whose systems.';
comment on column foloosi.events.type is 'order.success, order.cancel, order.review, payback.due or payback.check.';
comment on column foloosi.events.order_ref is 'The order concerned; null: a success that names none.';
comment on column foloosi.events.reason is 'Why, in one word; null: nothing to add.';
comment on column foloosi.events.transaction_id is 'The transaction concerned; null: none.';
comment on column foloosi.events.payback_id is 'The payback concerned; null: none.';
comment on column foloosi.events.created_at is 'When it became true.';

-- ---------------------------------------------------------------- decisions

create table foloosi.decisions (
    id                 bigint not null default nextval('foloosi.id_seq'),
    merchant           varchar(64) not null,
    action             text not null constraint decisions_action_ck check (action in ('register', 'resolve', 'assign', 'settle', 'dismiss', 'verify')),
    subject_id         bigint not null,
    order_ref          varchar(255),
    order_state        text,
    order_state_before text,
    order_moved        boolean not null default false,
    decided_by         text not null,
    note               text,
    created_at         timestamptz not null default now(),
    constraint decisions_pkey primary key (id)
);
create index decisions_order_idx on foloosi.decisions (order_ref, merchant);
comment on table foloosi.decisions is 'What persons (or the merchant''s shop) did through this schema''s functions.';
comment on column foloosi.decisions.id is 'Number of the decision in this schema.';
comment on column foloosi.decisions.merchant is 'Of which merchant.';
comment on column foloosi.decisions.action is 'register, resolve, assign, settle, dismiss or verify.';
comment on column foloosi.decisions.subject_id is 'What it was about: id of an order, transaction, delivery or payback.';
comment on column foloosi.decisions.order_ref is 'The order concerned; null: none.';
comment on column foloosi.decisions.order_state is 'State of the order after; null: no order is concerned.';
comment on column foloosi.decisions.order_state_before is 'State of the order before; null: it created it, or did not move it.';
comment on column foloosi.decisions.order_moved is 'It created the order or changed its state.';
comment on column foloosi.decisions.decided_by is 'Database role of the person.';
comment on column foloosi.decisions.note is 'What the person wrote.';
comment on column foloosi.decisions.created_at is 'When.';

-- ---------------------------------------------------------------- one delivery under way

-- A row of a batch, between the functions of record_deliveries(): first what arrived,
-- then what was decided.
create type foloosi.element as (
    i                   int,      -- position in the batch, from 1
    ordinal             int,      -- the caller's own number for it
    merchant            text,
    order_ref           text,     -- as the delivery names it
    digest              bytea,    -- 16 bytes
    fault               text,     -- not null: rejected by the handler
    source              text,
    status              text,
    transaction_no      text,
    payment_reference   text,
    amount              numeric,
    currency            text,
    message             text,
    optional1           text,
    optional2           text,
    optional3           text,
    email               text,
    mobile              text,
    card                text,
    assigned            bigint,   -- a person gives this transaction its order: rows 10-18 only
    keys                bigint[], -- locks that it needs; elements that share one are relatives
    own_order_ref       text,     -- it names no order, but its known transaction has this one
    -- decided
    rule                smallint,
    outcome             text,
    reason              text,
    detail              text,
    attention           boolean,
    merchant_known      boolean,
    delivery_id         bigint,
    delivery_new        boolean,
    transaction_id      bigint,
    transaction_write   text,     -- insert, update, learn; null: nothing
    transaction_state   text,
    transaction_order   text,     -- the order that the transaction gets; null: none
    order_named         text,     -- the order that the answer speaks of
    order_write         text,     -- insert, update; null: nothing
    order_state_before  text,
    order_state         text,
    order_amount        numeric,
    order_currency      text,
    order_late          boolean,
    payback_write       text,     -- due, check: open; hold: due becomes check; settle
    payback_id          bigint,
    event               text
);
comment on type foloosi.element is 'One delivery of a batch on its way through record_deliveries(): what arrived and what was decided.';
