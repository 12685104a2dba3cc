/* SPDX-License-Identifier: MIT */
/* A writer that records nothing, notes what was submitted and gives it the test's outcome. */
#ifndef FAKE_WRITER_H
#define FAKE_WRITER_H

#include "writer.h"

struct writer {
	struct delivery result; /* its members from outcome on are given to the delivery */
	bool refuses;           /* writer_submit() */

	/* The last delivery submitted. Strings are copies, "(none)" for NULL. */
	int calls;
	char merchant[80], order_ref[2048], unprefixed[2048], faults[8192], status[80];
	char body[8192];
	size_t body_len;
	unsigned char digest[DIGEST_SIZE];
	int64_t deadline;
};

#endif
