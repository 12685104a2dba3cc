-- SPDX-License-Identifier: MIT
-- after_restore(): what PostgreSQL cannot know after it was restored from a backup or to an earlier
-- point in time: that later numbers were given away already. An endpoint recognises an event that
-- comes twice by its number; a number that is used again would make it drop a new event.
--
-- For the owner or a superuser, before clients may connect; see foloosi-webhook-restore(7).

create or replace function foloosi.open_last_ranges() returns int
language sql
set search_path = pg_catalog, foloosi, pg_temp
as $$
    select count(*)::int from (
        select brin_desummarize_range(indexrelid, greatest(0, pg_relation_size(indrelid) / current_setting('block_size')::int - 1))
        from pg_index join pg_class c on c.oid = indexrelid
        where c.relnamespace = 'foloosi'::regnamespace and c.relkind = 'i' and c.relam = (select oid from pg_am where amname = 'brin')
        offset 0) x
$$;
comment on function foloosi.open_last_ranges() is
'Take the last pages of each table out of the summaries of its block range indexes, as they are while a table grows: CREATE INDEX and REINDEX summarize them though they are not full, and then each new row must change the summary (0009). What it takes out is made again when the pages are full. For the owner, after a restore or a REINDEX. Returns how many indexes.';

create or replace function foloosi.after_restore(skip bigint default 1000000)
returns table (numbers text, was bigint, goes_on_after bigint)
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    if skip not between 1 and 1000000000 then
        raise exception 'after_restore: skip is from 1 to 1000000000' using errcode = 'invalid_parameter_value';
    end if;
    if (select s.increment_by from pg_sequences s where s.schemaname = 'foloosi' and s.sequencename = 'id_seq') <> 3 then
        raise exception 'foloosi.id_seq does not count by 3: a number that a delivery draws would be given twice'
            using errcode = 'object_not_in_prerequisite_state', hint = 'alter sequence foloosi.id_seq increment by 3';
    end if;
    perform foloosi.open_last_ranges();
    -- No transaction of before the restore runs: what was a gap then stays one.
    delete from foloosi.event_gaps;
    for numbers in select unnest(array['foloosi.id_seq', pg_get_serial_sequence('foloosi.events', 'id')]) loop
        was := nextval(numbers::regclass);
        goes_on_after := setval(numbers::regclass, was + skip);
        return next;
    end loop;
end $$;
comment on function foloosi.after_restore(bigint) is
'After a restore from a backup or to a point in time: move the numbers of things and of events beyond all that were given away since, and forget the gaps of consumers. Parameters: skip: more than anything that may have happened since the restored moment. Errors: another skip; the sequence was made anew and counts otherwise than migration 0012 has it. Returns for each sequence where it was and after which number it goes on. Call it before programs are let in, as owner or superuser. Calls: open_last_ranges. Tables: event_gaps (written).';
