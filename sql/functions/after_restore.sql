-- after_restore(): what PostgreSQL cannot know after it was restored from a backup or to an earlier
-- point in time: that later numbers were given away already. An endpoint recognises an event that
-- comes twice by its number; a number that is used again would make it drop a new event.
--
-- For the owner or a superuser, before anybody is let in; foloosi-webhook-restore(7) has the whole story.

create or replace function foloosi.after_restore(skip bigint default 1000000)
returns table (numbers text, was bigint, goes_on_after bigint)
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    if skip not between 1 and 1000000000 then
        raise exception 'after_restore: skip is from 1 to 1000000000' using errcode = 'invalid_parameter_value';
    end if;
    -- No transaction of before the restore runs: what was a gap then stays one.
    delete from foloosi.event_gaps;
    for numbers in select unnest(array['foloosi.id_seq', pg_get_serial_sequence('foloosi.events', 'id')]) loop
        was := nextval(numbers::regclass);
        goes_on_after := setval(numbers::regclass, was + skip);
        return next;
    end loop;
end $$;
comment on function foloosi.after_restore(bigint) is
'After a restore from a backup or to a point in time: move the numbers of things and of events beyond all that were given away since, and forget the gaps of consumers. Parameters: skip: more than anything that may have happened since the restored moment. Returns for each sequence where it was and after which number it goes on. Call it before programs are let in, as owner or superuser. Tables: event_gaps (written).';
