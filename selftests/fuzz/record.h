/* SPDX-License-Identifier: Apache-2.0 */
/* A message as the fuzzer takes it, and as record.c writes it down. */
#ifndef FUZZ_RECORD_H
#define FUZZ_RECORD_H

#include <stdint.h>

struct record {
	uint16_t type, flags;
	uint32_t len;		/* bytes of payload that follow */
};

#endif
