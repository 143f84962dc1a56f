/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_LAZY_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_LAZY_H

/*
 * Hold KVM at a chosen point.  Whoever accesses a lazy page of host memory, or
 * writes to a protected one, sleeps until the test lets it go on (userfaultfd).
 * With a reader of the old layout held that way, a call of
 * KVM_SET_USER_MEMORY_REGION_LIST, made by a thread of its own, sleeps too, and
 * what it does before and after its publication can be told apart.
 *
 * Nothing here waits for time to pass: every wait is for a condition, and fails
 * if that has not come true after MRL_PATIENCE seconds.
 */
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>

#include "memory_region_list_guest.h"

#define MRL_PATIENCE	60
#define MRL_LAZY_BASE	0x120000000000ull
#define MRL_LAZY(page)	(MRL_LAZY_BASE + (page) * MRL_PAGE_SIZE)

/* @what is waited for on behalf of @who. */
static inline void mrl_poll(time_t end, const char *who, const char *what)
{
	TEST_ASSERT(time(NULL) < end, "%s: wanted %s within %u s, got nothing", who, what,
		    MRL_PATIENCE);
	sched_yield();
}

#define mrl_wait_until(cond, who, what)					\
do {									\
	time_t mrl_end = time(NULL) + MRL_PATIENCE;			\
									\
	while (!(cond))							\
		mrl_poll(mrl_end, who, what);				\
} while (0)

static inline pthread_t mrl_thread(void *(*fn)(void *), void *arg)
{
	pthread_t thread;
	int r = pthread_create(&thread, NULL, fn, arg);

	TEST_ASSERT(!r, "pthread_create(): wanted 0, got %d", r);
	return thread;
}

/* Map @pages from MRL_LAZY(0) on, all of them lazy.  Returns the userfaultfd. */
static inline int mrl_lazy_create(uint32_t pages)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	struct uffdio_register reg = {
		.range = { MRL_LAZY_BASE, MRL_SIZE(pages) },
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	};
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK), r;
	void *mem;

	__TEST_REQUIRE(fd >= 0, "userfaultfd() is not available");
	mem = mmap((void *)MRL_LAZY_BASE, MRL_SIZE(pages), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	TEST_ASSERT(mem == (void *)MRL_LAZY_BASE, "mmap(): wanted %p, got %p",
		    (void *)MRL_LAZY_BASE, mem);
	madvise(mem, MRL_SIZE(pages), MADV_NOHUGEPAGE);
	r = ioctl(fd, UFFDIO_API, &api);
	TEST_ASSERT(!r, "UFFDIO_API: wanted 0, got %d, errno %d", r, errno);
	r = ioctl(fd, UFFDIO_REGISTER, &reg);
	TEST_ASSERT(!r, "UFFDIO_REGISTER: wanted 0, got %d, errno %d", r, errno);
	return fd;
}

static inline void mrl_lazy_free(int fd, uint32_t pages)
{
	munmap((void *)MRL_LAZY_BASE, MRL_SIZE(pages));
	close(fd);
}

/* Give the page zeroed memory; whoever sleeps on it goes on. */
static inline void mrl_lazy_resolve(int fd, uint64_t page)
{
	struct uffdio_zeropage zero = { .range = { MRL_LAZY(page), MRL_PAGE_SIZE } };
	int r = ioctl(fd, UFFDIO_ZEROPAGE, &zero);

	TEST_ASSERT(!r, "UFFDIO_ZEROPAGE: wanted 0, got %d, errno %d", r, errno);
}

/* Take the page's memory away again. */
static inline void mrl_lazy_drop(uint64_t page)
{
	int r = madvise((void *)MRL_LAZY(page), MRL_PAGE_SIZE, MADV_DONTNEED);

	TEST_ASSERT(!r, "MADV_DONTNEED: wanted 0, got %d, errno %d", r, errno);
}

/* A page with memory can be read, but not written, until @protect is false. */
static inline void mrl_lazy_protect(int fd, uint64_t page, bool protect)
{
	struct uffdio_writeprotect wp = {
		.range = { MRL_LAZY(page), MRL_PAGE_SIZE },
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};
	int r = ioctl(fd, UFFDIO_WRITEPROTECT, &wp);

	TEST_ASSERT(!r, "UFFDIO_WRITEPROTECT, %u: wanted 0, got %d, errno %d", protect, r,
		    errno);
}

/* Wait until somebody sleeps on the page. */
static inline void mrl_lazy_wait(int fd, uint64_t page)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	struct uffd_msg msg = {};
	uint64_t got;
	ssize_t n;

	n = poll(&pollfd, 1, 1000 * MRL_PATIENCE);
	TEST_ASSERT(n == 1, "Wanted somebody to sleep on page %lu within %u s, got %ld", page,
		    MRL_PATIENCE, n);
	n = read(fd, &msg, sizeof(msg));
	TEST_ASSERT(n == sizeof(msg) && msg.event == UFFD_EVENT_PAGEFAULT,
		    "userfaultfd: wanted %lu bytes, event %u, got %ld bytes, event %u",
		    sizeof(msg), UFFD_EVENT_PAGEFAULT, n, msg.event);
	got = msg.arg.pagefault.address & ~(MRL_PAGE_SIZE - 1);
	TEST_ASSERT(got == MRL_LAZY(page), "userfaultfd: wanted address 0x%llx, got 0x%lx",
		    MRL_LAZY(page), got);
}

/* A call that a thread of its own makes. */
struct mrl_call {
	struct kvm_vm *vm;
	struct mrl l;
	/* A word, if any, to be read as soon as the call has returned. */
	const uint64_t *watch;
	uint64_t seen;
	uint64_t grace_periods;
	pthread_t thread;
	pid_t tid;
	bool done;
	int r;
	int err;
};

static inline void *mrl_call_thread(void *arg)
{
	struct mrl_call *c = arg;

	__atomic_store_n(&c->tid, syscall(__NR_gettid), __ATOMIC_RELEASE);
	c->r = __mrl_apply(c->vm, &c->l);
	c->err = errno;
	if (c->watch)
		c->seen = READ_ONCE(*c->watch);
	__atomic_store_n(&c->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static inline bool mrl_call_done(struct mrl_call *c)
{
	return __atomic_load_n(&c->done, __ATOMIC_ACQUIRE);
}

static inline void mrl_call_start(struct mrl_call *c)
{
	c->grace_periods = vm_get_stat(c->vm, "memslot_grace_periods");
	c->tid = 0;
	c->done = false;
	c->thread = mrl_thread(mrl_call_thread, c);
}

/* The state of a thread of this process, as in /proc: 'R', 'S', 'D', ... */
static inline char mrl_thread_state(pid_t tid)
{
	char path[64], line[512] = {}, *p;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	p = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	fclose(f);
	return p && p[1] ? p[2] : 0;
}

static inline bool mrl_call_asleep(struct mrl_call *c)
{
	pid_t tid = __atomic_load_n(&c->tid, __ATOMIC_ACQUIRE);
	char state = tid ? mrl_thread_state(tid) : 0;

	return state == 'S' || state == 'D';
}

/*
 * Wait until the new layout is visible, and the call sleeps in its grace period.
 * The grace period is counted after the publication, and before the wait.
 */
static inline void mrl_call_wait_asleep(struct mrl_call *c, const char *what)
{
	mrl_wait_until(mrl_call_done(c) ||
		       vm_get_stat(c->vm, "memslot_grace_periods") != c->grace_periods,
		       what, "a grace period");
	mrl_wait_until(mrl_call_done(c) || mrl_call_asleep(c), what, "the call to sleep");
	TEST_ASSERT(!mrl_call_done(c),
		    "%s: wanted the call to wait for a reader, got its return: %d, errno %d",
		    what, c->r, c->err);
}

static inline void mrl_call_finish(struct mrl_call *c, const char *what)
{
	mrl_wait_until(mrl_call_done(c), what, "the call to return");
	pthread_join(c->thread, NULL);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_LAZY_H */
