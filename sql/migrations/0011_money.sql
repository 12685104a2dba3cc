-- SPDX-License-Identifier: MIT
-- 0011: where the money is. Refunds are rows, orders can be refunded, and time cancels.
--
-- Deliveries wait until all is done: what one wrote between the statements below and the new functions
-- would follow the old rules.

lock table foloosi.transactions, foloosi.orders, foloosi.deliveries, foloosi.paybacks in access exclusive mode;

-- the functions of the delivery path have new arguments and a new row type
drop type foloosi.element, foloosi.facts cascade;
drop function if exists foloosi.record_deliveries(int[], text[], text[], bytea[], bytea[], text[], text[], text[], text[], text[], numeric[],
    text[], text[], text[], text[], text[], text[], text[], text[]);
drop function if exists foloosi.register_order(text, text, numeric, text), foloosi.resolve_order(text, text, text, text),
    foloosi.assign_transaction(bigint, text, text), foloosi.open_paybacks(text, text, bigint, text),
    foloosi.money_went_back(foloosi.paybacks), foloosi.reference_owner(text, text),
    foloosi.replay_transfer(bigint, text, text, text, text, numeric, text, text, text, text, text, text, text, text),
    foloosi.explain_delivery(text, text, text, text, text, numeric, text, text, text, text, text, text, text, text, bytea, text, boolean),
    foloosi.set_merchant(text, text, text, text, text, interval), foloosi.verify_transaction(bigint, text, numeric, text, text),
    foloosi.next_mails(text, int, interval), foloosi.begin_reconciliation(text, date, date),
    foloosi.record_reconciled(bigint, text[], text[], numeric[], text[], text[], text[]);

-- ---------------------------------------------------------------- domains

alter domain foloosi.order_state drop constraint order_state_is_known;
alter domain foloosi.order_state add constraint order_state_is_known
    check (value in ('pending', 'verifying', 'paid', 'refunded', 'cancelled', 'review'));
comment on domain foloosi.order_state is 'pending, verifying, paid, refunded, cancelled or review.';

alter domain foloosi.transaction_state drop constraint transaction_state_is_known;
alter domain foloosi.transaction_state add constraint transaction_state_is_known
    check (value in ('captured', 'failed', 'verifying', 'denied', 'unknown', 'test'));
comment on domain foloosi.transaction_state is 'captured: the provider said success; failed: it said failed; verifying: it said success and is being asked; denied: asked, it said something else; unknown: only refunds of it are known; test: a test number at a live merchant.';

alter domain foloosi.event_type drop constraint event_type_is_known;
alter domain foloosi.event_type add constraint event_type_is_known
    check (value in ('order.success', 'order.cancel', 'order.refund', 'order.review', 'payback.due', 'payback.check'));

-- ---------------------------------------------------------------- the clock

create function foloosi.clock() returns timestamptz language sql stable parallel safe as 'select pg_catalog.now()';
comment on function foloosi.clock() is 'The time by which orders are cancelled and renewals are told from repeats. Tests replace it as owner.';

-- ---------------------------------------------------------------- merchants

alter table foloosi.merchants
    add column second_payment text not null default 'due' constraint merchants_second_payment_ck check (second_payment in ('due', 'check')),
    add column cancel_after interval not null default '0' constraint merchants_cancel_after_ck check (cancel_after >= '0'),
    add column expire_after interval constraint merchants_expire_after_ck check (expire_after > '0'),
    add column recurring text[] not null default '{FLSSUB_}'
        constraint merchants_recurring_ck check (array_position(recurring, null) is null and '' <> all (recurring)),
    add column renewal_gap interval not null default '1 day' constraint merchants_renewal_gap_ck check (renewal_gap >= '0'),
    add column time_zone text not null default 'UTC';
comment on column foloosi.merchants.second_payment is 'The payback of a second payment of a paid order: due, or check: a person looks first.';
comment on column foloosi.merchants.cancel_after is 'How long a failed payment leaves its order pending before it is cancelled; 0: it is cancelled at once.';
comment on column foloosi.merchants.expire_after is 'How long a registered order may stay unpaid before it is cancelled; null: for ever.';
comment on column foloosi.merchants.recurring is 'Prefixes of order keys that name a subscription: each of its payments pays a period of its own.';
comment on column foloosi.merchants.renewal_gap is 'Two payments of a subscription within this time are a repeat, not a renewal.';
comment on column foloosi.merchants.time_zone is 'In which days and times are shown (IANA name).';

-- ---------------------------------------------------------------- orders

alter table foloosi.orders
    add column refunded numeric,
    add column money_left numeric,
    add column cancel_at timestamptz;
create index orders_cancel_idx on foloosi.orders (cancel_at) where state = 'pending' and cancel_at is not null;
comment on column foloosi.orders.state is 'pending, verifying, paid, refunded, cancelled or review.';
comment on column foloosi.orders.refunded is 'How much of its captured money, in its currency, is known to have gone back; null: no refund is known.';
comment on column foloosi.orders.money_left is 'How much of its captured money, in its currency, is here: captured less refunded; null: none was captured.';
comment on column foloosi.orders.cancel_at is 'When cancel_due() cancels it if it is still pending; null: time does not.';

-- paid, review and closed (cancelled by a person) are left by an UPDATE that carries a new decision, paid and review also
-- when the money has gone back, which the trigger looks up; refunded also when there is money again.
create or replace function foloosi.orders_state_machine() returns trigger
language plpgsql set search_path = pg_catalog, foloosi, pg_temp
as $$
declare
    decided boolean := new.decided_by is not null and new.decided_at is not null
                       and new.decided_at is distinct from old.decided_at;
    allowed boolean := case old.state
        when 'pending'   then new.state in ('paid', 'cancelled', 'review', 'verifying')
        when 'verifying' then new.state in ('paid', 'review') or (new.state = 'cancelled' and decided)
                              or new.state = 'refunded' and foloosi.money_is_gone(old.transaction_id)
        when 'cancelled' then (new.state in ('paid', 'review', 'verifying') and old.decided_by is null)
                              or (new.state = 'paid' and decided)
        when 'review'    then new.state in ('paid', 'cancelled') and decided
                              or new.state = 'refunded' and not foloosi.money_is_left(old.merchant, old.order_ref)
                              or new.state = 'verifying' and old.reason = 'unknown_order' and decided
        when 'paid'      then new.state in ('cancelled', 'review') and decided
                              or new.state = 'refunded' and not foloosi.money_is_left(old.merchant, old.order_ref)
                              or new.state = 'review' and foloosi.money_is_gone(old.transaction_id)
        when 'refunded'  then new.state in ('paid', 'cancelled') and decided
                              or new.state = 'review' and (decided or foloosi.may_pay(new.transaction_id)
                                                               or foloosi.money_is_left(old.merchant, old.order_ref))
        else false end;
begin
    if allowed is not true then
        raise exception 'order %: % may not become %', old.id, old.state, new.state
            using errcode = 'check_violation', schema = 'foloosi', table = 'orders',
                  constraint = 'orders_state_machine',
                  hint = 'Use foloosi.resolve_order(merchant, order_ref, state, note) to decide an order.';
    end if;
    return new;
end $$;

-- ---------------------------------------------------------------- transactions

alter table foloosi.transactions
    drop constraint transactions_transaction_status_ck,
    add constraint transactions_transaction_status_ck check (transaction_status in ('success', 'failed', 'refund')),
    alter column created_at set default foloosi.clock(),
    add column captured_at timestamptz,
    add column refunded numeric,
    add column money_left numeric generated always as
        (case when state = 'captured' then greatest(amount::numeric - coalesce(refunded, 0), 0) end) stored,
    add column contradicted boolean not null default false,
    add column order_withheld boolean not null default false;
comment on column foloosi.transactions.state is 'captured, failed, verifying, denied, unknown or test.';
comment on column foloosi.transactions.transaction_status is 'What the provider last said: success, failed, or refund if nothing else is known. A failed after a success changes nothing here.';
comment on column foloosi.transactions.captured_at is 'When it was captured; null: when it became known, or nothing was captured.';
comment on column foloosi.transactions.refunded is 'How much of its captured money is known to have gone back, computed anew with each refund; null: no refund is known, or nothing was captured.';
comment on column foloosi.transactions.money_left is 'How much of its captured money is here: amount less refunded; null: nothing was captured.';
comment on column foloosi.transactions.contradicted is 'The provider contradicted itself (rows 6 and 7 of the order rules): its paybacks are for a person to check.';
comment on column foloosi.transactions.order_withheld is 'Row 3, 4 or 19 left it without an order: only a person gives it one.';
create index transactions_verifying_idx on foloosi.transactions (id) where state = 'verifying';

-- 27 bits of a hash with a seed that no sender knows, then whether it is not captured, then 36 bits of id: of those that share a
-- reference the captured one comes first, then the oldest, and one step into the index finds it.
alter sequence foloosi.id_seq maxvalue 68719476735;
do $$
begin
    execute format($f$
        create function foloosi.reference_key(reference text, merchant text, captured boolean, id bigint) returns bigint
        language sql immutable parallel safe
        as 'select hashtextextended($1, hashtextextended($2, %s)) << 37 | case when $3 then 0 else 68719476736 end | $4'
        $f$, ('x' || substr(md5(gen_random_uuid()::text), 1, 16))::bit(64)::bigint);
end $$;
comment on function foloosi.reference_key(text, text, boolean, bigint) is
'The key of transactions_reference_idx. Parameters: payment reference, merchant, is it captured, id. Its seed was drawn when this database was migrated, so that nobody outside can make references that collide.';
drop index foloosi.transactions_reference_idx;
create index transactions_reference_idx on foloosi.transactions
    (foloosi.reference_key(payment_reference, merchant, state = 'captured', id)) where payment_reference is not null;

alter table foloosi.other_transactions add column renewal boolean not null default false;
comment on column foloosi.other_transactions.renewal is 'It pays a further period of a subscription (row 26).';

-- ---------------------------------------------------------------- refunds

create table foloosi.refunds (
    id                bigint not null default nextval('foloosi.id_seq'),
    merchant          varchar(64) collate "C" not null,
    transaction_id    bigint not null,
    delivery_id       bigint,
    order_named       varchar(255) collate "C",
    payment_reference varchar(128) collate "C",
    amount            foloosi.amount,
    currency          foloosi.currency,
    source            text not null constraint refunds_source_ck check (source in ('delivery', 'provider', 'person')),
    believed          boolean not null default true,
    said_by           text,
    note              text,
    created_at        timestamptz not null default now(),
    undone_at         timestamptz,
    constraint refunds_pkey primary key (id),
    constraint refunds_transaction_fkey foreign key (transaction_id) references foloosi.transactions (id),
    constraint refunds_person_ck check ((source = 'person') = (said_by is not null))
);
create index refunds_transaction_idx on foloosi.refunds (transaction_id);
create index refunds_unbelieved_idx on foloosi.refunds (transaction_id) where not believed and undone_at is null;
create index refunds_order_idx on foloosi.refunds (order_named, merchant) where order_named is not null;
create index refunds_reference_idx on foloosi.refunds (payment_reference, merchant) where payment_reference is not null;
comment on table foloosi.refunds is 'What was said to have gone back, one row for each refund that was said; what it amounts to is in transactions.refunded.';
comment on column foloosi.refunds.id is 'Number of the refund in this schema.';
comment on column foloosi.refunds.merchant is 'At whose account.';
comment on column foloosi.refunds.transaction_id is 'Of which transaction.';
comment on column foloosi.refunds.delivery_id is 'The delivery that said so; null: none did.';
comment on column foloosi.refunds.order_named is 'The order key of that delivery, which decides nothing; null: none.';
comment on column foloosi.refunds.payment_reference is 'The payment reference of that delivery; null: none.';
comment on column foloosi.refunds.amount is 'How much; null: not said, which means all.';
comment on column foloosi.refunds.currency is 'Its currency.';
comment on column foloosi.refunds.source is 'delivery, provider: its answer to a question, or person.';
comment on column foloosi.refunds.believed is 'It counts; false: it waits for the provider''s word, or that says too little.';
comment on column foloosi.refunds.said_by is 'Database role of the person; null: no person.';
comment on column foloosi.refunds.note is 'What the person wrote.';
comment on column foloosi.refunds.created_at is 'When it was said.';
comment on column foloosi.refunds.undone_at is 'When the person took it back; null: it holds.';

-- ---------------------------------------------------------------- paybacks, decisions

comment on column foloosi.paybacks.reason is 'double_payment, order_closed, status_contradiction, captured_though_failed, renewal; or withdrawn: nothing has to go back.';
comment on column foloosi.paybacks.amount is 'How much has to go back: what was left of the transaction when it was last looked at.';
comment on column foloosi.paybacks.settled_by is 'Database role of the person who closed it; null: a refund did, or it is open.';
alter table foloosi.decisions drop constraint decisions_action_ck;
alter table foloosi.decisions add constraint decisions_action_ck check (action in
    ('register', 'resolve', 'assign', 'unassign', 'settle', 'withdraw', 'reopen', 'refund', 'dismiss', 'verify', 'cancel', 'migrate'));
comment on column foloosi.decisions.action is 'register, resolve, assign, unassign, settle, withdraw, reopen, refund, dismiss; verify: the provider''s word; cancel: time; migrate: an upgrade.';

-- ---------------------------------------------------------------- time

create table foloosi.cancellation (
    one        boolean not null default true constraint cancellation_one_ck check (one),
    ran_at     timestamptz,
    held_until timestamptz,
    spooled_at timestamptz,
    constraint cancellation_pkey primary key (one)
);
comment on table foloosi.cancellation is 'When cancel_due() last ran, and until when it cancels nothing: one row.';
comment on column foloosi.cancellation.one is 'There is one row.';
comment on column foloosi.cancellation.ran_at is 'When cancel_due() was last called; null: never.';
comment on column foloosi.cancellation.held_until is 'Until then it cancels nothing, because payments may have waited elsewhere; null: it does.';
comment on column foloosi.cancellation.spooled_at is 'When deliveries last came from a spool, to the minute; null: never.';
insert into foloosi.cancellation default values;

alter table foloosi.reconciliations add column covers_from date;
comment on column foloosi.reconciliations.covers_from is 'All days from this one to its beginning were read, by it and those before it, and nothing was unclear; null: not so, or it is not finished.';
create index reconciliations_merchant_idx on foloosi.reconciliations (merchant, created_at);
comment on table foloosi.reconciliations is 'Each run of foloosi-worker through a merchant''s list at the provider: its position, and its result. Those that found nothing go after two days.';
comment on table foloosi.reconciled is 'What a reconciliation found, one row a transaction. Those that matched go with its end, the others with their run.';

-- ---------------------------------------------------------------- one delivery under way

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
    order_key           text,     -- a refund's order key, which decides nothing
    assigned            bigint,   -- this transaction was given its order, or captured, afterwards: rows 10-18, 25, 26 only
    keys                bigint[], -- locks that it needs; elements that share one are related
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
    order_withheld      boolean,
    contradicted        boolean,  -- rows 6 and 7
    refund              text,     -- it says a refund: counted or doubted; null: it does not
    order_named         text,     -- the order that the answer speaks of
    order_write         text,     -- insert, update; null: nothing
    order_state_before  text,
    order_state         text,
    order_amount        numeric,
    order_currency      text,
    order_late          boolean,
    order_cancel_at     timestamptz,
    other               boolean,  -- the transaction is one more of its order
    renewal             boolean,
    align               boolean,  -- what is known of its order's money changes: align_orders()
    payback             text,     -- the reason for a payback of the transaction, if it has one
    event               text
);
comment on type foloosi.element is 'One delivery of a batch on its way through record_deliveries(): what arrived and what was decided.';

create type foloosi.facts as (
    -- its bytes
    d_id         bigint,
    d_outcome    text,
    replayed     boolean, -- it comes again because a person wants a failed hook tried again
    -- its transaction
    t_id         bigint,
    t_order_ref  text,
    t_state      text,
    t_status     text,
    t_amount     numeric,
    t_currency   text,
    t_withheld   boolean,
    t_whole      boolean, -- wholly refunded, if this success counts as captured
    t_doubt      boolean, -- a refund was said that is not plainly the whole, of it, its order or its reference
    t_said       numeric, -- refunded, as a person said; null: no person did
    conflict     text,    -- its payment reference belongs to another transaction: reference_conflict, one_or_two; null: no
    learns       boolean, -- it has a number or reference that the transaction lacks
    -- its order
    order_known  text,    -- the order that it concerns, if the tables know better than it says
    o_state      text,
    o_amount     numeric,
    o_currency   text,
    o_registered boolean,
    o_closed     boolean,
    o_cancel_at  timestamptz,
    o_renewed_at timestamptz -- when it was last paid
);
comment on type foloosi.facts is 'What the tables know of one delivery before decide() applies the rules; all null: nothing.';

-- An order that is to be brought in line with its money.
create type foloosi.alignment as (
    merchant       text,
    order_ref      text,
    transaction_id bigint,  -- of what the fact speaks; it pays now, if it can
    payback        text,    -- the reason if that transaction needs a payback
    note           text     -- of the person, or the provider's word
);
comment on type foloosi.alignment is 'An order that align_orders() is to bring in line with its money.';

-- What is known of one captured transaction of an order.
create type foloosi.money as (
    merchant       text,
    order_ref      text,
    transaction_id bigint,
    amount         numeric,
    currency       text,
    refunded       numeric,
    money_left     numeric,
    may_pay        boolean, -- it has money left; zero counts until it is refunded
    doubtful       boolean, -- something said of it is not certain
    refund_doubt   boolean, -- that is a refund
    renewal        boolean  -- it pays a further period
);
comment on type foloosi.money is 'One captured transaction of an order: money_of().';

-- What an order is to become.
create type foloosi.plan as (
    merchant       text,
    order_ref      text,
    acting         bigint, -- the transaction of which the fact speaks
    payback        text,   -- the reason if that needs a payback
    note           text,
    state_before   text,
    state          text,
    payer          bigint,
    amount         numeric,
    currency       text,
    reason         text,
    event          text,
    event_reason   text,
    refunded       numeric,
    money_left     numeric,
    closed         boolean, -- cancelled by a person
    recurring      boolean,
    second_payment text,
    doubtful       boolean, -- one of its captured transactions is
    money          foloosi.money[]
);
comment on type foloosi.plan is 'What align_orders() is about to make of an order.';
