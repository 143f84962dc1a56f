/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_UPDATER_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_UPDATER_H

#include <pthread.h>

#include "kvm_util.h"

/*
 * A thread that creates and deletes a slot by KVM_SET_USER_MEMORY_REGION2, and
 * reads its log, while others call KVM_SET_USER_MEMORY_REGION_LIST for other slots.
 * Each sees its own slot as it left it, or an update got lost.
 */
#define MRL_UPDATER_ID		40
#define MRL_UPDATER_GPA		(7ul << 30)
#define MRL_UPDATER_PAGES	64

struct mrl_updater {
	struct kvm_vm *vm;
	void *mem;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool active, stopping;
	uint64_t updates;
};

static inline void mrl_updater_check_log(struct mrl_updater *u, int wanted)
{
	unsigned long bitmap[MRL_UPDATER_PAGES / 64] = {};
	struct kvm_dirty_log log = { .slot = MRL_UPDATER_ID, .dirty_bitmap = bitmap };
	int err = __vm_ioctl(u->vm, KVM_GET_DIRTY_LOG, &log) ? errno : 0;

	TEST_ASSERT(err == wanted,
		    "beside list calls: log of a slot that one thread %s: wanted errno %d, got %d",
		    wanted ? "deleted" : "created", wanted, err);
	TEST_ASSERT(!bitmap[0], "beside list calls: log of a slot nobody uses: wanted 0, got 0x%lx",
		    bitmap[0]);
}

static inline void mrl_updater_update(struct mrl_updater *u)
{
	mrl_updater_check_log(u, ENOENT);
	vm_set_user_memory_region2(u->vm, MRL_UPDATER_ID, KVM_MEM_LOG_DIRTY_PAGES,
				   MRL_UPDATER_GPA, MRL_UPDATER_PAGES * PAGE_SIZE, u->mem, 0, 0);
	mrl_updater_check_log(u, 0);
	mrl_updater_check_log(u, 0);
	vm_set_user_memory_region2(u->vm, MRL_UPDATER_ID, 0, MRL_UPDATER_GPA, 0, NULL, 0, 0);
	WRITE_ONCE(u->updates, u->updates + 1);
}

static inline void *mrl_updater_thread(void *arg)
{
	struct mrl_updater *u = arg;
	bool stopping;

	for (;;) {
		pthread_mutex_lock(&u->lock);
		while (!u->active && !u->stopping)
			pthread_cond_wait(&u->wake, &u->lock);
		stopping = u->stopping;
		pthread_mutex_unlock(&u->lock);
		if (stopping)
			return NULL;
		mrl_updater_update(u);
	}
}

static inline void mrl_updater_set(struct mrl_updater *u, bool active, bool stopping)
{
	if (u->active == active && !stopping)
		return;
	pthread_mutex_lock(&u->lock);
	u->active = active;
	u->stopping = stopping;
	pthread_cond_signal(&u->wake);
	pthread_mutex_unlock(&u->lock);
}

/* It starts paused. */
static inline void mrl_updater_start(struct mrl_updater *u, struct kvm_vm *vm, void *mem)
{
	int r;

	*u = (struct mrl_updater) { .vm = vm, .mem = mem };
	pthread_mutex_init(&u->lock, NULL);
	pthread_cond_init(&u->wake, NULL);
	r = pthread_create(&u->thread, NULL, mrl_updater_thread, u);
	TEST_ASSERT(!r, "pthread_create(): wanted 0, got %d", r);
}

static inline void mrl_updater_stop(struct mrl_updater *u)
{
	mrl_updater_set(u, false, true);
	pthread_join(u->thread, NULL);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_UPDATER_H */
