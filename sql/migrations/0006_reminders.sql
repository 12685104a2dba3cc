-- 0006: open paybacks are followed: after a time of the merchant's choice their event comes again.

alter table foloosi.merchants
    add column remind_after interval not null default '3 days'
        constraint merchants_remind_after_ck check (remind_after >= '0');
comment on column foloosi.merchants.remind_after is 'How long a payback may be open before its event comes again, and again; 0: it does not.';

alter table foloosi.paybacks
    add column reminders   int not null default 0,
    add column reminded_at timestamptz;
comment on column foloosi.paybacks.reminders is 'How often its event came again.';
comment on column foloosi.paybacks.reminded_at is 'When it last did; null: never.';

-- A row for an event that reminds, and none for others: foloosi.events has no byte more.
create table foloosi.reminders (
    event_id bigint not null,
    number   int not null,
    constraint reminders_pkey primary key (event_id)
);
comment on table foloosi.reminders is 'Which events say again that a payback is open.';
comment on column foloosi.reminders.event_id is 'The event.';
comment on column foloosi.reminders.number is 'The how manieth reminder it is, from 1.';

comment on column foloosi.paybacks.reason is 'double_payment, order_closed, status_contradiction, captured_though_failed; or withdrawn: the order was paid after all.';
comment on column foloosi.dispatches.status is 'HTTP or SMTP status of the last answer; null: there was none.';

-- set_merchant() has one parameter more.
drop function if exists foloosi.set_merchant(text, text, text, text, text);
