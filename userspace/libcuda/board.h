/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board: words of the arena into which the GPU itself writes that it has come to an event. Whether the event is
 * complete is then a load, not a question. Nobody in the driver domain ever reads the board.
 */
#ifndef VGPU_BOARD_H
#define VGPU_BOARD_H

#include <stdbool.h>
#include <stdint.h>

/** struct board_mark - for one event. All 0: it has no place. */
struct board_mark {
	uint64_t ticket;	/* what the GPU writes, a number of its own for each time; 0: it was not asked to */
	uint64_t asked_ns;	/* when the worker said last: not complete */
	uint32_t place;
	uint32_t answers;	/* how many answers of any kind there had been then */
};

/** Have it written when @event, as it was last recorded in @stream, is complete. Costs a message, no round trip. */
void board_watch(struct board_mark *m, uint64_t event, uint64_t stream);

/** Is it written? */
bool board_reached(const struct board_mark *m);

/**
 * May the program be told "not yet" from the board? Only if the worker has said so a moment ago, and the program can
 * have learned nothing since from which it would know better.
 */
bool board_recent(const struct board_mark *m);
void board_asked(struct board_mark *m);

/** The place is free for another. */
void board_release(struct board_mark *m);

/** Something came from the worker: what the board said before may be behind what the program knows. */
extern uint32_t board_answers;
static inline void board_heard(void)
{
	__atomic_fetch_add(&board_answers, 1, __ATOMIC_RELAXED);
}

#endif
