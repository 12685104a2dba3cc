/* SPDX-License-Identifier: MIT */
/*
 * notify.h - tells the service manager the state of this process: the protocol of sd_notify(3).
 */
#ifndef NOTIFY_H
#define NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Send "READY=1", "STATUS=…" and the like, several with newlines between them. Does nothing without
 * $NOTIFY_SOCKET; what cannot be sent is dropped. From any thread.
 */
void notify(const char *state);

/* The same, of the configuration's reading that begins now; its end is another READY=1. */
void notify_reloading(void);

/* Is there a service manager to be told? */
bool notify_wanted(void);

/*
 * Milliseconds within which the manager expects WATCHDOG=1 again and again, or ends this
 * process: sd_watchdog_enabled(3). 0: it does not.
 */
int64_t notify_watchdog_ms(void);

#endif
