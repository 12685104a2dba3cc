-- 0004: the provider's books against ours. A reconciliation walks the provider's list of transactions day by
-- day; what it has seen is kept until the next ones, so that it goes on where it was interrupted, counts
-- nothing twice however the pages shift, and says afterwards what was wrong.

create domain foloosi.reconcile_verdict as text
    constraint reconcile_verdict_is_known check (value in ('matched', 'missing', 'differed', 'other', 'unclear'));
comment on domain foloosi.reconcile_verdict is 'matched: it had arrived and says the same; missing: it never arrived; differed: it had arrived and says something else; other: neither success nor failed; unclear: it could not be read, or not be believed.';

create table foloosi.reconciliations (
    id          bigint not null default nextval('foloosi.id_seq'),
    merchant    varchar(64) collate "C" not null,
    first_day   date not null,
    last_day    date not null,
    day         date not null,
    page        int not null default 1,
    matched     int not null default 0,
    missing     int not null default 0,
    differed    int not null default 0,
    other       int not null default 0,
    unclear     int not null default 0,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    finished_at timestamptz,
    reason      text,
    constraint reconciliations_pkey primary key (id),
    constraint reconciliations_days_ck check (first_day <= last_day)
);
comment on table foloosi.reconciliations is 'Each run of "foloosi-worker reconcile" for a merchant: its position, and its result.';
comment on column foloosi.reconciliations.id is 'Number of the run in this schema.';
comment on column foloosi.reconciliations.merchant is 'Whose books.';
comment on column foloosi.reconciliations.first_day is 'From which day on, as the provider dates.';
comment on column foloosi.reconciliations.last_day is 'To which day, included.';
comment on column foloosi.reconciliations.day is 'The day that is read next; after last_day: all are.';
comment on column foloosi.reconciliations.page is 'The page of that day that is read next.';
comment on column foloosi.reconciliations.matched is 'How many had arrived and say the same.';
comment on column foloosi.reconciliations.missing is 'How many had never arrived, and were fed.';
comment on column foloosi.reconciliations.differed is 'How many had arrived and say something else; they were fed, and the order rules decided.';
comment on column foloosi.reconciliations.other is 'How many are neither success nor failed.';
comment on column foloosi.reconciliations.unclear is 'How many could not be read, or not be believed; they were not fed.';
comment on column foloosi.reconciliations.created_at is 'When it began.';
comment on column foloosi.reconciliations.updated_at is 'When it last went on.';
comment on column foloosi.reconciliations.finished_at is 'When all was read; null: it was interrupted, or is running.';
comment on column foloosi.reconciliations.reason is 'Why it was interrupted; null: it was not, or by force.';

create table foloosi.reconciled (
    reconciliation_id  bigint not null,
    delivery_id        bigint,
    transaction_no     varchar(128) collate "C" not null,
    transaction_status varchar(64),
    verdict            foloosi.reconcile_verdict not null,
    outcome            foloosi.outcome,
    reason             text,
    constraint reconciled_pkey primary key (reconciliation_id, transaction_no),
    constraint reconciled_reconciliation_fkey foreign key (reconciliation_id) references foloosi.reconciliations (id) on delete cascade
);
comment on table foloosi.reconciled is 'What a reconciliation found, one row a transaction. Those that matched go a day after the end, the others with their run.';
comment on column foloosi.reconciled.reconciliation_id is 'Which run.';
comment on column foloosi.reconciled.delivery_id is 'The delivery (source reconcile) by which it was fed; null: it was not.';
comment on column foloosi.reconciled.transaction_no is 'The provider''s number; #day/page/row of one without.';
comment on column foloosi.reconciled.transaction_status is 'What the provider says.';
comment on column foloosi.reconciled.verdict is 'matched, missing, differed, other or unclear.';
comment on column foloosi.reconciled.outcome is 'What became of the delivery.';
comment on column foloosi.reconciled.reason is 'Why, in a few words; null: nothing to add.';
