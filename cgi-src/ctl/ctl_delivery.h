/*
 * ctl_delivery.h - "foloosictl replay" and "foloosictl explain": a delivery once more.
 */
#ifndef CTL_DELIVERY_H
#define CTL_DELIVERY_H

#include "ctl.h"

extern const struct subcommand replay_subcommand, explain_subcommand;

#endif
