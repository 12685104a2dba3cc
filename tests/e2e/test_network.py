# SPDX-License-Identifier: MIT
"""Packets between the handler and PostgreSQL are lost: each lives in a network namespace that the test makes.

Two namespaces, a veth pair between them. What drops the packets is a rule of iptables on each side, or the link that is
taken down: either way nobody hangs up, and each side goes on waiting for the other.
"""
import os
import pathlib
import subprocess
import time

import pytest

from support import stack
from support.answers import is_spooled, is_unavailable
from support.load import volley
from support.site import BareFront, Request, Site, encode, scratch, transfer

NETNS = pathlib.Path("/run/netns")
SERVER, CLIENT = "10.203.0.1", "10.203.0.2"


def netns_is_mounted():
    return any(line.split()[4] == str(NETNS) for line in open("/proc/self/mountinfo", encoding="utf-8"))


def ip(*argv):
    return subprocess.run([stack.program("ip"), *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


class Link:
    """Two namespaces and the wire between them."""

    def __init__(self):
        self.was_mounted = netns_is_mounted()
        tag = f"fw{os.getpid()}"
        self.server, self.client = f"{tag}s", f"{tag}c"

    def make(self):
        for step in (["netns", "add", self.server], ["netns", "add", self.client],
                     ["-n", self.server, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", self.client],
                     ["-n", self.server, "addr", "add", f"{SERVER}/24", "dev", "wire"],
                     ["-n", self.client, "addr", "add", f"{CLIENT}/24", "dev", "wire"],
                     ["-n", self.server, "link", "set", "wire", "up"],
                     ["-n", self.client, "link", "set", "wire", "up"]):
            done = ip(*step)
            if done.returncode:
                return f"ip {' '.join(step)}: {done.stdout.strip()}"
        return None

    def remove(self):
        for name in (self.server, self.client):
            ip("netns", "del", name)
        # the first "ip netns add" mounts it; what another one has made there since stays
        if not self.was_mounted and netns_is_mounted() and not list(NETNS.iterdir()):
            subprocess.run(["umount", NETNS], check=True)

    def within(self, namespace):
        return [stack.program("ip"), "netns", "exec", namespace]

    def lose(self, percent):
        """Of the packets in either direction; 0: the wire is as good as new."""
        rules = [["-F", "INPUT"]]
        if percent:
            rules.append(["-A", "INPUT", "-i", "wire", "-m", "statistic", "--mode", "random", "--probability", str(percent / 100), "-j", "DROP"])
        for namespace in (self.server, self.client):
            for rule in rules:
                command = [*self.within(namespace), stack.program("iptables-legacy"), "-w", *rule]
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                assert done.returncode == 0, done.stdout

    def plug(self, state):
        assert ip("-n", self.server, "link", "set", "wire", state).returncode == 0


class Within:
    """A service whose program runs in a namespace: as itself, for exec keeps the pid."""

    prefix = ()

    def spawn(self, argv, env=None, **more):
        setpriv = []
        if self.user:  # ip netns exec takes root; the program itself does not get it
            setpriv = [stack.program("setpriv"), "--reuid", self.user, "--regid", self.user, "--clear-groups", "--"]
            self.user, user = None, self.user
        process = super().spawn([*self.prefix, *setpriv, *argv], env, **more)
        if setpriv:
            self.user = user
        return process


class Postgres(Within, stack.Postgres):
    pass


class Handler(Within, stack.Handler):
    pass


@pytest.fixture(scope="module")
def link():
    if not stack.IS_ROOT:
        pytest.skip("only root makes network namespaces")
    link = Link()
    try:
        if (fault := link.make()) is not None:
            pytest.skip(f"no network namespaces here: {fault}")
        yield link
    finally:
        link.remove()


@pytest.fixture(scope="module")
def own(link):
    site = Site(scratch())
    site.postgres = Postgres(site.home / "pg", site.logs, {"listen_addresses": SERVER, "fsync": "off"})
    site.postgres.prefix = link.within(link.server)
    site.services = [site.postgres]
    site.home.chmod(0o711)
    try:
        site.postgres.create()
        with open(site.postgres.data / "pg_hba.conf", "a", encoding="utf-8") as f:
            f.write(f"host all all {CLIENT}/32 trust\n")
        site.postgres.start()
        site.postgres.create_database()
        site.postgres.migrate()
        for name, settings in (("spooling", {"spool_dir": site.home / "spooling" / "spool"}), ("plain", {})):
            handler = Handler(site.home / name, site.logs, f"host={SERVER} user=foloosi_handler dbname=foloosi", site.merchants,
                              name=f"handler-{name}", **settings)
            handler.prefix = link.within(link.client)
            site.run(handler)
            site.fronts[name] = BareFront(handler.socket)
        yield site
    finally:
        site.close()


def post(site, name, n=1):
    bodies = [encode(transfer()) for _ in range(n)]
    return bodies, volley(site.fronts[name], [Request(site.path(), body=b) for b in bodies])


def works_again(site, name, patience=30):
    end = time.monotonic() + patience
    while post(site, name)[1][0].json.get("outcome") != "recorded":
        assert time.monotonic() < end, "it does not recover"
        time.sleep(0.2)


@pytest.mark.parametrize("fault", ["every packet lost", pytest.param("the plug pulled", marks=pytest.mark.long)])
def test_a_network_that_is_silent(own, link, fault):
    pids = [s.pid for s in own.services]
    for name in ("spooling", "plain"):
        works_again(own, name)
    break_it, mend_it = ((lambda: link.lose(100), lambda: link.lose(0)) if fault == "every packet lost"
                         else (lambda: link.plug("down"), lambda: link.plug("up")))
    acknowledged = []
    break_it()
    try:
        for _ in range(3):
            bodies, answers = post(own, "spooling", 20)
            for answer in answers:
                is_spooled(answer)
            acknowledged += bodies
            for answer in post(own, "plain", 20)[1]:
                is_unavailable(answer)
    finally:
        mend_it()
    for name in ("spooling", "plain"):
        works_again(own, name)
    stack.wait_for("the drain", lambda: own.missing(acknowledged) == [], timeout=60)
    assert [s.pid for s in own.services] == pids


@pytest.mark.long  # the silent network is the harder case, and in make check
def test_a_network_that_loses_some(own, link):
    """Whatever is answered is answered in time, and what was acknowledged is there."""
    for name in ("spooling", "plain"):
        works_again(own, name)
    acknowledged = []
    link.lose(30)
    try:
        for _ in range(5):
            bodies, answers = post(own, "spooling", 20)
            assert {a.status for a in answers} == {200}
            acknowledged += bodies
            bodies, answers = post(own, "plain", 20)
            for body, answer in zip(bodies, answers, strict=True):
                if answer.status == 200:
                    acknowledged.append(body)
                else:
                    is_unavailable(answer)
    finally:
        link.lose(0)
    works_again(own, "plain")
    stack.wait_for("the drain", lambda: own.missing(acknowledged) == [], timeout=60)
