/*
 * send.h - "foloosictl send": post the provider's sample payloads to an endpoint.
 */
#ifndef SEND_H
#define SEND_H

#include "ctl.h"

extern const struct subcommand send_subcommand;

#endif
