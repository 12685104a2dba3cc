/* SPDX-License-Identifier: MIT */
/*
 * rfc8259.c - is this text JSON, exactly?
 *
 * One pass by recursive descent, a function for each rule of RFC 8259; the depth
 * limit bounds the stack. The hard part is "no name twice in one object" for
 * bodies that are made to be slow. The names of all open objects form one stack
 * of slices of the text: an inner object's names lie above those of the objects
 * around it and are popped when it closes. At that moment they are sorted, and a
 * repeated name has its twin as its neighbour. n names of together m bytes cost
 * O(m log n) whatever they are (no hash to collide), and the stack stays below a
 * fixed multiple of the text. Names are unescaped while they are compared, so
 * nothing is copied.
 */
#include "rfc8259.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "text.h"

#define FIRST_NAMES 64 /* enough for any body the provider is known to send */

/* A member name in the text: what is between its quotes. */
struct name {
	const unsigned char *start, *end;
	bool escaped; /* holds a backslash: bytes cannot be compared as they are */
};

struct scan {
	const unsigned char *p, *end;
	char *out;                   /* next byte of the quoted copy; NULL: none is wanted */
	const unsigned char *copied; /* the copy holds the text up to here */
	unsigned depth;              /* open arrays and objects */
	struct name *names;          /* of all open objects; owned */
	size_t count, cap;
	const unsigned char *at; /* the fault, once there is one */
	const char *reason;
};

static bool check_value(struct scan *s);

static bool
fail(struct scan *s, const unsigned char *at, const char *reason)
{
	s->at = at;
	s->reason = reason;
	return false;
}

/* The next byte; -1 at the end. */
static int
next_byte(const struct scan *s)
{
	return s->p < s->end ? *s->p : -1;
}

/* Fail here: what is here is not what the sentence asks for. */
static bool
fail_expected(struct scan *s, const char *reason)
{
	return fail(s, s->p, s->p == s->end ? "the text ends too early" : reason);
}

static void
skip_space(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
		s->p++;
}

/* Bring the copy up to the given place in the text. */
static void
copy_up_to(struct scan *s, const unsigned char *upto)
{
	size_t n = (size_t)(upto - s->copied);

	memcpy(s->out, s->copied, n);
	s->out += n;
	s->copied = upto;
}

static bool
check_literal(struct scan *s, const char *word)
{
	for (; *word != '\0'; word++, s->p++)
		if (next_byte(s) != (unsigned char)*word)
			return fail_expected(s,
			    "a value must be an object, array, number, string, true, "
			    "false or null");
	return true;
}

static bool
check_digits(struct scan *s)
{
	const unsigned char *start = s->p;

	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	return s->p > start || fail_expected(s, "a number lacks a digit");
}

static bool
check_number(struct scan *s)
{
	const unsigned char *start = s->p;

	if (*s->p == '-')
		s->p++;
	if (next_byte(s) == '0') {
		s->p++;
		if (next_byte(s) >= '0' && next_byte(s) <= '9')
			return fail(s, s->p, "a number must not begin with 0");
	} else if (!check_digits(s)) {
		return false;
	}
	if (next_byte(s) == '.') {
		s->p++;
		if (!check_digits(s))
			return false;
	}
	if (next_byte(s) == 'e' || next_byte(s) == 'E') {
		s->p++;
		if (next_byte(s) == '+' || next_byte(s) == '-')
			s->p++;
		if (!check_digits(s))
			return false;
	}
	if (s->out != NULL) {
		copy_up_to(s, start);
		*s->out++ = '"';
		copy_up_to(s, s->p);
		*s->out++ = '"';
	}
	return true;
}

/* The value of four hexadecimal digits; -1 if they are not. */
static int32_t
hex4(const unsigned char *p, const unsigned char *end)
{
	int32_t unit = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		int c = p[i];
		if (c >= '0' && c <= '9')
			c -= '0';
		else if (c >= 'a' && c <= 'f')
			c -= 'a' - 10;
		else if (c >= 'A' && c <= 'F')
			c -= 'A' - 10;
		else
			return -1;
		unit = unit * 16 + c;
	}
	return unit;
}

static bool
is_high_surrogate(int32_t unit)
{
	return unit >= 0xD800 && unit <= 0xDBFF;
}

static bool
is_low_surrogate(int32_t unit)
{
	return unit >= 0xDC00 && unit <= 0xDFFF;
}

static bool
check_escape(struct scan *s)
{
	const unsigned char *start = s->p++;
	int32_t unit;

	switch (next_byte(s)) {
	case '"':
	case '\\':
	case '/':
	case 'b':
	case 'f':
	case 'n':
	case 'r':
	case 't':
		s->p++;
		return true;
	case 'u':
		break;
	default:
		return fail_expected(s, "a backslash must be followed by one of \"\\/bfnrtu");
	}
	unit = hex4(s->p + 1, s->end);
	if (unit < 0)
		return fail(s, start, "\\u must be followed by four hexadecimal digits");
	if (unit == 0)
		return fail(s, start, "\\u0000 cannot be stored as text");
	if (is_low_surrogate(unit))
		return fail(s, start, "a low surrogate without a high one before it");
	s->p += 5;
	if (!is_high_surrogate(unit))
		return true;
	if (s->end - s->p < 6 || s->p[0] != '\\' || s->p[1] != 'u' ||
	    !is_low_surrogate(hex4(s->p + 2, s->end)))
		return fail(s, start, "a high surrogate without a low one behind it");
	s->p += 6;
	return true;
}

/* Returns with p behind the closing quote. *escaped: was there a backslash in it? */
static bool
check_string(struct scan *s, bool *escaped)
{
	*escaped = false;
	s->p++;
	for (;;) {
		int c = next_byte(s);
		if (c == '"') {
			s->p++;
			return true;
		} else if (c == '\\') {
			*escaped = true;
			if (!check_escape(s))
				return false;
		} else if (c < 0x20) {
			return fail_expected(s, "a control character in a string must be escaped");
		} else if (c < 0x80) {
			s->p++;
		} else {
			size_t n = utf8_sequence(s->p, s->end);
			if (n == 0)
				return fail(s, s->p, "this is not UTF-8");
			s->p += n;
		}
	}
}

/* The code point that begins at *p, in a string that was checked; moves *p behind it. */
static int32_t
take_code_point(const unsigned char **p, const unsigned char *end)
{
	const unsigned char *c = *p;
	int32_t unit;

	if (*c >= 0x80) {
		size_t n = utf8_sequence(c, end);

		*p += n;
		return (int32_t)utf8_code_point(c, n);
	}
	if (*c != '\\') {
		*p += 1;
		return *c;
	}
	*p += 2;
	switch (c[1]) {
	case 'b':
		return '\b';
	case 'f':
		return '\f';
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	case 'u':
		break;
	default:
		return c[1];
	}
	*p += 4;
	unit = hex4(c + 2, end);
	if (is_high_surrogate(unit)) {
		*p += 6;
		unit = 0x10000 + ((unit - 0xD800) << 10) + (hex4(c + 8, end) - 0xDC00);
	}
	return unit;
}

/* Order by code points. For names without escapes that is the order of their bytes. */
static int
compare_two_names(const struct name *a, const struct name *b)
{
	const unsigned char *p = a->start, *q = b->start;

	if (!a->escaped && !b->escaped) {
		size_t m = (size_t)(a->end - p), n = (size_t)(b->end - q);
		int d = memcmp(p, q, m < n ? m : n);
		return d != 0 ? d : (m > n) - (m < n);
	}
	while (p < a->end && q < b->end) {
		int32_t c = take_code_point(&p, a->end), d = take_code_point(&q, b->end);
		if (c != d)
			return c < d ? -1 : 1;
	}
	return (p < a->end) - (q < b->end);
}

/* For qsort: equal names in the order of the text, so that the repetition is the one reported. */
static int
compare_names(const void *left, const void *right)
{
	const struct name *a = left, *b = right;
	int d = compare_two_names(a, b);

	return d != 0 ? d : (a->start > b->start) - (a->start < b->start);
}

/* Is every name from the given one up different? If not, fail at the first repetition. */
static bool
check_unique(struct scan *s, size_t first)
{
	size_t n = s->count - first;
	const unsigned char *again = NULL;
	struct name *names;

	if (n < 2)
		return true;
	names = s->names + first;
	qsort(names, n, sizeof *names, compare_names);
	for (size_t i = 1; i < n; i++)
		if ((again == NULL || names[i].start < again) &&
		    compare_two_names(&names[i - 1], &names[i]) == 0)
			again = names[i].start;
	return again == NULL || fail(s, again - 1, "this object has a member of this name already");
}

static bool
check_member(struct scan *s)
{
	struct name name;

	if (next_byte(s) != '"')
		return fail_expected(s, "a member name in double quotes must come here");
	name.start = s->p + 1;
	if (!check_string(s, &name.escaped))
		return false;
	name.end = s->p - 1;
	if (s->count == s->cap) {
		s->cap = s->cap == 0 ? FIRST_NAMES : s->cap * 2;
		s->names = xrealloc(s->names, s->cap * sizeof *s->names);
	}
	s->names[s->count++] = name;
	skip_space(s);
	if (next_byte(s) != ':')
		return fail_expected(s, "a colon must come here");
	s->p++;
	return check_value(s);
}

static bool
check_object(struct scan *s)
{
	size_t first = s->count;

	s->p++;
	skip_space(s);
	if (next_byte(s) != '}') {
		for (;;) {
			if (!check_member(s))
				return false;
			skip_space(s);
			if (next_byte(s) != ',')
				break;
			s->p++;
			skip_space(s);
		}
		if (next_byte(s) != '}')
			return fail_expected(s, "a comma or } must come here");
	}
	s->p++;
	if (!check_unique(s, first))
		return false;
	s->count = first;
	return true;
}

static bool
check_array(struct scan *s)
{
	s->p++;
	skip_space(s);
	if (next_byte(s) != ']') {
		for (;;) {
			if (!check_value(s))
				return false;
			skip_space(s);
			if (next_byte(s) != ',')
				break;
			s->p++;
		}
		if (next_byte(s) != ']')
			return fail_expected(s, "a comma or ] must come here");
	}
	s->p++;
	return true;
}

static bool
check_value(struct scan *s)
{
	bool ok, escaped;
	int c;

	skip_space(s);
	switch (c = next_byte(s)) {
	case '{':
	case '[':
		if (s->depth == RFC8259_MAX_DEPTH)
			return fail(s, s->p, "arrays and objects are nested too deep");
		s->depth++;
		ok = c == '{' ? check_object(s) : check_array(s);
		s->depth--;
		return ok;
	case '"':
		return check_string(s, &escaped);
	case 't':
		return check_literal(s, "true");
	case 'f':
		return check_literal(s, "false");
	case '-':
	case '0':
	case '1':
	case '2':
	case '3':
	case '4':
	case '5':
	case '6':
	case '7':
	case '8':
	case '9':
		return check_number(s);
	default: /* check_literal() has the sentence for everything else */
		return check_literal(s, "null");
	}
}

static bool
check_document(struct scan *s)
{
	if (s->end - s->p >= 3 && memcmp(s->p, "\xEF\xBB\xBF", 3) == 0)
		s->copied = s->p += 3; /* a byte order mark */
	if (!check_value(s))
		return false;
	skip_space(s);
	return s->p == s->end || fail(s, s->p, "there is something behind the value");
}

bool
rfc8259_check(const char *text, size_t len, char *quoted, struct json_error *e)
{
	const unsigned char *start = (const unsigned char *)(len == 0 ? "" : text);
	struct scan s = {.p = start, .end = start + len, .out = quoted, .copied = start};
	bool ok = check_document(&s);

	free(s.names);
	if (ok) {
		if (quoted != NULL) {
			copy_up_to(&s, s.end);
			*s.out = '\0';
		}
		return true;
	}
	e->offset = (size_t)(s.at - start);
	e->reason = s.reason;
	e->line = 1;
	e->column = 1;
	for (const unsigned char *p = start; p < s.at; p++) {
		e->column++;
		if (*p == '\n') {
			e->line++;
			e->column = 1;
		}
	}
	return false;
}
