-- SPDX-License-Identifier: MIT
-- Reconciliation: the provider's list of transactions against ours.
--
--   begin_reconciliation -> for each page: compare_transactions, record_reconciled -> end_reconciliation
--
-- foloosi-worker asks the provider; what the answers mean is decided here. What never arrived, or says
-- something else by now, becomes a delivery of source "reconcile" whose body is made of what the provider
-- said, always the same bytes for the same words: fed again it is a duplicate, and the order rules
-- decide as for a webhook.
--
-- A run keeps what it has seen by transaction number. So pages may shift, days may overlap, a run may be killed and
-- go on, and two processes may work on one run: each transaction is fed once and counted once.

create or replace function foloosi.begin_reconciliation(merchant text, first_day date default null, last_day date default null)
returns table (id bigint, day date, page int, from_day date, to_day date)
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    p_merchant text := begin_reconciliation.merchant;
    p_first_day date := begin_reconciliation.first_day;
    p_last_day date := begin_reconciliation.last_day;
    moment timestamptz := foloosi.clock();
    today  date := (moment at time zone 'UTC')::date; -- wherever the provider is: the day before and the next are read, too
    before foloosi.reconciliations; -- the last that covers something
    oldest date; -- what waits for it is of this day, or younger
begin
    select * into before from foloosi.reconciliations r
    where r.merchant = p_merchant and r.covers_from is not null order by r.created_at desc limit 1;
    delete from foloosi.reconciliations r
    where r.merchant = p_merchant and r.id <> coalesce(before.id, 0)
      and (r.updated_at < now() - interval '1 year'
           or r.updated_at < now() - interval '2 days' and r.finished_at is not null and r.missing + r.differed + r.unclear = 0);
    delete from foloosi.reconciled x using foloosi.reconciliations r
    where r.id = x.reconciliation_id and r.merchant = p_merchant and x.verdict = 'matched' and r.updated_at < now() - interval '1 day';

    if p_first_day is null then
        select (min(w.created_at) at time zone 'UTC')::date into oldest
        from (select o.created_at from foloosi.orders o where o.state = 'pending' and o.cancel_at is not null and o.merchant = p_merchant
              union all
              select t.created_at from foloosi.transactions t where t.state = 'verifying' and t.transaction_no is null and t.merchant = p_merchant) w
        where w.created_at > moment - interval '30 days';
        p_last_day := today;
        p_first_day := greatest(today - 31, least(today - 1, (before.created_at at time zone 'UTC')::date - 1,
            case when before.covers_from is null or before.covers_from >= oldest then oldest - 1 end));
    end if;

    -- two that begin at the same time begin one run
    perform pg_advisory_xact_lock(foloosi.lock_key('reconciliation', p_merchant, concat_ws(' ', p_first_day, p_last_day)));
    return query
        select r.id, r.day, r.page, r.first_day, r.last_day from foloosi.reconciliations r
        where r.merchant = p_merchant and r.first_day = p_first_day and r.last_day = p_last_day
          and r.finished_at is null and r.updated_at > now() - interval '1 day'
        order by r.id desc limit 1;
    if not found then
        return query
            insert into foloosi.reconciliations as r (merchant, first_day, last_day, day, created_at)
            values (p_merchant, p_first_day, p_last_day, p_first_day, moment) returning r.id, r.day, r.page, r.first_day, r.last_day;
    end if;
end $$;
comment on function foloosi.begin_reconciliation(text, date, date) is
'Begin a reconciliation, or go on with one of the same days that was interrupted within the last day. Parameters: merchant, first and last day; without days: from yesterday, or where the last one left off, or as long as something has waited for one, but no longer than 31 days. Returns its id, the day and page to be read next, first and last day. Forgets runs that found nothing after two days, and all after a year. Calls: lock_key, clock. Tables: reconciliations, reconciled (written), orders, transactions (read).';

create or replace function foloosi.known_reconciliation(p_id bigint) returns foloosi.reconciliations
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
declare
    r foloosi.reconciliations;
begin
    select * into r from foloosi.reconciliations x where x.id = p_id for no key update;
    if r.id is null then
        raise exception 'there is no reconciliation %', p_id using errcode = 'no_data_found';
    end if;
    return r;
end $$;
comment on function foloosi.known_reconciliation(bigint) is 'The row of a run, locked. Error: no such run. Tables: reconciliations (locked).';

create or replace function foloosi.same_transaction(t foloosi.transactions, p_status text, p_amount numeric, p_currency text) returns boolean
language sql immutable
as $$
    -- a failure moves no money, whatever its amount; what the provider denied and now lists as a success, it says otherwise
    select coalesce(t.transaction_status = p_status and t.state <> 'denied'
                    and (p_status = 'failed' or t.amount = p_amount and t.currency = p_currency), false)
$$;
comment on function foloosi.same_transaction(foloosi.transactions, text, numeric, text) is 'Does the provider say what we know? False, if we know nothing.';

create or replace function foloosi.compare_transactions(
    reconciliation bigint, transaction_nos text[], statuses text[], amounts numeric[], currencies text[])
returns table (i int, verdict text)
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    run foloosi.reconciliations := foloosi.known_reconciliation(compare_transactions.reconciliation);
begin
    perform foloosi.need_read_committed();
    return query
        with compared as materialized (
            select a.i::int as i, a.no, a.status,
                   case when x.transaction_no is not null or a.i > a.first_i then 'seen'
                        when a.status = 'refund' then case
                            when t.state = 'captured' and t.refunded is not null and t.money_left = 0
                                 or t.state in ('unknown', 'test') and exists (select from foloosi.refunds r where r.transaction_id = t.id) then 'matched'
                            else 'ask' end
                        when a.status not in ('success', 'failed') then 'record'
                        when foloosi.same_transaction(t, a.status, a.amount, a.currency) then 'matched'
                        else 'ask' end as verdict
            from (select u.*, min(u.i) over (partition by u.no) as first_i
                  from unnest(transaction_nos, statuses, amounts, currencies) with ordinality as u (no, status, amount, currency, i)) a
            left join foloosi.reconciled x on x.reconciliation_id = run.id and x.transaction_no = a.no
            left join foloosi.transactions t on t.transaction_no = a.no and t.merchant = run.merchant
        ), kept as (
            insert into foloosi.reconciled (reconciliation_id, transaction_no, transaction_status, verdict)
            select run.id, c.no, c.status, 'matched' from compared c where c.verdict = 'matched'
        )
        select c.i, c.verdict from compared c order by c.i;
end $$;
comment on function foloosi.compare_transactions(bigint, text[], text[], numeric[], text[]) is
'Compare rows of the provider''s list with what we know, and keep those that match. Parameters: the run; parallel arrays of number, status, amount and currency, the last two null where the list has none that can be read. Returns for each position seen (this run had it already), matched, ask (never arrived or differs: ask the provider for all of it, then call record_reconciled), or record (neither success, failed nor refund: call it at once). Errors: no such run. Calls: known_reconciliation, same_transaction. Tables: reconciled (written), transactions, refunds (read).';

create or replace function foloosi.record_reconciled(
    reconciliation bigint, transaction_nos text[], statuses text[], amounts numeric[], currencies text[], order_refs text[], faults text[],
    unprefixed text[] default null, refunded numeric[] default null)
returns table (i int, verdict text, outcome text)
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    run foloosi.reconciliations := foloosi.known_reconciliation(record_reconciled.reconciliation);
begin
    perform foloosi.need_read_committed();
    perform set_config('synchronous_commit', 'on', true); -- it may pay an order
    return query
        with words as (
            select u.i::int as i, u.no, u.status, u.currency, u.fault,
                   -- of a refund the list has the payment's own amount: how much went back is known only if it says so
                   case when u.status = 'refund' then coalesce(refunded[u.i], u.amount) else u.amount end as amount,
                   u.status = 'refund' and refunded[u.i] is not null as said,
                   coalesce(nullif(u.order_ref, ''), foloosi.recurring_key(run.merchant, nullif(unprefixed[u.i], ''))) as order_ref
            from unnest(transaction_nos, statuses, amounts, currencies, order_refs, faults) with ordinality
                 as u (no, status, amount, currency, order_ref, fault, i)
            where not exists (select from foloosi.reconciled x where x.reconciliation_id = run.id and x.transaction_no = u.no)
        ), judged as materialized (
            select w.*, b.body, sha256(b.body) as digest,
                   case when w.fault is not null then w.fault
                        -- paid by a success that came without a number: this may be that one
                        when w.status = 'success' and t.id is null and exists (
                            select from foloosi.transactions_of(run.merchant, w.order_ref) p
                            where p.transaction_no is null and p.state = 'captured') then 'its order has a success without a number'
                   end as doubt,
                   case when w.status not in ('success', 'failed') then 'other'
                        when foloosi.same_transaction(t, w.status, w.amount, w.currency) then 'matched'
                        when t.id is not null then 'differed'
                        else 'missing' end as verdict,
                   -- kept before, and no news; but an older version ignored refunds
                   exists (
                           select from foloosi.deliveries d
                           where d.digest = substr(sha256(b.body), 1, 16) and d.merchant = run.merchant
                             and d.outcome <> 'rejected' and (d.outcome <> 'ignored' or w.status <> 'refund')) as known
            from words w
            left join foloosi.transactions t on t.transaction_no = w.no and t.merchant = run.merchant
            -- the text of jsonb is canonical: names in a fixed order, blanks alike
            cross join lateral (select convert_to(jsonb_strip_nulls(jsonb_build_object('source', 'reconcile',
                'refunded', case when w.said then trim_scale(w.amount)::text end, 'data', jsonb_build_object('transfer', jsonb_build_object('transaction_status', w.status, 'transaction_no', w.no,
                    'transaction_amount', trim_scale(w.amount)::text, 'transaction_currency', w.currency,
                    'api', jsonb_build_object('optional1', w.order_ref)))))::text, 'UTF8') as body) b
        ), batch as (
            select array_agg(j.i) as ordinals, array_agg(run.merchant::text) as merchants, array_agg(j.order_ref) as order_refs,
                   array_agg(j.digest) as digests, array_agg(j.body) as bodies, array_agg(case when j.said then 'reconcile refund' else 'reconcile' end) as sources,
                   array_agg(j.status) as statuses, array_agg(j.no) as nos, array_agg(j.amount) as amounts,
                   array_agg(j.currency) as currencies, array_agg(null::text) as nulls
            from judged j where j.doubt is null and j.verdict <> 'matched' and not j.known
        ), fed as materialized (
            select r.ordinal, r.outcome, r.reason, r.delivery_id
            from batch b, foloosi.record_deliveries(b.ordinals, b.merchants, b.order_refs, b.digests, b.bodies, b.nulls, b.sources,
                b.statuses, b.nos, b.nulls, b.amounts, b.currencies, b.nulls, b.nulls, b.nulls, b.nulls, b.nulls, b.nulls, b.nulls) r
            where b.ordinals is not null
        ), verdicts as materialized (
            select j.i, j.no, j.status, j.doubt, f.reason, f.delivery_id,
                   case when j.doubt is not null then 'unclear'
                        when j.verdict = 'missing' and (j.known or f.outcome = 'duplicate') then 'matched' -- another run was faster
                        else j.verdict end as verdict,
                   case when j.known and j.doubt is null and j.verdict in ('missing', 'differed') then 'duplicate' else f.outcome end as outcome
            from judged j left join fed f on f.ordinal = j.i
        ), kept as (
            insert into foloosi.reconciled (reconciliation_id, transaction_no, transaction_status, verdict, outcome, reason, delivery_id)
            select run.id, left(v.no, 128), left(v.status, 64), v.verdict, v.outcome, coalesce(v.doubt, v.reason), v.delivery_id
            from verdicts v where v.outcome is distinct from 'busy'
            on conflict do nothing -- a broken page may name one number twice
        )
        select v.i, v.verdict, v.outcome from verdicts v order by v.i;
end $$;
comment on function foloosi.record_reconciled(bigint, text[], text[], numeric[], text[], text[], text[], text[], numeric[]) is
'Feed what never arrived or differs, through record_deliveries(), and keep the verdict. Parameters: the run; parallel arrays of at most 256 elements, each number once: number; status, amount, currency and order as the provider has them (order null: not in its list, empty: it names none); fault, not null: it could not be read, or not be believed, and is not fed; unprefixed: order keys that lack the configured prefix, or null; refunded: of a refund how much went back (null: the provider does not say, so the refund is a doubt). Returns for each position that this run had not had the verdict (matched, missing, differed, other, unclear) and the outcome of its delivery (null: none was made; busy: another session holds its order, nothing was kept, call again). Errors: no such run. Calls: known_reconciliation, same_transaction, transactions_of, recurring_key, record_deliveries. Tables: reconciled (written), transactions, deliveries (read).';

create or replace function foloosi.advance_reconciliation(reconciliation bigint, day date, page int) returns void
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
begin
    perform foloosi.known_reconciliation(advance_reconciliation.reconciliation);
    update foloosi.reconciliations r
    set day = advance_reconciliation.day, page = advance_reconciliation.page, updated_at = now()
    where r.id = advance_reconciliation.reconciliation
      and (r.day, r.page) < (advance_reconciliation.day, advance_reconciliation.page);
end $$;
comment on function foloosi.advance_reconciliation(bigint, date, int) is
'All before this day and page is kept. Parameters: the run, day and page that are read next; never back. Errors: no such run. Calls: known_reconciliation. Tables: reconciliations (written).';

create or replace function foloosi.end_reconciliation(reconciliation bigint, finished boolean, reason text default null)
returns foloosi.reconciliations
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    run foloosi.reconciliations := foloosi.known_reconciliation(end_reconciliation.reconciliation);
begin
    if run.finished_at is not null then
        return run; -- another worker has ended it
    end if;
    update foloosi.reconciliations r
    set matched = n.matched, missing = n.missing, differed = n.differed, other = n.other, unclear = n.unclear,
        finished_at = case when end_reconciliation.finished then now() end, reason = end_reconciliation.reason, updated_at = now()
    from (select count(*) filter (where x.verdict = 'matched') as matched, count(*) filter (where x.verdict = 'missing') as missing,
                 count(*) filter (where x.verdict = 'differed') as differed, count(*) filter (where x.verdict = 'other') as other,
                 count(*) filter (where x.verdict = 'unclear') as unclear
          from foloosi.reconciled x where x.reconciliation_id = run.id) n
    where r.id = run.id returning r.* into run;
    if run.finished_at is null then
        return run;
    end if;
    delete from foloosi.reconciled x where x.reconciliation_id = run.id and x.verdict = 'matched';
    if run.unclear = 0 and run.last_day >= (run.created_at at time zone 'UTC')::date then
        -- the days before are covered if one read them that began in the days of this one
        update foloosi.reconciliations r
        set covers_from = least(run.first_day, (
            select case when run.first_day < (b.created_at at time zone 'UTC')::date then b.covers_from end
            from foloosi.reconciliations b
            where b.merchant = run.merchant and b.covers_from is not null and b.created_at < run.created_at
            order by b.created_at desc limit 1))
        where r.id = run.id returning r.* into run;
    end if;
    return run;
end $$;
comment on function foloosi.end_reconciliation(bigint, boolean, text) is
'End a run, or a part of it. One that was ended stays as it is. Parameters: the run; finished: all was read; reason: why it was interrupted. Returns its row, with what was found so far. Errors: no such run. Calls: known_reconciliation. Tables: reconciliations, reconciled (written).';
