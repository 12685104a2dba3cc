-- 0007: how long bytes and personal fields are kept, and what was erased because somebody asked.
--
-- No table is rewritten.

create table foloosi.retention (
    one           boolean not null default true constraint retention_one_ck check (one),
    bodies_days   int not null default 400 constraint retention_bodies_days_ck check (bodies_days between 0 and 36500),
    personal_days int not null default 90 constraint retention_personal_days_ck check (personal_days between 0 and 36500),
    masked_to     bigint not null default 0,
    ran_at        timestamptz,
    updated_at    timestamptz,
    constraint retention_pkey primary key (one)
);
comment on table foloosi.retention is 'How long what is kept, for all merchants: one row, written by set_retention(). foloosictl retain does it.';
comment on column foloosi.retention.one is 'There is one row.';
comment on column foloosi.retention.bodies_days is 'A month of raw bytes goes when its last day is so many days ago.';
comment on column foloosi.retention.personal_days is 'Personal fields of a transaction are masked so many days after it became known.';
comment on column foloosi.retention.masked_to is 'Up to this id all transactions are masked: where the next run begins.';
comment on column foloosi.retention.ran_at is 'When a run last came to its end; null: never.';
comment on column foloosi.retention.updated_at is 'When the days were last set; null: they are the defaults.';
insert into foloosi.retention default values;

alter table foloosi.transactions add masked_at timestamptz;
comment on column foloosi.transactions.masked_at is 'When its personal fields were taken out, by retention or erase_customer(): no later delivery fills them again. Null: they were not.';
comment on column foloosi.transactions.customer_email is 'Personal: null once it is masked.';
comment on column foloosi.transactions.customer_mobile is 'Personal: null once it is masked.';
comment on column foloosi.transactions.card_last_four is 'Personal: null once it is masked. Text: leading zeros count.';
comment on column foloosi.transactions.optional1 is 'The merchant''s own field; by convention the order key. Once it is masked null, unless it is the order key.';
comment on column foloosi.transactions.optional2 is 'The merchant''s own field. Once it is masked null, unless it is the order key.';
comment on column foloosi.transactions.optional3 is 'The merchant''s own field. Once it is masked null, unless it is the order key.';

create table foloosi.erasures (
    id           bigint not null default nextval('foloosi.id_seq'),
    erased_by    text not null,
    note         text,
    transactions int not null,
    bodies       int not null,
    texts        int not null,
    created_at   timestamptz not null default now(),
    constraint erasures_pkey primary key (id)
);
comment on table foloosi.erasures is 'What erase_customer() did. Whose data it was stands nowhere: a digest of an address can be guessed.';
comment on column foloosi.erasures.id is 'Number of the erasure in this schema.';
comment on column foloosi.erasures.erased_by is 'Database role of the person.';
comment on column foloosi.erasures.note is 'What the person wrote: the number of the request, say.';
comment on column foloosi.erasures.transactions is 'How many transactions were masked.';
comment on column foloosi.erasures.bodies is 'How many deliveries lost their raw bytes.';
comment on column foloosi.erasures.texts is 'How many notes, details and messages named the customer, and do no longer.';
comment on column foloosi.erasures.created_at is 'When.';
