# SPDX-License-Identifier: MIT
"""make install and make uninstall, into a folder of their own."""
import re
import subprocess

import pytest
from support import stack


def make(*arguments):
    done = subprocess.run(["make", "-s", "-C", stack.ROOT, f"B={stack.build_dir()}", *arguments],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={"PATH": stack.ENV_PATH})
    assert done.returncode == 0, done.stdout


def files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


@pytest.mark.parametrize("prefix", ["usr/local", "usr"])
def test_installed_and_removed(tmp_path, prefix):
    # -o all: what is installed is what is tested, whatever flags it was built with
    make("-o", "all", "install", f"DESTDIR={tmp_path}", f"PREFIX=/{prefix}")
    there = files(tmp_path)
    for name in ("sbin/foloosi-webhook", "sbin/foloosi-worker", "bin/foloosictl", "lib/systemd/system/foloosi-webhook.service",
                 "lib/sysusers.d/foloosi-webhook.conf", "share/foloosi-webhook/nginx/foloosi-webhook.conf",
                 "share/foloosi-webhook/sql/install.sql", "share/man/man1/foloosictl.1"):
        assert f"{prefix}/{name}" in there
    assert "etc/foloosi-webhook/foloosi-webhook.conf" in there
    for name in there:
        path = tmp_path / name
        if path.is_symlink() or "/sbin/" in name or "/bin/" in name:
            continue
        for found in re.findall(r"(/usr\S*?)/(?:s?bin/foloosi|share/foloosi)", path.read_text()):
            assert found == f"/{prefix}", f"{name} names {found}"

    conf = tmp_path / "etc/foloosi-webhook/foloosi-webhook.conf"
    conf.write_text("# an operator's\n")
    make("-o", "all", "install", f"DESTDIR={tmp_path}", f"PREFIX=/{prefix}")
    assert conf.read_text() == "# an operator's\n"

    make("uninstall", f"DESTDIR={tmp_path}", f"PREFIX=/{prefix}")
    assert files(tmp_path) == {"etc/foloosi-webhook/foloosi-webhook.conf"}
    assert conf.read_text() == "# an operator's\n"
