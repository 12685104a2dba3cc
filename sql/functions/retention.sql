-- SPDX-License-Identifier: MIT
-- Retention: old bytes and personal fields go; the ledger of digests, which makes a repeat a repeat,
-- and the books stay for ever. A repeat of bytes that are gone is found by its digest as ever.
--
-- The hard part is to do it beside deliveries. Each call is one small piece of work in a transaction of
-- its own; foloosictl retain calls until the state is done. So every function returns the same:
--
--   what, subject   what is done, to what
--   amount          how much of it this call did (or, dry_run, found)
--   next            what the next call gets as p_after; the first gets 0
--   state           more; done; or busy: another session holds what is needed, the same call may be tried again
--
-- DROP of a partition needs ACCESS EXCLUSIVE on foloosi.bodies for a moment, and while it waits for
-- that, every delivery waits behind it. (DETACH CONCURRENTLY would not, but PostgreSQL refuses it
-- beside a default partition, and the default is what keeps a delivery when no month was made for it.)
-- So it waits 50 ms at most, far below the handler's lock_timeout, and comes back busy.
--
-- Rows that another session holds are passed over, as a delivery would, and met again by the next run.

create or replace function foloosi.set_retention(bodies_days int default 400, personal_days int default 90) returns foloosi.retention
language sql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
    update foloosi.retention r
    set bodies_days = set_retention.bodies_days, personal_days = set_retention.personal_days, updated_at = now()
    returning r.*
$$;
comment on function foloosi.set_retention(int, int) is
'Set for how many days raw bytes and personal fields are kept, from the next run on. Parameters: bodies_days, personal_days. Returns the row. Tables: retention (written).';

create or replace function foloosi.body_months()
returns table (month oid, name text, until timestamptz)
language sql stable
set search_path = pg_catalog, foloosi, pg_temp
as $$
    select c.oid, c.relname::text, substring(pg_get_expr(c.relpartbound, c.oid) from $re$TO \('([^']+)'\)$re$)::timestamptz
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'foloosi.bodies'::regclass and pg_get_expr(c.relpartbound, c.oid) like 'FOR VALUES%'
$$;
comment on function foloosi.body_months() is 'The partitions of foloosi.bodies but the default one. Returns oid, name, and the moment up to which (exclusive) it holds bytes.';

create or replace function foloosi.days_kept(p_days int, p_policy int) returns int
language plpgsql immutable
as $$
begin
    if p_days < 0 then
        raise exception 'days to keep are %, and must not be negative', p_days using errcode = 'invalid_parameter_value';
    end if;
    return coalesce(p_days, p_policy);
end $$;
comment on function foloosi.days_kept(int, int) is
'For how many days something is kept: what the caller says, else the policy. Errors: a negative number, which would take what is new.';

create or replace function foloosi.retain_months(p_days int, p_after bigint, dry_run boolean default false,
    out what text, out subject text, out amount bigint, out next bigint, out state text)
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
set lock_timeout = '50ms'
as $$
begin
    what := 'months made ahead';
    subject := 'bodies';
    amount := 0;
    next := p_after;
    state := 'done';
    if not dry_run then
        amount := foloosi.create_partitions();
    end if;
exception when lock_not_available then
    state := 'busy';
end $$;
comment on function foloosi.retain_months(int, bigint, boolean) is
'Retention: make the months of foloosi.bodies that are missing. Parameters: p_days and p_after are of no use here. Returns: see the top of the file. Calls: create_partitions.';

create or replace function foloosi.retain_bodies(p_days int, p_after bigint, dry_run boolean default false,
    out what text, out subject text, out amount bigint, out next bigint, out state text)
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
set lock_timeout = '50ms'
as $$
declare
    cutoff timestamptz := now() - make_interval(days => foloosi.days_kept(p_days, (select r.bodies_days from foloosi.retention r)));
    m      record;
begin
    what := 'bytes dropped';
    amount := 0;
    next := p_after;
    select x.* into m from foloosi.body_months() x
    where x.until <= cutoff and extract(epoch from x.until) > p_after order by x.until limit 1;
    if not found then
        state := 'done';
        return;
    end if;
    subject := m.name;
    begin
        amount := pg_total_relation_size(m.month);
        if not dry_run then
            execute format('drop table foloosi.%I', m.name);
        end if;
        next := extract(epoch from m.until);
        state := 'more';
    exception when lock_not_available then
        amount := 0;
        state := 'busy';
    end;
end $$;
comment on function foloosi.retain_bodies(int, bigint, boolean) is
'Retention: drop the oldest month of foloosi.bodies whose last day is long enough ago. Parameters: p_days, null: as in foloosi.retention; p_after: the end of the month before, in seconds of the epoch; dry_run: only say. Returns: see the top of the file; amount in bytes on disk. Call it alone: its lock on foloosi.bodies lasts until the transaction ends. Calls: body_months. Tables: bodies (a partition dropped), retention (read).';

create or replace function foloosi.retain_default(p_days int, p_after bigint, dry_run boolean default false,
    out what text, out subject text, out amount bigint, out next bigint, out state text)
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
declare
    pages  constant bigint := 128; -- of heap, for one call
    cutoff timestamptz := now() - make_interval(days => foloosi.days_kept(p_days, (select r.bodies_days from foloosi.retention r)));
    first  tid := format('(%s,0)', p_after)::tid;
    last   tid := format('(%s,0)', p_after + pages)::tid;
begin
    what := 'bodies deleted';
    subject := 'bodies_default';
    if dry_run then
        select count(*) into amount from foloosi.bodies_default b where b.ctid >= first and b.ctid < last and b.created_at < cutoff;
    else
        delete from foloosi.bodies_default b where b.ctid >= first and b.ctid < last and b.created_at < cutoff;
        get diagnostics amount = row_count;
    end if;
    next := p_after + pages;
    state := case when next * current_setting('block_size')::int < pg_relation_size('foloosi.bodies_default') then 'more' else 'done' end;
end $$;
comment on function foloosi.retain_default(int, bigint, boolean) is
'Retention: delete old rows of bodies_default, where the bytes are for which no month was made in time. Parameters: p_days, null: as in foloosi.retention; p_after: the page to begin at; dry_run: only count. Returns: see the top of the file; amount in rows. Tables: bodies_default (written), retention (read).';

create or replace function foloosi.unless_personal(value text, order_ref text) returns text
language sql immutable
as $$
    select case when value = order_ref then value
                -- a prefix, which ends where the key begins: "7" is not the key in a phone number that ends with it
                when right(value, length(order_ref)) = order_ref and right(left(value, -length(order_ref)), 1) || left(order_ref, 1)
                     !~ '^([0-9]{2}|[[:alpha:]]{2})' then value end
$$;
comment on function foloosi.unless_personal(text, text) is
'What stays of optional1, 2 and 3 when a transaction is masked: the order''s key (which may have a prefix there), for orders keep it anyway. Everything else is free text of the shop''s and may name the customer.';

create or replace function foloosi.retain_personal(p_days int, p_after bigint, dry_run boolean default false,
    out what text, out subject text, out amount bigint, out next bigint, out state text)
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set jit = off
as $$
declare
    page    constant int := 500;
    cutoff  timestamptz := now() - make_interval(days => foloosi.days_kept(p_days, (select r.personal_days from foloosi.retention r)));
    -- The mark passes nothing younger than a day: a transaction of a lower id may still be under way.
    settled timestamptz := least(cutoff, now() - interval '1 day');
    first   bigint := greatest(p_after, (select r.masked_to from foloosi.retention r));
    ids     bigint[];
    seen    record;
begin
    what := 'personal fields masked';
    subject := 'transactions';
    ids := array(select t.id from foloosi.transactions t where t.id > first order by t.id limit page);
    select count(*) filter (where t.masked_at is null and t.created_at < cutoff) as due, bool_and(t.created_at >= cutoff) as young
      into seen
    from foloosi.transactions t where t.id = any (ids);
    next := coalesce(ids[cardinality(ids)], first);
    state := case when cardinality(ids) < page or seen.young then 'done' else 'more' end;
    amount := seen.due;
    if dry_run then
        return;
    end if;

    if seen.due > 0 then
        with held as materialized (
            select t.id from foloosi.transactions t
            where t.id = any (ids) and t.masked_at is null and t.created_at < cutoff
            order by t.id for no key update skip locked)
        update foloosi.transactions t
        set customer_email = null, customer_mobile = null, card_last_four = null,
            optional1 = foloosi.unless_personal(t.optional1, t.order_ref),
            optional2 = foloosi.unless_personal(t.optional2, t.order_ref),
            optional3 = foloosi.unless_personal(t.optional3, t.order_ref), masked_at = now()
        from held h where t.id = h.id;
        get diagnostics amount = row_count;
    end if;
    update foloosi.retention r
    set masked_to = case when r.masked_to < first then r.masked_to -- it stopped before, in this run
                         else coalesce((select min(t.id) - 1 from foloosi.transactions t
                                        where t.id = any (ids) and (t.masked_at is null or t.created_at >= settled)), next) end,
        ran_at = case when retain_personal.state = 'done' then now() else r.ran_at end;
end $$;
comment on function foloosi.retain_personal(int, bigint, boolean) is
'Retention: mask the personal fields of old transactions, 500 in a call. Parameters: p_days, null: as in foloosi.retention; p_after: the id to begin behind; dry_run: only count. Returns: see the top of the file; amount in transactions. The last step of a run: at its end it notes the time. Calls: unless_personal. Tables: transactions, retention (written).';
