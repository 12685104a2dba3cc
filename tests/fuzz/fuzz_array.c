// objects: lib/pg.c
/* SPDX-License-Identifier: MIT */
/*
 * The arrays that the database is sent: whatever the elements, a reader that knows only PostgreSQL's
 * array_recv() finds the same again, and nothing else. pg_record.c is included, for its encoder is its own.
 *
 * The input: a byte for each element's length, 255 for null; then the elements' bytes.
 */
#include <stdint.h>

#include "../../cgi-src/lib/pg_record.c"

#define ELEMENTS 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(int what)
{
	if (!what)
		abort();
}

static size_t
get_int(const char **p, const char *end)
{
	const unsigned char *u = (const unsigned char *)*p;

	require(end - *p >= 4);
	*p += 4;
	return (size_t)u[0] << 24 | (size_t)u[1] << 16 | (size_t)u[2] << 8 | u[3];
}

static void
read_back(const struct text *b, const struct piece *pieces, size_t n)
{
	const char *p = b->bytes, *end = b->bytes + b->len;
	bool nulls = false;

	for (size_t i = 0; i < n; i++)
		nulls |= pieces[i].at == NULL;
	require(get_int(&p, end) == 1);
	require(get_int(&p, end) == nulls);
	require(get_int(&p, end) == BYTEA);
	require(get_int(&p, end) == n);
	require(get_int(&p, end) == 1);
	for (size_t i = 0; i < n; i++) {
		size_t len = get_int(&p, end);

		if (pieces[i].at == NULL) {
			require(len == UINT32_MAX);
			continue;
		}
		require(len == pieces[i].len && (size_t)(end - p) >= len);
		require(memcmp(p, pieces[i].at, len) == 0);
		p += len;
	}
	require(p == end);
}

/* {1.50,NULL}: as many elements as there were, each as it was. */
static void
read_numbers_back(const struct text *b, const struct piece *pieces, size_t n)
{
	const char *p = b->bytes;

	require(b->len > 0 && b->bytes[b->len - 1] == '\0' && strlen(b->bytes) == b->len - 1);
	for (size_t i = 0; i < n; i++) {
		struct piece number = pieces[i].at != NULL ? pieces[i] : (struct piece){"NULL", 4};

		require(*p++ == (i == 0 ? '{' : ','));
		require(strcspn(p, ",}") == number.len && memcmp(p, number.at, number.len) == 0);
		p += number.len;
	}
	require(strcmp(p, "}") == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct text b;
	struct piece pieces[ELEMENTS];
	char *copies[ELEMENTS];
	size_t n = size < ELEMENTS ? size : ELEMENTS;
	const uint8_t *p = data + n;

	if (n == 0)
		return 0;
	size -= n;
	for (size_t i = 0; i < n; i++) {
		size_t len = data[i] == 255 ? 0 : data[i] < size ? data[i] : size;

		copies[i] =
		    xcalloc(1, len + 1); /* exact, and with the NUL that a number must have */
		memcpy(copies[i], p, len);
		pieces[i] = (struct piece){data[i] == 255 ? NULL : copies[i], len};
		p += len;
		size -= len;
	}
	b.len = 0;
	put_array(&b, BYTEA, pieces, n);
	read_back(&b, pieces, n);

	for (size_t i = 0; i < n; i++) { /* of the same bytes, digits and a dot */
		for (size_t k = 0; k < pieces[i].len; k++)
			copies[i][k] = "0123456789."[(unsigned char)copies[i][k] % 11];
		if (pieces[i].len == 0)
			pieces[i].at = NULL;
	}
	b.len = 0;
	put_number_array(&b, pieces, n);
	read_numbers_back(&b, pieces, n);
	for (size_t i = 0; i < n; i++)
		free(copies[i]);
	return 0;
}
