-- 0003: what happens after the commit. Events on their way out, and transactions that the
-- provider is asked about.
--
-- Nothing of this touches foloosi.events: whoever wants events pays for them, with rows of
-- their own, and a payment costs what it cost before.

create domain foloosi.dispatch_state as text
    constraint dispatch_state_is_known check (value in ('waiting', 'claimed', 'dead'));
comment on domain foloosi.dispatch_state is 'waiting: from due_at on it may be handed out; claimed: handed out until due_at; dead: given up, waits for a person.';

-- ---------------------------------------------------------------- consumers

create table foloosi.consumers (
    id            int not null generated always as identity,
    consumer      varchar(128) not null constraint consumers_consumer_ck check (consumer <> ''),
    merchant      varchar(64) collate "C",
    endpoint      text,
    types         text[],
    position      bigint not null,
    failures      int not null default 0,
    failing_since timestamptz,
    paused_until  timestamptz,
    probe_id      bigint,
    disabled_at   timestamptz,
    reason        text,
    created_at    timestamptz not null default now(),
    constraint consumers_pkey primary key (id),
    constraint consumers_consumer_key unique (consumer)
);
comment on table foloosi.consumers is 'Who gets events, each at its own pace: by next_events(), or pushed by foloosi-worker.';
comment on column foloosi.consumers.id is 'Number of the consumer.';
comment on column foloosi.consumers.consumer is 'Its name: chosen in add_consumer(), or merchant:digest for a URL that foloosi-worker posts to.';
comment on column foloosi.consumers.merchant is 'Whose events it gets; null: everybody''s.';
comment on column foloosi.consumers.endpoint is 'Scheme and host that the events are posted to, without the rest of the URL, which may be secret; null: it pulls.';
comment on column foloosi.consumers.types is 'Which types of events it gets; null: all.';
comment on column foloosi.consumers.position is 'Up to this id events are in dispatches, or were finished, or are in event_gaps.';
comment on column foloosi.consumers.failures is 'Posts in a row that found the endpoint out of order.';
comment on column foloosi.consumers.failing_since is 'When the first of them was; null: the last post was heard.';
comment on column foloosi.consumers.paused_until is 'The circuit is open: nothing is posted before, and then one event to try; null: it is closed.';
comment on column foloosi.consumers.probe_id is 'That one, while it is under way; null: none is.';
comment on column foloosi.consumers.disabled_at is 'Since when it gets nothing: it answered 410, or disable_consumer() was called; null: it does.';
comment on column foloosi.consumers.reason is 'Why it is disabled, or what the last failure was.';
comment on column foloosi.consumers.created_at is 'When it was added.';

-- ---------------------------------------------------------------- events on their way

create table foloosi.dispatches (
    consumer_id int not null,
    attempts    int not null default 0,
    event_id    bigint not null,
    order_key   bigint,
    due_at      timestamptz not null,
    created_at  timestamptz not null default clock_timestamp(),
    state       foloosi.dispatch_state not null default 'waiting',
    status      int,
    reason      text,
    constraint dispatches_pkey primary key (consumer_id, event_id),
    constraint dispatches_consumer_fkey foreign key (consumer_id) references foloosi.consumers (id) on delete cascade
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 2000);
create index dispatches_due_idx on foloosi.dispatches (consumer_id, due_at, event_id) where state <> 'dead';
create index dispatches_order_idx on foloosi.dispatches (order_key, consumer_id, event_id) where state <> 'dead';
create index dispatches_dead_idx on foloosi.dispatches (consumer_id, event_id) where state = 'dead';
comment on table foloosi.dispatches is 'Events that a consumer was offered and has not finished. A row goes when it has.';
comment on column foloosi.dispatches.consumer_id is 'For whom.';
comment on column foloosi.dispatches.attempts is 'How often it was handed out.';
comment on column foloosi.dispatches.event_id is 'Which event.';
comment on column foloosi.dispatches.order_key is 'Lock key of its order: of one order only the earliest is handed out; null: it concerns none.';
comment on column foloosi.dispatches.due_at is 'From when on it is handed out (again).';
comment on column foloosi.dispatches.created_at is 'When it was first offered.';
comment on column foloosi.dispatches.state is 'waiting, claimed or dead.';
comment on column foloosi.dispatches.status is 'HTTP status of the last answer; null: there was none.';
comment on column foloosi.dispatches.reason is 'What went wrong the last time; null: nothing.';

-- Ids below the position that no event is seen for. A transaction that drew one and runs on may
-- still commit it; one that was rolled back never does.
create table foloosi.event_gaps (
    consumer_id int not null,
    first_id    bigint not null,
    last_id     bigint not null,
    until       xid8 not null,
    constraint event_gaps_pkey primary key (consumer_id, first_id),
    constraint event_gaps_consumer_fkey foreign key (consumer_id) references foloosi.consumers (id) on delete cascade
);
comment on table foloosi.event_gaps is 'Ids of events that a consumer has passed without seeing them: their transactions may still be running.';
comment on column foloosi.event_gaps.consumer_id is 'Who has passed them.';
comment on column foloosi.event_gaps.first_id is 'The first of a range.';
comment on column foloosi.event_gaps.last_id is 'The last of it.';
comment on column foloosi.event_gaps.until is 'Whoever drew them has a lower transaction number: once none of these runs, the gap stays one and is forgotten.';

-- ---------------------------------------------------------------- verification

create table foloosi.verifications (
    transaction_id bigint not null,
    merchant       varchar(64) collate "C" not null,
    attempts       int not null default 0,
    due_at         timestamptz not null,
    created_at     timestamptz not null default now(),
    verified_at    timestamptz,
    outcome        text,
    detail         text,
    reason         text,
    constraint verifications_pkey primary key (transaction_id)
);
create index verifications_due_idx on foloosi.verifications (due_at) where verified_at is null;
comment on table foloosi.verifications is 'Transactions that the provider was, or is being, asked about (verify = callback).';
comment on column foloosi.verifications.transaction_id is 'Which transaction.';
comment on column foloosi.verifications.merchant is 'At whose account.';
comment on column foloosi.verifications.attempts is 'How often the provider was asked.';
comment on column foloosi.verifications.due_at is 'When it may be asked (again).';
comment on column foloosi.verifications.created_at is 'When it was first asked.';
comment on column foloosi.verifications.verified_at is 'When the provider''s word was applied; null: it has not said any yet.';
comment on column foloosi.verifications.outcome is 'What became of it: confirmed, differs, captured (of a failure), unverifiable, or moot: somebody else decided before.';
comment on column foloosi.verifications.detail is 'The exact difference.';
comment on column foloosi.verifications.reason is 'Why the last question had no answer.';
