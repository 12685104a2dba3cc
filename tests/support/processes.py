# SPDX-License-Identifier: MIT
"""Processes of a server: which they are, what they need, how to stop them for a while."""
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import time

from support.stack import StackError

STOP_S = 10  # a process that waits for its disk stops when it comes back from there


def stat(pid):
    """(state, parent) of a process; None if there is none."""
    with contextlib.suppress(OSError):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[1])


def family(pid):
    """A process and its children."""
    return [pid, *(p for p, (_, parent) in everything().items() if parent == pid)]


def everything():
    """{pid: (state, parent)} of all processes."""
    found = {int(p.name): stat(p.name) for p in pathlib.Path("/proc").iterdir() if p.name.isdecimal()}
    return {pid: s for pid, s in found.items() if s}


def descendants(pids):
    """{pid: state} of these processes, their children, the children of those, …; parents first. The dead are left out."""
    processes = everything()
    found = {pid: processes[pid][0] for pid in pids if pid in processes}
    for parent in iter_growing(found):
        found.update((pid, state) for pid, (state, p) in processes.items() if p == parent and pid not in found)
    return {pid: state for pid, state in found.items() if state not in "ZX"}


def iter_growing(mapping):
    """The keys of a dictionary, those that are added meanwhile as well."""
    done = 0
    while done < len(mapping):
        yield list(mapping)[done]
        done += 1


@contextlib.contextmanager
def frozen(*pids):
    """Servers that neither answer nor close their connections: SIGSTOP to these processes and to all below them.

    Parents are stopped first, so that nothing is forked that is not found; processes are looked for until one pass finds
    nothing but stopped ones. One in uninterruptible sleep counts once it has the signal: it stops before it runs any code of
    its own (a parent in vfork() waits there for a child that is stopped). Processes that end meanwhile are not missed. At the end all go on again, whatever happened:
    the SIGCONT comes from a child, which is told each process before it is stopped, and sends it when this process has
    closed the pipe or is gone.
    """
    guard = subprocess.Popen(["/bin/sh", "-c", 'while read -r p; do pids="$pids $p"; done; [ -z "$pids" ] || kill -CONT $pids 2>/dev/null'],
                             stdin=subprocess.PIPE, start_new_session=True, text=True)
    stopped = set()
    try:
        deadline = time.monotonic() + STOP_S
        while running := [pid for pid, state in descendants([*pids, *stopped]).items()
                          if state not in "Tt" and not (state == "D" and pid in stopped)]:
            if time.monotonic() > deadline:
                raise StackError(f"processes {running} do not stop")
            for pid in running:
                if pid not in stopped:
                    stopped.add(pid)
                    guard.stdin.write(f"{pid}\n")
                    guard.stdin.flush()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            time.sleep(0.002)
        yield
    finally:
        guard.stdin.close()
        guard.wait()
        # what was born meanwhile, and what another one stopped after all
        while still := [pid for pid, state in descendants([*pids, *stopped]).items() if state in "T"]:
            for pid in still:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            time.sleep(0.002)


def memory_mib(pid):
    """(RSS of the process itself, PSS of it and its children)."""
    def kib(path, key):
        try:
            found = re.search(rf"^{key}:\s*(\d+)", pathlib.Path(path).read_text(), re.M)
        except OSError:
            return 0
        return int(found.group(1)) if found else 0

    return kib(f"/proc/{pid}/status", "VmRSS") / 1024, sum(kib(f"/proc/{p}/smaps_rollup", "Pss") for p in family(pid)) / 1024
