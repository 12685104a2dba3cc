# SPDX-License-Identifier: MIT
"""The database's clock, set forward: foloosi.clock() is replaced as its owner."""

STEP = 90  # seconds; after a pause of two minutes cancel_due() cancels nothing for ten


class Clock:
    def __init__(self, pg):
        self.pg, self.offset = pg, 0

    def set(self, seconds):
        """So much later than it is, at a stroke: as if nothing had run meanwhile."""
        self.offset = seconds
        self.pg.query(f"create or replace function foloosi.clock() returns timestamptz language sql stable parallel safe"
                      f" as $$select pg_catalog.now() + interval '{seconds} s'$$")

    def forward(self, minutes):
        """Time passes, and cancel_due() is called all the time, as by another worker; it cancels nothing itself."""
        end = self.offset + minutes * 60
        while self.offset < end:
            self.set(min(self.offset + STEP, end))
            self.pg.query("select foloosi.cancel_due(0)")

    def settle(self):
        """Nothing holds cancellations any more, as after hours of quiet."""
        self.pg.query("update foloosi.cancellation set ran_at = foloosi.clock(), held_until = null, spooled_at = null")
