/*
 * ctl_retain.h - "foloosictl retain" and "foloosictl erase": what is old goes, and what somebody asks to be forgotten.
 */
#ifndef CTL_RETAIN_H
#define CTL_RETAIN_H

#include "ctl.h"

extern const struct subcommand retain_subcommand, erase_subcommand;

#endif
