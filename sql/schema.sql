-- Today's types and tables of schema foloosi: the sum of the migrations, to be read, not to be run.
-- Generated from the catalog of a migrated database by tests/support/schema.py ("make schema"); not edited.
-- tests/e2e/test_migrate.py compares it with what the migrations make. Nothing includes it.

-- An order that align_orders() is to bring in line with its money.
create type foloosi.alignment as (
    merchant text,
    order_ref text,
    transaction_id bigint,
    payback text,
    note text
);

-- Exact money: at most 12 integer digits and 4 decimals; no sign, no NaN.
create domain foloosi.amount as numeric CHECK (((VALUE >= (0)::numeric) AND (VALUE < ('1000000000000'::bigint)::numeric) AND (scale(VALUE) <= 4)));

-- ISO 4217 alphabetic code in upper case.
create domain foloosi.currency as text CHECK ((VALUE ~ '^[A-Z]{3}$'::text));

-- waiting: from due_at on it may be handed out; claimed: handed out until due_at; dead: given up, waits for a
-- person.
create domain foloosi.dispatch_state as text CHECK ((VALUE = ANY (ARRAY['waiting'::text, 'claimed'::text, 'dead'::text])));

-- The effects of the order rules, by number: effects().
create type foloosi.effects as (
    outcome text[],
    reason text[],
    transaction text[],
    orders text[],
    payback text[],
    event text[],
    attention boolean[]
);

-- One delivery of a batch on its way through record_deliveries(): what arrived and what was decided.
create type foloosi.element as (
    i integer,
    ordinal integer,
    merchant text,
    outcome text,
    reason text,
    order_named text,
    order_state text,
    delivery_id bigint,
    delivery_new boolean,
    merchant_known boolean,
    order_ref text,
    digest bytea,
    transaction_no text,
    payment_reference text,
    keys bigint[],
    fault text,
    status text,
    source text,
    currency text,
    amount numeric,
    event text,
    transaction_id bigint,
    transaction_order text,
    transaction_write text,
    transaction_state text,
    order_write text,
    order_state_before text,
    order_amount numeric,
    order_currency text,
    order_late boolean,
    order_cancel_at timestamp with time zone,
    rule smallint,
    detail text,
    attention boolean,
    assigned bigint,
    order_withheld boolean,
    message text,
    optional1 text,
    optional2 text,
    optional3 text,
    email text,
    mobile text,
    card text,
    order_key text,
    own_order_ref text,
    contradicted boolean,
    refund text,
    other boolean,
    renewal boolean,
    align boolean,
    payback text
);

-- A fact for the merchant's systems.
create domain foloosi.event_type as text CHECK ((VALUE = ANY (ARRAY['order.success'::text, 'order.cancel'::text, 'order.refund'::text, 'order.review'::text, 'payback.due'::text, 'payback.check'::text])));

-- What the tables know of one delivery before decide() applies the rules; all null: nothing.
create type foloosi.facts as (
    d_id bigint,
    d_outcome text,
    replayed boolean,
    t_id bigint,
    t_order_ref text,
    t_state text,
    t_status text,
    t_amount numeric,
    t_currency text,
    t_withheld boolean,
    t_whole boolean,
    t_doubt boolean,
    t_said numeric,
    conflict text,
    learns boolean,
    order_known text,
    o_others boolean,
    o_state text,
    o_amount numeric,
    o_currency text,
    o_registered boolean,
    o_closed boolean,
    o_cancel_at timestamp with time zone,
    o_renewed_at timestamp with time zone
);

-- One captured transaction of an order: money_of().
create type foloosi.money as (
    merchant text,
    order_ref text,
    transaction_id bigint,
    amount numeric,
    currency text,
    refunded numeric,
    money_left numeric,
    may_pay boolean,
    doubtful boolean,
    refund_doubt boolean,
    renewal boolean
);

-- pending, verifying, paid, refunded, cancelled or review.
create domain foloosi.order_state as text CHECK ((VALUE = ANY (ARRAY['pending'::text, 'verifying'::text, 'paid'::text, 'refunded'::text, 'cancelled'::text, 'review'::text])));

-- What became of a delivery.
create domain foloosi.outcome as text CHECK ((VALUE = ANY (ARRAY['recorded'::text, 'duplicate'::text, 'ignored'::text, 'review'::text, 'rejected'::text])));

-- due: the money must go back; check: it may have to; settled: closed.
create domain foloosi.payback_state as text CHECK ((VALUE = ANY (ARRAY['due'::text, 'check'::text, 'settled'::text])));

-- What align_orders() is about to make of an order.
create type foloosi.plan as (
    merchant text,
    order_ref text,
    acting bigint,
    payback text,
    note text,
    state_before text,
    state text,
    payer bigint,
    amount numeric,
    currency text,
    reason text,
    event text,
    event_reason text,
    refunded numeric,
    money_left numeric,
    closed boolean,
    recurring boolean,
    second_payment text,
    doubtful boolean,
    money foloosi.money[],
    closed_at timestamp with time zone
);

-- matched: it had arrived and says the same; missing: it never arrived; differed: it had arrived and says
-- something else; other: neither success nor failed; unclear: it could not be read, or not be believed.
create domain foloosi.reconcile_verdict as text CHECK ((VALUE = ANY (ARRAY['matched'::text, 'missing'::text, 'differed'::text, 'other'::text, 'unclear'::text])));

-- captured: the provider said success; failed: it said failed; verifying: it said success and is being asked;
-- denied: asked, it said something else; unknown: only refunds of it are known; test: a test number at a live
-- merchant.
create domain foloosi.transaction_state as text CHECK ((VALUE = ANY (ARRAY['captured'::text, 'failed'::text, 'verifying'::text, 'denied'::text, 'unknown'::text, 'test'::text])));

-- One number space for orders, transactions, deliveries, paybacks, refunds and decisions. A number that is drawn
-- for a delivery stands for two more: of its transaction and of its order.
create sequence foloosi.id_seq as bigint increment by 3 maxvalue 68719476732;

-- The raw bytes of deliveries, partitioned by month so that retention can drop them whole. create_partitions()
-- makes the months ahead.
create table foloosi.bodies (
    -- Whose bytes (foloosi.deliveries.id). Ascending in time, so a block range index finds it.
    delivery_id bigint not null,
    -- When they were stored; the same as the delivery's for the first time.
    created_at timestamp with time zone default now() not null,
    -- The bytes as they arrived.
    body bytea not null
) partition by RANGE (created_at);
CREATE INDEX bodies_delivery_idx ON ONLY foloosi.bodies USING brin (delivery_id);

-- When cancel_due() last ran, and until when it cancels nothing: one row.
create table foloosi.cancellation (
    -- There is one row.
    one boolean default true not null,
    -- When cancel_due() was last called; null: never.
    ran_at timestamp with time zone,
    -- Until then it cancels nothing, because payments may have waited elsewhere; null: it does.
    held_until timestamp with time zone,
    -- When deliveries last came from a spool, to the minute; null: never.
    spooled_at timestamp with time zone,
    constraint cancellation_pkey PRIMARY KEY (one),
    constraint cancellation_one_ck CHECK (one)
);

-- Who gets events, each at its own pace: by next_events(), or pushed by foloosi-worker.
create table foloosi.consumers (
    -- Number of the consumer.
    id integer generated always as identity not null,
    -- Its name: chosen in add_consumer(), or merchant:digest for a URL that foloosi-worker posts to.
    consumer character varying(128) not null,
    -- Whose events it gets; null: everybody's.
    merchant character varying(64) collate "C",
    -- Scheme and host that the events are posted to, without the rest of the URL, which may be secret; null: it
    -- pulls.
    endpoint text,
    -- Which types of events it gets; null: all.
    types text[],
    -- Up to this id events are in dispatches, or were finished, or are in event_gaps.
    position bigint not null,
    -- Posts in a row that found the endpoint out of order.
    failures integer default 0 not null,
    -- When the first of them was; null: the last post was heard.
    failing_since timestamp with time zone,
    -- The circuit is open: nothing is posted before, and then one event to try; null: it is closed.
    paused_until timestamp with time zone,
    -- That one, while it is under way; null: none is.
    probe_id bigint,
    -- Since when it gets nothing: it answered 410, or disable_consumer() was called; null: it does.
    disabled_at timestamp with time zone,
    -- Why it is disabled, or what the last failure was.
    reason text,
    -- When it was added.
    created_at timestamp with time zone default now() not null,
    -- The role whose members may take, finish and delay its events.
    owner text not null,
    constraint consumers_pkey PRIMARY KEY (id),
    constraint consumers_consumer_key UNIQUE (consumer),
    constraint consumers_consumer_ck CHECK (((consumer)::text <> ''::text))
);

-- What persons (or the merchant's shop) did through this schema's functions.
create table foloosi.decisions (
    -- Number of the decision in this schema.
    id bigint default nextval('foloosi.id_seq'::regclass) not null,
    -- Of which merchant.
    merchant character varying(64) collate "C" not null,
    -- register, resolve, assign, unassign, settle, withdraw, reopen, refund, dismiss; verify: the provider's
    -- word; cancel: time; migrate: an upgrade.
    action text not null,
    -- What it was about: id of an order, transaction, delivery or payback.
    subject_id bigint not null,
    -- The order concerned; null: none.
    order_ref character varying(255) collate "C",
    -- State of the order after; null: no order is concerned.
    order_state text,
    -- State of the order before; null: it created it, or did not move it.
    order_state_before text,
    -- It created the order or changed its state.
    order_moved boolean default false not null,
    -- Database role of the person.
    decided_by text not null,
    -- What the person wrote.
    note text,
    -- When.
    created_at timestamp with time zone default now() not null,
    constraint decisions_pkey PRIMARY KEY (id),
    constraint decisions_action_ck CHECK ((action = ANY (ARRAY['register'::text, 'resolve'::text, 'assign'::text, 'unassign'::text, 'settle'::text, 'withdraw'::text, 'reopen'::text, 'refund'::text, 'dismiss'::text, 'verify'::text, 'cancel'::text, 'migrate'::text])))
);
CREATE INDEX decisions_order_idx ON foloosi.decisions USING btree (order_ref, merchant);

-- The ledger of what arrived, one row for each distinct body of a merchant: what makes a repeat a repeat. Small,
-- not partitioned, never purged; the bytes are in foloosi.bodies.
create table foloosi.deliveries (
    -- Number of the delivery in this schema.
    id bigint default nextval('foloosi.id_seq'::regclass) not null,
    -- At whose endpoint it arrived.
    merchant character varying(64) collate "C" not null,
    -- What became of it: recorded, duplicate, ignored, review or rejected.
    outcome foloosi.outcome not null,
    -- Why, in one word; null: nothing to add.
    reason text,
    -- The order that it names, or that its transaction belongs to.
    order_ref character varying(255) collate "C",
    -- State of the order after it; null: no such order.
    order_state text,
    -- State of the order before it moved it; null: it created it, or did not move it.
    order_state_before text,
    -- It created its order or changed its state.
    order_moved boolean default false not null,
    -- Waits for a person by itself, until dismiss_attention() or assign_transaction().
    attention boolean default false not null,
    -- The number of the row of foloosi.rules that decided; 0: none, it was rejected; null: the database refused
    -- it.
    rule smallint,
    -- How often its bytes came again.
    repeats integer default 0 not null,
    -- The transaction that it speaks of; null: none is known.
    transaction_id bigint,
    -- When it was first recorded.
    created_at timestamp with time zone default now() not null,
    -- When its bytes last came again; null: never.
    last_seen_at timestamp with time zone,
    -- The first 16 bytes of the SHA-256 of its bytes: half the index, and a collision still takes 2^64 work by
    -- somebody who holds the token.
    digest bytea not null,
    -- How it came if not as a webhook: spool, reconcile, replay, or psql and the role of the person.
    source text,
    -- The faults of a rejected one, the difference of one in review, or the error that refused it.
    detail text,
    constraint deliveries_pkey PRIMARY KEY (digest, merchant)
);
CREATE INDEX deliveries_attention_idx ON foloosi.deliveries USING btree (id) WHERE attention;
CREATE INDEX deliveries_attention_transaction_idx ON foloosi.deliveries USING btree (transaction_id) WHERE attention;
CREATE INDEX deliveries_kept_idx ON foloosi.deliveries USING btree (order_ref, merchant) WHERE attention;
CREATE INDEX deliveries_order_idx ON foloosi.deliveries USING brin (order_ref text_bloom_ops (n_distinct_per_range='950'), id) WITH (pages_per_range='16', autosummarize='on');

-- Events that a consumer was offered and has not finished. A row goes when it has.
create table foloosi.dispatches (
    -- For whom.
    consumer_id integer not null,
    -- How often it was handed out.
    attempts integer default 0 not null,
    -- Which event.
    event_id bigint not null,
    -- Lock key of its order: of one order only the earliest is handed out; null: it concerns none.
    order_key bigint,
    -- From when on it is handed out (again).
    due_at timestamp with time zone not null,
    -- When it was first offered.
    created_at timestamp with time zone default clock_timestamp() not null,
    -- waiting, claimed or dead.
    state foloosi.dispatch_state default 'waiting'::text not null,
    -- HTTP or SMTP status of the last answer; null: there was none.
    status integer,
    -- What went wrong the last time; null: nothing.
    reason text,
    constraint dispatches_pkey PRIMARY KEY (consumer_id, event_id),
    constraint dispatches_consumer_fkey FOREIGN KEY (consumer_id) REFERENCES foloosi.consumers(id) ON DELETE CASCADE
) with (autovacuum_vacuum_scale_factor=0.05, autovacuum_vacuum_threshold=2000);
CREATE INDEX dispatches_dead_idx ON foloosi.dispatches USING btree (consumer_id, event_id) WHERE ((state)::text = 'dead'::text);
CREATE INDEX dispatches_due_idx ON foloosi.dispatches USING btree (consumer_id, due_at, event_id) WHERE ((state)::text <> 'dead'::text);
CREATE INDEX dispatches_order_idx ON foloosi.dispatches USING btree (order_key, consumer_id, event_id) WHERE ((state)::text <> 'dead'::text);

-- What erase_customer() did. Whose data it was stands nowhere: a digest of an address can be guessed.
create table foloosi.erasures (
    -- Number of the erasure in this schema.
    id bigint default nextval('foloosi.id_seq'::regclass) not null,
    -- Database role of the person.
    erased_by text not null,
    -- What the person wrote: the number of the request, say.
    note text,
    -- How many transactions were masked.
    transactions integer not null,
    -- How many deliveries lost their raw bytes.
    bodies integer not null,
    -- How many notes, details and messages named the customer, and do no longer.
    texts integer not null,
    -- When.
    created_at timestamp with time zone default now() not null,
    constraint erasures_pkey PRIMARY KEY (id)
);

-- Ids of events that a consumer has passed without seeing them: their transactions may still be running.
create table foloosi.event_gaps (
    -- Who has passed them.
    consumer_id integer not null,
    -- The first of a range.
    first_id bigint not null,
    -- The last of it.
    last_id bigint not null,
    -- Whoever drew them has a lower transaction number: once none of these runs, the gap stays one and is
    -- forgotten.
    until xid8 not null,
    constraint event_gaps_pkey PRIMARY KEY (consumer_id, first_id),
    constraint event_gaps_consumer_fkey FOREIGN KEY (consumer_id) REFERENCES foloosi.consumers(id) ON DELETE CASCADE
);

-- Facts for the merchant's systems, written in the transaction that made them true. event_payload(events) gives
-- the Standard Webhooks payload.
create table foloosi.events (
    -- Ascending; of one order, in the order of what happened.
    id bigint generated always as identity not null,
    -- Whose systems.
    merchant character varying(64) collate "C" not null,
    -- order.success, order.cancel, order.review, payback.due or payback.check.
    type foloosi.event_type not null,
    -- The order concerned; null: a success that names none.
    order_ref character varying(255) collate "C",
    -- Why, in one word; null: nothing to add.
    reason text,
    -- The transaction concerned; null: none.
    transaction_id bigint,
    -- The payback concerned; null: none.
    payback_id bigint,
    -- When it became true.
    created_at timestamp with time zone default now() not null,
    constraint events_pkey PRIMARY KEY (id)
);
CREATE INDEX events_order_idx ON foloosi.events USING brin (order_ref text_bloom_ops (n_distinct_per_range='1300')) WITH (pages_per_range='16', autosummarize='on');

-- Policy of each merchant: one Foloosi account in one mode. A merchant without a row has all defaults. Written
-- by set_merchant().
create table foloosi.merchants (
    -- Its name, as in the configuration file and in the endpoint's URL.
    merchant character varying(64) collate "C" not null,
    -- live or test. A live merchant does not believe transaction numbers that begin with TEST.
    mode text default 'live'::text not null,
    -- A success for an order that nobody registered: accept (paid) or review.
    unknown_orders text default 'accept'::text not null,
    -- A success for an order that a failure cancelled: pay or review.
    late_success text default 'pay'::text not null,
    -- off, or callback: a success waits as verifying until the worker has asked the provider.
    verify text default 'off'::text not null,
    -- How many rejected deliveries are kept with their bytes each hour; the rest is only counted.
    rejected_per_hour integer default 1000 not null,
    -- When the row was made.
    created_at timestamp with time zone default now() not null,
    -- When the policy was last set.
    updated_at timestamp with time zone default now() not null,
    -- How long a payback may be open before its event comes again, and again; 0: it does not.
    remind_after interval default '3 days'::interval not null,
    -- The payback of a second payment of a paid order: due, or check: a person looks first.
    second_payment text default 'due'::text not null,
    -- How long a failed payment leaves its order pending before it is cancelled; 0: it is cancelled at once.
    cancel_after interval default '00:00:00'::interval not null,
    -- How long a registered order may stay unpaid before it is cancelled; null: for ever.
    expire_after interval,
    -- Prefixes of order keys that name a subscription: each of its payments pays a period of its own.
    recurring text[] default '{FLSSUB_}'::text[] not null,
    -- Two payments of a subscription within this time are a repeat, not a renewal.
    renewal_gap interval default '1 day'::interval not null,
    -- In which days and times are to be shown to people (IANA name). For later: nothing reads it yet.
    time_zone text default 'UTC'::text not null,
    constraint merchants_pkey PRIMARY KEY (merchant),
    constraint merchants_cancel_after_ck CHECK ((cancel_after >= '00:00:00'::interval)),
    constraint merchants_expire_after_ck CHECK ((expire_after > '00:00:00'::interval)),
    constraint merchants_late_success_ck CHECK ((late_success = ANY (ARRAY['pay'::text, 'review'::text]))),
    constraint merchants_merchant_ck CHECK (((merchant)::text ~ '^[A-Za-z0-9._-]+$'::text)),
    constraint merchants_mode_ck CHECK ((mode = ANY (ARRAY['live'::text, 'test'::text]))),
    constraint merchants_recurring_ck CHECK (((array_position(recurring, NULL::text) IS NULL) AND (''::text <> ALL (recurring)))),
    constraint merchants_rejected_per_hour_ck CHECK ((rejected_per_hour >= 0)),
    constraint merchants_remind_after_ck CHECK ((remind_after >= '00:00:00'::interval)),
    constraint merchants_renewal_gap_ck CHECK ((renewal_gap >= '00:00:00'::interval)),
    constraint merchants_second_payment_ck CHECK ((second_payment = ANY (ARRAY['due'::text, 'check'::text]))),
    constraint merchants_unknown_orders_ck CHECK ((unknown_orders = ANY (ARRAY['accept'::text, 'review'::text]))),
    constraint merchants_verify_ck CHECK ((verify = ANY (ARRAY['off'::text, 'callback'::text])))
);

-- What customers buy, one row for each order key of a merchant. The state may only change as
-- orders_state_machine() allows.
create table foloosi.orders (
    -- Number of the order in this schema.
    id bigint default nextval('foloosi.id_seq'::regclass) not null,
    -- Whose order it is.
    merchant character varying(64) collate "C" not null,
    -- The merchant's own number for it.
    order_ref character varying(255) collate "C" not null,
    -- pending, verifying, paid, refunded, cancelled or review.
    state foloosi.order_state not null,
    -- The expected amount if registered; otherwise the amount of the transaction in transaction_id.
    amount foloosi.amount,
    -- Its currency.
    currency foloosi.currency,
    -- Why it is in review, or late; null: nothing to add.
    reason text,
    -- Paid, or put to review, by a success that came after a failure had cancelled it.
    late boolean default false not null,
    -- Database role of the person who decided; null: only webhooks did. A cancelled order with a name here is
    -- closed.
    decided_by text,
    -- The transaction that brought the order into its present state: the one that pays it, cancelled it, or is
    -- in question.
    transaction_id bigint,
    -- When the order became known.
    created_at timestamp with time zone default now() not null,
    -- When the row last changed; null: not since it was created.
    updated_at timestamp with time zone,
    -- When register_order() announced it with its expected amount; null: never.
    registered_at timestamp with time zone,
    -- When a person last decided its state; null: only webhooks did.
    decided_at timestamp with time zone,
    -- How much of its captured money, in its currency, is known to have gone back; null: no refund is known.
    refunded numeric,
    -- How much of its captured money, in its currency, is here: captured less refunded; null: none was captured.
    money_left numeric,
    -- When cancel_due() cancels it if it is still pending; null: time does not.
    cancel_at timestamp with time zone,
    constraint orders_pkey PRIMARY KEY (order_ref, merchant)
);
CREATE INDEX orders_id_idx ON foloosi.orders USING brin (id) WITH (pages_per_range='128', autosummarize='on');
CREATE INDEX orders_waiting_idx ON foloosi.orders USING btree (cancel_at, id) WHERE ((cancel_at IS NOT NULL) OR ((state)::text = ANY (ARRAY['review'::text, 'verifying'::text])));
CREATE TRIGGER orders_keep_identity BEFORE UPDATE OF id, merchant, order_ref ON foloosi.orders FOR EACH STATEMENT EXECUTE FUNCTION foloosi.keep_identity();
CREATE TRIGGER orders_list_other_transaction AFTER UPDATE OF transaction_id ON foloosi.orders FOR EACH ROW WHEN (((old.transaction_id IS DISTINCT FROM new.transaction_id) AND (old.transaction_id IS NOT NULL))) EXECUTE FUNCTION foloosi.list_other_transaction();
CREATE TRIGGER orders_state_machine BEFORE UPDATE OF state ON foloosi.orders FOR EACH ROW WHEN (((old.state)::text IS DISTINCT FROM (new.state)::text)) EXECUTE FUNCTION foloosi.orders_state_machine();

-- Transactions of an order beyond the one in its transaction_id, and refunds of what is unknown that name it,
-- also where no such order is there. A transaction that has an order is named by the order or listed here; one
-- may be both. Read it through transactions_of().
create table foloosi.other_transactions (
    -- The order.
    order_ref character varying(255) collate "C" not null,
    -- Whose order it is.
    merchant character varying(64) collate "C" not null,
    -- The transaction (foloosi.transactions.id).
    transaction_id bigint not null,
    -- It pays a further period of a subscription (row 26).
    renewal boolean default false not null,
    -- No such order is there yet: the first delivery that names it finds this.
    awaits_order boolean default false not null,
    constraint other_transactions_pkey PRIMARY KEY (order_ref, merchant, transaction_id)
);
CREATE INDEX other_transactions_awaits_order_idx ON foloosi.other_transactions USING btree (order_ref, merchant) WHERE awaits_order;

-- Cases in which a transaction's money must, or may have to, go back. At most one open case for each
-- transaction.
create table foloosi.paybacks (
    -- Number of the case in this schema.
    id bigint default nextval('foloosi.id_seq'::regclass) not null,
    -- At whose account.
    merchant character varying(64) collate "C" not null,
    -- The order that the transaction was for; null: none.
    order_ref character varying(255) collate "C",
    -- due, check or settled.
    state foloosi.payback_state not null,
    -- double_payment, order_closed, status_contradiction, captured_though_failed, renewal; or withdrawn: nothing
    -- has to go back.
    reason text not null,
    -- How much has to go back: what was left of the transaction when it was last looked at.
    amount foloosi.amount,
    -- In which currency.
    currency foloosi.currency,
    -- Whose money.
    transaction_id bigint not null,
    -- Database role of the person who closed it; null: a refund did, or it is open.
    settled_by text,
    -- What the person wrote.
    note text,
    -- When the case was opened.
    created_at timestamp with time zone default now() not null,
    -- When it last changed.
    updated_at timestamp with time zone default now() not null,
    -- When it was closed.
    settled_at timestamp with time zone,
    -- How often its event came again.
    reminders integer default 0 not null,
    -- When it last did; null: never.
    reminded_at timestamp with time zone,
    constraint paybacks_pkey PRIMARY KEY (id),
    constraint paybacks_transaction_fkey FOREIGN KEY (transaction_id) REFERENCES foloosi.transactions(id),
    constraint paybacks_settled_ck CHECK ((((state)::text = 'settled'::text) = (settled_at IS NOT NULL)))
);
CREATE UNIQUE INDEX paybacks_open_key ON foloosi.paybacks USING btree (transaction_id) WHERE ((state)::text = ANY (ARRAY['due'::text, 'check'::text]));
CREATE INDEX paybacks_transaction_idx ON foloosi.paybacks USING btree (transaction_id);

-- What a reconciliation found, one row a transaction. Those that matched go with its end, the others with their
-- run.
create table foloosi.reconciled (
    -- Which run.
    reconciliation_id bigint not null,
    -- The delivery (source reconcile) by which it was fed; null: it was not.
    delivery_id bigint,
    -- The provider's number; #day/page/row of one without.
    transaction_no character varying(128) collate "C" not null,
    -- What the provider says.
    transaction_status character varying(64),
    -- matched, missing, differed, other or unclear.
    verdict foloosi.reconcile_verdict not null,
    -- What became of the delivery.
    outcome foloosi.outcome,
    -- Why, in a few words; null: nothing to add.
    reason text,
    constraint reconciled_pkey PRIMARY KEY (reconciliation_id, transaction_no),
    constraint reconciled_reconciliation_fkey FOREIGN KEY (reconciliation_id) REFERENCES foloosi.reconciliations(id) ON DELETE CASCADE
);

-- Each run of foloosi-worker through a merchant's list at the provider: its position, and its result. Those that
-- found nothing go after two days.
create table foloosi.reconciliations (
    -- Number of the run in this schema.
    id bigint default nextval('foloosi.id_seq'::regclass) not null,
    -- Whose books.
    merchant character varying(64) collate "C" not null,
    -- From which day on, as the provider dates.
    first_day date not null,
    -- To which day, included.
    last_day date not null,
    -- The day that is read next; after last_day: all are.
    day date not null,
    -- The page of that day that is read next.
    page integer default 1 not null,
    -- How many had arrived and say the same.
    matched integer default 0 not null,
    -- How many had never arrived, and were fed.
    missing integer default 0 not null,
    -- How many had arrived and say something else; they were fed, and the order rules decided.
    differed integer default 0 not null,
    -- How many are neither success nor failed.
    other integer default 0 not null,
    -- How many could not be read, or not be believed; they were not fed.
    unclear integer default 0 not null,
    -- When it began.
    created_at timestamp with time zone default now() not null,
    -- When it last went on.
    updated_at timestamp with time zone default now() not null,
    -- When all was read; null: it was interrupted, or is running.
    finished_at timestamp with time zone,
    -- Why it was interrupted; null: it was not, or by force.
    reason text,
    -- All days from this one to its beginning were read, by it and those before it, and nothing was unclear;
    -- null: not so, or it is not finished.
    covers_from date,
    constraint reconciliations_pkey PRIMARY KEY (id),
    constraint reconciliations_days_ck CHECK ((first_day <= last_day))
);
CREATE INDEX reconciliations_merchant_idx ON foloosi.reconciliations USING btree (merchant, created_at);

-- What was said to have gone back, one row for each refund that was said; what it amounts to is in
-- transactions.refunded.
create table foloosi.refunds (
    -- Number of the refund in this schema.
    id bigint default nextval('foloosi.id_seq'::regclass) not null,
    -- At whose account.
    merchant character varying(64) collate "C" not null,
    -- Of which transaction.
    transaction_id bigint not null,
    -- The delivery that said so; null: none did.
    delivery_id bigint,
    -- The order key of that delivery, which decides nothing; null: none.
    order_named character varying(255) collate "C",
    -- The payment reference of that delivery; null: none.
    payment_reference character varying(128) collate "C",
    -- How much; null: not said, which means all.
    amount foloosi.amount,
    -- Its currency.
    currency foloosi.currency,
    -- delivery; provider: its answer to a question; person; or upgrade: what the first version had settled, or
    -- could not read any more.
    source text not null,
    -- It counts; false: it waits for the provider's word, or that says too little.
    believed boolean default true not null,
    -- Database role of the person; null: no person.
    said_by text,
    -- What the person wrote.
    note text,
    -- When it was said.
    created_at timestamp with time zone default now() not null,
    -- When the person took it back; null: it holds.
    undone_at timestamp with time zone,
    -- No transaction has its payment_reference yet.
    awaits_reference boolean default false not null,
    constraint refunds_pkey PRIMARY KEY (id),
    constraint refunds_transaction_fkey FOREIGN KEY (transaction_id) REFERENCES foloosi.transactions(id),
    constraint refunds_person_ck CHECK (((source = 'person'::text) = (said_by IS NOT NULL))),
    constraint refunds_source_ck CHECK ((source = ANY (ARRAY['delivery'::text, 'provider'::text, 'person'::text, 'upgrade'::text])))
);
CREATE INDEX refunds_awaits_reference_idx ON foloosi.refunds USING btree (payment_reference, merchant) WHERE awaits_reference;
CREATE INDEX refunds_order_idx ON foloosi.refunds USING btree (order_named, merchant) WHERE (order_named IS NOT NULL);
CREATE INDEX refunds_reference_idx ON foloosi.refunds USING btree (payment_reference, merchant) WHERE (payment_reference IS NOT NULL);
CREATE INDEX refunds_transaction_idx ON foloosi.refunds USING btree (transaction_id);
CREATE INDEX refunds_unbelieved_idx ON foloosi.refunds USING btree (transaction_id) WHERE ((NOT believed) AND (undone_at IS NULL));

-- Rejected deliveries of each merchant and hour: a leaked token fills no disk.
create table foloosi.rejections (
    -- Whose endpoint.
    merchant character varying(64) collate "C" not null,
    -- Beginning of the hour.
    hour timestamp with time zone not null,
    -- How many were kept with their bytes, up to the merchant's rejected_per_hour.
    kept integer default 0 not null,
    -- How many were only counted.
    dropped integer default 0 not null,
    constraint rejections_pkey PRIMARY KEY (merchant, hour)
);

-- Which events say again that a payback is open.
create table foloosi.reminders (
    -- The event.
    event_id bigint not null,
    -- The how manieth reminder it is, from 1.
    number integer not null,
    constraint reminders_pkey PRIMARY KEY (event_id)
);

-- How long what is kept, for all merchants: one row, written by set_retention(). foloosictl retain does it.
create table foloosi.retention (
    -- There is one row.
    one boolean default true not null,
    -- A month of raw bytes goes when its last day is so many days ago.
    bodies_days integer default 400 not null,
    -- Personal fields of a transaction are masked so many days after it became known.
    personal_days integer default 90 not null,
    -- Up to this id all transactions are masked: where the next run begins.
    masked_to bigint default 0 not null,
    -- When a run last came to its end; null: never.
    ran_at timestamp with time zone,
    -- When the days were last set; null: they are the defaults.
    updated_at timestamp with time zone,
    constraint retention_pkey PRIMARY KEY (one),
    constraint retention_bodies_days_ck CHECK (((bodies_days >= 0) AND (bodies_days <= 36500))),
    constraint retention_one_ck CHECK (one),
    constraint retention_personal_days_ck CHECK (((personal_days >= 0) AND (personal_days <= 36500)))
);

-- The functions, views and grants as foloosictl migrate last ran them, one row a file. Empty after an
-- installation by psql: the next foloosictl migrate runs them once more.
create table foloosi.schema_files (
    -- The file's path below sql/.
    path text not null,
    -- SHA-256 of the file; when one differs, all are run again.
    digest bytea not null,
    -- Start of the transaction that ran it.
    applied_at timestamp with time zone default now() not null,
    constraint schema_files_pk PRIMARY KEY (path),
    constraint schema_files_digest_ck CHECK ((octet_length(digest) = 32))
);

-- The numbered migrations that made this schema, one row a file of sql/migrations.
create table foloosi.schema_migrations (
    -- The number that the file's name begins with; the highest is the schema's version.
    version integer not null,
    -- The rest of the file's name.
    name text not null,
    -- SHA-256 of the file as it was applied: an applied file is never edited.
    digest bytea not null,
    -- Start of the transaction that applied it.
    applied_at timestamp with time zone default now() not null,
    constraint schema_migrations_pk PRIMARY KEY (version),
    constraint schema_migrations_digest_ck CHECK ((octet_length(digest) = 32))
);

-- Payment attempts at Foloosi, as the provider last described them.
create table foloosi.transactions (
    -- Number of the transaction in this schema.
    id bigint default nextval('foloosi.id_seq'::regclass) not null,
    -- At whose account.
    merchant character varying(64) collate "C" not null,
    -- The provider's number; null on some failures. Guessable, never a secret.
    transaction_no character varying(128) collate "C",
    -- The gateway's reference; null on some failures.
    payment_reference character varying(128) collate "C",
    -- The order that it is for; null: none was named, or the naming waits for a person.
    order_ref character varying(255) collate "C",
    -- captured, failed, verifying, denied, unknown or test.
    state foloosi.transaction_state not null,
    -- What the provider last said: success, failed, or refund if nothing else is known. A failed after a success
    -- changes nothing here.
    transaction_status text not null,
    -- transaction_amount.
    amount foloosi.amount,
    -- transaction_currency.
    currency foloosi.currency,
    -- The provider's words.
    transaction_message character varying(1024),
    -- The merchant's own field; by convention the order key. Once it is masked null, unless it is the order key.
    optional1 character varying(255),
    -- The merchant's own field. Once it is masked null, unless it is the order key.
    optional2 character varying(255),
    -- The merchant's own field. Once it is masked null, unless it is the order key.
    optional3 character varying(255),
    -- Personal: null once it is masked.
    customer_email character varying(320),
    -- Personal: null once it is masked.
    customer_mobile character varying(64),
    -- Personal: null once it is masked. Text: leading zeros count.
    card_last_four character varying(32),
    -- When it became known.
    created_at timestamp with time zone default foloosi.clock() not null,
    -- When the row last changed.
    updated_at timestamp with time zone default now() not null,
    -- When its personal fields were taken out, by retention or erase_customer(): no later delivery fills them
    -- again. Null: they were not.
    masked_at timestamp with time zone,
    -- When it was captured; null: when it became known, or nothing was captured.
    captured_at timestamp with time zone,
    -- How much of its captured money is known to have gone back, computed anew with each refund; null: no refund
    -- is known, or nothing was captured.
    refunded numeric,
    -- How much of its captured money is here: amount less refunded; null: nothing was captured.
    money_left numeric,
    -- The provider contradicted itself (rows 6 and 7 of the order rules), or one delivery spoke of it and of
    -- another: its paybacks are for a person to check.
    contradicted boolean default false not null,
    -- Row 3, 4 or 19 left it without an order: only a person gives it one.
    order_withheld boolean default false not null,
    constraint transactions_pkey PRIMARY KEY (id)
);
CREATE UNIQUE INDEX transactions_no_key ON foloosi.transactions USING btree (transaction_no, merchant) WHERE (transaction_no IS NOT NULL);
CREATE INDEX transactions_reference_idx ON foloosi.transactions USING btree (foloosi.reference_key((payment_reference)::text, (merchant)::text, ((state)::text = 'captured'::text), id)) WHERE (payment_reference IS NOT NULL);
CREATE INDEX transactions_unconfirmed_idx ON foloosi.transactions USING btree (id) WHERE ((state)::text = ANY (ARRAY['verifying'::text, 'denied'::text]));
CREATE TRIGGER transactions_keep_identity BEFORE UPDATE OF id, merchant ON foloosi.transactions FOR EACH STATEMENT EXECUTE FUNCTION foloosi.keep_identity();

-- Transactions that the provider was, or is being, asked about (verify = callback).
create table foloosi.verifications (
    -- Which transaction.
    transaction_id bigint not null,
    -- At whose account.
    merchant character varying(64) collate "C" not null,
    -- How often the provider was asked.
    attempts integer default 0 not null,
    -- When it may be asked (again).
    due_at timestamp with time zone not null,
    -- When it was first asked.
    created_at timestamp with time zone default now() not null,
    -- When the provider's word was applied; null: it has not said any yet.
    verified_at timestamp with time zone,
    -- What became of it: confirmed, differs, captured (of a failure), unverifiable, or moot: somebody else
    -- decided before.
    outcome text,
    -- The exact difference.
    detail text,
    -- Why the last question had no answer.
    reason text,
    constraint verifications_pkey PRIMARY KEY (transaction_id)
);
CREATE INDEX verifications_due_idx ON foloosi.verifications USING btree (due_at) WHERE (verified_at IS NULL);
