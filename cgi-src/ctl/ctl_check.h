/*
 * ctl_check.h - "foloosictl check": is everything in order?
 */
#ifndef CTL_CHECK_H
#define CTL_CHECK_H

#include "ctl.h"

extern const struct subcommand check_subcommand;

#endif
