#!/bin/sh
# What building, testing and the demo need on Debian 12, by package name. Called by `make deps`.
#
# Installs what is missing and nothing else, and does nothing if nothing is missing. The
# packages bring services (nginx, Apache, PostgreSQL, PgBouncer, Prometheus) that this project does not
# use as such: it starts private ones of its own. So none is left running, enabled or
# configured that was not before, and PostgreSQL's main cluster is not made.
#
# With arguments, these packages instead, and by the same rules: tests/bench/deps.sh.
set -eu

packages='
	gcc make libc6-dev
	libfcgi-dev libjson-c-dev libpq-dev libinih-dev libssl-dev libcurl4-openssl-dev
	clang clang-format clang-tidy cppcheck valgrind libclang-rt-14-dev
	libcmocka-dev mandoc curl
	python3 python3-pytest python3-pytest-xdist python3-hypothesis python3-psycopg python3-aiosmtpd openssl
	postgresql-15 postgresql-15-pgtap postgresql-15-plproxy libtap-parser-sourcehandler-pgtap-perl
	pgbouncer
	nginx-light apache2 libapache2-mod-fcgid
	libfcgi-bin spawn-fcgi
	php8.2-cli php8.2-pgsql
	iproute2 iptables openssl libfaketime e2fsprogs
	prometheus
'
services='nginx apache2 postgresql pgbouncer php8.2-fpm prometheus'
[ $# -eq 0 ] || packages=$*

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=
for package in $packages; do
	case $package in
	# Any nginx will do, and its flavours exclude each other.
	nginx-light) [ -x /usr/sbin/nginx ] && continue ;;
	esac
	installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
	if sudo -n true 2>/dev/null; then
		exec sudo -n sh "$0" "$@"
	fi
	echo "make deps: these packages are missing, and only root can install them: run  apt-get install --no-install-recommends$missing  (or \`make deps\`) as root" >&2
	exit 1
fi

# -- what is put in place for the time of the installation, and taken away again ----------------

policy=/usr/sbin/policy-rc.d
cluster_conf=/etc/postgresql-common/createcluster.conf
cluster_conf_kept=
policy_is_ours=

undo() {
	[ -z "$policy_is_ours" ] || rm -f "$policy"
	if [ -n "$cluster_conf_kept" ]; then
		cat "$cluster_conf_kept" >"$cluster_conf"
		rm -f "$cluster_conf_kept"
	fi
	policy_is_ours= cluster_conf_kept=
}
trap undo EXIT
trap 'exit 130' HUP INT TERM

install() {
	DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
		install -y -q --no-install-recommends "$@"
}

# No package starts a service (invoke-rc.d(8)): 101 is "forbidden". A policy of the operator stays.
if [ ! -e "$policy" ] && [ ! -L "$policy" ]; then
	policy_is_ours=yes
	printf '#!/bin/sh\n# of tests/deps.sh, for the time of one apt-get\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi

new_services=
for service in $services; do
	[ -e "/etc/init.d/$service" ] || new_services="$new_services $service"
done

apt-get -o DPkg::Lock::Timeout=300 update -q ||
	echo "make deps: apt-get update failed; trying with the package lists that are there" >&2

case $missing in
*postgresql-15*)
	# postgresql-common comes first and alone: it brings the file in which "no main cluster"
	# can be said before a server package looks.
	installed postgresql-common || install postgresql-common
	if [ -f "$cluster_conf" ]; then
		cluster_conf_kept=$(mktemp)
		cat "$cluster_conf" >"$cluster_conf_kept"
		sed -i '/^[[:space:]]*create_main_cluster/d' "$cluster_conf"
		echo 'create_main_cluster = off' >>"$cluster_conf"
	fi
	;;
esac

# shellcheck disable=SC2086  # a list of words
install $missing

# What came with this run shall not start at the next boot either.
for service in $new_services; do
	[ -e "/etc/init.d/$service" ] || continue
	invoke-rc.d "$service" stop >/dev/null 2>&1 || :
	update-rc.d "$service" disable >/dev/null 2>&1 || :
done
undo

for package in $missing; do
	installed "$package" || {
		echo "make deps: $package could not be installed" >&2
		exit 1
	}
done
