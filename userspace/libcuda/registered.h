/* SPDX-License-Identifier: Apache-2.0 */
/* Asynchronous copies from and to registered memory: its bytes are read, or written, when the stream has come so far. */
#ifndef VGPU_REGISTERED_H
#define VGPU_REGISTERED_H

#include "shim.h"

/** struct host_rows - part of the program's memory. */
struct host_rows {
	char *at;
	size_t pitch, rows;		/* bytes from row to row, rows from slice to slice */
	size_t width, height, depth;
};

/** Is all of [p, p + n) registered, and not where the worker can reach it? */
bool registered_covers(const void *p, size_t n);

/** May such copies be under way? */
bool registered_busy(void);

/** Is all that @stream (wire handle) was given known to be done, so that its turn is now? */
bool registered_now(uint64_t stream);

/** An arena buffer at *@offset for a copy in @stream. @return NULL if there is none: nothing has happened then */
struct buffered *registered_buffer(const struct host_rows *rows, uint64_t *offset);

/** Fill the buffer in the stream's order; the copy out of it follows. @return an error: the buffer is gone */
CUresult registered_fill(uint64_t stream, struct buffered *b);
/** The copy out of it has been sent, with @copy for an answer: the buffer goes when it is done. */
CUresult registered_filled(uint64_t stream, struct buffered *b, CUresult copy);

/** The copy into the buffer has been sent, with @copy for an answer: empty it when that is done. */
CUresult registered_land(uint64_t stream, struct buffered *b, CUresult copy);

#endif
