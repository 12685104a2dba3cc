#!/bin/bash
# SPDX-License-Identifier: MIT
# The Debian package in a machine of its own: a fresh Debian root in which a real systemd runs as pid 1,
# in namespaces and control groups of its own, without network but for its loopback.
#
# usage, as root, after make deb-deps:  make package-check        (KEEP=1 keeps the root and says where it is)
#
# The README's section Install is followed in it line by line, as it is printed; then a posted
# sample must be an order in psql, a restart and an upgrade under load must cost no request, a changed
# configuration must survive, and removal and purge must leave what they should.
# The root is made by debootstrap from where this machine gets its packages; FROM= names one that was
# made before, which is copied.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."
B=${B:-build}
version=${VERSION:?run  make package-check}
next=${NEXT:?}

[ "$(id -u)" -eq 0 ] || { echo "make package-check: only root can make a root: run it as root" >&2; exit 1; }
for deb in "$B/deb/foloosi-webhook_${version}_"*.deb "$B/next/deb/foloosi-webhook_${next}_"*.deb; do
	[ -f "$deb" ] || { echo "make package-check: $deb is missing: run  make package-check" >&2; exit 1; }
done

root=$(mktemp -d /var/tmp/fw-package.XXXXXX)
chmod 755 "$root"
groups="fw-package.$$"
keeper=
log=$root.log
: >"$log"

finish() {
	local rc=$?
	[ "$rc" -eq 0 ] || [ -z "${pid1:-}" ] || inside 'journalctl --no-pager -n 60' >>"$log" 2>&1 || :
	[ -z "$keeper" ] || { kill -KILL "$keeper" && wait "$keeper"; } 2>/dev/null || :
	sleep 1 # the others in there end with their pid 1
	for h in /sys/fs/cgroup/unified /sys/fs/cgroup/systemd /sys/fs/cgroup; do
		[ ! -d "$h/$groups" ] || find "$h/$groups" -depth -type d -exec rmdir {} + 2>/dev/null || :
	done
	[ "$rc" -eq 0 ] || echo "FAILED; what was said is in $log" >&2
	[ -n "${KEEP:-}" ] && echo "the root is $root" || rm -rf --one-file-system "$root"
}
trap finish EXIT

say() { echo "== $*" | tee -a "$log"; }
fail() { echo "package-check: $*" >&2; exit 1; }
in_root() { chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }

# -- the root ---------------------------------------------------------------------------------------

. /etc/os-release
mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null || :; } |
	awk '/^URIs:/ {print $2; exit} /^deb / {for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) {print $i; exit}}')
say "debootstrap ${SUITE:-$VERSION_CODENAME}"
if [ -n "${FROM:-}" ]; then
	cp -a "$FROM/." "$root/"
else
	debootstrap --variant=minbase --include=ca-certificates,systemd,systemd-sysv,dbus \
		"${SUITE:-$VERSION_CODENAME}" "$root" "$mirror" >>"$log" 2>&1
fi
if [ -z "${SUITE:-}" ]; then
	rm -f "$root/etc/apt/sources.list"
	cp -r /etc/apt/sources.list.d /etc/apt/apt.conf.d "$root/etc/apt/"
	[ ! -f /etc/apt/sources.list ] || cp /etc/apt/sources.list "$root/etc/apt/"
	rm -f "$root"/etc/apt/apt.conf.d/docker-*
fi
cp /etc/resolv.conf "$root/etc/"
echo "127.0.0.1 localhost $(uname -n)" >"$root/etc/hosts"
mkdir -p "$root/root/build/deb" "$root/root/next"
cp "$B"/deb/foloosi-webhook_*.deb "$root/root/build/deb/"
# The next version brings another configuration file, so that dpkg has to choose.
dpkg-deb -R "$B"/next/deb/foloosi-webhook_${next}_*.deb "$root/root/unpacked"
echo "# $next" >>"$root/root/unpacked/etc/foloosi-webhook/foloosi-webhook.conf"
dpkg-deb -b "$root/root/unpacked" "$root/root/next/" >>"$log"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
in_root apt-get -q update >>"$log" 2>&1
say "PostgreSQL, nginx and Apache, from Debian"
in_root apt-get install -qy --no-install-recommends postgresql nginx-light apache2 curl openssl sudo procps >>"$log" 2>&1
# There is no network afterwards: what the package depends on waits in apt's cache.
in_root sh -c 'apt-get install -qy --download-only --no-install-recommends /root/build/deb/*.deb' >>"$log" 2>&1
rm "$root/usr/sbin/policy-rc.d"
sed -i 's/^Listen 80$/Listen 8081/' "$root/etc/apache2/ports.conf" # nginx has 80

# -- pid 1 --------------------------------------------------------------------------------------------

cat >"$root.boot" <<'BOOT'
set -e
root=$1
mount --make-rprivate / && mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
if [ -d /sys/fs/cgroup/systemd ]; then
	mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
	mkdir "$root/sys/fs/cgroup/unified" "$root/sys/fs/cgroup/systemd"
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
	mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
else
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
fi
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for d in null zero full random urandom tty; do mknod -m 666 "$root/dev/$d" c $(stat -c '0x%t 0x%T' "/dev/$d"); done
ln -s /proc/self/fd "$root/dev/fd"
ln -s pts/ptmx "$root/dev/ptmx"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
: >"$root/dev/console"
ip link set lo up 2>/dev/null || :
# Not chroot: a service may have a user namespace only if its root is the mount namespace's.
mkdir -p "$root/mnt" && cd "$root" && pivot_root . mnt && umount -l /mnt
mount --make-rshared / # as on any machine: by propagation a service's credentials reach the manager
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
BOOT
say "systemd as pid 1"
(
	for h in /sys/fs/cgroup/unified /sys/fs/cgroup/systemd /sys/fs/cgroup; do
		[ -e "$h/cgroup.procs" ] || continue
		mkdir "$h/$groups"
		echo $BASHPID >"$h/$groups/cgroup.procs"
	done
	# In the machine's own group that systemd would take the machine for its own.
	grep -q "$groups" /proc/$BASHPID/cgroup
	if grep -qE '^[0-9]+:(name=systemd)?:/$' /proc/$BASHPID/cgroup; then exit 1; fi
	exec unshare --pid --mount --cgroup --uts --ipc --net --fork --kill-child bash "$root.boot" "$root"
) >>"$log" 2>&1 </dev/null &
keeper=$!
for _ in $(seq 100); do
	pid1=$(pgrep -P "$keeper" -x systemd || :)
	[ -z "$pid1" ] || break
	sleep 0.2
done
[ -n "$pid1" ] || fail "systemd does not come up in namespaces of its own here"
# A reader that stops early (grep -q) would be a failure of who writes: pipefail.
inside() {
	nsenter -t "$pid1" -m -p -C -n -u -i /usr/bin/env -i HOME=/root LANG=C.UTF-8 \
		DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin bash -o pipefail -ec "cd /root; $1" </dev/null
}
soon() { # soon COMMAND: within 20 s
	for _ in $(seq 50); do
		inside "$1" >/dev/null 2>&1 && return
		sleep 0.4
	done
	return 1
}
for _ in $(seq 150); do
	state=$(inside 'systemctl is-system-running' 2>/dev/null || :)
	case $state in running | degraded) break ;; esac
	sleep 0.4
done
case $state in running | degraded) ;; *) fail "systemd says: $state" ;; esac
soon 'cd /; sudo -u postgres psql -Atc "select 1"' || fail "PostgreSQL does not come up"

# -- the README, from its first line ------------------------------------------------------------------

section=$(sed -n '/^## Install/,/^## What is in/p' README.md)
block() { awk -v want="$1" '/^```/ {inside = !inside && $0 == want ? ++n == '"$2"' : 0; next} inside' <<<"$section"; }
pg=$(inside 'ls /etc/postgresql')
block '```sh' 1 | sed 1d >"$root/root/steps" # the first line built what is installed here
grep -q 'apt-get install' "$root/root/steps" || fail "the README has no such lines any more"
while IFS= read -r step; do
	say "$step"
	case $step in *'apt-get install'*) step="${step/install/install -qy --no-install-recommends}" ;; esac
	inside "$step" >>"$log" 2>&1 || { tail -5 "$log" >&2; fail "the README's line fails: $step"; }
done <"$root/root/steps"
inside '! systemctl is-enabled foloosi-worker' >/dev/null || fail "the worker is enabled, and nobody did that"
inside 'foloosi-webhook --check-config' >>"$log" || fail "the configuration is wrong"

say "nginx"
inside 'cp -a /etc/nginx nginx.before
	sed -n "/^include/p" >/etc/nginx/conf.d/foloosi.conf <<<"include /usr/share/foloosi-webhook/nginx/foloosi-webhook.conf;"
	sed -i "0,/server_name _;/s//server_name _;\n\tinclude \/usr\/share\/foloosi-webhook\/nginx\/foloosi-webhook-location.conf;\n\tinclude \/usr\/share\/foloosi-webhook\/nginx\/foloosi-webhook-operations.conf;/" /etc/nginx/sites-available/default
	systemctl restart nginx'
cat >"$root/root/post" <<'POST'
# post N: N deliveries, one after the other; says each answer
token=$(cat /etc/foloosi-webhook/secrets/shop.token)
for i in $(seq "$1"); do
	n=$(openssl rand -hex 8)
	curl -sS -o /tmp/answer -w '%{http_code}\n' -H 'Content-Type: application/json' "http://localhost:${PORT:-80}/webhooks/foloosi/shop/$token" \
	    -d '{"data":{"transfer":{"transaction_status":"success","transaction_no":"FL'$n'","transaction_amount":"100","transaction_currency":"AED","api":{"optional1":"A-'$n'"}}}}'
	cat /tmp/answer >>/tmp/answers
done
POST
ask() { inside "cd /; sudo -u postgres psql foloosi -Atc \"$1\""; }

inside 'bash post 1' | grep -qx 200 || fail "the sample was not taken: $(inside 'cat /tmp/answers; journalctl -u foloosi-webhook -n 5 --no-pager')"
[ "$(ask "select count(*) from foloosi.orders where state = 'paid'")" = 1 ] || fail "no order in psql"
say "a posted sample is an order in psql: $(ask 'select order_ref, state, amount, currency from foloosi.orders')"
say "the README's last lines: samples, orders, check"
block '```sh' 2 >"$root/root/last-lines"
inside 'bash -e last-lines' | tee -a "$log" || fail "the README's last lines fail, or something is red"

say "Apache"
block '```apache' 1 >"$root/root/apache-lines"
inside 'a2enmod proxy_fcgi headers
	sed -i -e "s/<VirtualHost .*>/<VirtualHost *:8081>/" -e "/CustomLog/d" -e "/ErrorLog/r apache-lines" /etc/apache2/sites-available/000-default.conf
	systemctl restart apache2' >>"$log" 2>&1 || fail "Apache does not start with the README's lines"
inside 'PORT=8081 bash post 1' | grep -qx 200 || fail "Apache: the sample was not taken: $(inside 'cat /tmp/answers; tail -5 /var/log/apache2/error.log')"
[ "$(ask "select count(*) from foloosi.orders where state = 'paid'")" = 3 ] || fail "no order by way of Apache"
inside '! grep -F "$(cat /etc/foloosi-webhook/secrets/shop.token)" /var/log/apache2/*' || fail "Apache's logs show the token"
inside 'grep -q "/webhooks/foloosi/... " /var/log/apache2/foloosi-webhook.log' || fail "Apache has no log of its own for the endpoint"
inside 'systemctl stop apache2' # one web server is enough for what follows

# -- the units ----------------------------------------------------------------------------------------

units=$(inside 'cd /usr/lib/systemd/system 2>/dev/null && ls foloosi-*.service /lib/systemd/system/foloosi-*.service 2>/dev/null | xargs -n1 basename | sort -u')
inside "systemd-analyze verify --man=no $(echo $units) foloosi-webhook.socket foloosi-cancel.timer foloosi-reconcile.timer foloosi-retention.timer" >>"$log" 2>&1 || fail "systemd-analyze verify: see $log"
for unit in $units; do
	exposure=$(inside "systemd-analyze security --no-pager $unit" | awk '/Overall exposure/ {print $(NF - 2)}')
	say "$unit: exposure $exposure"
	awk -v e="$exposure" 'BEGIN {exit !(e != "" && e + 0 <= 1.5)}' || fail "$unit is exposed: $exposure"
done
inside 'systemctl enable --now foloosi-worker foloosi-{cancel,reconcile,retention}.timer && systemctl is-active foloosi-worker' >>"$log" 2>&1 ||
	fail "the worker and the timers do not start"
inside 'systemctl start foloosi-retention' >>"$log" 2>&1 ||
	fail "foloosi-retention fails"
inside 'systemctl start foloosi-cancel' >>"$log" 2>&1 || fail "foloosi-cancel fails"
# There is nobody to ask here, and it says so: the unit itself starts and reads its configuration.
inside '! systemctl start foloosi-reconcile' >>"$log" 2>&1 || fail "foloosi-reconcile asked somebody, in a root without network"
soon "journalctl -u foloosi-reconcile --no-pager | grep 'has a provider_url' >/dev/null" || fail "foloosi-reconcile fails, but not for want of a provider_url"
inside 'curl -sSf http://localhost/readyz; curl -sSf http://localhost/metrics' >"$root.metrics" || fail "/readyz and /metrics"
grep -q '^foloosi_.*attention' "$root.metrics" || fail "/metrics knows nothing of the database: foloosi_monitor is not let in"
[ "$(inside 'stat -c "%a %U %G" /run/foloosi-webhook/foloosi-webhook.sock')" = "660 root www-data" ] || fail "the socket is not the web server's alone"
inside 'systemctl reload foloosi-webhook foloosi-worker' || fail "reload fails"
inside 'cp /etc/foloosi-webhook/foloosi-webhook.conf /tmp/good; echo nonsense >>/etc/foloosi-webhook/foloosi-webhook.conf
	systemctl reload foloosi-webhook'
soon 'journalctl -u foloosi-webhook --no-pager | grep reload_failed >/dev/null && systemctl is-active -q foloosi-webhook' ||
	fail "a wrong configuration must be logged, and the old one stay in force"
inside 'cat /tmp/good >/etc/foloosi-webhook/foloosi-webhook.conf; systemctl reload foloosi-webhook'
say "status: $(inside 'systemctl show -p StatusText --value foloosi-webhook')"

# -- restarts, an upgrade, under load --------------------------------------------------------------------

load() { # load COMMAND: eight clients post while it runs; says how many answers there were of which kind
	inside 'rm -f /tmp/stop /tmp/codes.*; for c in 1 2 3 4 5 6 7 8; do
		(while [ ! -e /tmp/stop ]; do bash post 5; done >/tmp/codes.$c 2>&1) & done
		sleep 1; '"$1"'; sleep 1; touch /tmp/stop; wait; cat /tmp/codes.*' >"$root.codes" 2>>"$log"
	[ "$(sort -u "$root.codes")" = 200 ] || fail "under load: $(sort "$root.codes" | uniq -c | head -5)"
	wc -l <"$root.codes"
}
answers=$(load 'for i in 1 2 3; do systemctl restart foloosi-webhook; sleep 0.5; done')
say "three restarts under load: $answers answers, all 200"
socket=$(inside 'stat -c %i /run/foloosi-webhook/foloosi-webhook.sock')
inside 'echo "# a line of the operator" >>/etc/foloosi-webhook/foloosi-webhook.conf' # an unchanged file is replaced by an upgrade
inside 'cat /etc/foloosi-webhook/foloosi-webhook.conf' >"$root.before"
answers=$(load 'apt-get install -qy --no-install-recommends -o Dpkg::Options::=--force-confold ./next/foloosi-webhook_*.deb >&2')
say "upgrade under load: $answers answers, all 200"
inside 'dpkg-query -W -f "\${Version}" foloosi-webhook' | grep -qx "$next" || fail "not upgraded"
inside "journalctl -u foloosi-webhook --no-pager | grep 'event=started version=$next' >/dev/null" || fail "the upgrade did not restart the handler"
[ "$(inside 'stat -c %i /run/foloosi-webhook/foloosi-webhook.sock')" = "$socket" ] || fail "the upgrade made another socket"
inside 'cat /etc/foloosi-webhook/foloosi-webhook.conf' | cmp -s - "$root.before" || fail "the upgrade changed the configuration"
inside "grep -qx '# $next' /etc/foloosi-webhook/foloosi-webhook.conf.dpkg-dist" || fail "the new configuration is not beside the old one"
[ "$(inside 'stat -c "%a %G" /etc/foloosi-webhook/foloosi-webhook.conf')" = "640 foloosi-webhook" ] || fail "the configuration is not the group's any more"
[ "$(ask 'select count(*) from foloosi.orders')" -ge "$answers" ] || fail "acknowledged, and no order"

# -- the database away: the spool ---------------------------------------------------------------------------

say "PostgreSQL stopped, posted, started"
before=$(ask 'select count(*) from foloosi.orders')
inside "pg_ctlcluster $pg main stop; : >/tmp/answers; bash post 1" | grep -qx 200 || fail "without its database it does not spool"
inside 'grep -q spooled /tmp/answers' || fail "not spooled"
inside "systemctl start postgresql@$pg-main"
soon "foloosictl spool list | grep -q '^0 waiting'" || fail "the spool does not drain"
[ "$(ask 'select count(*) from foloosi.orders')" = $((before + 1)) ] || fail "what was spooled is no order"

# -- removed, purged --------------------------------------------------------------------------------------

say "remove, then purge"
inside 'apt-get remove -qy foloosi-webhook' >>"$log" 2>&1
inside '! systemctl is-active -q foloosi-webhook.service && ! systemctl is-active -q foloosi-webhook.socket && ! systemctl is-active -q foloosi-worker' || fail "removed, and it runs"
inside 'test -s /etc/foloosi-webhook/foloosi-webhook.conf && test -s /etc/foloosi-webhook/secrets/shop.token' || fail "removal took the configuration"
inside 'touch /var/spool/foloosi-webhook/kept; apt-get purge -qy foloosi-webhook' >>"$log" 2>&1
inside 'test ! -e /etc/foloosi-webhook && test -e /var/spool/foloosi-webhook/kept && test ! -e /usr/sbin/foloosi-webhook' || fail "a purge leaves the wrong things"
inside '! ls /etc/systemd/system/*.wants/foloosi-* 2>/dev/null' || fail "a purge leaves units enabled"

# -- Debian's own test of the package, which begins with nothing, too -------------------------------------

say "debian/tests/installed"
cp debian/tests/installed "$root/root/"
inside 'rm -rf /etc/nginx /var/spool/foloosi-webhook; mv nginx.before /etc/nginx
	cd /; runuser -u postgres -- dropdb foloosi
	apt-get install -qy --no-install-recommends /root/build/deb/foloosi-webhook_*.deb' >>"$log" 2>&1 || fail "not installed again"
inside 'bash installed' >>"$log" 2>&1 || { tail -5 "$log" >&2; fail "debian/tests/installed fails"; }
say "all well"
rm -f "$root.boot" "$root.codes" "$root.before" "$root.metrics" "$log"
