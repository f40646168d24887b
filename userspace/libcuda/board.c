// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "board.h"
#include "shim.h"

#define PLACES		1024u
#define RECENT_NS	100000u	/* a poller that never asks would not hear of an error */

uint32_t board_answers;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t *board;			/* PLACES words of the arena */
static bool none;			/* it could not be had */
static uint16_t free_places[PLACES];
static unsigned int nfree;
static uint64_t tickets;

/* @return a place from 1 on, 0 if there is none left. */
static uint32_t take(void)
{
	uint32_t place = 0;

	pthread_mutex_lock(&lock);
	if (!board && !none) {
		board = idm_arena_alloc(shim.client, PLACES * sizeof(*board));
		none = !board;
		if (board)
			memset(board, 0, PLACES * sizeof(*board));	/* it may have been used for other things */
		for (uint32_t i = 1; board && i < PLACES; i++)
			free_places[nfree++] = PLACES - i;
	}
	if (nfree)
		place = free_places[--nfree];
	pthread_mutex_unlock(&lock);
	return place;
}

void board_watch(struct board_mark *m, uint64_t event, uint64_t stream)
{
	struct vgpu_watch rq;

	if (!m->place)
		m->place = take();
	if (!m->place || call_begin(&rq.call, true) != CUDA_SUCCESS)
		return;
	rq.event = event;
	rq.stream = stream;
	rq.place = (char *)&board[m->place] - (char *)idm_arena_base(shim.client);
	rq.ticket = __atomic_add_fetch(&tickets, 1, __ATOMIC_RELAXED);
	if (idm_post(shim.client, VGPU_MSG_watch, &(struct iovec){ &rq, sizeof(rq) }, 1) == 0) {
		thread_self()->posted++;
		__atomic_store_n(&m->ticket, rq.ticket, __ATOMIC_RELAXED);
	}
}

bool board_reached(const struct board_mark *m)
{
	uint64_t ticket = __atomic_load_n(&m->ticket, __ATOMIC_RELAXED);

	/* Acquire: what the GPU wrote before it is read after it. */
	return ticket && __atomic_load_n(&board[m->place], __ATOMIC_ACQUIRE) == ticket;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

bool board_recent(const struct board_mark *m)
{
	return m->ticket && m->asked_ns && m->answers == __atomic_load_n(&board_answers, __ATOMIC_RELAXED) &&
	       now_ns() - m->asked_ns < RECENT_NS;
}

void board_asked(struct board_mark *m)
{
	m->answers = __atomic_load_n(&board_answers, __ATOMIC_RELAXED);
	m->asked_ns = now_ns();
}

void board_release(struct board_mark *m)
{
	if (!m->place)
		return;
	pthread_mutex_lock(&lock);
	free_places[nfree++] = m->place;
	pthread_mutex_unlock(&lock);
	*m = (struct board_mark){ 0 };
}
