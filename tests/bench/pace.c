/* SPDX-License-Identifier: MIT */
/*
 * pace.c - an open-loop load generator: requests begin when their time has come, whatever
 * became of the ones before.
 *
 *	pace PORT PATH PAYLOAD RATE SECONDS CONNECTIONS
 *
 * A closed loop (wrk) asks its next question only when it has an answer, so a server
 * that stalls is asked less, and the stall counts once. Here the schedule is made beforehand:
 * independent arrivals (exponential gaps, as `pgbench --rate` has them) of RATE a second. A
 * request whose time has come takes an idle connection, or waits for one; its latency counts
 * from the scheduled time, in both cases.
 *
 * Payloads are like post.lua's "random". The line of output is the same as its, too.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX 4096
#define REQUEST_MAX 4096
#define GRACE 30e9 /* after the last scheduled request, in ns: then what is open has failed */

struct connection {
	int fd;
	bool busy;
	int64_t scheduled; /* of the request on its way */
	size_t len;        /* of what came of its answer */
	char answer[ANSWER_MAX + 1];
};

static struct sockaddr_in server;
static int epoll;
static uint64_t seed;
static const char *pieces[7]; /* of the request; ids take the odd places */
static struct connection **idle;
static size_t idles;
static size_t done, failed;
static uint32_t *latencies; /* microseconds */

static int64_t
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* xorshift64* */
static uint64_t
random64(void)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return seed * UINT64_C(2685821657736338717);
}

static void
connect_it(struct connection *c)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
	int one = 1;

	if ((c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0 ||
	    connect(c->fd, (struct sockaddr *)&server, sizeof server) != 0 ||
	    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
	    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) != 0)
		err(1, "connect");
	c->busy = false;
	idle[idles++] = c;
}

static void
ask(struct connection *c, int64_t scheduled)
{
	char request[REQUEST_MAX];
	uint64_t r = random64();
	uint32_t a = (uint32_t)(r >> 32), b = (uint32_t)r;
	int len = snprintf(request, sizeof request,
	    "%s%08x%05x%s%08x-4496-4b4d-%04x-%04x%08x%s%08x%08x%s", pieces[0], a, b & 0xfffff,
	    pieces[2], a, b & 0xffff, b >> 16, a, pieces[4], a, b, pieces[6]);

	c->busy = true;
	c->scheduled = scheduled;
	c->len = 0;
	if (send(c->fd, request, (size_t)len, MSG_NOSIGNAL) != len && errno != EPIPE &&
	    errno != ECONNRESET)
		err(1, "send"); /* a closed one is noticed when it is read */
}

/* Is the answer whole? */
static bool
complete(struct connection *c)
{
	const char *end, *length;

	c->answer[c->len] = '\0';
	if ((end = strstr(c->answer, "\r\n\r\n")) == NULL)
		return false;
	end += 4;
	if ((length = strcasestr(c->answer, "\r\nContent-Length:")) != NULL && length < end)
		return (size_t)(c->answer + c->len - end) >= strtoul(length + 17, NULL, 10);
	return strstr(end - 2, "\r\n0\r\n\r\n") != NULL; /* chunked */
}

static void
hear(struct connection *c)
{
	ssize_t n = recv(c->fd, c->answer + c->len, ANSWER_MAX - c->len, MSG_DONTWAIT);
	bool whole, close_it;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	c->len += n > 0 ? (size_t)n : 0;
	whole = complete(c);
	close_it = n <= 0 || c->len == ANSWER_MAX ||
		   (whole && strcasestr(c->answer, "\r\nConnection: close") != NULL);
	if (c->busy && (whole || close_it)) {
		latencies[done++] = (uint32_t)((now() - c->scheduled) / 1000);
		failed += !whole || strncmp(c->answer, "HTTP/1.1 200", 12) != 0;
	} else if (!close_it) {
		return;
	}
	if (close_it) {
		for (size_t i = 0; !c->busy && i < idles; i++)
			if (idle[i] == c)
				idle[i--] = idle[--idles];
		close(c->fd);
		connect_it(c);
	} else {
		c->busy = false;
		idle[idles++] = c;
	}
}

static int
compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* The request's head, and the payload with the marks cut out. */
static void
read_payload(const char *file, const char *path)
{
	static const char *const marks[] = {"@NO@", "@REFERENCE@", "@ORDER@"};
	static const size_t widths[] = {13, 36, 16};
	static char text[REQUEST_MAX], head[REQUEST_MAX];
	size_t length;
	FILE *f = fopen(file, "r");
	char *rest = text;

	if (f == NULL)
		err(1, "%s", file);
	length = fread(text, 1, sizeof text / 2, f);
	fclose(f);
	for (size_t i = 0; i < 3; i++) {
		char *at = strstr(rest, marks[i]);
		if (at == NULL)
			errx(1, "%s: no %s", file, marks[i]);
		*at = '\0';
		pieces[2 * i] = rest;
		rest = at + strlen(marks[i]);
		length += widths[i] - strlen(marks[i]);
	}
	pieces[6] = rest;
	snprintf(head, sizeof head,
	    "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
	    "Content-Length: %zu\r\n\r\n%s",
	    path, length, pieces[0]);
	pieces[0] = head;
}

int
main(int argc, char **argv)
{
	double rate, seconds, at = 0;
	size_t connections, total = 0, next = 0;
	struct connection *all;
	int64_t *schedule, begin, end;

	if (argc != 7)
		errx(2, "usage: pace PORT PATH PAYLOAD RATE SECONDS CONNECTIONS");
	server = (struct sockaddr_in){.sin_family = AF_INET,
	    .sin_port = htons((uint16_t)atoi(argv[1])),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	read_payload(argv[3], argv[2]);
	rate = atof(argv[4]);
	seconds = atof(argv[5]);
	connections = strtoul(argv[6], NULL, 10);
	if (rate <= 0 || seconds <= 0 || connections < 1)
		errx(2, "rate, seconds and connections are numbers above 0");
	if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
		err(1, "getrandom");
	seed |= 1;

	schedule = calloc((size_t)(rate * seconds * 2) + 1000, sizeof *schedule);
	while (total < (size_t)(rate * seconds * 2) + 1000) {
		at -= log(((double)(random64() >> 11) + 1) / 9007199254740992.0) / rate;
		if (at > seconds)
			break;
		schedule[total++] = (int64_t)(at * 1e9);
	}
	latencies = calloc(total + connections, sizeof *latencies);
	all = calloc(connections, sizeof *all);
	idle = calloc(connections, sizeof *idle);
	if ((epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
		err(1, "epoll_create1");
	for (size_t i = 0; i < connections; i++)
		connect_it(&all[i]);

	begin = now() + 10000000;
	end = begin + (int64_t)(seconds * 1e9 + GRACE);
	while (done < total && now() < end) {
		struct epoll_event events[64];
		struct timespec wait = {1, 0};
		int n;

		while (next < total && idles > 0 && begin + schedule[next] <= now()) {
			ask(idle[--idles], begin + schedule[next]);
			next++;
		}
		if (next < total && idles > 0) {
			int64_t left = begin + schedule[next] - now();
			left = left < 0 ? 0 : left;
			wait = (struct timespec){left / 1000000000, left % 1000000000};
		}
		if ((n = epoll_pwait2(epoll, events, 64, &wait, NULL)) < 0 && errno != EINTR)
			err(1, "epoll_pwait2");
		for (int i = 0; i < n; i++)
			hear(events[i].data.ptr);
	}
	failed += total - done;
	end = now();
	if (done == 0)
		errx(1, "no answer");
	qsort(latencies, done, sizeof *latencies, compare);
	printf("bench requests %zu us %lld errors %zu p50 %u p99 %u p999 %u max %u\n", done,
	    (long long)(end - begin) / 1000, failed, latencies[done / 2],
	    latencies[done * 99 / 100], latencies[done * 999 / 1000], latencies[done - 1]);
	free(schedule); /* or the leak sanitizer speaks */
	return 0;
}
