// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: who calls, and how.
 *
 * Proves that KVM_MEMORY_REGION_LIST_TEST_ONLY leaves nothing behind, that fields
 * of a delete that have no meaning are ignored, that a list can be in memory that
 * is written to while the call runs and yet never gets further than to one of the
 * states that its writer wrote, that signals neither end a call nor change what it
 * does, that 32-bit callers and 64-bit callers get the same, that other processes
 * get EIO and no answer, and that callers in parallel, of this and of the old
 * ioctls, serialise.
 *
 * Does not prove: EIO of a VM that KVM killed; that each field is fetched once,
 * only that no run here saw two values of one (see also the result test).
 */
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "memory_region_list_lazy.h"
#include "memory_region_list_state.h"

#define RACE_LOOPS	1000
#define PARALLEL_LOOPS	300
#define SIGNAL_LOOPS	300
#define SIGNALS		1000

static void test_test_only(struct mrl_world *w)
{
	struct mrl_counts before = mrl_counts_get(w->g.vm), got;
	struct mrl l = mrl_alloc(5);

	/* All of a list's kinds: create, delete, move, re-back, shrink. */
	l.list->flags = KVM_MEMORY_REGION_LIST_TEST_ONLY;
	mrl_set(&l, MRL_FREE_ID, 0, MRL_GPA(0), MRL_SIZE(8), (void *)MRL_HVA(64));
	mrl_delete(&l, MRL_PLAIN);
	mrl_result(mrl_set(&l, MRL_LOGGED, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(40),
			   MRL_SIZE(8), (void *)MRL_HVA(16)), (void *)MRL_RESULT_RW, 8);
	mrl_set(&l, MRL_READONLY, 0, MRL_GPA(32), MRL_SIZE(8), (void *)MRL_HVA(80));
	mrl_result(mrl_set(&l, MRL_LOGGED_2, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(48),
			   MRL_SIZE(2), (void *)MRL_HVA(48)), (void *)MRL_RESULT_RW + 8, 8);

	mrl_apply(w->g.vm, &l);
	TEST_ASSERT(l.list->error_index == l.list->nent, "error_index: wanted %u, got %u",
		    l.list->nent, l.list->error_index);
	got = mrl_counts_since(w->g.vm, before);
	TEST_ASSERT(got.calls == 1 && !got.failed && !got.grace_periods && !got.zapped,
		    "TEST_ONLY: wanted 1 call and no work, got %lu calls, %lu failed, %lu grace periods, %lu zapped",
		    got.calls, got.failed, got.grace_periods, got.zapped);
	mrl_check_poison("TEST_ONLY");
	mrl_world_check(w, "TEST_ONLY");
	mrl_free(&l);
}

static void test_delete_ignores(struct mrl_world *w)
{
	struct mrl l = mrl_alloc(1);
	mrl_entry *e;

	mrl_set(&l, MRL_FREE_ID, 0, MRL_GPA(40), MRL_SIZE(1), (void *)MRL_HVA(40));
	mrl_apply(w->g.vm, &l);
	mrl_reset(&l);
	e = mrl_delete(&l, MRL_FREE_ID);
	e->flags = UINT32_MAX;
	e->guest_phys_addr = UINT64_MAX;
	e->userspace_addr = BIT_ULL(62) | 1;
	e->guest_memfd_offset = 1;
	e->guest_memfd = UINT32_MAX;
	mrl_apply(w->g.vm, &l);
	mrl_world_restored(w, "delete with garbage");
	mrl_free(&l);
}

/* guest_memfd fields have no meaning without KVM_MEM_GUEST_MEMFD. */
static void test_create_ignores(struct mrl_world *w)
{
	struct mrl l = mrl_alloc(1);
	mrl_entry *e;

	e = mrl_set(&l, MRL_PLAIN, 0, MRL_GPA(0), MRL_SIZE(16), (void *)MRL_HVA(0));
	e->guest_memfd_offset = 1;
	e->guest_memfd = UINT32_MAX;
	mrl_apply(w->g.vm, &l);
	mrl_world_restored(w, "no-op with garbage");
	mrl_free(&l);
}

/* Neither the layout nor error_index may change. */
static void test_other_process(struct mrl_world *w)
{
	struct kvm_userspace_memory_region_list *list;
	struct mrl_counts before = mrl_counts_get(w->g.vm);
	int status;
	pid_t pid;

	list = mmap(NULL, MRL_PAGE_SIZE, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(list != MAP_FAILED, "mmap(): wanted memory, got errno %d", errno);
	list->nent = 1;
	list->error_index = 0xbad;
	list->entries[0].slot = MRL_PLAIN;

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork(): wanted a process, got errno %d", errno);
	if (!pid)
		_exit(__vm_ioctl(w->g.vm, KVM_SET_USER_MEMORY_REGION_LIST, list) ?
		      errno : 0);

	waitpid(pid, &status, 0);
	TEST_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == EIO,
		    "Other process: wanted errno %d, got status 0x%x", EIO, status);
	TEST_ASSERT(list->error_index == 0xbad, "error_index: wanted 0xbad, got 0x%x",
		    list->error_index);
	before = mrl_counts_since(w->g.vm, before);
	TEST_ASSERT(!before.grace_periods && !before.entries,
		    "Other process: wanted no work, got %lu grace periods, %lu entries",
		    before.grace_periods, before.entries);
	mrl_world_check(w, "other process");
	munmap(list, MRL_PAGE_SIZE);
}

#ifdef __x86_64__
/* A system call as 32-bit code makes it.  Returns -errno. */
static int compat_call(int nr, int fd, unsigned int cmd, void *arg)
{
	int r;

	asm volatile("int $0x80" : "=a"(r)
		     : "a"(nr), "b"(fd), "c"(cmd), "d"(arg)
		     : "memory", "r8", "r9", "r10", "r11");
	return r;
}

#define COMPAT_GETPID	20
#define COMPAT_IOCTL	54

/* The kernel may lack 32-bit system calls: find out in a process of its own. */
static bool has_compat(void)
{
	int status;
	pid_t pid = fork();

	TEST_ASSERT(pid >= 0, "fork(): wanted a process, got errno %d", errno);
	if (!pid) {
		signal(SIGSEGV, SIG_DFL);
		_exit(compat_call(COMPAT_GETPID, 0, 0, NULL) != getpid());
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

static void test_compat(struct mrl_world *w)
{
	struct mrl l = { .max = 2 };
	mrl_entry *e;
	void *mem;
	int r;

	if (!has_compat()) {
		pr_info("Left out: 32-bit caller, the kernel has no 32-bit system calls\n");
		return;
	}
	mem = mmap(NULL, MRL_PAGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap(): wanted memory, got errno %d", errno);
	l.list = mem;

	/* One slot per half of the address space: no field is cut. */
	mrl_set(&l, MRL_FREE_ID, 0, MRL_GPA(40), MRL_SIZE(1), (void *)MRL_HVA(40));
	e = mrl_set(&l, MRL_LOGGED, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(16), MRL_SIZE(15),
		    (void *)MRL_HVA(16));
	e->reserved = BIT_ULL(63);
	r = compat_call(COMPAT_IOCTL, w->g.vm->fd, KVM_SET_USER_MEMORY_REGION_LIST, mem);
	TEST_ASSERT(r == -EINVAL && l.list->error_index == 1,
		    "32-bit, reserved: wanted %d at 1, got %d at %u", -EINVAL, r,
		    l.list->error_index);
	mrl_world_check(w, "32-bit call");

	/* The layout of a result is that of 64-bit callers, too. */
	e->reserved = 0;
	mrl_result(e, mem + 1024, 8);
	r = compat_call(COMPAT_IOCTL, w->g.vm->fd, KVM_SET_USER_MEMORY_REGION_LIST, mem);
	TEST_ASSERT(!r && l.list->error_index == 2, "32-bit: wanted 0 at 2, got %d at %u",
		    r, l.list->error_index);
	TEST_ASSERT(*(uint64_t *)(mem + 1024) == BIT_ULL(15),
		    "32-bit, result: wanted 0x%llx, got 0x%lx", BIT_ULL(15),
		    *(uint64_t *)(mem + 1024));

	/* Back, but for the log, which is clear at page 31. */
	mrl_reset(&l);
	mrl_delete(&l, MRL_FREE_ID);
	mrl_set(&l, MRL_LOGGED, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(16), MRL_SIZE(16),
		(void *)MRL_HVA(16));
	mrl_apply(w->g.vm, &l);
	munmap(mem, MRL_PAGE_SIZE);
}
#else
static void test_compat(struct mrl_world *w)
{
	pr_info("Left out: 32-bit caller, x86 only\n");
}
#endif

/* One 32-bit word of a list, which another thread writes two values to in turn. */
struct flip {
	uint32_t *word;
	uint32_t a, b;
	int stop;
};

static void *flip_thread(void *arg)
{
	struct flip *f = arg;
	uint32_t i;

	/* One write a round: an emulator may switch CPUs between rounds only. */
	for (i = 0; !__atomic_load_n(&f->stop, __ATOMIC_RELAXED); i++)
		__atomic_store_n(f->word, i % 2 ? f->b : f->a, __ATOMIC_RELAXED);
	return NULL;
}

/*
 * Create slot 6 or 7 at pages 40 or 44, while @f runs, and delete what is there.
 * Legal are all of @pages if the call succeeded, and none if it failed with @err,
 * 0 if it must not fail.
 */
static void race(struct mrl_world *w, struct mrl *l, struct flip f, int err,
		 uint64_t a, uint64_t b, const char *what)
{
	uint64_t took[3] = {};
	uint64_t *other = err ? &took[2] : &took[1];
	time_t end = time(NULL) + MRL_PATIENCE;
	pthread_t thread;
	int i, r;

	*f.word = f.a;
	thread = mrl_thread(flip_thread, &f);
	for (i = 0; i < RACE_LOOPS || !took[0] || !*other; i++) {
		struct mrl del = mrl_alloc(2);
		uint64_t pages = 0;
		int p;

		TEST_ASSERT(time(NULL) < end || (took[0] && *other),
			    "%s: wanted some of both values, got %lu and %lu in %u calls", what,
			    took[0], *other, i);
		r = __mrl_apply(w->g.vm, l);
		TEST_ASSERT(!r || errno == err, "%s: wanted 0 or errno %d, got %d, errno %d",
			    what, err, r, errno);
		for (p = 40; p < 48; p += 4)
			pages |= (uint64_t)mrl_page_occupied(w->g.vm, 0, MRL_UNUSED_ID, p) << p;
		for (p = 6; p <= 7; p++) {
			if (mrl_slot_exists(w->g.vm, 0, p))
				mrl_delete(&del, p);
		}
		TEST_ASSERT(r ? !pages && !del.list->nent : pages == a || pages == b,
			    "%s, returned %d: wanted pages 0x%lx, 0x%lx, or 0 after failure, got 0x%lx, %u slots",
			    what, r, a, b, pages, del.list->nent);
		took[r ? 2 : pages != a]++;
		mrl_apply(w->g.vm, &del);
		mrl_free(&del);
	}
	__atomic_store_n(&f.stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	pr_info("%s: %lu times the first, %lu times the second, %lu times neither\n",
		what, took[0], took[1], took[2]);
	mrl_world_restored(w, what);
}

static void test_racing_writer(struct mrl_world *w)
{
	struct mrl l = mrl_alloc(2);
	mrl_entry *e;

	e = mrl_set(&l, 6, 0, MRL_GPA(40), MRL_SIZE(1), (void *)MRL_HVA(40));
	mrl_set(&l, 7, 0, MRL_GPA(44), MRL_SIZE(1), (void *)MRL_HVA(44));

	race(w, &l, (struct flip) { &l.list->nent, 1, 2 }, 0,
	     BIT_ULL(40), BIT_ULL(40) | BIT_ULL(44), "nent");
	race(w, &l, (struct flip) { &l.list->nent, 1, UINT32_MAX }, E2BIG,
	     BIT_ULL(40), BIT_ULL(40), "nent too big");
	l.list->nent = 1;
	race(w, &l, (struct flip) { &e->slot, 6, UINT32_MAX }, EINVAL,
	     BIT_ULL(40), BIT_ULL(40), "slot out of range");
	e->slot = 6;
	race(w, &l, (struct flip) { (uint32_t *)&e->guest_phys_addr, MRL_GPA(40), MRL_GPA(44) },
	     0, BIT_ULL(40), BIT_ULL(44), "guest_phys_addr");
	race(w, &l, (struct flip) { (uint32_t *)&e->guest_phys_addr, MRL_GPA(40), MRL_GPA(44) | 1 },
	     EINVAL, BIT_ULL(40), BIT_ULL(40), "guest_phys_addr unaligned");
	e->guest_phys_addr = MRL_GPA(40);
	race(w, &l, (struct flip) { &l.list->flags, 0, BIT(31) }, EINVAL,
	     BIT_ULL(40), BIT_ULL(40), "flags");
	mrl_free(&l);
}

struct parallel {
	struct kvm_vm *vm;
	uint32_t id;
	bool old_ioctl;
};

/* Each owns an id and a page, so each of its calls has to succeed. */
static void *parallel_thread(void *arg)
{
	struct parallel *p = arg;
	uint64_t gpa = MRL_GPA(40 + p->id), size;
	void *hva = (void *)MRL_HVA(40);
	struct mrl l = mrl_alloc(1);
	int i;

	for (i = 0; i < PARALLEL_LOOPS; i++) {
		size = i % 2 ? 0 : MRL_PAGE_SIZE;
		if (p->old_ioctl) {
			vm_set_user_memory_region(p->vm, p->id, 0, gpa, size, hva);
			continue;
		}
		mrl_reset(&l);
		mrl_set(&l, p->id, 0, gpa, size, hva);
		mrl_apply(p->vm, &l);
	}
	mrl_free(&l);
	return NULL;
}

static void test_parallel(struct mrl_world *w)
{
	struct mrl_counts before = mrl_counts_get(w->g.vm);
	struct parallel p[] = {
		{ w->g.vm, 5, false }, { w->g.vm, 6, false }, { w->g.vm, 7, true },
	};
	pthread_t threads[ARRAY_SIZE(p)];
	int i;

	for (i = 0; i < ARRAY_SIZE(p); i++)
		threads[i] = mrl_thread(parallel_thread, &p[i]);
	for (i = 0; i < ARRAY_SIZE(p); i++)
		pthread_join(threads[i], NULL);

	before = mrl_counts_since(w->g.vm, before);
	TEST_ASSERT(before.calls == 2 * PARALLEL_LOOPS && !before.failed,
		    "Parallel: wanted %u calls, 0 failed, got %lu, %lu",
		    2 * PARALLEL_LOOPS, before.calls, before.failed);
	mrl_world_restored(w, "parallel calls");
}

/* Signals, and those that came during a call. */
static uint32_t nr_signals, nr_hits;
static bool in_call;

static void count_signal(int sig)
{
	nr_signals++;
	nr_hits += READ_ONCE(in_call);
}

/* No signal may end a call: neither with EINTR, nor half way. */
static void test_signals(struct mrl_world *w)
{
	struct itimerval timer = { { 0, 1000 }, { 0, 1000 } };
	struct sigaction sa = { .sa_handler = count_signal };
	struct mrl l[2] = { mrl_alloc(1), mrl_alloc(1) };
	time_t end = time(NULL) + MRL_PATIENCE;
	uint32_t i;
	bool exists;
	int r;

	mrl_set(&l[0], MRL_FREE_ID, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(40), MRL_SIZE(4),
		(void *)MRL_HVA(40));
	mrl_result(mrl_delete(&l[1], MRL_FREE_ID), (void *)MRL_RESULT_RW, 8);
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);

	for (i = 0; i < SIGNAL_LOOPS || nr_hits < SIGNALS || i % 2; i++) {
		WRITE_ONCE(in_call, true);
		r = __mrl_apply(w->g.vm, &l[i % 2]);
		WRITE_ONCE(in_call, false);
		TEST_ASSERT(!r, "Signals: call %u: wanted 0, got %d, errno %d", i, r, errno);
		exists = mrl_slot_exists(w->g.vm, 0, MRL_FREE_ID);
		TEST_ASSERT(exists == !(i % 2),
			    "Signals: call %u: wanted slot %u to exist %u, got %u", i,
			    MRL_FREE_ID, !(i % 2), exists);
		TEST_ASSERT(time(NULL) < end, "Signals: wanted %u in %u calls, got %u in %u",
			    SIGNALS, SIGNAL_LOOPS, nr_hits, i);
	}
	timer = (struct itimerval) {};
	setitimer(ITIMER_REAL, &timer, NULL);

	pr_info("Signals: %u, %u of them during %u calls\n", nr_signals, nr_hits, i);
	memset((void *)MRL_RESULT_RW, MRL_POISON, MRL_PAGE_SIZE);
	mrl_world_restored(w, "signals");
	mrl_free(&l[1]);
	mrl_free(&l[0]);
}

int main(int argc, char *argv[])
{
	struct mrl_world w;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_USER_MEMORY_REGION_LIST));

	mrl_mem_alloc(MRL_MEM_PAGES);
	mrl_result_alloc();
	w = mrl_world_create();

	test_test_only(&w);
	test_delete_ignores(&w);
	test_create_ignores(&w);
	test_other_process(&w);
	test_parallel(&w);
	test_racing_writer(&w);
	test_signals(&w);
	test_compat(&w);

	mrl_world_free(&w);
	return 0;
}
