"""Processes of a server."""
import contextlib
import pathlib
import re


def family(pid):
    """A process and its children."""
    children = [int(p.name) for p in pathlib.Path("/proc").iterdir() if p.name.isdigit() and parent(p) == pid]
    return [pid, *children]


def parent(path):
    with contextlib.suppress(OSError):
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])


def memory_mib(pid):
    """(RSS of the process itself, PSS of it and its children)."""
    def kib(path, key):
        try:
            found = re.search(rf"^{key}:\s*(\d+)", pathlib.Path(path).read_text(), re.M)
        except OSError:
            return 0
        return int(found.group(1)) if found else 0

    return kib(f"/proc/{pid}/status", "VmRSS") / 1024, sum(kib(f"/proc/{p}/smaps_rollup", "Pss") for p in family(pid)) / 1024
