/*
 * events.h - "foloosictl events": who gets events, and what they did not take.
 */
#ifndef EVENTS_H
#define EVENTS_H

#include "ctl.h"

extern const struct subcommand events_subcommand;

#endif
