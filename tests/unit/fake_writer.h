/* A writer that records nothing, notes what it was lent and answers as the test says. */
#ifndef FAKE_WRITER_H
#define FAKE_WRITER_H

#include "writer.h"

struct writer {
	/* The verdict to give: the members under "verdict" are copied. */
	struct delivery verdict;
	bool refuses; /* writer_lend() */

	/* The last delivery lent. Strings are copies, "(none)" for NULL. */
	int calls;
	char merchant[80], order_ref[2048], unprefixed[2048], faults[8192], status[80];
	char body[8192];
	size_t body_len;
	unsigned char digest[DIGEST_SIZE];
	int64_t deadline;
};

#endif
