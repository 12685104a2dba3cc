# SPDX-License-Identifier: MIT
# foloosi-webhook: build, test, install. `make help` lists the targets. The README's two commands are
#
#	make deps demo      a private PostgreSQL + nginx + handler under .demo/, with a few orders in it
#	make deps check     every test that fits into ten minutes on two cores
#
# -- what one may set ----------------------------------------------------------

B	= build
CC	= gcc
# The version stands here. lint compares debian/changelog with it.
VERSION	= 0.2.0
PORT	= 8080
TIME	= 60

# debian/rules says /usr
PREFIX	= /usr/local
SBINDIR	= $(PREFIX)/sbin
BINDIR	= $(PREFIX)/bin
CGIDIR	= $(PREFIX)/lib/cgi-bin
DATADIR	= $(PREFIX)/share/foloosi-webhook
MANDIR	= $(PREFIX)/share/man
BASHDIR	= $(PREFIX)/share/bash-completion/completions
CONFDIR	= /etc/foloosi-webhook
UNITDIR	= $(PREFIX)/lib/systemd/system
SYSUSERSDIR = $(PREFIX)/lib/sysusers.d
TMPFILESDIR = $(PREFIX)/lib/tmpfiles.d

PYTHON	= /usr/bin/python3
PKG_CONFIG = pkg-config
# end to end, most of the time is spent waiting: four files of tests at a time, each with servers of its own
TOGETHER = -n 4 --dist loadfile
# builds and analyzers, side by side
J	:= $(shell nproc)
WARN	= -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2
# Warnings are errors in checks only: `make check` and the builds with sanitizers say so.
WERROR	= $(if $(SAN),-Werror)
HARDEN	= -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
OPT	= -O2 -g $(HARDEN)
CFLAGS	= -std=c17 -D_GNU_SOURCE $(WARN) $(WERROR) $(OPT) $(SAN)
CPPFLAGS = -DVERSION='"$(VERSION)"' -DFOLOOSI_SQLDIR='"$(DATADIR)/sql"' -DFOLOOSI_DATADIR='"$(DATADIR)"' $(LIB_CFLAGS)
LDFLAGS	= -pie -Wl,-z,relro,-z,now $(SAN)
SAN	=
# make Q= shows the commands
Q	= @

# -- what there is -------------------------------------------------------------

# what is not in lib/
HANDLER_OBJS = $(patsubst cgi-src/%.c,%.o,$(wildcard cgi-src/handler/*.c))
CTL_OBJS     = $(patsubst cgi-src/%.c,%.o,$(wildcard cgi-src/ctl/*.c))
WORKER_OBJS  = $(patsubst cgi-src/%.c,%.o,$(wildcard cgi-src/worker/*.c))

# Asked for when first needed, not when this file is read: `make deps all` installs them in between.
LIBRARIES  = fcgi json-c libpq inih libcrypto libcurl
LIB_CFLAGS = $(eval LIB_CFLAGS := $(call pkg,--cflags,$(LIBRARIES)))$(LIB_CFLAGS)
pkg = $(if $(shell $(PKG_CONFIG) --exists $2 && echo yes),$(shell $(PKG_CONFIG) $1 $2),$(error $(PKG_CONFIG) does not find $2: run  make deps))
HANDLER_LIBS = $(call pkg,--libs,fcgi json-c libpq inih libcrypto) -lpthread
CTL_LIBS     = $(call pkg,--libs,libpq libcurl json-c inih libcrypto) -lpthread
WORKER_LIBS  = $(call pkg,--libs,libpq libcurl libcrypto json-c inih) -lpthread

# What a folder's files may include: lib/ sees nothing of the others, and those do not see each other.
INC_lib     = -Icgi-src/lib
INC_handler = -Icgi-src/handler $(INC_lib)
INC_worker  = -Icgi-src/worker $(INC_lib)
INC_ctl     = -Icgi-src/ctl $(INC_lib)
INC_ALL     = -Icgi-src/lib -Icgi-src/handler -Icgi-src/worker -Icgi-src/ctl

UNIT	= $(patsubst tests/unit/%.c,$B/%,$(wildcard tests/unit/test_*.c))
FUZZ	= $(patsubst tests/fuzz/%.c,$B/%,$(wildcard tests/fuzz/fuzz_*.c))
C_FILES	= $(wildcard cgi-src/*/*.c tests/unit/*.c tests/fuzz/*.c tests/prove/*.c)
H_FILES	= $(wildcard cgi-src/*/*.h tests/unit/*.h)

# -- public targets --------------------------------------------------------------

.PHONY: all help deps demo-deps demo demo-stop check check-all install uninstall clean deb deb-deps package-check
all: $B/foloosi-webhook $B/foloosi-worker $B/foloosictl $B/foloosictl.bash ## the three programs, in $B/

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo 'Variables: B=$B PORT=$(PORT) PREFIX=$(PREFIX) DESTDIR= CC=$(CC) and others at the top of the Makefile.'

# `make deps demo` needs no more than demo-deps installs; beside any other goal, or alone, deps installs all.
deps: ## install what the tests need (with `demo` and nothing else beside it: what the demo needs)
	@sh tests/deps.sh $(if $(filter demo,$(MAKECMDGOALS)),$(if $(filter-out deps demo,$(MAKECMDGOALS)),,demo))

demo-deps: ## install what the demo needs
	@sh tests/deps.sh demo

# What is installed comes before what needs it, under -j too.
ifneq ($(filter %deps,$(MAKECMDGOALS)),)
.NOTPARALLEL:
endif

demo: ## start a private PostgreSQL, nginx and handler under .demo/, on PORT
	@sh tests/deps.sh check demo
	@$(MAKE) --no-print-directory all
	@B=$B PORT=$(PORT) $(PYTHON) tests/demo.py start

demo-stop: ## end the demo
	@B=$B $(PYTHON) tests/demo.py stop

# The order is from the quickest to the slowest, so that a mistake shows early. The servers of the
# sql and e2e parts run a build with ASan and UBSan.
check: ## every test that fits into ten minutes on two cores
	$(MAKE) WERROR=-Werror all lint
	$(MAKE) WERROR=-Werror unit sql isolation e2e
	$(MAKE) WERROR=-Werror fuzz TIME=2 # that they build, and what was found before
	$(MAKE) WERROR=-Werror prove TIME=60
	$(MAKE) B=$B/asan SAN="$(ASAN)" OPT="-O1 -g" mutate N=5000

check-all: check ## and the proofs that take longer: within an hour
	$(MAKE) WERROR=-Werror prove-self
	$(MAKE) WERROR=-Werror mutate N=100000
	$(MAKE) WERROR=-Werror unit-tsan e2e-tsan e2e-valgrind e2e-long tidy
	$(MAKE) WERROR=-Werror fuzz
	HYPOTHESIS_PROFILE=long $(MAKE) WERROR=-Werror model

install: all ## programs, manual pages, units and the rest below PREFIX; configuration in /etc
	install -d $(addprefix $(DESTDIR),$(SBINDIR) $(BINDIR) $(CGIDIR) $(CONFDIR) $(BASHDIR) $(UNITDIR)/foloosi-.service.d \
	    $(SYSUSERSDIR) $(TMPFILESDIR) $(SECTIONS:%=$(MANDIR)/man%) $(addprefix $(DATADIR)/,nginx apache prometheus $(SQLDIRS)))
	install -m 755 $(addprefix $B/,$(SBIN)) $(DESTDIR)$(SBINDIR)/
	ln -sf $(SBINDIR)/foloosi-webhook $(DESTDIR)$(CGIDIR)/foloosi-webhook
	install -m 755 $B/foloosictl $(DESTDIR)$(BINDIR)/
	install -m 644 $B/foloosictl.bash $(DESTDIR)$(BASHDIR)/foloosictl
	$(foreach d,$(SQLDIRS),install -m 644 $d/*.sql $(DESTDIR)$(DATADIR)/$d/ &&) :
	$(call install_text,nginx/*.conf,$(DATADIR)/nginx)
	$(call install_text,apache/*.conf,$(DATADIR)/apache)
	$(call install_text,prometheus/alerts.yml prometheus/dashboard.json,$(DATADIR)/prometheus)
	$(foreach s,$(SECTIONS),$(call install_text,cgi-src/man/*.$s,$(MANDIR)/man$s) &&) :
	$(call install_text,$(UNITS:%=systemd/%),$(UNITDIR))
	$(call install_text,systemd/foloosi-.service.d/*.conf,$(UNITDIR)/foloosi-.service.d)
	install -m 644 systemd/sysusers.conf $(DESTDIR)$(SYSUSERSDIR)/foloosi-webhook.conf
	install -m 644 systemd/tmpfiles.conf $(DESTDIR)$(TMPFILESDIR)/foloosi-webhook.conf
	install -d -m 700 $(DESTDIR)$(CONFDIR)/secrets
	test -e $(DESTDIR)$(CONFDIR)/foloosi-webhook.conf || \
	    install -m 640 cgi-src/foloosi-webhook.conf $(DESTDIR)$(CONFDIR)/

uninstall: ## remove what install put below PREFIX; configuration, secrets and spool stay
	rm -f $(addprefix $(DESTDIR),$(SBIN:%=$(SBINDIR)/%) $(BINDIR)/foloosictl $(CGIDIR)/foloosi-webhook $(BASHDIR)/foloosictl \
	    $(foreach s,$(SECTIONS),$(patsubst cgi-src/man/%,$(MANDIR)/man$s/%,$(wildcard cgi-src/man/*.$s))) \
	    $(UNITS:%=$(UNITDIR)/%) $(SYSUSERSDIR)/foloosi-webhook.conf $(TMPFILESDIR)/foloosi-webhook.conf)
	rm -rf $(DESTDIR)$(DATADIR) $(DESTDIR)$(UNITDIR)/foloosi-.service.d

SBIN	 = foloosi-webhook foloosi-worker
SECTIONS = 1 5 7 8
SQLDIRS	 = sql sql/migrations sql/functions sql/views
UNITS	 = $(notdir $(wildcard systemd/foloosi-*.service systemd/foloosi-*.socket systemd/foloosi-*.timer))
# $(call install_text,FILES,FOLDER): the paths in them are /usr's; they become PREFIX's
install_text = for f in $1; do sed 's,/usr/sbin/foloosi,$(SBINDIR)/foloosi,g; s,/usr/bin/foloosi,$(BINDIR)/foloosi,g; s,/usr/share/foloosi-webhook,$(DATADIR),g' \
	    $$f >$(DESTDIR)$2/$${f\#\#*/} && chmod 644 $(DESTDIR)$2/$${f\#\#*/} || exit 1; done

# The Debian package, in $B/deb: built in a copy, so that nothing of it is left in the source tree.
# DEB_VERSION= another version than the changelog's
DEB_SOURCE = $B/deb/foloosi-webhook
deb: ## the Debian package, in $B/deb/
	rm -rf $B/deb && mkdir -p $(DEB_SOURCE)
	tar -c --exclude=./$B --exclude=./build --exclude=./.demo --exclude=./.git --exclude=__pycache__ . | tar -x -C $(DEB_SOURCE)
	$(if $(DEB_VERSION),sed -i '1s/(.*)/($(DEB_VERSION))/' $(DEB_SOURCE)/debian/changelog)
	cd $(DEB_SOURCE) && env -u MAKEFLAGS -u MAKELEVEL dpkg-buildpackage -b -us -uc
	lintian --fail-on error,warning --info $B/deb/*.changes

deb-deps: ## install what make deb needs
	@sh tests/deps.sh build-essential debhelper lintian debootstrap pkgconf libfcgi-dev libjson-c-dev libpq-dev libinih-dev \
	    libssl-dev libcurl4-openssl-dev

# The package in a fresh Debian root with a systemd of its own; as root, apart from the machine's services
package-check: ## the package in a root of its own: install, upgrade, remove (as root)
	$(MAKE) deb
	$(MAKE) deb B=$B/next DEB_VERSION=$(VERSION).1
	B=$B VERSION=$(VERSION) NEXT=$(VERSION).1 bash tests/package.sh

clean: ## remove $B/
	rm -rf $B

# -- parts of check --------------------------------------------------------------

.PHONY: unit unit-tsan sql isolation schema e2e e2e-tsan e2e-valgrind e2e-long model lint tidy format fuzz
ASAN	= -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
TSAN	= -fsanitize=thread

unit: ## the unit tests, with sanitizers
	$(MAKE) -j$J B=$B/asan SAN="$(ASAN)" OPT="-O1 -g" run-unit

unit-tsan:
	$(MAKE) -j$J B=$B/tsan CC=clang SAN="$(TSAN)" OPT="-O1 -g -fPIE" run-unit

# side by side too: the slowest wait for time-outs; none of them runs for ever
.PHONY: run-unit $(UNIT:%=%.run)
run-unit: $(UNIT)
	$(MAKE) -j4 -O $(UNIT:%=%.run)
$(UNIT:%=%.run): %.run: %
	@echo "== $<"; timeout --verbose --signal=ABRT --kill-after=10 300 $<

# pgTAP, each file in a transaction that is rolled back, on a private PostgreSQL
sql: all ## the pgTAP tests
	B=$B $(PYTHON) tests/sql/run.py

# PostgreSQL's isolationtester
isolation: all ## two sessions at once on one order, in every order of their steps
	B=$B $(PYTHON) tests/isolation/run.py

schema: all ## write sql/schema.sql, and the order rules of README.md and foloosi-sql(7), from a migrated database
	B=$B $(PYTHON) tests/support/schema.py

# the real nginx, Apache, PostgreSQL and PgBouncer in front of and behind an ASan build
e2e: all ## end to end: real servers before and behind a build with sanitizers
	$(MAKE) -j$J B=$B/asan SAN="$(ASAN)" OPT="-O1 -g" all
	B=$B/asan $(PYTHON) -m pytest tests/e2e -q $(TOGETHER)

e2e-tsan:
	$(MAKE) -j$J B=$B/tsan CC=clang SAN="$(TSAN)" OPT="-O1 -g -fPIE" all
	B=$B/tsan $(PYTHON) -m pytest tests/e2e -q $(TOGETHER) -k "load or outage or answers or metrics"

e2e-valgrind: all
	B=$B WRAP="valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite" \
	    $(PYTHON) -m pytest tests/e2e -q -k "answers and nginx"

# tests with the mark "long"
e2e-long: all
	$(MAKE) -j$J B=$B/asan SAN="$(ASAN)" OPT="-O1 -g" all
	$(MAKE) B=$B/asan SAN="$(ASAN)" OPT="-O1 -g" $B/asan/bench/pace
	LONG=1 B=$B/asan $(PYTHON) -m pytest tests/e2e -q -m long
	B=$B $(PYTHON) -m pytest tests/e2e/test_load.py tests/e2e/test_resources.py -q \
	    -k "apache-cgi or apache-fcgid or out_of or clock" # 200 processes at once, scarce memory: see SANITIZED there

model: all
	B=$B $(PYTHON) -m pytest tests/e2e/test_model.py -q -n 2

# gcc has built everything already; clang sees other things. Then the formatter, the analyzers, the manual.
lint: ## compile with clang, formatter, analyzers, manual pages
	$(MAKE) -j$J B=$B/clang CC=clang WERROR=-Werror all
	@for f in debian/changelog $(wildcard CHANGES); do sed -n '/[0-9]\.[0-9]/{p;q}' $$f | grep -qwF '$(VERSION)' || \
	    { echo "$$f does not begin with the version of the Makefile, $(VERSION)" >&2; exit 1; }; done
	clang-format-19 --dry-run -Werror $(C_FILES) $(H_FILES)
	cppcheck -j$J -q --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
	    --suppress=missingIncludeSystem -D_GNU_SOURCE -DVERSION='""' -DFOLOOSI_SQLDIR='""' -DFOLOOSI_DATADIR='""' $(INC_ALL) \
	    --suppress=varFuncNullUB --suppress=normalCheckLevelMaxBranches cgi-src # glibc's NULL is a pointer; 2.17 says how far it looks
	$(PYTHON) tests/lint/includes.py
	$(PYTHON) tests/lint/spdx.py
	mandoc -Tlint -Wwarning cgi-src/man/*.[1578]
	$(MAKE) tidy

tidy: ## clang-tidy
	$(MAKE) -j$J $(patsubst cgi-src/%.c,$B/tidy/%,$(wildcard cgi-src/*/*.c))

$B/tidy/%: cgi-src/%.c $(H_FILES) .clang-tidy
	@mkdir -p $(@D); clang-tidy-19 --quiet $< -- -std=c17 -D_GNU_SOURCE $(INC_$(*D)) $(CPPFLAGS) >$@.log 2>&1 || { cat $@.log; exit 1; }
	@touch $@

format: ## let the formatter rewrite the C files
	clang-format-19 -i $(C_FILES) $(H_FILES)

# TIME= seconds for each target. What was found before is tests/fuzz/corpus/TARGET.tar.gz, beside it the seeds that have names.
fuzz: ## each fuzz target for TIME seconds
	$(MAKE) -j$J B=$B/fuzz CC=clang run-fuzz

# the archives anew: of what was there and what make fuzz has found since, as much as covers the same
fuzz-pack:
	$(MAKE) -j$J B=$B/fuzz CC=clang run-fuzz-pack

.PHONY: fuzz-pack run-fuzz run-fuzz-pack $(FUZZ:%=%.run) $(FUZZ:%=%.pack)
run-fuzz: $(FUZZ)
	$(MAKE) -j$J -O $(FUZZ:%=%.run)
run-fuzz-pack: $(FUZZ:%=%.pack)
FUZZ_DIRS = f=$B/corpus/$(<F); s=tests/fuzz/corpus/$(patsubst fuzz_%,%,$(<F)); rm -rf $$f.old; mkdir -p $$f $$f.old; \
	tar -C $$f.old -xzf $$s.tar.gz; [ ! -d $$s ] || cp $$s/* $$f.old/
$(FUZZ:%=%.run): %.run: %
	@$(FUZZ_DIRS); \
	echo "== $<"; $< -max_total_time=$(TIME) -close_fd_mask=1 -print_final_stats=0 -artifact_prefix=$$f- $$f $$f.old 2>$$f.log || \
	    { tail -40 $$f.log; exit 1; }; tail -1 $$f.log
$(FUZZ:%=%.pack): %.pack: %
	@$(FUZZ_DIRS); rm -rf $$f.new; mkdir $$f.new; [ ! -d $$s ] || cp $$s/* $$f.new/; \
	$< -merge=1 -close_fd_mask=1 -artifact_prefix=$$f- $$f.new $$f.old $$f 2>$$f.log || { tail -40 $$f.log; exit 1; }; \
	(cd $$f.new && ls | grep -xE '[0-9a-f]{40}' | LC_ALL=C sort | tar --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=644 \
	    --format=ustar -c -T -) | gzip -9n >$$s.tar.gz && echo "$$s.tar.gz: $$(tar -tzf $$s.tar.gz | wc -l) files"

# Processes are killed or frozen at random under load for TIME seconds, 600 by default; then every acknowledged body is looked for.
# SEED= gives the same faults again.
.PHONY: prove prove-self
PROVE_TIME = $(if $(filter command line,$(origin TIME)),$(TIME),600)
prove: all ## kill and freeze servers under load for TIME seconds: no acknowledged delivery may be lost
	B=$B TIME=$(PROVE_TIME) SEED=$(SEED) $(PYTHON) tests/prove/prove.py

# the proof of the proof: it must find the loss that a handler makes which acknowledges whatever the writer says
prove-self: all $B/planted/foloosi-webhook ## that prove finds a planted loss
	cp -p $B/foloosi-worker $B/foloosictl $B/planted/
	B=$B/planted TIME=20 EXPECT=loss $(PYTHON) tests/prove/prove.py

# No 5xx, no crash, no leak with N mutated samples (SEED= again the same), and nothing that grows under a steady load of
# RATE requests a second for TIME seconds, 1800 if not said
.PHONY: mutate soak
N = 1000000
RATE = 7000
SOAK_TIME = $(if $(filter command line,$(origin TIME)),$(TIME),1800)
mutate: all ## N mutated samples: no 5xx, no crash, no leak
	B=$B N=$(N) SEED=$(SEED) $(PYTHON) tests/prove/mutate.py

soak: all $B/bench/pace ## a steady load for TIME seconds: nothing grows
	B=$B TIME=$(SOAK_TIME) RATE=$(RATE) $(PYTHON) tests/prove/soak.py

# -- the bench ---------------------------------------------------------------------

# Servers next to each other on this machine; see tests/bench/bench.py. deps and bench-deps first.
.PHONY: bench bench-deps bench-quick bench-growth
BENCH	= $B/bench/pace $B/bench/noop $B/bench/slowdisk.so

bench-deps: ## install what the bench needs, after make deps
	@B=$B sh tests/bench/deps.sh

# all of it, in less than 15 minutes; writes tests/bench/RESULTS.md and throughput.svg
bench: all $(BENCH) $B/bench/go-handler ## all of the bench, a quarter of an hour
	B=$B $(PYTHON) tests/bench/bench.py full

# the first three ratios, in less than a minute
bench-quick: all $(BENCH) ## the first ratios, within a minute
	B=$B $(PYTHON) tests/bench/bench.py quick

# 10 million deliveries (EVENTS=) against none: some 20 GB of disk
bench-growth: all $(BENCH) ## with 10 million deliveries against none
	B=$B $(PYTHON) tests/bench/bench.py growth

$B/bench/%: tests/bench/%.c $B/.flags
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< $(call pkg,--libs,fcgi) -lm -lpthread

$B/bench/%.so: tests/bench/%.c $B/.flags
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIC -shared -o $@ $<

# Debian's packages of Go libraries are sources below GOPATH, not modules
$B/bench/go-handler: tests/bench/go/main.go
	@mkdir -p $(@D)
	GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS= GOCACHE=$(abspath $B)/bench/go-cache go build -o $@ tests/bench/go/main.go

# -- how things are made -----------------------------------------------------------

# All of lib/ as one archive, of which each program and test links what it calls. Made anew when the
# folder changes, so that a file that was removed leaves it too.
LIB_OBJS = $(patsubst cgi-src/%.c,$B/%.o,$(wildcard cgi-src/lib/*.c))
$B/lib.a: $(LIB_OBJS) cgi-src/lib
	@echo '  AR $@'
	$(Q)rm -f $@ && $(AR) rcs $@ $(LIB_OBJS)

$B/foloosi-webhook: $(addprefix $B/,$(HANDLER_OBJS)) $B/lib.a
	@echo '  LD $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(HANDLER_LIBS)

$B/planted/foloosi-webhook: tests/prove/planted.c $(addprefix $B/,$(HANDLER_OBJS)) $B/lib.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(CPPFLAGS) $(INC_handler) $(LDFLAGS) -Wl,--wrap=writer_submit,--wrap=writer_take_completed -o $@ $^ $(HANDLER_LIBS)

$B/foloosi-worker: $(addprefix $B/,$(WORKER_OBJS)) $B/lib.a
	@echo '  LD $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(WORKER_LIBS)

$B/foloosictl: $(addprefix $B/,$(CTL_OBJS)) $B/lib.a
	@echo '  LD $@'
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(CTL_LIBS)

# foloosictl knows its subcommands itself
$B/foloosictl.bash: $B/foloosictl
	@echo '  GEN $@'
	$(Q)$B/foloosictl completion bash >$@.new && mv $@.new $@

# Objects depend on the flags too: another SAN or CC in the same folder builds anew.
$B/.flags: .FORCE
	@mkdir -p $(@D); echo '$(CC) $(CFLAGS) $(CPPFLAGS) $(LDFLAGS)' | cmp -s - $@ || \
	    echo '$(CC) $(CFLAGS) $(CPPFLAGS) $(LDFLAGS)' >$@

$B/%.o: cgi-src/%.c $B/.flags
	@echo '  CC $@'; mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(INC_$(*D)) $(CPPFLAGS) -MMD -MP -c -o $@ $<

$B/fake_%.o: tests/unit/fake_%.c $B/.flags
	@echo '  CC $@'
	$(Q)$(CC) $(CFLAGS) $(INC_ALL) $(CPPFLAGS) -MMD -MP -c -o $@ $<

# A test links the objects that its first line names, and what they call of lib/:  // objects: a.c b.c
.SECONDEXPANSION:
objects_of = $(addprefix $B/,$(patsubst %.c,%.o,$(shell sed -n '1s,^// objects:,,p' $(1))))

$(UNIT): $B/%: tests/unit/%.c $$(call objects_of,tests/unit/%.c) $B/lib.a $B/.flags
	@echo '  LD $@'
	$(Q)$(CC) $(CFLAGS) $(INC_ALL) $(CPPFLAGS) -MMD -MP $(LDFLAGS) -o $@ $< $(filter %.o %.a,$^) $(call pkg,--libs,cmocka) $(HANDLER_LIBS) $(call pkg,--libs,libcurl)

$(FUZZ): $B/%: tests/fuzz/%.c $B/lib.a $B/.flags $(C_FILES)
	@echo '  LD $@'
	$(Q)$(CC) $(CFLAGS) $(INC_ALL) $(CPPFLAGS) -fsanitize=fuzzer,address,undefined -o $@ $< \
	    $(addprefix cgi-src/,$(shell sed -n '1s,^// objects:,,p' $<)) $B/lib.a $(HANDLER_LIBS)

.PHONY: .FORCE
.FORCE:
-include $(wildcard $B/*.d $B/*/*.d)
