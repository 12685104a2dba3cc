-- SPDX-License-Identifier: MIT
-- 0011: where the money is. Refunds are rows, orders can be refunded, and time cancels.
--
-- Deliveries wait until all is done: what one wrote between the statements below and the new functions
-- would follow the old rules. That takes long where there are many payments: transactions and orders are rewritten
-- with their indexes.

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
    foloosi.rows_of_delivery(text, bytea, text, bigint, bigint, bigint),
    foloosi.set_merchant(text, text, text, text, text, interval), foloosi.verify_transaction(bigint, text, numeric, text, text),
    foloosi.next_mails(text, int, interval), foloosi.begin_reconciliation(text, date, date),
    foloosi.record_reconciled(bigint, text[], text[], numeric[], text[], text[], text[]),
    foloosi.settle_events(text, bigint[], int[], text[], boolean[], int[], int[], text[]); -- a parameter has another name

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
comment on column foloosi.merchants.time_zone is 'In which days and times are to be shown to people (IANA name). For later: nothing reads it yet.';

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

drop index foloosi.transactions_reference_idx; -- made anew below
alter table foloosi.transactions
    drop constraint transactions_transaction_status_ck,
    add constraint transactions_transaction_status_ck check (transaction_status in ('success', 'failed', 'refund')),
    alter column created_at set default foloosi.clock(),
    add column captured_at timestamptz,
    add column refunded numeric,
    add column money_left numeric,
    add column contradicted boolean not null default false,
    add column order_withheld boolean not null default false;
comment on column foloosi.transactions.state is 'captured, failed, verifying, denied, unknown or test.';
comment on column foloosi.transactions.transaction_status is 'What the provider last said: success, failed, or refund if nothing else is known. A failed after a success changes nothing here.';
comment on column foloosi.transactions.captured_at is 'When it was captured; null: when it became known, or nothing was captured.';
comment on column foloosi.transactions.refunded is 'How much of its captured money is known to have gone back, computed anew with each refund; null: no refund is known, or nothing was captured.';
comment on column foloosi.transactions.money_left is 'How much of its captured money is here: amount less refunded; null: nothing was captured.';
comment on column foloosi.transactions.contradicted is 'The provider contradicted itself (rows 6 and 7 of the order rules), or one delivery spoke of it and of another: its paybacks are for a person to check.';
comment on column foloosi.transactions.order_withheld is 'Row 3, 4 or 19 left it without an order: only a person gives it one.';
create index transactions_unconfirmed_idx on foloosi.transactions (id) where state in ('verifying', 'denied');

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
create index transactions_reference_idx on foloosi.transactions
    (foloosi.reference_key(payment_reference, merchant, state = 'captured', id)) where payment_reference is not null;

alter table foloosi.other_transactions
    add column renewal boolean not null default false,
    add column awaits_order boolean not null default false;
-- usually empty, so that one look says for a whole batch that nothing of the kind is known
create index other_transactions_awaits_order_idx on foloosi.other_transactions (order_ref, merchant) where awaits_order;
comment on column foloosi.other_transactions.awaits_order is 'No such order is there yet: the first delivery that names it finds this.';
comment on table foloosi.other_transactions is
'Transactions of an order beyond the one in its transaction_id, and refunds of what is unknown that name it, also where no such order is there. A transaction that has an order is named by the order or listed here; one may be both. Read it through transactions_of().';
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
    source            text not null constraint refunds_source_ck check (source in ('delivery', 'provider', 'person', 'upgrade')),
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
comment on column foloosi.refunds.source is 'delivery; provider: its answer to a question; person; or upgrade: what the first version had settled, or could not read any more.';
comment on column foloosi.refunds.believed is 'It counts; false: it waits for the provider''s word, or that says too little.';
comment on column foloosi.refunds.said_by is 'Database role of the person; null: no person.';
comment on column foloosi.refunds.note is 'What the person wrote.';
comment on column foloosi.refunds.created_at is 'When it was said.';
comment on column foloosi.refunds.undone_at is 'When the person took it back; null: it holds.';

-- ---------------------------------------------------------------- deliveries, paybacks, decisions

comment on column foloosi.deliveries.rule is 'The number of the row of foloosi.rules that decided; 0: none, it was rejected; null: the database refused it.';

comment on column foloosi.paybacks.reason is 'double_payment, order_closed, status_contradiction, captured_though_failed, renewal; or withdrawn: nothing has to go back.';
comment on column foloosi.paybacks.amount is 'How much has to go back: what was left of the transaction when it was last looked at.';
comment on column foloosi.paybacks.settled_by is 'Database role of the person who closed it; null: a refund did, or it is open.';
alter table foloosi.decisions drop constraint decisions_action_ck;
alter table foloosi.decisions add constraint decisions_action_ck check (action in
    ('register', 'resolve', 'assign', 'unassign', 'settle', 'withdraw', 'reopen', 'refund', 'dismiss', 'verify', 'cancel', 'migrate'));
comment on column foloosi.decisions.action is 'register, resolve, assign, unassign, settle, withdraw, reopen, refund, dismiss; verify: the provider''s word; cancel: time; migrate: an upgrade.';

-- foloosi-worker's mails, of refunds too
update foloosi.consumers set types = types || '{order.refund}' where consumer = merchant || '/mail' and types = '{order.success,order.cancel}';

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

-- What waits of a transaction, and what may have paid an order, though thousands of others wait.
create index deliveries_attention_transaction_idx on foloosi.deliveries (transaction_id) where attention and transaction_id is not null;
create index deliveries_kept_idx on foloosi.deliveries (order_ref, merchant)
    where attention and (reason in ('hook_failed', 'refused') or rule in (4, 19));
comment on table foloosi.reconciliations is 'Each run of foloosi-worker through a merchant''s list at the provider: its position, and its result. Those that found nothing go after two days.';
comment on table foloosi.reconciled is 'What a reconciliation found, one row a transaction. Those that matched go with its end, the others with their run.';

-- ---------------------------------------------------------------- one delivery under way

create type foloosi.element as (
    i                  int,              -- position in the batch, from 1
    ordinal            int,              -- the caller's own number for it
    merchant           text collate "C",
    order_ref          text collate "C", -- as the delivery names it
    digest             bytea,            -- 16 bytes
    fault              text collate "C", -- not null: rejected by the handler
    source             text collate "C",
    status             text collate "C",
    transaction_no     text collate "C",
    payment_reference  text collate "C",
    amount             numeric,
    currency           text collate "C",
    message            text collate "C",
    optional1          text collate "C",
    optional2          text collate "C",
    optional3          text collate "C",
    email              text collate "C",
    mobile             text collate "C",
    card               text collate "C",
    order_key          text collate "C", -- a refund's order key, which decides nothing
    assigned           bigint,           -- this transaction was given its order, or captured, afterwards: rows 10-18, 24 to 26 only
    keys               bigint[],         -- locks that it needs; elements that share one are related
    own_order_ref      text collate "C", -- it names no order, but its known transaction has this one
    -- decided
    rule               smallint,
    outcome            text collate "C",
    reason             text collate "C",
    detail             text collate "C",
    attention          boolean,
    merchant_known     boolean,
    delivery_id        bigint,
    delivery_new       boolean,
    transaction_id     bigint,
    transaction_write  text collate "C", -- insert, update, learn; null: nothing
    transaction_state  text collate "C",
    transaction_order  text collate "C", -- the order that the transaction gets; null: none
    order_withheld     boolean,
    contradicted       boolean,          -- rows 6 and 7
    refund             text collate "C", -- it says a refund: counted or doubted; null: it does not
    order_named        text collate "C", -- the order that the answer speaks of
    order_write        text collate "C", -- insert, update; null: nothing
    order_state_before text collate "C",
    order_state        text collate "C",
    order_amount       numeric,
    order_currency     text collate "C",
    order_late         boolean,
    order_cancel_at    timestamptz,
    other              boolean,          -- its transaction is one more of its order, or a refund of what is unknown that names it
    renewal            boolean,
    align              boolean,          -- what is known of its order's money changes: align_orders()
    payback            text collate "C", -- the reason for a payback of the transaction, if it has one
    event              text collate "C"
);
comment on type foloosi.element is 'One delivery of a batch on its way through record_deliveries(): what arrived and what was decided.';

create type foloosi.facts as (
    -- its bytes
    d_id         bigint,
    d_outcome    text collate "C",
    replayed     boolean,          -- it comes again because a person wants a failed hook tried again
    -- its transaction
    t_id         bigint,
    t_order_ref  text collate "C",
    t_state      text collate "C",
    t_status     text collate "C",
    t_amount     numeric,
    t_currency   text collate "C",
    t_withheld   boolean,
    t_whole      boolean,          -- wholly refunded, if this success counts as captured
    t_doubt      boolean,          -- a refund was said that is not plainly the whole, of it, its order or its reference
    t_said       numeric,          -- refunded, as a person said; null: no person did
    conflict     text collate "C", -- its payment reference belongs to another transaction: reference_conflict, one_or_two; null: no
    learns       boolean,          -- it has a number or reference that the transaction lacks
    -- its order
    order_known  text collate "C", -- the order that it concerns, if the tables know better than it says
    o_others     boolean,          -- it is not there, but a refund or a transaction names it
    o_state      text collate "C",
    o_amount     numeric,
    o_currency   text collate "C",
    o_registered boolean,
    o_closed     boolean,
    o_cancel_at  timestamptz,
    o_renewed_at timestamptz       -- when it was last paid
);
comment on type foloosi.facts is 'What the tables know of one delivery before decide() applies the rules; all null: nothing.';

-- An order that is to be brought in line with its money.
create type foloosi.alignment as (
    merchant       text collate "C",
    order_ref      text collate "C",
    transaction_id bigint,           -- of what the fact speaks; it pays now, if it can
    payback        text collate "C", -- the reason if that transaction needs a payback
    note           text collate "C"  -- of the person, or the provider's word
);
comment on type foloosi.alignment is 'An order that align_orders() is to bring in line with its money.';

-- What is known of one captured transaction of an order.
create type foloosi.money as (
    merchant       text collate "C",
    order_ref      text collate "C",
    transaction_id bigint,
    amount         numeric,
    currency       text collate "C",
    refunded       numeric,
    money_left     numeric,
    may_pay        boolean,          -- it has money left; zero counts until it is refunded
    doubtful       boolean,          -- something said of it is not certain
    refund_doubt   boolean,          -- that is a refund
    renewal        boolean           -- it pays a further period
);
comment on type foloosi.money is 'One captured transaction of an order: money_of().';

-- The effects of the order rules: each an array whose subscript is the rule's number.
create type foloosi.effects as (
    outcome     text[] collate "C",
    reason      text[] collate "C",
    transaction text[] collate "C",
    orders      text[] collate "C",
    payback     text[] collate "C",
    event       text[] collate "C",
    attention   boolean[]
);
comment on type foloosi.effects is 'The effects of the order rules, by number: effects().';

-- What an order is to become.
create type foloosi.plan as (
    merchant       text collate "C",
    order_ref      text collate "C",
    acting         bigint,           -- the transaction of which the fact speaks
    payback        text collate "C", -- the reason if that needs a payback
    note           text collate "C",
    state_before   text collate "C",
    state          text collate "C",
    payer          bigint,
    amount         numeric,
    currency       text collate "C",
    reason         text collate "C",
    event          text collate "C",
    event_reason   text collate "C",
    refunded       numeric,
    money_left     numeric,
    closed         boolean,          -- cancelled by a person
    recurring      boolean,
    second_payment text collate "C",
    doubtful       boolean,          -- one of its captured transactions is
    money          foloosi.money[],
    closed_at      timestamptz       -- when a person cancelled it
);
comment on type foloosi.plan is 'What align_orders() is about to make of an order.';

-- ---------------------------------------------------------------- from the first version
--
-- What the first version knew is told anew as facts: money that went back becomes refunds, and orders and paybacks are brought in
-- line with it. The functions that do so for a delivery are loaded after the migrations, so their rules stand here
-- once more, for what the first version can have left behind. It writes history, and no event and no mail; no trigger
-- fires, ours or a merchant's, before all is done.

create function foloosi.sum_of_order(p_payer bigint, p_order_ref text, p_merchant text, p_currency text, p_refunded boolean) returns numeric
language sql stable
as $$
    select case when count(*) = 0 or p_refunded and not bool_or(t.refunded is not null) then null
                else coalesce(sum(case when p_refunded then t.refunded else t.money_left end) filter (where t.currency = p_currency), 0) end
    from (select p_payer as id
          union
          select x.transaction_id from foloosi.other_transactions x where x.order_ref = p_order_ref and x.merchant = p_merchant) n
    join foloosi.transactions t on t.id = n.id and t.order_ref = p_order_ref and t.merchant = p_merchant and t.state = 'captured'
$$;

do $$
#variable_conflict use_column
declare
    white constant text := E'\t\n\u000b\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d\u2028\u2029\u202f\u205f\u3000\ufeff';
    enable text[] := '{}'; -- statements that enable the triggers again
    r      record;
    p      foloosi.merchants; -- policy
    t      foloosi.transactions;
    other  foloosi.transactions; -- to which the payment reference belongs
    money  record;
    -- a refund, as its bytes have it
    v_transfer  jsonb;
    v_no        text;
    v_reference text;
    v_amount    numeric;
    v_currency  text;
    v_named     text; -- its order key
    v_readable  boolean;
    v_rule      smallint;
    -- what becomes of an order or a payback
    v_state     text;
    v_payer     bigint;
begin
    for r in
        select c.relname, g.tgname, g.tgenabled
        from pg_trigger g join pg_class c on c.oid = g.tgrelid
        where c.relnamespace = 'foloosi'::regnamespace and not g.tgisinternal and g.tgenabled <> 'D'
          and c.relname in ('transactions', 'orders', 'other_transactions', 'deliveries', 'paybacks', 'decisions')
    loop
        execute format('alter table foloosi.%I disable trigger %I', r.relname, r.tgname);
        enable := enable || format('alter table foloosi.%I enable %s trigger %I', r.relname,
            case r.tgenabled when 'A' then 'always' when 'R' then 'replica' else '' end, r.tgname);
    end loop;

    -- 1. Transactions: what contradicted itself (rows 6, 7), what a rule left without an order (3, 19: of the delivery that
    --    brought it, whose id is lower), test numbers, and what the provider denied.
    update foloosi.transactions x
    set contradicted = d.contradicted, order_withheld = d.withheld and x.order_ref is null
    from (select y.transaction_id, bool_or(y.rule in (6, 7)) as contradicted, bool_or(y.rule in (3, 19) and y.id < y.transaction_id) as withheld
          from foloosi.deliveries y where y.rule in (3, 6, 7, 19) group by y.transaction_id) d
    where x.id = d.transaction_id and (d.contradicted or d.withheld and x.order_ref is null);
    update foloosi.transactions x
    set state = 'test', order_withheld = true
    where x.transaction_no like 'TEST%' and x.order_ref is null
      and exists (select from foloosi.deliveries d where d.transaction_id = x.id and d.rule = 3)
      -- if it shares its reference with a live payment, the first version took both for one
      and not exists (select from foloosi.deliveries d where d.transaction_id = x.id and d.rule > 3);
    update foloosi.transactions x
    set state = 'denied'
    where x.state = 'verifying'
      and exists (select from foloosi.verifications v
                  where v.transaction_id = x.id and v.verified_at is not null and v.outcome in ('differs', 'unverifiable'));

    -- 2. What was withdrawn was so because its order was paid after all; no person said that nothing has to go back.
    update foloosi.paybacks x set settled_by = null where x.reason = 'withdrawn' and x.settled_by is not null;

    -- 3. Refunds, in the order in which they became known.
    for r in
        -- paybacks that were settled; those that a refund settled come with the refund
        select x.settled_at as at, x.id, x.merchant, x.transaction_id, x.settled_by as person, x.note,
               null::bytea as digest, null::text as named, null::text as outcome, null::bytea as body
        from foloosi.paybacks x
        where x.state = 'settled' and x.reason <> 'withdrawn'
          and (x.settled_by is not null or not exists (
                  select from foloosi.deliveries d
                  where d.transaction_id = x.transaction_id and d.rule = 2 and d.outcome = 'recorded' and d.reason = 'refunded'))
          -- a contradiction of what pays its order: "settled" was also said where nothing had to go back. It stays doubtful.
          and (x.settled_by is null or not exists (
                  select from foloosi.orders o
                  where o.order_ref = x.order_ref and o.merchant = x.merchant and o.state = 'paid' and o.transaction_id = x.transaction_id))
        union all
        -- refunds that settled one, or were ignored
        select d.created_at, d.id, d.merchant, d.transaction_id, null, null, d.digest, d.order_ref, d.outcome,
               (select b.body from foloosi.bodies b where b.delivery_id = d.id order by b.created_at limit 1)
        from foloosi.deliveries d
        where d.rule = 2 and (d.outcome = 'recorded' and d.reason = 'refunded' or d.outcome = 'ignored' and d.detail = 'status refund')
        order by 1, 2
    loop
        if r.digest is null then
            insert into foloosi.refunds (merchant, transaction_id, source, said_by, note, created_at)
            values (r.merchant, r.transaction_id, case when r.person is null then 'upgrade' else 'person' end, r.person, r.note, r.at);
            continue;
        end if;

        begin
            v_transfer := ltrim(convert_from(r.body, 'UTF8'), E'\ufeff')::jsonb #> '{data,transfer}';
            v_no := nullif(btrim(v_transfer ->> 'transaction_no', white), '')::varchar(128);
            v_reference := nullif(btrim(v_transfer ->> 'payment_reference', white), '')::varchar(128);
            v_amount := nullif(btrim(v_transfer ->> 'transaction_amount', white), '')::foloosi.amount;
            v_currency := nullif(upper(btrim(v_transfer ->> 'transaction_currency', white)), '')::foloosi.currency;
            -- does it name the order, or was it its transaction's?
            v_named := case when strpos(v_transfer::text, btrim(to_jsonb(r.named)::text, '"')) > 0 then r.named end;
            v_readable := lower(btrim(v_transfer ->> 'transaction_status', white)) = 'refund';
        exception when data_exception or check_violation or program_limit_exceeded then
            v_readable := false;
        end;
        v_readable := coalesce(v_readable, false);
        select * into p from foloosi.merchants m where m.merchant = r.merchant;
        if v_readable and r.outcome = 'ignored' and v_no like 'TEST%' and p.mode is distinct from 'test' then
            continue; -- a test number touches nothing
        end if;

        -- Its transaction: by number, else as the first version found it, else by reference.
        t := null;
        other := null;
        if v_readable then
            select * into t from foloosi.transactions x
            where x.transaction_no in (v_no, v_transfer ->> 'transaction_no') and x.merchant = r.merchant limit 1;
            select x.* into other
            from (select foloosi.reference_key(v_reference, r.merchant, true, 0) as first) h
            cross join lateral (
                select y.* from foloosi.transactions y
                where foloosi.reference_key(y.payment_reference, y.merchant, y.state = 'captured', y.id) >= h.first
                  and foloosi.reference_key(y.payment_reference, y.merchant, y.state = 'captured', y.id) <= (h.first | 137438953471)
                  and y.payment_reference = v_reference and y.merchant = r.merchant
                order by foloosi.reference_key(y.payment_reference, y.merchant, y.state = 'captured', y.id) limit 1) x;
        end if;
        if t.id is null then
            select * into t from foloosi.transactions x
            where x.id = r.transaction_id and (not v_readable or v_no is null or x.transaction_no is null);
        end if;
        if t.id is null and v_readable and (v_no is null or other.transaction_no is null) then
            t := other;
        end if;

        if not v_readable then
            if r.outcome = 'ignored' then
                -- it stays ignored: should its bytes come once more, they are tried afresh
                update foloosi.deliveries d set reason = 'refund_unreadable', attention = true
                where d.digest = r.digest and d.merchant = r.merchant;
                if t.id is null and r.named is not null then
                    insert into foloosi.transactions (merchant, state, transaction_status, created_at)
                    values (r.merchant, 'unknown', 'refund', r.at) returning * into t;
                end if;
            end if;
            if t.id is not null then
                insert into foloosi.refunds (merchant, transaction_id, delivery_id, order_named, source, believed, created_at)
                values (r.merchant, t.id, r.id, case when t.state <> 'captured' then r.named end,
                        case r.outcome when 'ignored' then 'upgrade' else 'delivery' end, r.outcome <> 'ignored', r.at);
            end if;
            continue;
        end if;

        if t.id is null then
            insert into foloosi.transactions (merchant, transaction_no, payment_reference, state, transaction_status, created_at)
            values (r.merchant, v_no, v_reference, 'unknown', 'refund', r.at) returning * into t;
        elsif t.transaction_no is null and v_no is not null or t.payment_reference is null and v_reference is not null and other.id is null then
            update foloosi.transactions x
            set transaction_no = coalesce(x.transaction_no, v_no),
                payment_reference = coalesce(x.payment_reference, case when other.id is null then v_reference end)
            where x.id = t.id;
        end if;
        v_rule := case when r.outcome = 'recorded' and t.state <> 'captured' then 20
                       when t.state <> 'captured' then 23
                       when v_amount is null or (v_amount = t.amount and v_currency = t.currency) is true then 20
                       when v_currency = t.currency and v_amount < t.amount then 21
                       else 22 end;
        if r.outcome = 'recorded' and v_rule <> 20 then
            -- it settled a payback, so all went back; what it says itself is a doubt
            insert into foloosi.refunds (merchant, transaction_id, source, created_at) values (r.merchant, t.id, 'upgrade', r.at);
        end if;
        insert into foloosi.refunds (
            merchant, transaction_id, delivery_id, order_named, payment_reference, amount, currency, source, believed, created_at)
        values (r.merchant, t.id, r.id, v_named, v_reference, v_amount, v_currency, 'delivery',
                r.outcome = 'recorded' or p.verify is distinct from 'callback', r.at);
        update foloosi.deliveries d
        set rule = v_rule, transaction_id = t.id, order_ref = coalesce(d.order_ref, t.order_ref),
            outcome = case when v_rule in (20, 21) then 'recorded' else 'review' end,
            reason = case v_rule when 20 then 'refunded' when 21 then 'refunded_in_part' when 22 then 'refund_differs' else 'refund_unknown' end,
            detail = case when v_rule = 22 then format('known as %s %s, now %s %s', t.amount, t.currency, v_amount, v_currency) end,
            attention = v_rule in (22, 23) or v_rule = 21 and r.outcome = 'recorded'
        where d.digest = r.digest and d.merchant = r.merchant;
    end loop;

    -- 4. How much of each transaction went back: as refunds_of() has it.
    update foloosi.transactions x
    set refunded = c.refunded
    from (select y.id,
                 case when bool_or(f.source = 'person' or f.believed and (f.amount is null or f.amount = y.amount and f.currency = y.currency))
                      then y.amount::numeric
                      else coalesce(max(f.amount) filter (where f.believed and f.currency = y.currency and f.amount < y.amount), 0) end as refunded
          from foloosi.refunds f join foloosi.transactions y on y.id = f.transaction_id
          where y.state = 'captured' group by y.id having bool_or(f.believed)) c
    where x.id = c.id;
    -- The table is rewritten in its order, not updated, as orders below.
    alter table foloosi.transactions
        alter column money_left type numeric using case when state = 'captured' then greatest(amount::numeric - coalesce(refunded, 0), 0) end;
    insert into foloosi.decisions (merchant, action, subject_id, decided_by, note)
    select x.merchant, 'migrate', x.id, session_user, format('refunded, as the first version knew it: %s of %s %s', x.refunded, x.amount, x.currency)
    from foloosi.transactions x where x.refunded is not null and x.order_ref is null order by x.id;

    -- 5. Orders of which money went back: as plan_orders() has it.
    for r in
        select o.* from foloosi.orders o
        where (o.order_ref, o.merchant) in (
            select x.order_ref, x.merchant from foloosi.transactions x where x.refunded is not null and x.order_ref is not null)
        order by o.order_ref, o.merchant
    loop
        select coalesce(bool_or(c.may_pay), false) as is_left,
               coalesce(bool_or(c.id = r.transaction_id), false) as payer_counts,
               coalesce(bool_or(c.id = r.transaction_id and c.may_pay), false) as payer_may_pay,
               min(c.id) filter (where c.may_pay and c.amount = r.amount and c.currency = r.currency) as equal,
               sum(c.refunded) as refunded
          into money
        from (select y.*, y.money_left > 0 or y.amount = 0 and y.refunded is null as may_pay
              from (select r.transaction_id as id
                    union
                    select n.transaction_id from foloosi.other_transactions n where n.order_ref = r.order_ref and n.merchant = r.merchant) i
              join foloosi.transactions y on y.id = i.id and y.order_ref = r.order_ref and y.state = 'captured') c;
        v_state := r.state;
        v_payer := r.transaction_id;
        if r.state = 'review' and not money.is_left then
            v_state := 'refunded';
        elsif r.state = 'paid' and money.payer_counts and not money.payer_may_pay then
            v_payer := coalesce(money.equal, r.transaction_id);
            v_state := case when money.equal is not null then 'paid' when money.is_left then 'review' else 'refunded' end;
        end if;
        if v_payer <> r.transaction_id then
            insert into foloosi.other_transactions (order_ref, merchant, transaction_id)
            values (r.order_ref, r.merchant, r.transaction_id) on conflict do nothing;
        end if;
        update foloosi.orders o
        set state = v_state, transaction_id = v_payer, updated_at = now(),
            reason = case when v_state = r.state then o.reason when v_state = 'review' then 'payment_refunded' end
        where o.order_ref = r.order_ref and o.merchant = r.merchant and (v_state <> r.state or v_payer <> r.transaction_id);
        insert into foloosi.decisions (merchant, action, subject_id, order_ref, order_state, order_state_before, order_moved, decided_by, note)
        values (r.merchant, 'migrate', r.id, r.order_ref, v_state, case when v_state <> r.state then r.state end, v_state <> r.state,
                session_user, format('refunded, as the first version knew it: %s', money.refunded));
    end loop;

    insert into foloosi.other_transactions (order_ref, merchant, transaction_id, awaits_order)
    select distinct x.order_named, x.merchant, x.transaction_id,
           not exists (select from foloosi.orders o where o.order_ref = x.order_named and o.merchant = x.merchant)
    from foloosi.refunds x where x.order_named is not null
    on conflict do nothing;

    -- 6. The money of every order. The table is rewritten in its order, not updated: orders_id_idx needs ids that ascend with
    --    the pages.
    alter table foloosi.orders
        alter column refunded type numeric using foloosi.sum_of_order(transaction_id, order_ref, merchant, currency, true),
        alter column money_left type numeric using foloosi.sum_of_order(transaction_id, order_ref, merchant, currency, false);

    -- 7. Open paybacks: none for a transaction of which nothing is left, due only where all is certain.
    for r in
        with captured as materialized (
            select x.*,
                   count(*) filter (where x.transaction_no is null) over w - (x.transaction_no is null)::int as without_no,
                   count(*) filter (where x.payment_reference is null) over w - (x.payment_reference is null)::int as without_reference,
                   (select coalesce(max(f.id), 0) from foloosi.refunds f where f.transaction_id = x.id and f.source = 'person') as said
            from foloosi.transactions x
            where x.state = 'captured' and (x.order_ref, x.merchant) in (
                select y.order_ref, y.merchant from foloosi.paybacks y where y.state = 'due')
            window w as (partition by x.order_ref, x.merchant)
        ), doubtful as materialized (
            select distinct c.order_ref, c.merchant
            from captured c
            where c.contradicted
               or c.transaction_no is null and c.without_reference > 0 or c.payment_reference is null and c.without_no > 0 -- a twin
               or exists (select from foloosi.refunds f
                          where f.transaction_id = c.id and f.id > c.said
                            and (not f.believed or f.amount is not null and (f.amount = c.amount and f.currency = c.currency) is not true))
               or exists (select from foloosi.refunds f join foloosi.transactions y on y.id = f.transaction_id
                          where f.order_named = c.order_ref and f.merchant = c.merchant and y.id <> c.id and y.state <> 'captured')
               or exists (select from foloosi.refunds f join foloosi.transactions y on y.id = f.transaction_id
                          where f.payment_reference = c.payment_reference and f.merchant = c.merchant and y.id <> c.id and y.state <> 'captured')
               or exists (select from foloosi.merchants m where m.merchant = c.merchant and m.verify = 'callback')
                  and not exists (select from foloosi.verifications v where v.transaction_id = c.id and v.outcome = 'confirmed')
        )
        select x.*, y.state = 'captured' as counts, y.money_left, o.id as order_id, o.state as order_state,
               starts_with(x.order_ref, 'FLSSUB_') and x.reason = 'double_payment' as renewal,
               o.state = 'paid' and o.transaction_id = x.transaction_id or o.state in ('review', 'verifying') or d.order_ref is not null
                   or y.contradicted as uncertain
        from foloosi.paybacks x join foloosi.transactions y on y.id = x.transaction_id
        left join foloosi.orders o on o.order_ref = x.order_ref and o.merchant = x.merchant
        left join doubtful d on d.order_ref = x.order_ref and d.merchant = x.merchant
        where x.state <> 'settled' order by x.id
    loop
        v_state := case when r.counts and r.money_left = 0 then 'settled' when r.renewal or r.uncertain then 'check' else r.state end;
        update foloosi.paybacks x
        set state = v_state, updated_at = now(),
            reason = case when r.renewal and v_state = 'check' then 'renewal' else x.reason end,
            amount = case when r.counts and r.money_left > 0 then r.money_left else x.amount::numeric end,
            settled_at = case when v_state = 'settled' then now() end
        where x.id = r.id and (v_state <> r.state or r.renewal or r.counts and r.money_left <> r.amount);
        if v_state <> r.state or r.renewal then
            insert into foloosi.decisions (merchant, action, subject_id, order_ref, order_state, decided_by, note)
            values (r.merchant, 'migrate', r.id, r.order_ref, r.order_state, session_user,
                    format('payback: %s, was %s for %s', v_state || case when r.renewal and v_state = 'check' then ' as a renewal' else '' end,
                           r.state, r.reason));
        end if;
    end loop;

    for n in 1 .. cardinality(enable) loop
        execute enable[n];
    end loop;
end $$;
drop function foloosi.sum_of_order(bigint, text, text, text, boolean);

-- What was rewritten has its last pages summarized (0009).
select brin_desummarize_range(indexrelid, greatest(0, pg_relation_size(indrelid) / current_setting('block_size')::int - 1))
from pg_index join pg_class c on c.oid = indexrelid
where c.relnamespace = 'foloosi'::regnamespace and c.relkind = 'i' and c.relam = (select oid from pg_am where amname = 'brin');
