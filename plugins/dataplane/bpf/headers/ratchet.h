/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Everything a program of the house includes. */
#pragma once

#include "types.h"
#include "helpers.h"
#include "net.h"
#include "reason.h"
#include "csum.h"
#include "hash.h"
#include "encap.h"
