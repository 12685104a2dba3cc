/* SPDX-License-Identifier: MIT */
/*
 * notify.c - tells the service manager the state of this process.
 *
 * One datagram a message, so libsystemd and what it brings along stay away: the protocol is a
 * stable one, and sd_notify(3) itself shows it without the library.
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "mem.h"
#include "notify.h"

/* The manager's address and its length; 0: there is none. */
static socklen_t
manager_address(struct sockaddr_un *address)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path == NULL ? 0 : strlen(path);

	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (len < 2 || len >= sizeof address->sun_path || (*path != '/' && *path != '@'))
		return 0;
	memcpy(address->sun_path, path, len);
	if (*path == '@')
		address->sun_path[0] = '\0'; /* an abstract name */
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

bool
notify_wanted(void)
{
	struct sockaddr_un address;

	return manager_address(&address) > 0;
}

void
notify(const char *state)
{
	struct sockaddr_un address;
	socklen_t len = manager_address(&address);
	int fd;

	if (len == 0 || (fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) < 0)
		return;
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address, len) < 0)
		log_event(
		    LOG_WARNING, "notify_failed", "reason", strerror(errno), (const char *)NULL);
	close(fd);
}

void
notify_reloading(void)
{
	char *state = xasprintf("RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_ms() * 1000);

	notify(state);
	free(state);
}

int64_t
notify_watchdog_ms(void)
{
	const char *time = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	if (time == NULL || !notify_wanted() ||
	    (pid != NULL && strtoll(pid, NULL, 10) != (long long)getpid()))
		return 0;
	return strtoll(time, NULL, 10) / 1000;
}
