// objects: lib/http.c lib/log.c
/* SPDX-License-Identifier: MIT */
/*
 * http.c against peers that speak FastCGI well, badly, or not at all. This pins what
 * http.c does with libfcgi and what is not documented: a connection handed to FCGX_Accept_r().
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "between.h"
#include "clock.h"
#include "http.h"
#include "log.h"
#include "mem.h"

/* FastCGI specification, section 8. */
enum {
	BEGIN_REQUEST = 1,
	ABORT_REQUEST = 2,
	END_REQUEST = 3,
	PARAMS = 4,
	STDIN = 5,
	STDOUT = 6
};
#define KEEP_CONN 1

static char folder[] = "/tmp/test_httpXXXXXX";
static char path[64];
static int listen_fd = -1;
static struct http_request *q;

/* ---- a web server ------------------------------------------------------------ */

struct bytes {
	unsigned char b[300000];
	size_t len;
};
static struct bytes out; /* what the peer sends */

static void
put(const void *bytes, size_t len)
{
	assert_true(out.len + len <= sizeof out.b);
	if (len > 0)
		memcpy(out.b + out.len, bytes, len);
	out.len += len;
}

static unsigned char id_high; /* of the request's id, whose low byte is 1 */

static void
put_record(int type, const void *content, size_t len)
{
	/* Padded, but not at the begin and where a stream ends: there libfcgi takes it for a record. */
	unsigned char padding = len > 0 && type != BEGIN_REQUEST ? 3 : 0;
	unsigned char head[8] = {1, (unsigned char)type, id_high, 1, (unsigned char)(len >> 8),
	    (unsigned char)(len & 0xff), padding, 0};

	put(head, sizeof head);
	put(content, len);
	put("pad", padding);
}

/* A request up to the end of its parameters. params: name, value, …, NULL. */
static void
put_head(int flags, const char *const *params)
{
	static unsigned char content[70000];
	unsigned char begin[8] = {0, 1, (unsigned char)flags};
	size_t n = 0;

	put_record(BEGIN_REQUEST, begin, sizeof begin);
	for (; params[0] != NULL; params += 2) {
		for (int i = 0; i < 2; i++) {
			size_t len = strlen(params[i]);

			if (len < 128) {
				content[n++] = (unsigned char)len;
			} else {
				content[n++] = (unsigned char)(0x80 | len >> 24);
				content[n++] = (unsigned char)(len >> 16 & 0xff);
				content[n++] = (unsigned char)(len >> 8 & 0xff);
				content[n++] = (unsigned char)(len & 0xff);
			}
		}
		for (int i = 0; i < 2; i++) {
			memcpy(content + n, params[i], strlen(params[i]));
			n += strlen(params[i]);
		}
	}
	put_record(PARAMS, content, n);
	put_record(PARAMS, NULL, 0);
}

static void
put_body(const void *body, size_t len, size_t piece)
{
	for (size_t at = 0; at < len; at += piece)
		put_record(STDIN, (const char *)body + at, len - at < piece ? len - at : piece);
}

static const char *const post[] = {"REQUEST_METHOD", "POST", "REQUEST_URI", "/x?y", NULL};

static int
peer(const char *to)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(address.sun_path, sizeof address.sun_path, "%s", to);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Connect and send what was put. */
static int
send_all(void)
{
	int fd = peer(path);

	assert_true(fd >= 0);
	assert_int_equal(send(fd, out.b, out.len, 0), out.len);
	out.len = 0;
	return fd;
}

/* The text on STDOUT until the connection ends; the number of END_REQUESTs in *ends. */
static const char *
answer_of(int fd, int *ends)
{
	static unsigned char in[100000];
	static char text[100000];
	size_t len = 0, n = 0;
	ssize_t got;

	*ends = 0;
	while ((got = recv(fd, in + len, sizeof in - len, 0)) > 0)
		len += (size_t)got;
	for (size_t at = 0; at + 8 <= len;) {
		size_t content = (size_t)in[at + 4] << 8 | in[at + 5];

		*ends += in[at + 1] == END_REQUEST;
		if (in[at + 1] == STDOUT) {
			memcpy(text + n, in + at + 8, content);
			n += content;
		}
		at += 8 + content + in[at + 6];
	}
	text[n] = '\0';
	close(fd);
	return text;
}

/* ---- the body as http.c shows it --------------------------------------------- */

static struct bytes seen;

static void
see(void *arg, const void *bytes, size_t len)
{
	assert_ptr_equal(arg, &seen);
	assert_true(len > 0);
	assert_true(seen.len + len <= sizeof seen.b);
	memcpy(seen.b + seen.len, bytes, len);
	seen.len += len;
}

static const unsigned char *body;
static size_t body_len;

static enum http_body
read_body(size_t limit, int wait_ms)
{
	seen.len = 0;
	return http_read_body(q, limit, clock_ms() + wait_ms, see, &seen, &body, &body_len);
}

static void
finish(void)
{
	http_finish(q, 200, "OK", "X-Test: yes\r\n", "text/plain", "well\n", 5);
}

static int
set_up(void **state)
{
	char *error = NULL;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/s", folder);
	http_init();
	listen_fd = http_listen(path, 0600, NULL, &error);
	assert_true(listen_fd >= 0);
	q = http_request_new(listen_fd);
	return 0;
}

static int
tear_down(void **state)
{
	char *command = xasprintf("rm -r %s", folder);

	(void)state;
	http_request_free(q);
	http_unlisten();
	close(listen_fd);
	assert_int_equal(system(command), 0);
	free(command);
	return 0;
}

/* ---- tests ------------------------------------------------------------------- */

static void
a_request_and_its_answer(void **state)
{
	static char long_value[300];
	const char *const params[] = {"REQUEST_METHOD", "POST", "REQUEST_URI", "/x?y", "REQUEST",
	    "shorter", "EMPTY", "", "LONG", long_value, "TWICE", "1", "TWICE", "2",
	    "CONTENT_LENGTH", "11", NULL};
	int64_t before = clock_ms();
	int fd, ends;

	(void)state;
	memset(long_value, 'v', sizeof long_value - 1);
	put_head(0, params);
	put_body("hello world", 11, 4);
	put_record(STDIN, NULL, 0);
	fd = send_all();
	assert_int_equal(http_accept(q), HTTP_REQUEST);
	assert_between(http_arrival(q), before, clock_ms());
	assert_string_equal(http_param(q, "REQUEST_URI"), "/x?y");
	assert_string_equal(http_param(q, "REQUEST"), "shorter");
	assert_string_equal(http_param(q, "EMPTY"), "");
	assert_string_equal(http_param(q, "LONG"), long_value);
	assert_string_equal(http_param(q, "TWICE"), "1");
	assert_null(http_param(q, "REQUEST_"));
	assert_null(http_param(q, "NOTHING"));
	assert_int_equal(http_param_count(q, "TWICE"), 2);
	assert_int_equal(http_param_count(q, "EMPTY"), 1);
	assert_int_equal(http_param_count(q, "REQUEST"), 1);
	assert_int_equal(http_param_count(q, "NOTHING"), 0);

	assert_int_equal(read_body(100, 1000), HTTP_BODY_WHOLE);
	assert_int_equal(body_len, 11);
	assert_memory_equal(body, "hello world", 11);
	assert_int_equal(seen.len, 11);
	assert_memory_equal(seen.b, "hello world", 11);
	finish();
	assert_string_equal(answer_of(fd, &ends), "Status: 200 OK\r\nContent-Type: text/plain\r\n"
						  "Content-Length: 5\r\nX-Test: yes\r\n\r\nwell\n");
	assert_int_equal(ends, 1);
}

static void
head_has_no_body(void **state)
{
	const char *const params[] = {"REQUEST_METHOD", "HEAD", NULL};
	int fd, ends;

	(void)state;
	put_head(0, params);
	put_record(STDIN, NULL, 0);
	fd = send_all();
	assert_int_equal(http_accept(q), HTTP_REQUEST);
	shutdown(fd, SHUT_WR); /* the web server sends nothing more, so no thread waits for it */
	finish();
	assert_string_equal(answer_of(fd, &ends), "Status: 200 OK\r\nContent-Type: text/plain\r\n"
						  "Content-Length: 5\r\nX-Test: yes\r\n\r\n");
}

static void
lengths(void **state)
{
	static const struct {
		const char *length; /* NULL: not announced */
		enum http_body body;
	} rows[] = {
	    {"5", HTTP_BODY_WHOLE},
	    {"05", HTTP_BODY_WHOLE},
	    {NULL, HTTP_BODY_WHOLE}, /* chunked, behind Apache */
	    {"", HTTP_BODY_WHOLE},   /* chunked, behind nginx */
	    {"4", HTTP_BODY_CUT_SHORT},
	    {"6", HTTP_BODY_CUT_SHORT},
	    {"0", HTTP_BODY_CUT_SHORT},
	    {"5000000000", HTTP_BODY_CUT_SHORT},
	    {"999999999999999999999999", HTTP_BODY_WHOLE}, /* no number of ours: not believed */
	    {"-5", HTTP_BODY_WHOLE},
	    {"5 ", HTTP_BODY_WHOLE},
	    {"0x5", HTTP_BODY_WHOLE},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *params[] = {"REQUEST_METHOD", "POST", NULL, NULL, NULL};
		int fd, ends;

		if (rows[i].length != NULL) {
			params[2] = "CONTENT_LENGTH";
			params[3] = rows[i].length;
		}
		put_head(0, params);
		put_body("12345", 5, 5);
		put_record(STDIN, NULL, 0);
		fd = send_all();
		assert_int_equal(http_accept(q), HTTP_REQUEST);
		if (read_body(100, 1000) != rows[i].body)
			fail_msg("CONTENT_LENGTH %s", rows[i].length);
		assert_int_equal(body_len, 5);
		finish();
		answer_of(fd, &ends);
		assert_int_equal(ends, 1);
	}
}

static void
no_more_than_the_limit_is_kept(void **state)
{
	static unsigned char big[100000];
	static const size_t limits[] = {1, 8191, 8192, 8193, 99999, 100000, 100001};

	(void)state;
	for (size_t i = 0; i < sizeof big; i++)
		big[i] = (unsigned char)(i * 7 % 251);
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		size_t kept = limits[i] < sizeof big ? limits[i] : sizeof big;
		int fd, ends;

		put_head(0, post);
		put_body(big, sizeof big, 50001);
		put_record(STDIN, NULL, 0);
		fd = send_all();
		assert_int_equal(http_accept(q), HTTP_REQUEST);
		assert_int_equal(read_body(limits[i], 1000),
		    limits[i] < sizeof big ? HTTP_BODY_TOO_LARGE : HTTP_BODY_WHOLE);
		assert_int_equal(body_len, sizeof big); /* what arrived */
		assert_memory_equal(body, big, kept);
		assert_int_equal(seen.len, sizeof big); /* the signature is over all of it */
		assert_memory_equal(seen.b, big, sizeof big);
		finish();
		answer_of(fd, &ends);
		assert_int_equal(ends, 1);
	}
}

/* A peer that goes away after each possible number of bytes: never is that a whole request. */
static void
broken_off_at_every_byte(void **state)
{
	static struct bytes whole;

	(void)state;
	put_head(0, post); /* without CONTENT_LENGTH: only the protocol can tell */
	put_body("hello world", 11, 6);
	put_record(STDIN, NULL, 0);
	whole = out;
	for (size_t len = 0; len < whole.len; len++) {
		int fd, ends;

		out = whole;
		out.len = len;
		fd = send_all();
		shutdown(fd, SHUT_WR);
		if (http_accept(q) == HTTP_REQUEST) {
			assert_string_equal(http_param(q, "REQUEST_URI"), "/x?y");
			if (read_body(100, 1000) != HTTP_BODY_CUT_SHORT)
				fail_msg("whole after %zu of %zu bytes", len, whole.len);
			finish();
		}
		answer_of(fd, &ends);
	}
}

static void
aborted_in_the_middle(void **state)
{
	int fd, ends;

	(void)state;
	put_head(0, post);
	put_body("hello world", 11, 11);
	put_record(ABORT_REQUEST, NULL, 0);
	fd = send_all();
	assert_int_equal(http_accept(q), HTTP_REQUEST);
	assert_int_equal(read_body(100, 1000), HTTP_BODY_CUT_SHORT);
	finish();
	answer_of(fd, &ends);
}

/* A body that is itself a request must not become one when it is not read. */
static void
a_forged_request_in_the_body(void **state)
{
	static struct bytes forged;
	int fd, ends;

	(void)state;
	put_head(KEEP_CONN, post);
	put_record(STDIN, NULL, 0);
	forged = out;
	out.len = 0;
	for (int padded = 0; padded < 2; padded++) {
		put_head(KEEP_CONN, post);
		put_body(forged.b, forged.len, forged.len);
		put_record(STDIN, NULL, 0);
		if (padded) /* and once more behind it, as a second request on a kept connection */
			put(forged.b, forged.len);
		fd = send_all();
		shutdown(fd, SHUT_WR);
		assert_int_equal(http_accept(q), HTTP_REQUEST);
		finish();
		answer_of(fd, &ends);
		assert_int_equal(ends, 1);
		assert_int_equal(http_accept(q), HTTP_NOTHING);
	}
}

static void
what_is_no_web_server(void **state)
{
	static const char *const rubbish[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x01",
	    "\x02\x01", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	    "hello, is somebody there? anybody at all?"};
	unsigned char begin[8] = {0, 9}; /* a role that there is not */

	(void)state;
	for (size_t i = 0; i <= sizeof rubbish / sizeof *rubbish; i++) {
		int fd, ends;

		if (i == sizeof rubbish / sizeof *rubbish)
			put_record(BEGIN_REQUEST, begin, sizeof begin);
		else
			put(rubbish[i], strlen(rubbish[i]));
		fd = send_all();
		shutdown(fd, SHUT_WR);
		assert_int_equal(http_accept(q), HTTP_NOTHING);
		answer_of(fd, &ends);
		assert_int_equal(ends, 0);
	}
}

static void
no_wait_is_for_ever(void **state)
{
	int64_t start = clock_ms();
	int fd, ends;

	(void)state;
	assert_int_equal(http_accept(q), HTTP_NOTHING); /* no connection comes */
	assert_between(clock_ms() - start, 300, 1000);

	fd = peer(path); /* comes and says nothing */
	start = clock_ms();
	assert_int_equal(http_accept(q), HTTP_NOTHING);
	assert_between(clock_ms() - start, 1000, 3000);
	answer_of(fd, &ends);

	put_head(0, post); /* stops in the middle of its body, which has a deadline */
	put_record(STDIN, "hel", 3);
	fd = send_all();
	assert_int_equal(http_accept(q), HTTP_REQUEST);
	start = clock_ms();
	assert_int_equal(read_body(100, 200), HTTP_BODY_CUT_SHORT);
	assert_between(clock_ms() - start, 150, 600);
	assert_int_equal(body_len, 3);
	finish();
	assert_non_null(strstr(answer_of(fd, &ends), "well"));

	put_head(0, post); /* the deadline has passed already: there is a little time … */
	put_record(STDIN, "hel", 3);
	fd = send_all();
	assert_int_equal(http_accept(q), HTTP_REQUEST);
	start = clock_ms();
	assert_int_equal(read_body(100, -1000), HTTP_BODY_CUT_SHORT);
	assert_between(clock_ms() - start, 0, 300);
	finish();
	answer_of(fd, &ends);

	put_head(0, post); /* … for what is there */
	put_record(STDIN, "hello", 5);
	put_record(STDIN, NULL, 0);
	fd = send_all();
	assert_int_equal(http_accept(q), HTTP_REQUEST);
	assert_int_equal(read_body(100, -1000), HTTP_BODY_WHOLE);
	assert_int_equal(body_len, 5);
	finish();
	answer_of(fd, &ends);

	put_head(0, post); /* too large comes first then, too */
	put_record(STDIN, "hello", 5);
	put_record(STDIN, NULL, 0);
	fd = send_all();
	assert_int_equal(http_accept(q), HTTP_REQUEST);
	assert_int_equal(read_body(3, -1000), HTTP_BODY_TOO_LARGE);
	finish();
	answer_of(fd, &ends);
}

/* An answer before the body was read reaches a peer that goes on sending it. */
static void *
stubborn_peer(void *arg)
{
	static char megabyte[1 << 20];
	int fd = *(int *)arg;

	/* More than the socket holds: it blocks until the peer reads or closes. */
	for (size_t at = 0; at < sizeof megabyte;) {
		ssize_t n = send(fd, megabyte + at, sizeof megabyte - at, MSG_NOSIGNAL);

		if (n < 0)
			return "reset";
		at += (size_t)n;
	}
	shutdown(fd, SHUT_WR);
	return NULL;
}

static void
an_early_answer_arrives(void **state)
{
	pthread_t thread;
	void *result;
	int fd, ends;

	(void)state;
	put_head(0, post);
	fd = send_all();
	assert_int_equal(http_accept(q), HTTP_REQUEST);
	assert_int_equal(pthread_create(&thread, NULL, stubborn_peer, &fd), 0);
	finish();
	pthread_join(thread, &result);
	assert_null(result);
	assert_non_null(strstr(answer_of(fd, &ends), "well"));
	assert_int_equal(ends, 1);
}

static int waits;

static void
hook(void)
{
	waits++;
}

static void *
send_later(void *arg)
{
	const struct timespec late = {.tv_nsec = 100000000};

	nanosleep(&late, NULL);
	assert_int_equal(send(*(int *)arg, out.b, out.len, 0), out.len);
	out.len = 0;
	return NULL;
}

/* The hook is called before a wait for a peer, and not when all is there. */
static void
waiting_is_said_before(void **state)
{
	pthread_t thread;
	int fd, ends;

	(void)state;
	http_on_wait(hook);
	put_head(0, post);
	put_body("hello world", 11, 4);
	put_record(STDIN, NULL, 0);
	fd = send_all();
	assert_int_equal(http_accept(q), HTTP_REQUEST);
	assert_int_equal(read_body(100, 1000), HTTP_BODY_WHOLE);
	finish();
	answer_of(fd, &ends);
	assert_int_equal(waits, 0);

	put_head(0, post); /* late with the head */
	put_record(STDIN, NULL, 0);
	fd = peer(path);
	assert_int_equal(pthread_create(&thread, NULL, send_later, &fd), 0);
	assert_int_equal(http_accept(q), HTTP_REQUEST);
	assert_true(waits > 0);
	pthread_join(thread, NULL);
	assert_int_equal(read_body(100, 1000), HTTP_BODY_WHOLE);
	finish();
	answer_of(fd, &ends);

	waits = 0;
	put_head(0, post); /* late with the body */
	fd = send_all();
	put_body("hello world", 11, 11);
	put_record(STDIN, NULL, 0);
	assert_int_equal(http_accept(q), HTTP_REQUEST);
	assert_true(waits > 0);
	assert_int_equal(pthread_create(&thread, NULL, send_later, &fd), 0);
	assert_int_equal(read_body(100, 1000), HTTP_BODY_WHOLE);
	pthread_join(thread, NULL);
	assert_int_equal(body_len, 11);
	finish();
	answer_of(fd, &ends);
	http_on_wait(NULL);
}

/* A record with a head of the test's own. */
static void
put_raw(int version, int type, int id, size_t announced, const void *content, size_t len)
{
	unsigned char head[8] = {(unsigned char)version, (unsigned char)type,
	    (unsigned char)(id >> 8), (unsigned char)(id & 0xff), (unsigned char)(announced >> 8),
	    (unsigned char)(announced & 0xff)};

	put(head, sizeof head);
	put(content, len);
}

/* What ends like a whole request and is none must not be waited for without a limit. */
static void
what_only_looks_whole(void **state)
{
	static const unsigned char begin[8] = {0, 1}, end[8] = {1, STDIN, 0, 1};
	int fd, ends;

	(void)state;
	http_on_wait(hook);
	for (int row = 0; row < 6; row++) {
		enum http_accepted accepted;

		put_raw(1, BEGIN_REQUEST, 1, 8, begin, 8);
		put_raw(1, PARAMS, 1, 0, NULL, 0);
		if (row == 0) /* the end is in a body of which more is announced */
			put_raw(1, STDIN, 1, 100, end, sizeof end);
		else if (row == 1) /* another's end */
			put_raw(1, STDIN, 2, 0, NULL, 0);
		else if (row == 2) /* another's body */
			put_raw(1, STDIN, 257, 3, "abc", 3);
		else if (row == 3) { /* an end in the padding behind a body */
			put_raw(1, STDIN, 1, 3, "abc", 3);
			out.b[out.len - 3 - 2] = 200;
			put(end, sizeof end);
		} else if (row == 4) { /* padding that libfcgi takes for a long record */
			out.len = 0;
			put_raw(1, BEGIN_REQUEST, 1, 8, begin, 8);
			out.b[6] = 8;
			put_raw(1, STDIN, 2, 65535, NULL, 0);
			put_raw(1, PARAMS, 1, 0, NULL, 0);
			put(end, sizeof end);
		} else /* half of an end */
			put(end, sizeof end - 1);
		waits = 0;
		fd = send_all();
		accepted = http_accept(q);
		assert_true(waits > 0);
		if (accepted == HTTP_REQUEST) {
			assert_int_equal(read_body(100, 50), HTTP_BODY_CUT_SHORT);
			finish();
		}
		answer_of(fd, &ends);
	}
	http_on_wait(NULL);
}

/* A request with each byte changed: without a call of the hook there is no wait. */
static void
whole_with_a_byte_changed(void **state)
{
	static const unsigned char changes[] = {0x01, 0x02, 0x04, 0x08, 0x10, 0x40, 0x80, 0xff};
	static struct bytes whole;
	int at_once = 0;

	(void)state;
	id_high = 1; /* one byte changed does not make it 0: libfcgi leaks there */
	put_head(0, post);
	put_body("hello world", 11, 6);
	put_record(STDIN, NULL, 0);
	id_high = 0;
	whole = out;
	out.len = 0;
	http_on_wait(hook);
	for (size_t i = 0; i < whole.len * sizeof changes; i++) {
		for (int open = 0; open < 2; open++) {
			int fd, ends;

			out = whole;
			out.b[i / sizeof changes] ^= changes[i % sizeof changes];
			fd = send_all();
			if (!open) /* first with a peer that is gone */
				shutdown(fd, SHUT_WR);
			waits = 0;
			if (http_accept(q) == HTTP_REQUEST) {
				/* The end of a connection would be the end of its body. */
				if (read_body(100, 1000) != HTTP_BODY_WHOLE && waits == 0)
					fail_msg("byte %zu ^ %d", i / sizeof changes,
					    changes[i % sizeof changes]);
				finish();
			}
			answer_of(fd, &ends);
			if (waits > 0)
				break;
			at_once++;
		}
	}
	assert_between(at_once, whole.len * sizeof changes / 4, SIZE_MAX);
	http_on_wait(NULL);
}

/* Parameters whose lengths lie. Nobody waits for the rest of them. */
static void
lengths_that_lie(void **state)
{
	static const struct {
		const char *content;
		size_t len;
	} rows[] = {
	    {"\5", 1},
	    {"\5\5", 2},
	    {"\2\2AAB", 5},
	    {"\3\0AA", 4},
	    {"\1\1AB\1", 5},
	    {"\x80", 1},
	    {"\x80\0\0", 3},
	    {"\x80\0\0\1", 4},
	    {"\xff\xff\xff\xff\xff\xff\xff\xff", 8},
	    {"\1\xff\xff\xff\xff"
	     "A",
		6},
	    {"\xff\xff\xff\xff\1"
	     "AA",
		7},
	};
	static const unsigned char begin[8] = {0, 1};
	int fd, ends;

	(void)state;
	waits = 0;
	http_on_wait(hook);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		put_raw(1, BEGIN_REQUEST, 1, 8, begin, 8);
		put_raw(1, PARAMS, 1, rows[i].len, rows[i].content, rows[i].len);
		put_raw(1, PARAMS, 1, 0, NULL, 0);
		put_raw(1, STDIN, 1, 0, NULL, 0);
		fd = send_all();
		if (http_accept(q) != HTTP_NOTHING)
			fail_msg("row %zu", i);
		answer_of(fd, &ends);
		assert_int_equal(ends, 0);
	}
	assert_int_equal(waits, 0);
	http_on_wait(NULL);
}

/* An answer of several records. */
static void
a_long_answer(void **state)
{
	static char text[30000];
	const char *answer;
	int fd, ends;

	(void)state;
	memset(text, 'x', sizeof text);
	put_head(0, post);
	put_record(STDIN, NULL, 0);
	fd = send_all();
	assert_int_equal(http_accept(q), HTTP_REQUEST);
	assert_int_equal(read_body(100, 1000), HTTP_BODY_WHOLE);
	http_finish(q, 200, "OK", "", "text/plain", text, sizeof text);
	answer = answer_of(fd, &ends);
	assert_int_equal(ends, 1);
	answer = strstr(answer, "\r\n\r\n");
	assert_non_null(answer);
	assert_int_equal(strspn(answer + 4, "x"), sizeof text);
}

/* Out of descriptors: no thread may end by that, and it goes on when there are some again. */
static void
without_descriptors(void **state)
{
	struct rlimit limit, none;
	int fd, ends;

	(void)state;
	put_head(0, post);
	put_record(STDIN, NULL, 0);
	fd = send_all();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	for (int less = 0; less < 2; less++) {
		int next = dup(fd); /* the lowest that is free */

		close(next);
		none.rlim_cur = (rlim_t)next;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
		assert_int_equal(http_accept(q), HTTP_NOTHING);
		assert_int_equal(http_accept(q), HTTP_NOTHING);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	}
	assert_int_equal(http_accept(q), HTTP_REQUEST);
	assert_int_equal(read_body(10, 1000), HTTP_BODY_WHOLE);
	finish();
	answer_of(fd, &ends);
	assert_int_equal(ends, 1);

	/* One is there for the connection, none for libfcgi's duplicate of one that is late. */
	put_head(0, post);
	fd = send_all();
	none.rlim_cur = (rlim_t)dup(fd) + 1;
	close((int)none.rlim_cur - 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(http_accept(q), HTTP_NOTHING);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	answer_of(fd, &ends);
	assert_int_equal(ends, 0);
}

static void
a_socket_that_is_gone(void **state)
{
	struct http_request *other;
	int fd = dup(listen_fd), file = open("/dev/null", O_RDONLY);

	(void)state;
	other = http_request_new(fd);
	close(fd);
	assert_int_equal(http_accept(other), HTTP_CLOSED);
	http_request_free(other);
	other = http_request_new(file);
	assert_int_equal(http_accept(other), HTTP_CLOSED);
	http_request_free(other);
	close(file);
	http_request_free(NULL);
}

static void
listening(void **state)
{
	char *error = NULL, other[80], longest[200];
	struct stat st;
	int first, second, fd;

	(void)state;
	snprintf(other, sizeof other, "%s/other", folder);
	first = http_listen(other, 0640, NULL, &error);
	assert_true(first >= 0);
	assert_int_equal(stat(other, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(access(strcat(other, ".new"), F_OK), -1);
	other[strlen(other) - 4] = '\0';
	assert_true(fcntl(first, F_GETFD) & FD_CLOEXEC);

	/* A second one takes the path over; the first keeps the connections that it has. */
	fd = peer(other);
	second = http_listen(other, 0600, "0", &error);
	assert_true(second >= 0);
	assert_int_equal(stat(other, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(accept(first, NULL, NULL) >= 0, 1);
	close(fd);
	close(first);

	/* Somebody else's socket is not removed. */
	assert_int_equal(unlink(other), 0);
	first = socket(AF_UNIX, SOCK_STREAM, 0);
	{
		struct sockaddr_un address = {.sun_family = AF_UNIX};

		snprintf(address.sun_path, sizeof address.sun_path, "%s", other);
		assert_int_equal(bind(first, (struct sockaddr *)&address, sizeof address), 0);
	}
	http_unlisten();
	assert_int_equal(access(other, F_OK), 0);
	http_unlisten(); /* twice does no harm */
	close(first);
	close(second);

	/* This one is; what waits in it is served at once, and then it is empty at once. */
	first = http_listen(other, 0600, NULL, &error);
	fd = peer(other);
	http_unlisten();
	assert_int_equal(access(other, F_OK), -1);
	assert_int_equal(accept(first, NULL, NULL) >= 0, 1);
	assert_int_equal(accept(first, NULL, NULL), -1);
	assert_int_equal(errno, EAGAIN);
	close(fd);
	close(first);

	/* What is refused, with a sentence that names the path. */
	fd = open(other, O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_int_equal(http_listen(other, 0600, NULL, &error), -1);
	assert_non_null(strstr(error, other));
	assert_int_equal(stat(other, &st), 0);
	assert_true(S_ISREG(st.st_mode)); /* a foreign file is still there */
	free(error);
	unlink(other);
	assert_int_equal(http_listen(other, 0600, "no-such-group-here", &error), -1);
	assert_non_null(strstr(error, "no-such-group-here"));
	assert_int_equal(access(other, F_OK), -1);
	free(error);
	memset(longest, 'x', sizeof longest);
	longest[0] = '/';
	longest[sizeof longest - 1] = '\0';
	assert_int_equal(http_listen(longest, 0600, NULL, &error), -1);
	free(error);
	assert_int_equal(http_listen("/nonexistent/folder/s", 0600, NULL, &error), -1);
	assert_non_null(strstr(error, "/nonexistent/folder/s"));
	free(error);
}

/* ---- in a process of its own ------------------------------------------------- */

/* What http_detect() says with fd as 0 and copy as 3, and these variables. way * 10 + fd. */
static int
detected(int fd, int passed, const char *pid, const char *name, const char *value)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		char self[16];
		int got;
		enum http_way way;

		snprintf(self, sizeof self, "%d", getpid());
		clearenv();
		dup2(fd, 0);
		if (passed >= 0)
			dup2(passed, 3);
		if (pid != NULL)
			setenv("LISTEN_PID", *pid != '\0' ? pid : self, 1);
		if (name != NULL)
			setenv(name, value, 1);
		way = http_detect(&got);
		if (got == 3 && (getenv("LISTEN_FDS") != NULL || !(fcntl(3, F_GETFD) & FD_CLOEXEC)))
			_exit(99);
		_exit((int)way * 10 + got + 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status) - 1;
}

static void
what_brought_us_to_life(void **state)
{
	char fcgid[80], *error = NULL;
	int null = open("/dev/null", O_RDWR), pair[2], socket_0, socket_fcgid;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	snprintf(fcgid, sizeof fcgid, "%s/12345.7", folder);
	socket_fcgid = http_listen(fcgid, 0600, NULL, &error);
	/* Its name is the one that it was bound by: fcgid's has no .new. */
	assert_true(socket_fcgid >= 0);
	socket_0 = dup(listen_fd);

	assert_int_equal(detected(socket_0, -1, NULL, NULL, NULL), HTTP_WAY_FASTCGI * 10 + 0);
	assert_int_equal(
	    detected(socket_0, -1, NULL, "REQUEST_METHOD", "GET"), HTTP_WAY_FASTCGI * 10 + 0);
	assert_int_equal(
	    detected(null, socket_0, "", "LISTEN_FDS", "1"), HTTP_WAY_FASTCGI * 10 + 3);
	assert_int_equal(
	    detected(null, socket_0, "1", "LISTEN_FDS", "1"), HTTP_WAY_FASTCGI * 10 - 1);
	assert_int_equal(
	    detected(null, socket_0, "", "LISTEN_FDS", "0"), HTTP_WAY_FASTCGI * 10 - 1);
	assert_int_equal(detected(null, null, "", "LISTEN_FDS", "1"), HTTP_WAY_FASTCGI * 10 - 1);
	assert_int_equal(detected(null, -1, NULL, NULL, NULL), HTTP_WAY_FASTCGI * 10 - 1);
	assert_int_equal(detected(null, -1, NULL, "REQUEST_METHOD", "POST"), HTTP_WAY_CGI * 10 - 1);
	assert_int_equal(
	    detected(pair[0], -1, NULL, "GATEWAY_INTERFACE", "CGI/1.1"), HTTP_WAY_CGI * 10 - 1);

	close(socket_fcgid);
	unlink(fcgid);
	{ /* as mod_fcgid does it */
		struct sockaddr_un address = {.sun_family = AF_UNIX};

		socket_fcgid = socket(AF_UNIX, SOCK_STREAM, 0);
		snprintf(address.sun_path, sizeof address.sun_path, "%s", fcgid);
		assert_int_equal(
		    bind(socket_fcgid, (struct sockaddr *)&address, sizeof address), 0);
		assert_int_equal(
		    detected(socket_fcgid, -1, NULL, NULL, NULL), HTTP_WAY_FASTCGI * 10 - 1);
		assert_int_equal(listen(socket_fcgid, 5), 0);
		assert_int_equal(
		    detected(socket_fcgid, -1, NULL, NULL, NULL), HTTP_WAY_FCGID * 10 + 0);
	}
	close(socket_fcgid);
	close(socket_0);
	close(pair[0]);
	close(pair[1]);
	close(null);
}

static int cgi_wait_ms = 300; /* until the deadline; below 0: it has passed */

/* Plain CGI: length and input as given; read says whether the program looks at the body. */
static void
cgi(const char *length, const char *input, bool read, enum http_body expected, size_t expected_len)
{
	int in[2], status;
	char text[1000];
	ssize_t n;
	pid_t child;

	/* One socket in both directions, as mod_cgid has it: what is not read would reset it. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, in), 0);
	assert_int_equal(send(in[0], input, strlen(input), 0), strlen(input));
	if ((child = fork()) == 0) {
		dup2(in[1], 0);
		dup2(in[1], 1);
		close(in[0]);
		close(in[1]);
		clearenv();
		setenv("REQUEST_METHOD", "POST", 1);
		if (length != NULL)
			setenv("CONTENT_LENGTH", length, 1);
		q = http_request_new(-1);
		if (http_accept(q) != HTTP_REQUEST ||
		    strcmp(http_param(q, "REQUEST_METHOD"), "POST") != 0 ||
		    http_param_count(q, "REQUEST_METHOD") != 1 || http_param(q, "PATH") != NULL)
			_exit(1);
		if (read && (read_body(100, cgi_wait_ms) != expected || body_len != expected_len ||
				memcmp(body, input, body_len) != 0))
			_exit(2);
		finish();
		if (http_accept(q) != HTTP_CLOSED)
			_exit(3);
		http_request_free(q);
		_exit(0);
	}
	close(in[1]);
	if (expected != HTTP_BODY_CUT_SHORT || !read)
		shutdown(in[0], SHUT_WR);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	n = recv(in[0], text, sizeof text - 1, 0); /* MSG_WAITALL would swallow a reset */
	assert_true(n > 0);
	text[n] = '\0';
	assert_string_equal(text, "Status: 200 OK\r\nContent-Type: text/plain\r\n"
				  "Content-Length: 5\r\nX-Test: yes\r\n\r\nwell\n");
	/* The end, and not a reset; but a peer that sends more than it announced may get one. */
	if (length == NULL || strtoul(length, NULL, 10) >= strlen(input))
		assert_int_equal(recv(in[0], text, 1, 0), 0);
	close(in[0]);
}

static void
plain_cgi(void **state)
{
	(void)state;
	cgi("5", "12345", true, HTTP_BODY_WHOLE, 5);
	cgi(NULL, "12345", true, HTTP_BODY_WHOLE, 5); /* chunked: until the end of the input */
	cgi("0", "", true, HTTP_BODY_WHOLE, 0);
	cgi_wait_ms = -1000; /* it starts late, and the body is there */
	cgi("5", "12345", true, HTTP_BODY_WHOLE, 5);
	cgi("6", "12345", true, HTTP_BODY_CUT_SHORT, 5);
	cgi_wait_ms = 300;
	cgi("3", "12345", true, HTTP_BODY_WHOLE, 3); /* RFC 3875 section 4.2: not beyond */
	cgi("6", "12345", true, HTTP_BODY_CUT_SHORT,
	    5); /* and the input stays open: the deadline ends it */
	cgi("5", "12345", false, HTTP_BODY_WHOLE, 0); /* answered before it was read */
}

static void
signals_are_left_alone(void **state)
{
	struct sigaction term, usr1, pipe_;

	(void)state;
	sigaction(SIGTERM, NULL, &term);
	sigaction(SIGUSR1, NULL, &usr1);
	sigaction(SIGPIPE, NULL, &pipe_);
	assert_true(term.sa_handler == SIG_DFL);
	assert_true(usr1.sa_handler == SIG_DFL);
	assert_true(pipe_.sa_handler == SIG_IGN);
}

static void *
stop_reading_soon(void *arg)
{
	const struct timespec soon = {.tv_nsec = 100000000};

	(void)arg;
	nanosleep(&soon, NULL);
	http_stop_reading();
	return NULL;
}

/* The last test, for it cannot be undone. */
static void
hanging_up(void **state)
{
	pthread_t thread;
	int64_t start = clock_ms();
	int fd, ends;

	(void)state;
	put_head(0, post);
	put_record(STDIN, "hel", 3);
	fd = send_all();
	assert_int_equal(http_accept(q), HTTP_REQUEST);
	assert_int_equal(pthread_create(&thread, NULL, stop_reading_soon, NULL), 0);
	assert_int_equal(read_body(100, 5000), HTTP_BODY_CUT_SHORT);
	finish(); /* it still gets its answer */
	assert_non_null(strstr(answer_of(fd, &ends), "well"));
	pthread_join(thread, NULL);

	fd = peer(path); /* a peer that connects now and sends nothing is not waited for */
	assert_int_equal(http_accept(q), HTTP_NOTHING);
	answer_of(fd, &ends);
	assert_between(clock_ms() - start, 0, 1500);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_request_and_its_answer),
	    cmocka_unit_test(head_has_no_body),
	    cmocka_unit_test(lengths),
	    cmocka_unit_test(no_more_than_the_limit_is_kept),
	    cmocka_unit_test(broken_off_at_every_byte),
	    cmocka_unit_test(aborted_in_the_middle),
	    cmocka_unit_test(a_forged_request_in_the_body),
	    cmocka_unit_test(what_is_no_web_server),
	    cmocka_unit_test(no_wait_is_for_ever),
	    cmocka_unit_test(an_early_answer_arrives),
	    cmocka_unit_test(waiting_is_said_before),
	    cmocka_unit_test(what_only_looks_whole),
	    cmocka_unit_test(whole_with_a_byte_changed),
	    cmocka_unit_test(lengths_that_lie),
	    cmocka_unit_test(a_long_answer),
	    cmocka_unit_test(without_descriptors),
	    cmocka_unit_test(a_socket_that_is_gone),
	    cmocka_unit_test(listening),
	    cmocka_unit_test(what_brought_us_to_life),
	    cmocka_unit_test(plain_cgi),
	    cmocka_unit_test(signals_are_left_alone),
	    cmocka_unit_test(hanging_up),
	};

	return cmocka_run_group_tests_name("http", tests, set_up, tear_down);
}
