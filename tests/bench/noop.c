/* SPDX-License-Identifier: MIT */
/*
 * noop.c - a FastCGI program that does nothing: it reads the body and answers 200.
 *
 *	noop THREADS <&listening-socket	(descriptor 0, by FastCGI's convention)
 *
 * What it reaches behind the same nginx is what the front carries. libfcgi's own multi-threaded
 * loop, as in its examples, and an answer as long as the handler's.
 */
#include <pthread.h>
#include <stdlib.h>

#include <fcgiapp.h>

static void *
serve(void *unused)
{
	FCGX_Request request;
	char body[65536];

	(void)unused;
	if (FCGX_InitRequest(&request, 0, 0) != 0)
		abort();
	while (FCGX_Accept_r(&request) == 0) {
		while (FCGX_GetStr(body, sizeof body, request.in) > 0)
			;
		FCGX_PutS(
		    "Status: 200 OK\r\n"
		    "Content-Type: application/json\r\n"
		    "Content-Length: 122\r\n"
		    "Cache-Control: no-store\r\n"
		    "X-Content-Type-Options: nosniff\r\n\r\n"
		    "{\"outcome\":\"recorded\",\"order\":{\"ref\":\"FLSSUB_298617f8667047bb\","
		    "\"state\":\"paid\"},\"id\":1234567,\"request\":\"0123456789abcdef\"}\n",
		    request.out);
		FCGX_Finish_r(&request);
	}
	return NULL;
}

int
main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 0;
	pthread_t id;

	if (threads < 1 || FCGX_Init() != 0)
		return 2;
	for (int i = 1; i < threads; i++)
		if (pthread_create(&id, NULL, serve, NULL) != 0)
			return 1;
	serve(NULL);
	return 0;
}
