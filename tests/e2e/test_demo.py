# SPDX-License-Identifier: MIT
"""make demo and make demo-stop, in a copy of the tree: what is printed fits a terminal, and a stop finds what runs."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

from support import stack

NEEDED = ["tests/demo.py", "tests/support", "sql", "nginx", "apache"]


class Tree:
    """A checkout of its own; its .demo/ is no concern of the one under test."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        for name in NEEDED:
            source, target = stack.ROOT / name, self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)

    def demo(self, word, port=None):
        done = subprocess.run([sys.executable, self.root / "tests" / "demo.py", word], capture_output=True, text=True,
                              env={**os.environ, "B": str(stack.build_dir()), "PORT": str(port or "")})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def env(self):
        lines = (self.root / ".demo" / "env").read_text().splitlines()
        return dict(line.removeprefix("export ").replace("'", "").split("=", 1) for line in lines if "=" in line)


@pytest.fixture(scope="module")
def trees():
    with tempfile.TemporaryDirectory(prefix="fw-demo.", dir="/tmp") as home:
        trees = [Tree(f"{home}/{name}") for name in ("one", "other")]
        try:
            yield trees
        finally:
            for tree in trees:
                tree.demo("stop")


def home_of(tree):
    return pathlib.Path(tree.env()["FOLOOSI_WEBHOOK_CONFIG"]).parents[1]


def processes(home):
    """Those that run a program below the directory, or have it on their command line."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(str(home) in w for w in words):
            found.append(int(entry.name))
    return found


def test_what_it_prints_fits_80_columns(trees):
    said = trees[0].demo("start", stack.free_port())
    assert [line for line in said.splitlines() if len(line) > 80] == []
    assert "success" in said and "cancelled" in said and "make demo-stop" in said


def test_stop_after_git_clean_ends_this_one_and_no_other(trees):
    one, other = trees
    if not (one.root / ".demo" / "env").exists():
        one.demo("start", stack.free_port())
    other.demo("start", stack.free_port())
    homes = [home_of(t) for t in trees]
    state = json.loads((homes[0] / "state.json").read_text())
    assert len(state["processes"]) >= 6 and all(processes(h) for h in homes)
    shutil.rmtree(one.root / ".demo")  # as "git clean -xfd" does
    assert one.demo("stop") == "The demo is stopped.\n"
    assert processes(homes[0]) == [] and not homes[0].exists()
    assert all(stack.birth(p["pid"]) != p["birth"] for p in state["processes"])
    assert one.demo("stop") == "No demo was running.\n"
    assert processes(homes[1]) and homes[1].exists()
    assert other.demo("stop") == "The demo is stopped.\n"
    assert processes(homes[1]) == []
