/* SPDX-License-Identifier: MIT */
/* assert_in_range(), which cmocka 2.0 deprecates in favour of two macros that 1.1 lacks. After <cmocka.h>. */
#ifndef BETWEEN_H
#define BETWEEN_H

#include <inttypes.h>
#include <stdint.h>

/* Fails unless least <= value <= most; all of them are compared as unsigned numbers. */
#define assert_between(value, least, most)                                                         \
	do {                                                                                       \
		uintmax_t v_ = (uintmax_t)(value), l_ = (uintmax_t)(least);                        \
		uintmax_t m_ = (uintmax_t)(most);                                                  \
		if (v_ < l_ || v_ > m_)                                                            \
			fail_msg("%s is %ju, not from %ju to %ju", #value, v_, l_, m_);            \
	} while (0)

#endif
