// objects: lib/spool.c lib/spool_io.c lib/auth.c lib/log.c
/* SPDX-License-Identifier: MIT */
/*
 * What is kept survives, what is not kept leaves nothing, and no file, however torn, is taken for a
 * delivery. The disk fails on command: the executable's fsync() and renameat() go before libc's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "between.h"
#include "clock.h"
#include "log.h"
#include "mem.h"
#include "spool.h"

#define ARRIVED 1764000000123456
#define BODY "{\"data\":1}"

static char directory[] = "/tmp/fw-spool.XXXXXX";
static struct spool *spool;

/* -- a disk that fails on command -- */

static atomic_int file_syncs, directory_syncs, failing_file, failing_directory, failing_rename;
static atomic_int slow_directory; /* ms a flush of the directory takes */

int fsync(int);
int
fsync(int fd)
{
	struct stat st;
	bool is_directory = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);

	if (is_directory && atomic_load(&slow_directory) > 0)
		usleep((useconds_t)atomic_load(&slow_directory) * 1000);
	atomic_fetch_add(is_directory ? &directory_syncs : &file_syncs, 1);
	if (atomic_load(is_directory ? &failing_directory : &failing_file)) {
		errno = EIO;
		return -1;
	}
	return 0;
}

int
renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	if (atomic_load(&failing_rename)) {
		errno = ENOSPC;
		return -1;
	}
	return (int)syscall(SYS_renameat, from_dir, from, to_dir, to);
}

/* Time enough for a disk that works. */
static int64_t
in_time(void)
{
	return clock_ms() + 10000;
}

/* -- the directory -- */

static int
count_files(const char *path)
{
	char *command = xasprintf("ls -A %s/%s 2>/dev/null | wc -l", directory, path);
	FILE *p = popen(command, "r");
	int n = -1;

	assert_int_equal(fscanf(p, "%d", &n), 1);
	pclose(p);
	free(command);
	return n;
}

static struct spool *
open_spool(size_t max_bytes, size_t max_files)
{
	char *error;
	struct spool *s = spool_open(
	    &(struct spool_options){
		.directory = directory, .max_bytes = max_bytes, .max_files = max_files},
	    &error);

	assert_null(error);
	assert_non_null(s);
	return s;
}

static int
set_up(void **state)
{
	(void)state;
	strcpy(directory + strlen(directory) - 6, "XXXXXX");
	assert_non_null(mkdtemp(directory));
	file_syncs = directory_syncs = failing_file = failing_directory = failing_rename = 0;
	slow_directory = 0;
	spool = open_spool(1 << 20, 1000);
	directory_syncs = 0;
	return 0;
}

static int
tear_down(void **state)
{
	char *command = xasprintf("rm -rf %s", directory);

	(void)state;
	spool_close(spool);
	assert_int_equal(system(command), 0);
	free(command);
	return 0;
}

static struct delivery
delivery(int n)
{
	struct delivery d = {.merchant = "shop",
	    .body = (const unsigned char *)BODY,
	    .body_len = strlen(BODY),
	    .order_ref = "A-1"};

	snprintf(d.request_id, sizeof d.request_id, "%016x", (unsigned)n);
	return d;
}

static struct spool_name
only_file(void)
{
	struct spool_name *names, name;

	assert_int_equal(spool_list(spool, "", 10, false, &names), 1);
	name = names[0];
	free(names);
	return name;
}

static void
write_file(const char *name, const void *bytes, size_t len)
{
	char *path = xasprintf("%s/%s", directory, name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	free(path);
}

static unsigned char *
read_whole(const char *name, size_t *len)
{
	char *path = xasprintf("%s/%s", directory, name);
	unsigned char *bytes = xrealloc(NULL, 1 << 16);
	FILE *f = fopen(path, "r");

	assert_non_null(f);
	*len = fread(bytes, 1, 1 << 16, f);
	fclose(f);
	free(path);
	return bytes;
}

/* -- to keep and to read again -- */

static void
what_is_kept_is_read_again(void **state)
{
	static const char all[256] = "\0\xff\r\n";
	static const struct {
		const char *order, *unprefixed;
		const char *body;
		size_t len;
	} rows[] = {{"A-1", NULL, BODY, 10}, {NULL, NULL, "", 0},
	    {"\xd8\xb7 \n\"", NULL, all, sizeof all}, {NULL, "FLSSUB_1", BODY, 10}};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct delivery d = delivery(7);
		struct spool_name name;
		const char *fault;
		struct spooled s;

		d.order_ref = rows[i].order;
		d.unprefixed = rows[i].unprefixed;
		d.body = (const unsigned char *)rows[i].body;
		d.body_len = rows[i].len;
		assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_NONE);
		name = only_file();
		assert_int_equal(strncmp(name.text, "1764000000123456-0000000000000007-", 34), 0);
		assert_int_equal(spool_load(spool, name.text, &s, &fault), SPOOL_READ);
		assert_string_equal(s.merchant, "shop");
		assert_string_equal(s.request_id, "0000000000000007");
		assert_true(s.arrived == ARRIVED);
		assert_int_equal(s.body_len, rows[i].len);
		assert_memory_equal(s.body, rows[i].body, rows[i].len);
		if (rows[i].order == NULL)
			assert_null(s.order_ref);
		else
			assert_string_equal(s.order_ref, rows[i].order);
		if (rows[i].unprefixed == NULL)
			assert_null(s.unprefixed);
		else
			assert_string_equal(s.unprefixed, rows[i].unprefixed);
		spooled_free(&s);
		assert_true(spool_remove(spool, name.text));
		assert_int_equal(spool_load(spool, name.text, &s, &fault), SPOOL_GONE);
	}
	assert_int_equal(file_syncs, 4);
	assert_int_equal(directory_syncs, 4);
}

static void
a_file_is_private(void **state)
{
	struct delivery d = delivery(1);
	char path[128];
	struct stat st;

	(void)state;
	umask(0);
	assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_NONE);
	snprintf(path, sizeof path, "%s/%s", directory, only_file().text);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void
oldest_first(void **state)
{
	static const int64_t arrivals[] = {ARRIVED, 5, ARRIVED - 1, ARRIVED + 999999999999};
	static const char *const ids[] = {
	    "0000000000000001", "0000000000000002", "0000000000000000", "0000000000000003"};
	struct spool_name *names, *rest;
	struct spool_usage usage;

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct delivery d = delivery(i);
		assert_int_equal(spool_keep(spool, &d, arrivals[i], in_time()), REASON_NONE);
	}
	assert_int_equal(spool_list(spool, "", 100, false, &names), 4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(strncmp(names[i].text + 17, ids[i], 16), 0);
	assert_int_equal(spool_list(spool, names[1].text, 1, false, &rest), 1);
	assert_string_equal(rest[0].text, names[2].text);
	free(rest);
	free(names);
	usage = spool_count(spool);
	assert_int_equal(usage.files, 4);
	assert_true(usage.oldest == 5);
}

/* Who cannot look does not say that there is nothing: the drain would, and so would an operator. */
static void
what_cannot_be_read_is_not_empty(void **state)
{
	struct delivery d = delivery(1);
	struct rlimit before, none;
	struct spool_usage usage;

	(void)state;
	assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_NONE);
	assert_false(spool_count(spool).unread);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	usage = spool_count(spool);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_true(usage.unread);
	assert_int_equal(usage.files, 1);
	assert_false(spool_count(spool).unread);
}

/* -- what goes wrong leaves nothing -- */

static void
nothing_is_left_of_what_failed(void **state)
{
	atomic_int *const switches[] = {&failing_file, &failing_directory, &failing_rename};
	struct delivery d = delivery(1);

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		atomic_store(switches[i], 1);
		assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_SPOOL_FAILED);
		assert_int_equal(count_files("."), 0);
		atomic_store(switches[i], 0);
		assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_NONE);
		assert_true(spool_remove(spool, only_file().text));
	}
}

static void
limits(void **state)
{
	struct delivery d = delivery(0);
	struct spool_name *names;
	struct spool *other;
	size_t len;

	(void)state;
	spool_close(spool);
	spool = open_spool(1 << 20, 2);
	for (int i = 0; i < 2; i++) {
		d = delivery(i);
		assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_NONE);
	}
	d = delivery(2);
	assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_SPOOL_FULL);
	assert_int_equal(count_files("."), 2);
	/* another process, which has not counted yet */
	other = open_spool(1 << 20, 2);
	assert_int_equal(spool_keep(other, &d, ARRIVED, in_time()), REASON_SPOOL_FULL);
	spool_close(other);
	/* what has gone makes room, with the next count */
	len = spool_count(spool).bytes / 2;
	d = delivery(0);
	assert_int_equal(spool_list(spool, "", 1, false, &names), 1);
	assert_true(spool_remove(spool, names[0].text));
	free(names);
	assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_SPOOL_FULL);
	spool_count(spool);
	assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_NONE);

	spool_close(spool);
	spool = open_spool(3 * len - 1, 100);
	d = delivery(9);
	assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_SPOOL_FULL);
	spool_close(spool);
	spool = open_spool(3 * len, 100);
	assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_NONE);
	d = delivery(10);
	assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_SPOOL_FULL);
}

/* A failure gives back what it had reserved. */
static void
failures_do_not_fill_it(void **state)
{
	struct delivery d = delivery(1);

	(void)state;
	spool_close(spool);
	spool = open_spool(1 << 20, 2);
	atomic_store(&failing_file, 1);
	for (int i = 0; i < 5; i++)
		assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_SPOOL_FAILED);
	atomic_store(&failing_file, 0);
	assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_NONE);
}

#define THREADS 32

static void *
keep_one(void *arg)
{
	struct delivery d = delivery(*(int *)arg);

	*(int *)arg = (int)spool_keep(spool, &d, ARRIVED, in_time());
	return NULL;
}

static void
keep_at_once(int results[THREADS])
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++) {
		results[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, keep_one, &results[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

static void
threads_share_a_flush(void **state)
{
	int results[THREADS];

	(void)state;
	atomic_store(&slow_directory, 50);
	keep_at_once(results);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(results[i], REASON_NONE);
	assert_int_equal(spool_count(spool).files, THREADS);
	assert_int_equal(file_syncs, THREADS);
	assert_true(directory_syncs >= 1);
	assert_true(directory_syncs < THREADS);
}

static void
a_failed_flush_fails_all_who_shared_it(void **state)
{
	int results[THREADS];

	(void)state;
	atomic_store(&slow_directory, 20);
	atomic_store(&failing_directory, 1);
	keep_at_once(results);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(results[i], REASON_SPOOL_FAILED);
	assert_int_equal(count_files("."), 0);
}

/* -- files that are none -- */

static void
every_truncation_and_every_flipped_bit_is_noticed(void **state)
{
	struct delivery d = delivery(1);
	struct spool_name name;
	struct spooled s;
	unsigned char *bytes;
	size_t len;

	(void)state;
	assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_NONE);
	name = only_file();
	bytes = read_whole(name.text, &len);
	assert_null(spool_parse(bytes, len, &s));
	for (size_t n = 0; n < len; n++) {
		unsigned char *part = memcpy(xrealloc(NULL, n), bytes, n); /* for the sanitizer */
		assert_non_null(spool_parse(part, n, &s));
		free(part);
	}
	for (size_t bit = 0; bit < len * 8; bit++) {
		bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
		assert_non_null(spool_parse(bytes, len, &s));
		bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
	}
	bytes = xrealloc(bytes, len + 1);
	bytes[len] = 0;
	assert_non_null(spool_parse(bytes, len + 1, &s));
	free(bytes);
}

static void
names_that_are_not_ours(void **state)
{
	static const char *const names[] = {
	    "x",
	    "1764000000123456-0123456789abcdef-1",
	    "1764000000123456-0123456789abcdef-.delivery",
	    "1764000000123456-0123456789abcdef-1.delivery.gz",
	    "1764000000123456-0123456789ABCDEF-1.delivery",
	    "1764000000123456-0123456789abcdef-1234567890.delivery",
	    "176400000012345-0123456789abcdef-1.delivery",
	    "17640000001234567-0123456789abcdef-1.delivery",
	    "1764000000123456_0123456789abcdef-1.delivery",
	    "1764000000123456-0123456789abcde-1.delivery",
	    "0123456789012345678901234567890123456789012345678901234567890123456789",
	};
	struct spool_name *list;
	char path[128];

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		write_file(names[i], "?", 1);
	write_file(".hidden", "?", 1);
	snprintf(path, sizeof path, "%s/lost+found", directory);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(spool_count(spool).files, 0);
	assert_int_equal(spool_list(spool, "", 100, false, &list), 0);
	free(list);
	assert_int_equal(spool_count(spool).aside, 0);

	assert_int_equal(spool_list(spool, "", 100, true, &list), 0);
	free(list);
	assert_int_equal(spool_count(spool).aside, sizeof names / sizeof *names);
	assert_int_equal(count_files("."), 3); /* .hidden aside lost+found */

	write_file("x", "another of the same name", 24);
	assert_int_equal(spool_list(spool, "", 100, true, &list), 0);
	free(list);
	assert_int_equal(spool_count(spool).aside, sizeof names / sizeof *names + 1);
}

/* -- directories -- */

static void
assert_refused(const char *path, const char *word)
{
	char *error = NULL;

	assert_null(spool_open(
	    &(struct spool_options){.directory = path, .max_bytes = 1, .max_files = 1}, &error));
	assert_non_null(error);
	if (strstr(error, word) == NULL || strstr(error, path) == NULL)
		fail_msg("no %s or %s in: %s", word, path, error);
	free(error);
}

static void
directories_that_are_refused(void **state)
{
	static const mode_t modes[] = {0701, 0710, 0770, 0777, 0755, 01777};
	char path[128];

	(void)state;
	assert_refused("/nonexistent/spool", "install -d");
	assert_refused("/dev/null", "Not a directory");
	snprintf(path, sizeof path, "%s/d", directory);
	assert_int_equal(mkdir(path, 0700), 0);
	for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
		assert_int_equal(chmod(path, modes[i]), 0);
		assert_refused(path, "chmod 700");
	}
	assert_int_equal(chmod(path, 0700), 0);
	atomic_store(&failing_directory, 1);
	assert_refused(path, "another filesystem");
	if (geteuid() != 0) {
		assert_int_equal(chmod(path, 0500), 0);
		assert_refused(path, "cannot be written to");
	}
}

static void
one_drains_at_a_time(void **state)
{
	struct spool *other = open_spool(1, 1);

	(void)state;
	assert_true(spool_lock(spool));
	assert_false(spool_lock(other));
	spool_unlock(spool);
	assert_true(spool_lock(other));
	assert_false(spool_lock(spool));
	spool_close(other); /* as at the end of its process */
	assert_true(spool_lock(spool));
}

/* -- a disk that hangs -- */

static void
a_disk_that_hangs_holds_up_no_request(void **state)
{
	struct delivery d = delivery(1);
	int64_t begin = clock_ms();

	(void)state;
	atomic_store(&slow_directory, 1500);
	assert_int_equal(spool_keep(spool, &d, ARRIVED, begin + 100), REASON_SPOOL_LATE);
	assert_between(clock_ms() - begin, 100, 1000);
	/* while it hangs no other request tries */
	d = delivery(2);
	assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_SPOOL_LATE);
	assert_between(clock_ms() - begin, 100, 1200);
	atomic_store(&slow_directory, 0);
	usleep(2000000);
	/* what was late is there, which does no harm; the disk is tried again */
	assert_int_equal(count_files("."), 1);
	assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_NONE);
	assert_int_equal(count_files("."), 2);
}

#define REQUESTS 100 /* more than there are threads at the disk */

static void *
keep_shortly(void *arg)
{
	struct delivery d = delivery(*(int *)arg);

	*(int *)arg = (int)spool_keep(spool, &d, ARRIVED, clock_ms() + 300);
	return NULL;
}

static void
without_a_free_thread_it_is_late_in_time(void **state)
{
	pthread_t threads[REQUESTS];
	int results[REQUESTS];

	(void)state;
	atomic_store(&slow_directory, 1500);
	for (int i = 0; i < REQUESTS; i++) {
		results[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, keep_shortly, &results[i]), 0);
	}
	for (int i = 0; i < REQUESTS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(results[i], REASON_SPOOL_LATE);
	}
	atomic_store(&slow_directory, 0);
	usleep(4000000); /* those that came meanwhile share one more flush */
	assert_between(count_files("."), 1, 64);
}

static void
what_is_set_aside_counts_for_the_limits(void **state)
{
	struct delivery d = delivery(1);

	(void)state;
	spool_close(spool);
	spool = open_spool(1 << 20, 3);
	for (int i = 0; i < 3; i++) {
		d = delivery(i);
		assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_NONE);
		spool_set_aside(spool, only_file().text, "a test");
		assert_int_equal(spool_count(spool).files, 0);
		assert_int_equal(spool_count(spool).aside, i + 1);
	}
	d = delivery(3);
	assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_SPOOL_FULL);
	spool_close(spool);
	spool = open_spool(300, 100); /* bytes: three files are 285 */
	assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_SPOOL_FULL);
	spool_close(spool);
	spool = open_spool(380, 100);
	assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_NONE);
}

/* What foloosi-worker asks before it cancels anything. */
static void
files_are_seen_from_outside(void **state)
{
	struct delivery d = delivery(1);
	char *gone = xasprintf("%s/gone", directory);

	(void)state;
	assert_false(spool_has_files(gone));
	assert_false(spool_has_files(directory));
	assert_int_equal(spool_keep(spool, &d, ARRIVED, in_time()), REASON_NONE);
	assert_true(spool_has_files(directory));
	spool_set_aside(spool, only_file().text, "a test");
	assert_int_equal(count_files("aside"), 1);
	assert_true(spool_has_files(directory)); /* it was acknowledged, and is not recorded */
	free(gone);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(what_is_kept_is_read_again),
	    TEST(a_file_is_private),
	    TEST(oldest_first),
	    TEST(what_cannot_be_read_is_not_empty),
	    TEST(nothing_is_left_of_what_failed),
	    TEST(limits),
	    TEST(failures_do_not_fill_it),
	    TEST(threads_share_a_flush),
	    TEST(a_failed_flush_fails_all_who_shared_it),
	    TEST(every_truncation_and_every_flipped_bit_is_noticed),
	    TEST(names_that_are_not_ours),
	    TEST(directories_that_are_refused),
	    TEST(one_drains_at_a_time),
	    TEST(a_disk_that_hangs_holds_up_no_request),
	    TEST(without_a_free_thread_it_is_late_in_time),
	    TEST(what_is_set_aside_counts_for_the_limits),
	    TEST(files_are_seen_from_outside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
