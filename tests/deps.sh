#!/bin/sh
# SPDX-License-Identifier: MIT
# What building, testing and the demo need on Debian 13 or 12, by package name. Called by `make deps`.
#
#   sh tests/deps.sh              all that the tests need: `make deps`
#   sh tests/deps.sh demo         what `make demo` needs: `make demo-deps`
#   sh tests/deps.sh check demo   installs nothing; fails with a sentence if something of it is missing
#   sh tests/deps.sh PACKAGE...   these packages, by the same rules: `make bench-deps`, `make deb-deps`
#
# Says beforehand how much it installs. Installs what is missing and nothing else, and does nothing
# if nothing is missing. The packages bring services (nginx, Apache, PostgreSQL, PgBouncer, Prometheus)
# that this project does not use as such: it starts private ones of its own. So none is left running,
# enabled or configured that was not before, and PostgreSQL's main cluster is not made.
set -eu

build='
	gcc make libc6-dev pkgconf
	libfcgi-dev libjson-c-dev libpq-dev libinih-dev libssl-dev libcurl4-openssl-dev
'
demo="$build"'
	python3 python3-psycopg curl nginx-light postgresql
'
all="$demo"'
	clang clang-rt clang-format-19 clang-tidy-19 cppcheck valgrind
	libcmocka-dev mandoc
	python3-pytest python3-pytest-xdist python3-pytest-timeout python3-hypothesis python3-aiosmtpd
	postgresql-pgtap postgresql-plproxy libtap-parser-sourcehandler-pgtap-perl
	pgbouncer
	apache2 libapache2-mod-fcgid
	libfcgi-bin spawn-fcgi
	php-cli php-pgsql
	iproute2 iptables openssl libfaketime e2fsprogs
	prometheus
'
services='nginx apache2 postgresql pgbouncer php*-fpm prometheus'

target=deps
case "$*" in
'') packages=$all ;;
demo | 'check demo') packages=$demo target=demo-deps ;;
*) packages=$* ;;
esac

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# The package that a package without a version stands for: depends_on postgresql 'postgresql-[0-9]*'
depends_on() {
	apt-cache depends "$1" 2>/dev/null | sed -n "s/^ *|*Depends: \($2\)\$/\1/p" | head -n 1
}

# PostgreSQL's major: of the newest server that is here, or of the one that would come.
postgresql_major() {
	for initdb in /usr/lib/postgresql/*/bin/initdb; do
		[ ! -x "$initdb" ] || echo "$initdb"
	done | cut -d/ -f5 | sort -n | tail -n 1 | grep . || depends_on postgresql 'postgresql-[0-9]*' | sed 's/.*-//'
}

# Names with the versions of this machine. One that cannot be looked up stays as it is.
with_versions() {
	major=$(postgresql_major)
	clang=$(depends_on clang 'clang-[0-9]*')
	for package in $packages; do
		case $package in
		# Any nginx will do, and its flavours exclude each other.
		nginx-light) [ -x /usr/sbin/nginx ] || echo nginx-light ;;
		postgresql) echo "postgresql${major:+-$major}" ;;
		postgresql-pgtap | postgresql-plproxy) echo "postgresql-${major:+$major-}${package#postgresql-}" ;;
		php-*) depends_on "$package" "php[0-9.]*-${package#php-}" | grep . || echo "$package" ;;
		clang-rt) echo "libclang-rt-${clang:+${clang#clang-}-}dev" ;;
		*) echo "$package" ;;
		esac
	done
}

missing() {
	with_versions | while read -r package; do
		installed "$package" || printf ' %s' "$package"
	done
}

if [ "${1-}" = check ]; then
	command -v dpkg-query >/dev/null || exit 0 # not Debian: the compiler and make demo say what is missing
	missing=$(missing)
	[ -n "$missing" ] || exit 0
	echo "make $2: packages are missing: run  make $target  (as root or with sudo), which installs$missing" >&2
	exit 1
fi

missing=$(missing)
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
	if sudo -n true 2>/dev/null; then
		exec sudo -n sh "$0" "$@"
	fi
	echo "make $target: these packages are missing, and only root can install them: run  apt-get install --no-install-recommends$missing  (or \`make $target\`) as root" >&2
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

# The init scripts of the services that are here.
service_names() {
	for name in $services; do
		for script in /etc/init.d/$name; do # php*-fpm may be several, or none
			[ ! -e "$script" ] || echo "${script##*/}"
		done
	done
}

# No package starts a service (invoke-rc.d(8)): 101 is "forbidden". A policy of the operator stays.
if [ ! -e "$policy" ] && [ ! -L "$policy" ]; then
	policy_is_ours=yes
	printf '#!/bin/sh\n# of tests/deps.sh, for the time of one apt-get\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi

services_before=$(service_names)

apt-get -o DPkg::Lock::Timeout=300 update -q ||
	echo "make $target: apt-get update failed; trying with the package lists that are there" >&2
missing=$(missing) # again: without package lists no version could be looked up

# shellcheck disable=SC2086  # a list of words
size=$(LC_ALL=C apt-get install --assume-no --no-install-recommends $missing 2>/dev/null |
	sed -n 's/^[0-9]* upgraded, \([0-9]*\) newly installed.*/\1 packages/p
		s/^Need to get \(.*\) of archives\..*/, \1 to download/p
		s/^After this operation, \(.*\) of additional disk space.*/, \1 on disk/p' | tr -d '\n')
echo "make $target: installing ${size:-packages}, for:$missing"

case $missing in
*' postgresql-'*)
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
for service in $(service_names); do
	case " $(echo $services_before) " in *" $service "*) continue ;; esac
	invoke-rc.d "$service" stop >/dev/null 2>&1 || :
	update-rc.d "$service" disable >/dev/null 2>&1 || :
done
undo

for package in $missing; do
	installed "$package" || {
		echo "make $target: $package could not be installed" >&2
		exit 1
	}
done
