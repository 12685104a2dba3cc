-- SPDX-License-Identifier: MIT
-- Events out: every consumer gets every event at least once, those of one order in their order.
--
-- The hard part is that ids are drawn before they are committed: a consumer that only remembers
-- "all up to 17" never sees 16 if 16 commits later, and one that waits for 16 waits for ever if 16
-- was rolled back. So a consumer passes a missing id and remembers it, as a gap. A gap is
-- looked into again until no transaction runs that may have drawn its ids: those are older
-- than a number that the database gave out after the gap was seen, because
--   * ids are drawn one at a time in ascending order (the sequence's cache is 1, as tests/sql sees to), and
--   * a session that writes an event has written something before, so it had its transaction number
--     before it drew the id.
-- The events of one order keep their order: they are written under its lock, which is held until
-- the commit, so an earlier one is visible before the id of the next is drawn.
--
-- What was found becomes rows of dispatches. They are handed out with SKIP LOCKED and a lease, so that
-- several sessions may serve one consumer and what a crashed one held comes again. Of one
-- order only the earliest unfinished event is handed out.
--
-- A payment pays for nothing of this: foloosi.events has no column, index or trigger more, and nobody is
-- notified in its transaction: a NOTIFY holds a lock of the whole cluster over the flush, and cost 8
-- sessions of pgbench 803 -> 671 commits a second on one disk, three quarters on another. Consumers look instead.

create or replace function foloosi.known_consumer(p_consumer text) returns foloosi.consumers
language plpgsql stable
set search_path = pg_catalog, foloosi, pg_temp
as $$
declare
    c foloosi.consumers;
begin
    select * into c from foloosi.consumers x where x.consumer = p_consumer;
    if c.id is null then
        raise exception 'there is no consumer "%"', p_consumer using errcode = 'no_data_found',
            hint = 'Make it known with foloosi.add_consumer(consumer).';
    end if;
    return c;
end $$;
comment on function foloosi.known_consumer(text) is 'The row of a consumer. Error: no such consumer. Tables: consumers (read).';

create or replace function foloosi.own_consumer(p_consumer text) returns foloosi.consumers
language plpgsql stable
set search_path = pg_catalog, foloosi, pg_temp
as $$
declare
    c foloosi.consumers := foloosi.known_consumer(p_consumer);
begin
    if not exists (select from pg_roles r where r.rolname = c.owner and pg_has_role(session_user, r.oid, 'member')) then
        raise exception 'consumer "%" belongs to role "%", of which "%" is no member', c.consumer, c.owner, session_user
            using errcode = 'insufficient_privilege';
    end if;
    return c;
end $$;
comment on function foloosi.own_consumer(text) is
'The row of a consumer that belongs to the caller. Errors: no such consumer; the session''s role is no member of its owner (insufficient_privilege). Calls: known_consumer. Tables: consumers (read).';

-- without an owner, before schema 14
drop function if exists foloosi.add_consumer(text, text, text[], bigint, text);

create or replace function foloosi.add_consumer(
    consumer text, merchant text default null, types text[] default null, after bigint default null, endpoint text default null,
    owner text default null)
returns foloosi.consumers
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    p_consumer text := add_consumer.consumer;
    p_types text[] := add_consumer.types;
    -- an operator may make one for anybody; foloosi-worker makes its own
    operator boolean := pg_has_role(session_user, 'foloosi_operator', 'member');
    p_owner text := coalesce(add_consumer.owner, case when operator then 'foloosi_consumer' else 'foloosi_worker' end);
    unknown text := (select t from unnest(p_types) t
                     where t not in ('order.success', 'order.cancel', 'order.refund', 'order.review', 'payback.due', 'payback.check') limit 1);
    c foloosi.consumers;
begin
    if unknown is not null then
        raise exception 'there is no event "%"', unknown using errcode = 'invalid_parameter_value';
    end if;
    if not exists (select from pg_roles r where r.rolname = p_owner) then
        raise exception 'there is no role "%"', p_owner using errcode = 'undefined_object';
    end if;
    if not operator and p_owner <> 'foloosi_worker' then
        raise exception 'a consumer of foloosi-worker belongs to role foloosi_worker, not "%"', p_owner using errcode = 'insufficient_privilege';
    end if;
    select * into c from foloosi.consumers x where x.consumer = p_consumer;
    if c.id is not null then -- asked each second for some: nothing is written, no number is drawn
        return c;
    end if;
    insert into foloosi.consumers as x (consumer, merchant, types, endpoint, owner, position)
    values (p_consumer, add_consumer.merchant, p_types, add_consumer.endpoint, p_owner,
            coalesce(add_consumer.after, (select max(e.id) from foloosi.events e), 0))
    on conflict (consumer) do nothing returning * into c;
    return coalesce(c, foloosi.known_consumer(p_consumer));
end $$;
comment on function foloosi.add_consumer(text, text, text[], bigint, text, text) is
'Make a consumer of events. Parameters: its name; merchant, null: events of all; types, null: all; after: the id of the last event that it shall not get, 0: from the beginning, null: only what is to come; endpoint: what a person reads of the URL, for one that foloosi-worker serves; owner: the role whose members may take its events (null: foloosi_consumer; called by foloosi-worker, foloosi_worker, and no other). Returns its row; one that exists stays as it is. Errors: unknown type; no such role; another owner than foloosi_worker, and the caller is no operator. Calls: known_consumer. Tables: consumers (written), events (read).';

create or replace function foloosi.drop_consumer(consumer text) returns void
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    perform foloosi.known_consumer(drop_consumer.consumer);
    delete from foloosi.consumers x where x.consumer = drop_consumer.consumer;
end $$;
comment on function foloosi.drop_consumer(text) is
'Forget a consumer and all that waits for it. Parameters: its name. Error: no such consumer. Calls: known_consumer. Tables: consumers, dispatches, event_gaps (written).';

create or replace function foloosi.disable_consumer(consumer text, reason text default null) returns void
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    perform foloosi.known_consumer(disable_consumer.consumer);
    update foloosi.consumers x
    set disabled_at = now(), reason = coalesce(disable_consumer.reason, 'disabled by ' || session_user)
    where x.consumer = disable_consumer.consumer and x.disabled_at is null;
end $$;
comment on function foloosi.disable_consumer(text, text) is
'Hand out nothing to a consumer until enable_consumer(). What happens meanwhile waits. Parameters: its name, reason. Error: no such consumer. Calls: known_consumer. Tables: consumers (written).';

create or replace function foloosi.enable_consumer(consumer text) returns void
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    perform foloosi.known_consumer(enable_consumer.consumer);
    update foloosi.consumers x
    set disabled_at = null, paused_until = null, failures = 0, failing_since = null, reason = null
    where x.consumer = enable_consumer.consumer;
end $$;
comment on function foloosi.enable_consumer(text) is
'Hand out events again: undoes disable_consumer() or a 410, and closes the circuit at once. Parameters: the consumer''s name. Error: no such consumer. Calls: known_consumer. Tables: consumers (written).';

-- ---------------------------------------------------------------- from events to dispatches

create or replace function foloosi.full_xid(x xid) returns xid8
language sql stable
set search_path = pg_catalog, foloosi, pg_temp
as $$
    -- x has the lower 32 bits; it is within 2^31 of every number that is in use now
    select case when n.low - l.low > 2147483648 then (n.number - n.low + l.low + 4294967296)::text::xid8
                when l.low - n.low > 2147483648 then (n.number - n.low + l.low - 4294967296)::text::xid8
                else (n.number - n.low + l.low)::text::xid8 end
    from (select b.number, b.number % 4294967296 as low from (select pg_snapshot_xmax(pg_current_snapshot())::text::bigint as number) b) n,
         (select full_xid.x::text::bigint as low) l
$$;
comment on function foloosi.full_xid(xid) is 'A transaction number of now with its epoch. Parameters: the number as rows carry it (xmin).';

create or replace function foloosi.offer(p_consumer foloosi.consumers, ids bigint[]) returns int
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
as $$
declare
    offered int;
begin
    insert into foloosi.dispatches (consumer_id, event_id, order_key, due_at)
    select p_consumer.id, e.id, k.key,
           -- behind one of its order that is to be tried again later, it need not be looked at before
           greatest(clock_timestamp(), (select max(d.due_at) from foloosi.dispatches d
                                        where d.order_key = k.key and d.consumer_id = p_consumer.id and d.state = 'waiting'))
    from unnest(ids) i join foloosi.events e on e.id = i,
         lateral (select foloosi.lock_key('order', e.merchant, e.order_ref) as key) k
    where (p_consumer.merchant is null or e.merchant = p_consumer.merchant)
      and (p_consumer.types is null or e.type = any (p_consumer.types))
    on conflict do nothing;
    get diagnostics offered = row_count;
    return offered;
end $$;
comment on function foloosi.offer(foloosi.consumers, bigint[]) is
'Make dispatches of events, where the consumer wants them. Parameters: the consumer, ids. Returns how many. Tables: events (read), dispatches (written).';

create or replace function foloosi.feed(p_id int, n int) returns int
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
as $$
#variable_conflict use_column
declare
    page   constant int := 1000;
    c      foloosi.consumers;
    oldest xid8;
    gap    foloosi.event_gaps;
    ids    bigint[];
    firsts bigint[];
    lasts  bigint[];
    number xid;
    fed    int := 0;
begin
    -- The usual question has the answer "nothing new": then nothing is locked and nothing written.
    perform 1 from foloosi.consumers x
    where x.id = p_id and (exists (select from foloosi.events e where e.id > x.position)
                           or exists (select from foloosi.event_gaps g where g.consumer_id = x.id));
    if not found then
        return 0;
    end if;
    -- One session at a time; the second takes what is there already.
    select * into c from foloosi.consumers x where x.id = p_id for no key update skip locked;
    if not found then
        return 0;
    end if;

    loop
        exit when fed >= n;
        ids := array(select e.id from foloosi.events e where e.id > c.position order by e.id limit page);
        exit when ids = '{}';
        fed := fed + foloosi.offer(c, ids);
        select array_agg(r.first_id), array_agg(r.last_id) into firsts, lasts
        from (select lag(i, 1, c.position) over (order by i) + 1 as first_id, i - 1 as last_id from unnest(ids) i) r
        where r.first_id <= r.last_id;
        c.position := ids[cardinality(ids)];
        if firsts is null then
            update foloosi.consumers x set position = c.position where x.id = p_id;
        else
            -- The clause makes this block a subtransaction, whose number is drawn now: after every id that we miss.
            begin
                update foloosi.consumers x set position = c.position where x.id = p_id;
                number := (select x.xmin from foloosi.consumers x where x.id = p_id);
            exception when raise_exception then
                raise;
            end;
            insert into foloosi.event_gaps (consumer_id, first_id, last_id, until)
            select p_id, g.first_id, g.last_id, foloosi.full_xid(number) from unnest(firsts, lasts) as g (first_id, last_id);
        end if;
        exit when cardinality(ids) < page;
    end loop;

    -- The gaps come last, the highest first: what a later look sees includes all that those before it saw. So with an
    -- event comes every earlier one of its order, though it may have been a gap a moment ago.
    -- oldest is asked for first: what ended before it is seen by the statements that follow.
    oldest := pg_snapshot_xmin(pg_current_snapshot());
    for gap in select g.* from foloosi.event_gaps g where g.consumer_id = p_id order by g.first_id desc loop
        ids := array(select e.id from foloosi.events e where e.id between gap.first_id and gap.last_id order by e.id);
        continue when ids = '{}' and gap.until > oldest;
        fed := fed + foloosi.offer(c, ids);
        delete from foloosi.event_gaps g where g.consumer_id = p_id and g.first_id = gap.first_id;
        if gap.until > oldest then -- what is left of it
            insert into foloosi.event_gaps (consumer_id, first_id, last_id, until)
            select p_id, r.first_id, r.last_id, gap.until
            from (select lag(i, 1, gap.first_id - 1) over (order by i) + 1 as first_id, i - 1 as last_id
                  from unnest(ids || (gap.last_id + 1)) i) r
            where r.first_id <= r.last_id;
        end if;
    end loop;
    return fed;
end $$;
comment on function foloosi.feed(int, int) is
'Bring a consumer''s dispatches up to date with the events. Parameters: the consumer''s id; how many are wanted (a page more may come). Returns how many came; none also if another session is at it. Calls: offer, full_xid. Tables: events (read), consumers, event_gaps, dispatches (written).';

-- ---------------------------------------------------------------- out, and back

create or replace function foloosi.claim(p_id int, n int, lease interval)
returns table (event_id bigint, attempt int)
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
as $$
#variable_conflict use_column
declare
    moment timestamptz := clock_timestamp(); -- now() stands still in a long transaction
begin
    return query
        with head as materialized (
            select d.event_id
            from foloosi.dispatches d
            where d.consumer_id = p_id and d.state <> 'dead' and d.due_at <= moment
              and not exists (select from foloosi.dispatches before
                              where before.order_key = d.order_key and before.consumer_id = p_id
                                and before.event_id < d.event_id and before.state <> 'dead')
            order by d.due_at, d.event_id
            limit n for no key update skip locked)
        update foloosi.dispatches d
        set state = 'claimed', attempts = d.attempts + 1, due_at = moment + lease
        from head h
        where d.consumer_id = p_id and d.event_id = h.event_id
        returning d.event_id, d.attempts;
end $$;
comment on function foloosi.claim(int, int, interval) is
'Claim what is due. Parameters: the consumer''s id, how many at most, for how long. Returns ids, and which attempt it is. Tables: dispatches (written).';

create or replace function foloosi.next_events(consumer text, n int default 100, lease interval default '1 minute')
returns table (id bigint, attempt int, merchant text, type text, order_ref text, created_at timestamptz, payload jsonb)
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    c        foloosi.consumers;
    p_n      int := least(n, 1000);
    ids      bigint[];
    attempts int[];
    more     record;
begin
    perform foloosi.need_read_committed();
    c := foloosi.own_consumer(next_events.consumer);
    if n < 1 or not lease between '1 second' and '1 day' then
        raise exception 'next_events: n is at least 1, lease from a second to a day' using errcode = 'invalid_parameter_value';
    end if;
    if c.disabled_at is not null or c.paused_until > clock_timestamp() then
        return;
    end if;
    if c.paused_until is not null then -- the circuit is half open: one, and one only, goes to try
        update foloosi.consumers x set paused_until = clock_timestamp() + lease
        where x.id = c.id and x.paused_until = c.paused_until;
        if not found then
            return;
        end if;
        p_n := 1;
    end if;

    select array_agg(x.event_id), array_agg(x.attempt) into ids, attempts from foloosi.claim(c.id, p_n, lease) x;
    if coalesce(cardinality(ids), 0) < p_n and foloosi.feed(c.id, p_n) > 0 then
        select array_agg(x.event_id) as ids, array_agg(x.attempt) as attempts into more
        from foloosi.claim(c.id, p_n - coalesce(cardinality(ids), 0), lease) x;
        ids := ids || more.ids;
        attempts := attempts || more.attempts;
    end if;
    if c.paused_until is not null then
        update foloosi.consumers x
        set probe_id = ids[1], paused_until = case when ids is null then c.paused_until else x.paused_until end -- nothing to try it with
        where x.id = c.id;
    end if;
    return query
        select e.id, a.attempt, e.merchant::text, e.type::text, e.order_ref::text, e.created_at, foloosi.event_payload(e)
        from unnest(ids, attempts) as a (id, attempt) join foloosi.events e on e.id = a.id
        order by e.id;
end $$;
comment on function foloosi.next_events(text, int, interval) is
'The next events of a consumer, at least once each, those of one order one after the other. Parameters: the consumer''s name; how many at most (1000); lease, a day at most: after that time without finish_events() they are handed out again. Returns id, the number of the attempt, and the Standard Webhooks payload. May be called by several sessions at the same time, and within a transaction: rolled back, nothing was handed out. Errors: no such consumer, or another role''s; a lease that is too short or too long. Calls: own_consumer, claim, feed, event_payload. Tables: consumers, dispatches (written), events (read).';

create or replace function foloosi.finish_events(consumer text, ids bigint[]) returns int
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
as $$
declare
    c        foloosi.consumers := foloosi.own_consumer(finish_events.consumer);
    finished int;
begin
    delete from foloosi.dispatches d
    using unnest(ids) i
    where d.consumer_id = c.id and d.event_id = i and d.attempts > 0;
    get diagnostics finished = row_count;
    return finished;
end $$;
comment on function foloosi.finish_events(text, bigint[]) is
'A consumer is done with events. Parameters: its name, their ids. Returns how many of them it was not done with before: finishing twice is no error. Errors: no such consumer, or another role''s. Calls: own_consumer. Tables: dispatches (written).';

create or replace function foloosi.retry_events(
    consumer text, ids bigint[] default null, later interval default '0', reason text default null)
returns int
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    c       foloosi.consumers := case when pg_has_role(session_user, 'foloosi_operator', 'member') then foloosi.known_consumer(retry_events.consumer)
                                      else foloosi.own_consumer(retry_events.consumer) end;
    retried int;
begin
    if not later between '0' and '30 days' then
        raise exception 'retry_events: later is from now to 30 days' using errcode = 'invalid_parameter_value';
    end if;
    update foloosi.dispatches d
    set attempts = case d.state when 'dead' then 0 else d.attempts end, state = 'waiting',
        due_at = clock_timestamp() + later, reason = coalesce(retry_events.reason, d.reason)
    where d.consumer_id = c.id and (d.event_id = any (ids) or ids is null and d.state = 'dead');
    get diagnostics retried = row_count;
    perform foloosi.push_back(c.id, ids);
    return retried;
end $$;
comment on function foloosi.retry_events(text, bigint[], interval, text) is
'Hand out events again: what a consumer could not do now, or dead letters. Parameters: the consumer''s name; ids, null: all its dead letters; when, in 30 days at most; why. Returns how many. Errors: no such consumer; it is another role''s, and the caller no operator; a later time. Calls: known_consumer, own_consumer, push_back. Tables: dispatches (written).';

create or replace function foloosi.discard_events(consumer text, ids bigint[]) returns int
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    c         foloosi.consumers := foloosi.known_consumer(discard_events.consumer);
    discarded int;
begin
    delete from foloosi.dispatches d where d.consumer_id = c.id and d.event_id = any (ids);
    get diagnostics discarded = row_count;
    return discarded;
end $$;
comment on function foloosi.discard_events(text, bigint[]) is
'A person gives events up that a consumer does not take, dead letters for one. Parameters: the consumer''s name, ids. Returns how many were there. Error: no such consumer. Calls: known_consumer. Tables: dispatches (written).';

create or replace function foloosi.push_back(p_id int, ids bigint[]) returns void
language sql
set search_path = pg_catalog, foloosi, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
as $$
    update foloosi.dispatches d
    set due_at = h.due_at
    from unnest(ids) i join foloosi.dispatches h on h.consumer_id = p_id and h.event_id = i and h.state = 'waiting'
    where d.order_key = h.order_key and d.consumer_id = p_id and d.event_id > h.event_id and d.state = 'waiting' and d.due_at < h.due_at
$$;
comment on function foloosi.push_back(int, bigint[]) is
'What waits behind events of its order that are to be tried later need not be looked at before. Parameters: the consumer''s id, ids. Tables: dispatches (written).';

-- ---------------------------------------------------------------- what foloosi-worker reports

create or replace function foloosi.settle_events(
    consumer text, ids bigint[], attempts int[], outcomes text[], dead boolean[], delays int[], statuses int[], reasons text[])
returns int
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
as $$
#variable_conflict use_column
declare
    patience constant int := 5; -- failures in a row that open the circuit
    c       foloosi.consumers := foloosi.own_consumer(settle_events.consumer);
    n       int := cardinality(ids);
    settled int;
    failure record;
begin
    if (n = all (array[cardinality(settle_events.attempts), cardinality(outcomes), cardinality(settle_events.dead), cardinality(delays),
                       cardinality(statuses), cardinality(reasons)])) is not true
       or exists (select from unnest(outcomes) v where v not in ('done', 'refused', 'failed', 'gone')) then
        raise exception 'settle_events: the arrays are not of one length, or an outcome is unknown' using errcode = 'invalid_parameter_value';
    end if;
    settled := foloosi.finish_events(settle_events.consumer,
        array(select v.id from unnest(ids, outcomes) as v (id, outcome) where v.outcome = 'done'));
    if 'done' <> all (outcomes) or settled < n then
        -- one that was handed out again meanwhile (another attempt) is not ours any more
        update foloosi.dispatches d
        set state = case when v.dead then 'dead' else 'waiting' end,
            attempts = d.attempts - case v.outcome when 'gone' then 1 else 0 end, -- that says nothing of the event
            due_at = clock_timestamp() + v.delay * interval '1 millisecond', status = v.status, reason = v.reason
        from unnest(ids, settle_events.attempts, outcomes, settle_events.dead, delays, statuses, reasons) as v (id, attempt, outcome, dead, delay, status, reason)
        where d.consumer_id = c.id and d.event_id = v.id and d.attempts = v.attempt and d.state = 'claimed' and v.outcome <> 'done';
        perform foloosi.push_back(c.id, array(select v.id from unnest(ids, outcomes) as v (id, outcome) where v.outcome in ('refused', 'failed')));
    end if;

    -- The circuit. Once it is open, only the one that went to try says something new.
    select min(v.reason) as reason, bool_or(v.id = c.probe_id) as of_probe into failure
    from unnest(ids, outcomes, reasons) as v (id, outcome, reason) where v.outcome = 'failed';
    if 'gone' = any (outcomes) then
        update foloosi.consumers x
        set disabled_at = now(), reason = '410: it is gone', paused_until = null, probe_id = null, failures = 0, failing_since = null
        where x.id = c.id and x.disabled_at is null;
    elsif 'done' = any (outcomes) or 'refused' = any (outcomes) then
        update foloosi.consumers x set failures = 0, failing_since = null, paused_until = null, probe_id = null, reason = null
        where x.id = c.id and x.failures > 0 and x.disabled_at is null;
    elsif failure.of_probe or failure.reason is not null and c.paused_until is null then
        update foloosi.consumers x
        set failures = x.failures + 1, failing_since = coalesce(x.failing_since, now()), reason = failure.reason, probe_id = null,
            paused_until = case when x.failures + 1 >= patience
                -- 5 s, 10 s, 20 s … 5 minutes, each a quarter more or less
                then clock_timestamp() + least(300, 5 * 2 ^ least(x.failures + 1 - patience, 10)) * (0.75 + random() / 2) * interval '1 second' end
        where x.id = c.id and x.disabled_at is null and x.probe_id is not distinct from c.probe_id and x.paused_until is not distinct from c.paused_until;
    end if;
    return settled;
end $$;
comment on function foloosi.settle_events(text, bigint[], int[], text[], boolean[], int[], int[], text[]) is
'What became of events that foloosi-worker posted. Parameters: the consumer''s name; parallel arrays: ids; attempts as next_events() numbered them; outcomes: done, refused (the endpoint works and does not take it), failed (the endpoint is out of order), gone (410: disables the consumer); dead: no further attempt; delays in milliseconds before the next one; HTTP statuses, null: no answer; reasons. Returns how many are done. Failures in a row open the circuit, the first answer closes it. Errors: no such consumer, or another role''s. Calls: own_consumer, finish_events, push_back. Tables: dispatches, consumers (written).';
