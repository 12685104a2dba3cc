// objects: lib/log.c
/* SPDX-License-Identifier: MIT */
/* One event is one line, whatever is in it: read back through a pipe on fd 2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "between.h"
#include "log.h"

#define END (const char *)NULL

static int saved_stderr, reader;
static char text[1 << 16];

static int
capture(void **state)
{
	int fds[2];

	(void)state;
	log_set_level(LOG_INFO);
	if (pipe(fds) != 0)
		return -1;
	saved_stderr = dup(2);
	dup2(fds[1], 2);
	close(fds[1]);
	reader = fds[0];
	fcntl(reader, F_SETFL, O_NONBLOCK);
	return 0;
}

static int
release(void **state)
{
	(void)state;
	dup2(saved_stderr, 2);
	close(saved_stderr);
	close(reader);
	return 0;
}

/* What was written since the last call; "" if nothing. */
static const char *
written(void)
{
	ssize_t n = read(reader, text, sizeof text - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

/* Behind "2026-11-23T12:00:00.123Z ", whose form is checked. */
static const char *
line(void)
{
	static const char form[] = "0000-00-00T00:00:00.000Z ";
	const char *l = written();

	assert_true(strlen(l) > sizeof form);
	for (size_t i = 0; form[i] != '\0'; i++)
		if (form[i] == '0')
			assert_between(l[i], '0', '9');
		else
			assert_int_equal(l[i], form[i]);
	assert_ptr_equal(strchr(l, '\n'), l + strlen(l) - 1);
	return l + sizeof form - 1;
}

static void
plain_values_stand_bare(void **state)
{
	(void)state;
	log_event(LOG_INFO, "request", "id", "a1-b.c", "status", "200", END);
	assert_string_equal(line(), "level=info event=request id=a1-b.c status=200\n");
}

static void
null_value_leaves_the_pair_out(void **state)
{
	(void)state;
	log_event(LOG_WARNING, "x", "a", (const char *)NULL, "b", "1", END);
	assert_string_equal(line(), "level=warning event=x b=1\n");
}

static void
hostile_values_stay_in_their_quotes(void **state)
{
	static const struct {
		const char *value, *logged;
	} rows[] = {
	    {"", "\"\""},
	    {"two words", "\"two words\""},
	    {"a=b", "\"a=b\""},
	    {"say \"hi\"", "\"say \\\"hi\\\"\""},
	    {"back\\slash", "\"back\\\\slash\""},
	    {"x\n2026-01-01 level=error event=forged",
		"\"x\\n2026-01-01 level=error event=forged\""},
	    {"tab\there", "\"tab\\there\""},
	    {"\r\x1b[2J\x7f", "\"\\x0d\\x1b[2J\\x7f\""},
	    {"\x7f", "\"\\x7f\""},
	    {"\xc3\xbc\xff", "\"\\xc3\\xbc\\xff\""},
	};
	char expected[256];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		log_event(LOG_ERROR, "e", "k", rows[i].value, END);
		snprintf(expected, sizeof expected, "level=error event=e k=%s\n", rows[i].logged);
		assert_string_equal(line(), expected);
	}
}

/* Every length around the limit, plain, quoted and escaped: one line, closed, at most PIPE_BUF. */
static void
too_long_is_cut_and_says_so(void **state)
{
	static const char fill[] = {'a', ' ', '"', '\x01'};
	static char value[2 * PIPE_BUF];

	(void)state;
	for (size_t f = 0; f < sizeof fill; f++) {
		size_t cost = fill[f] == '"' ? 2 : fill[f] == '\x01' ? 4 : 1;

		for (size_t len = PIPE_BUF / cost - 120; len < PIPE_BUF / cost + 20; len++) {
			const char *l;
			size_t n;

			memset(value, fill[f], len);
			value[len] = '\0';
			log_event(LOG_INFO, "e", "k", value, "after", "two words", END);
			l = line();
			n = strlen(text);
			assert_true(n <= PIPE_BUF);
			if (strstr(l, " after=\"two words\"\n") == NULL) {
				assert_string_equal(l + strlen(l) - 9, " cut=yes\n");
				if (fill[f] != 'a')
					assert_true(l[strlen(l) - 10] == '"');
				assert_true(n > PIPE_BUF - 40);
			} else {
				assert_null(strstr(l, "cut=yes"));
			}
		}
	}
}

static void
levels_above_the_limit_are_silent(void **state)
{
	(void)state;
	log_event(LOG_DEBUG, "hidden", END);
	assert_string_equal(written(), "");
	log_set_level(LOG_DEBUG);
	log_event(LOG_DEBUG, "shown", END);
	assert_string_equal(line(), "level=debug event=shown\n");
	log_set_level(LOG_ERROR);
	log_event(LOG_WARNING, "hidden", END);
	assert_string_equal(written(), "");
	log_event(LOG_ERROR, "shown", END);
	assert_string_equal(line(), "level=error event=shown\n");
}

static void
errno_is_kept(void **state)
{
	(void)state;
	errno = ENOTTY;
	log_event(LOG_INFO, "e", END);
	assert_int_equal(errno, ENOTTY);
	close(2); /* nowhere to write: still no harm */
	errno = ERANGE;
	log_event(LOG_INFO, "e", END);
	assert_int_equal(errno, ERANGE);
}

static void
eight_numbers_live_at_a_time(void **state)
{
	const char *first;

	(void)state;
	log_event(LOG_INFO, "n", "a", log_number(0), "b", log_number(INT64_MIN), "c",
	    log_number(INT64_MAX), "d", log_number(-1), "e", log_number(4), "f", log_number(5), "g",
	    log_number(6), "h", log_number(7), END);
	assert_string_equal(line(), "level=info event=n a=0 b=-9223372036854775808 "
				    "c=9223372036854775807 d=-1 e=4 f=5 g=6 h=7\n");
	first = log_number(100);
	for (int i = 0; i < 7; i++)
		log_number(i);
	assert_string_equal(first, "100");
}

static void *
other_thread(void *arg)
{
	(void)arg;
	for (int i = 0; i < 100; i++)
		log_number(i);
	return NULL;
}

static void
numbers_belong_to_their_thread(void **state)
{
	const char *mine = log_number(42);
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, other_thread, NULL), 0);
	pthread_join(thread, NULL);
	assert_string_equal(mine, "42");
}

#define WRITERS 8
#define LINES 200

static void *
write_lines(void *arg)
{
	for (int i = 0; i < LINES; i++)
		log_event(LOG_INFO, "e", "text", arg, END);
	return NULL;
}

static void
lines_of_threads_do_not_mix(void **state)
{
	pthread_t threads[WRITERS];
	char value[WRITERS][120];
	FILE *f = tmpfile();
	int lines = 0;

	(void)state;
	assert_non_null(f);
	fcntl(fileno(f), F_SETFL, O_APPEND);
	dup2(fileno(f), 2);
	for (size_t i = 0; i < WRITERS; i++) {
		memset(value[i], 'a' + (int)i, sizeof value[i] - 1);
		value[i][sizeof value[i] - 1] = '\0';
		assert_int_equal(pthread_create(&threads[i], NULL, write_lines, value[i]), 0);
	}
	for (size_t i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	rewind(f);
	while (fgets(text, sizeof text, f) != NULL) {
		const char *v = strstr(text, " level=info event=e text=");

		assert_non_null(v);
		v += strlen(" level=info event=e text=");
		assert_int_equal(strspn(v, (char[]){*v, '\0'}), sizeof value[0] - 1);
		assert_string_equal(v + sizeof value[0] - 1, "\n");
		lines++;
	}
	fclose(f);
	assert_int_equal(lines, WRITERS * LINES);
}

static void
fatal_logs_and_exits_1(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	log_set_level(LOG_ERROR);
	if ((pid = fork()) == 0)
		fatal("no %s at %d", "room", 3);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	assert_string_equal(line(), "level=error event=fatal reason=\"no room at 3\"\n");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, capture, release)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(plain_values_stand_bare),
	    TEST(null_value_leaves_the_pair_out),
	    TEST(hostile_values_stay_in_their_quotes),
	    TEST(too_long_is_cut_and_says_so),
	    TEST(levels_above_the_limit_are_silent),
	    TEST(errno_is_kept),
	    TEST(eight_numbers_live_at_a_time),
	    TEST(numbers_belong_to_their_thread),
	    TEST(lines_of_threads_do_not_mix),
	    TEST(fatal_logs_and_exits_1),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
