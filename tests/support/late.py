# SPDX-License-Identifier: MIT
"""The database's clock, set forward: foloosi.clock() is replaced as its owner, by one that reads a row."""

STEP = 90  # seconds; after a pause of two minutes cancel_due() cancels nothing for ten

# Once: to replace the function each time would plan everything anew.
CLOCK = """
    create table if not exists public.ahead (one boolean primary key default true, seconds int not null default 0);
    insert into public.ahead default values on conflict do nothing;
    grant select on public.ahead to public;
    create or replace function foloosi.clock() returns timestamptz language sql stable parallel safe
    as $$select pg_catalog.now() + make_interval(secs => (select a.seconds from public.ahead a))$$"""


class Clock:
    def __init__(self, pg):
        self.pg, self.offset = pg, 0
        pg.query(CLOCK)

    def set(self, seconds):
        """So much later than it is, at a stroke: as if nothing had run meanwhile."""
        self.offset = seconds
        self.pg.query("update public.ahead set seconds = %s", [seconds])

    def forward(self, minutes):
        """Time passes, and cancel_due() is called all the time, as by another worker; it cancels nothing itself."""
        end = self.offset + minutes * 60
        while self.offset < end:
            self.set(min(self.offset + STEP, end))
            self.pg.query("select foloosi.cancel_due(0)")

    def settle(self):
        """Nothing holds cancellations any more, as after hours of quiet."""
        self.pg.query("update foloosi.cancellation set ran_at = foloosi.clock(), held_until = null, spooled_at = null")
