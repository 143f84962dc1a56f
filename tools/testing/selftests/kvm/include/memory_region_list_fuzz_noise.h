/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_NOISE_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_NOISE_H

#include "memory_region_list_fuzz_vcpus.h"

/*
 * What goes on in memory_region_list_fuzz_test, which see, while calls are made: a thread
 * that at each turn of the vCPUs calls an MMU notifier, sends signals, or reads a log.
 *
 * The contents of the window stay.  The bystander is a slot that no list names, in private
 * memory that is equal throughout: it is moved, dropped and merged under the vCPUs.  While
 * it is away, KVM_RUN fails with EFAULT there, and nowhere else.
 */
#define FUZZ_BYSTANDER_AWAY	0x130000000000ull
#define FUZZ_MADV_COLLAPSE	25

static struct {
	pthread_t thread, caller;
	bool stop;
	uint32_t turn;
	uint64_t random, advised, signals, logs;
} noise;

static uint32_t noise_pick(uint32_t n)
{
	noise.random = noise.random * 6364136223846793005ull + 1442695040888963407ull;
	return (noise.random >> 33) % n;
}

/* Whether the advice does anything is of no interest. */
static void noise_advise(void)
{
	static const int private[] = {
		MADV_HUGEPAGE, FUZZ_MADV_COLLAPSE, MADV_NOHUGEPAGE, MADV_COLD, MADV_PAGEOUT,
	};
	static const int shared[] = { MADV_DONTNEED, MADV_DONTNEED, MADV_COLD, MADV_PAGEOUT };
	uint32_t all = FUZZ_BACKINGS * config.nr_pages, page = noise_pick(all);
	uint32_t nr = 1 + noise_pick(min(1024u, all - page));

	noise.advised += !madvise((void *)(FUZZ_HVA + (uint64_t)page * PAGE_SIZE),
				  (uint64_t)nr * PAGE_SIZE,
				  config.shared_memory ? shared[noise_pick(ARRAY_SIZE(shared))] :
							 private[noise_pick(ARRAY_SIZE(private))]);
}

static void noise_move(uint64_t from, uint64_t to)
{
	size_t size = FUZZ_BYSTANDER_PAGES * PAGE_SIZE;
	void *mem = mremap((void *)from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)to);

	TEST_ASSERT(mem == (void *)to, "mremap(): wanted 0x%lx, got %p, errno %d", to, mem, errno);
	noise.advised++;
}

static void noise_signal(void)
{
	uint32_t i;

	for (i = 0; i < config.vcpus; i++)
		pthread_kill(mrl_vcpus.thread[i], SIGUSR1);
	pthread_kill(noise.caller, SIGUSR1);
	noise.signals++;
}

/* With manual protection that clears nothing. */
static void noise_get_log(void)
{
	static unsigned long bits[FUZZ_MAX_PAGES / 64];
	struct kvm_dirty_log log = { .slot = 1 + noise_pick(config.nr_ids) };
	int r;

	if (!config.log_kind)
		return;
	log.dirty_bitmap = bits;
	r = __vm_ioctl(vm, KVM_GET_DIRTY_LOG, &log);
	TEST_ASSERT(!r || errno == ENOENT,
		    "KVM_GET_DIRTY_LOG of slot %u: wanted 0 or ENOENT, got errno %d", log.slot,
		    errno);
	noise.logs++;
}

static void make_noise(void)
{
	switch (noise_pick(6)) {
	case 0:
	case 1:
		noise_advise();
		break;
	case 2:
		noise_move(FUZZ_BYSTANDER, FUZZ_BYSTANDER_AWAY);
		noise_move(FUZZ_BYSTANDER_AWAY, FUZZ_BYSTANDER);
		break;
	case 3:
		noise.advised += !madvise((void *)FUZZ_BYSTANDER, FUZZ_BYSTANDER_PAGES * PAGE_SIZE,
					  MADV_DONTNEED);
		break;
	case 4:
		noise_signal();
		break;
	case 5:
		noise_get_log();
		break;
	}
}

static void *noise_thread(void *arg)
{
	bool stop;

	do {
		pthread_mutex_lock(&idle.lock);
		while (!noise.stop && sh->turn == noise.turn)
			pthread_cond_wait(&idle.wake, &idle.lock);
		noise.turn = sh->turn;
		stop = noise.stop;
		pthread_mutex_unlock(&idle.lock);
		make_noise();
	} while (!stop);
	return NULL;
}

static void handle_signal(int signal)
{
}

static void start_noise(void)
{
	struct sigaction action = { .sa_handler = handle_signal };
	int r;

	sigaction(SIGUSR1, &action, NULL);
	noise.random = fuzz_mix(config.seed + 1ull);
	noise.caller = pthread_self();
	if (!config.noise)
		return;
	r = pthread_create(&noise.thread, NULL, noise_thread, NULL);
	TEST_ASSERT(!r, "pthread_create(): wanted 0, got %d", r);
}

static void stop_noise(void)
{
	if (!config.noise)
		return;
	pthread_mutex_lock(&idle.lock);
	noise.stop = true;
	pthread_cond_broadcast(&idle.wake);
	pthread_mutex_unlock(&idle.lock);
	pthread_join(noise.thread, NULL);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_FUZZ_NOISE_H */
