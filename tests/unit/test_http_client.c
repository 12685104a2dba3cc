// objects: lib/http_client.c lib/text.c
/* SPDX-License-Identifier: MIT */
// http_client.c against a server of one thread that misbehaves by the path that it is asked for.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "http_client.h"

static int listening;
static char site[64];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char last[65536]; /* request, whole; under the lock */

static bool
last_request_has(const char *words)
{
	bool has;

	pthread_mutex_lock(&lock);
	has = strstr(last, words) != NULL;
	pthread_mutex_unlock(&lock);
	return has;
}

static void
respond(int fd, const char *answer)
{
	(void)send(fd, answer, strlen(answer), MSG_NOSIGNAL); /* the client may have gone */
}

/* One request a connection. */
static void *
serve(void *arg)
{
	static char request[sizeof last];
	int fd;

	while ((fd = accept(listening, NULL, NULL)) >= 0) {
		size_t len = 0;
		ssize_t n;
		char *end = NULL, *announced;

		request[0] = '\0';
		while (len < sizeof request - 1 &&
		       (n = read(fd, request + len, sizeof request - 1 - len)) > 0) {
			len += (size_t)n;
			request[len] = '\0';
			if ((end = strstr(request, "\r\n\r\n")) == NULL)
				continue;
			announced = strstr(request, "Content-Length: ");
			if (announced == NULL ||
			    strlen(end + 4) >= strtoul(announced + 16, NULL, 10))
				break;
		}
		pthread_mutex_lock(&lock);
		memcpy(last, request, len + 1);
		pthread_mutex_unlock(&lock);
		if (strstr(request, " /redirect") != NULL)
			respond(fd, "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n"
				    "Content-Length: 0\r\n\r\n");
		else if (strstr(request, " /late") != NULL)
			respond(fd, "HTTP/1.1 503 No\r\nRetry-After: 100000\r\n"
				    "Content-Length: 0\r\n\r\n");
		else if (strstr(request, " /hang") != NULL)
			while (read(fd, &(char){0}, 1) > 0)
				; /* until the client gives up */
		else if (strstr(request, " /nonsense") != NULL)
			respond(fd, "220 mail.example ESMTP\r\n");
		else if (strstr(request, " /cut") != NULL)
			respond(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
		else
			respond(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n0123456789");
		close(fd);
	}
	return arg;
}

static int
start(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	static pthread_t thread;

	listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listening, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(listening, 16), 0);
	assert_int_equal(getsockname(listening, (struct sockaddr *)&a, &len), 0);
	snprintf(site, sizeof site, "http://127.0.0.1:%d", ntohs(a.sin_port));
	assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
	*state = &thread;
	return 0;
}

static int
stop(void **state)
{
	shutdown(listening, SHUT_RDWR);
	pthread_join(*(pthread_t *)*state, NULL);
	close(listening);
	return 0;
}

static struct http_client_answer
get(struct http_client *c, const char *path, size_t answer_max)
{
	struct http_client_answer a;
	char url[128];

	snprintf(url, sizeof url, "%s%s", site, path);
	http_client_fetch(c,
	    &(struct http_client_request){.url = url,
		.timeout_ms = strcmp(path, "/hang") == 0 ? 200 : 20000,
		.keep = true,
		.answer_max = answer_max},
	    &a);
	assert_true((a.status == 0) == (a.reason != NULL));
	return a;
}

static void
what_servers_do(void **state)
{
	struct http_client *c = http_client_new();
	struct http_client_answer a = get(c, "/", 0);

	(void)state;
	assert_int_equal(a.status, 200);
	assert_int_equal(a.len, 10);
	assert_string_equal(a.body, "0123456789");
	assert_true(last_request_has("GET / HTTP/1.1\r\n"));
	assert_false(last_request_has("Expect:"));
	a = get(c, "/", 10);
	assert_string_equal(a.body, "0123456789");
	a = get(c, "/", 9);
	assert_int_equal(a.status, 200); /* answered, and too long */
	assert_null(a.body);
	a = get(c, "/a/../b", 0);
	assert_true(last_request_has("GET /a/../b HTTP/1.1\r\n"));
	a = get(c, "/redirect", 0);
	assert_int_equal(a.status, 302);
	assert_false(last_request_has("/elsewhere"));
	a = get(c, "/late", 0);
	assert_int_equal(a.status, 503);
	assert_int_equal(a.retry_after_s, 6 * 3600);
	a = get(c, "/hang", 0);
	assert_string_equal(a.reason, "no answer in time");
	a = get(c, "/cut", 0);
	assert_string_equal(a.reason, "the connection broke before the end of the answer");
	a = get(c, "/nonsense", 0);
	assert_non_null(a.reason);
	assert_non_null(a.detail);
	http_client_free(c);
}

static void
a_post(void **state)
{
	struct http_client *c = http_client_new();
	struct http_client_answer a;

	(void)state;
	assert_true(http_client_fetch(c,
	    &(struct http_client_request){.url = site,
		.headers = (const char *const[]){"X-One: 1", NULL},
		.user_password = "u:p",
		.body = "{}",
		.len = 2,
		.timeout_ms = 20000},
	    &a));
	assert_int_equal(a.status, 200);
	assert_null(a.body); /* not wanted */
	assert_true(last_request_has("POST / HTTP/1.1\r\n"));
	assert_true(last_request_has("\r\nX-One: 1\r\n"));
	assert_true(last_request_has("\r\nAuthorization: Basic dTpw\r\n"));
	assert_true(last_request_has("\r\n\r\n{}"));
	http_client_free(c);
}

static void
other_protocols_are_not_spoken(void **state)
{
	struct http_client *c = http_client_new();
	struct http_client_answer a;
	static const char *const urls[] = {"file:///etc/hostname", "ftp://127.0.0.1/", "x"};

	(void)state;
	for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
		assert_false(http_client_fetch(
		    c, &(struct http_client_request){.url = urls[i], .timeout_ms = 1000}, &a));
		assert_int_equal(a.status, 0);
		assert_non_null(a.reason);
	}
	http_client_free(c);
}

static void
count(void *context, const struct http_client_answer *a)
{
	*(int *)context += a->status == 200;
}

/* Many at once; and those that are cut by http_client_free() are not called back. */
static void
side_by_side(void **state)
{
	struct http_client *c = http_client_new();
	struct http_client_request r = {.url = site, .timeout_ms = 20000, .done = count};
	int64_t until = clock_ms() + 20000;
	int answered = 0;

	(void)state;
	r.context = &answered;
	for (int i = 0; i < 50; i++)
		http_client_submit(c, &r);
	while (answered < 50 && clock_ms() < until) {
		http_client_wait(c, -1, 100);
		http_client_complete(c);
	}
	assert_int_equal(answered, 50);
	http_client_submit(c, &r);
	http_client_free(c);
	assert_int_equal(answered, 50);
	http_client_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_servers_do),
	    cmocka_unit_test(a_post),
	    cmocka_unit_test(other_protocols_are_not_spoken),
	    cmocka_unit_test(side_by_side),
	};

	return cmocka_run_group_tests_name("http_client", tests, start, stop);
}
