// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: result buffers that go away during the call.
 *
 * Proves that a dirty_bitmap buffer that becomes inaccessible either fails the call,
 * which then changed nothing, or, once the new layout is visible, gives up the bits:
 * the call succeeds, error_index names the first such entry, and other buffers are
 * written.  Proves also that a reader of the old layout that sleeps delays the
 * return, and is waited for only once (*one-grace-period*).
 *
 * Does not prove: anything about vCPUs that run meanwhile.
 */
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

#include "memory_region_list_state.h"

#define RACE_LOOPS	1000

static void *protect_thread(void *arg)
{
	void *page = (void *)MRL_RESULT_RW;
	int *stop = arg;

	while (!__atomic_load_n(stop, __ATOMIC_RELAXED)) {
		mprotect(page, MRL_PAGE_SIZE, PROT_READ);
		mprotect(page, MRL_PAGE_SIZE, PROT_READ | PROT_WRITE);
	}
	return NULL;
}

/*
 * A result buffer that becomes inaccessible during the call: the call fails and
 * changes nothing, or it succeeds and says in error_index whose bits were given up.
 */
static void test_racing_result(struct mrl_world *w)
{
	uint32_t took[3] = {}, i, index;
	struct mrl set = mrl_alloc(1), del = mrl_alloc(1);
	pthread_t thread;
	int r, stop = 0;

	mrl_set(&set, MRL_FREE_ID, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(40), MRL_SIZE(4),
		(void *)MRL_HVA(40));
	mrl_result(mrl_delete(&del, MRL_FREE_ID), (void *)MRL_RESULT_RW, 8);
	mrl_apply(w->g.vm, &set);

	pthread_create(&thread, NULL, protect_thread, &stop);
	for (i = 0; i < RACE_LOOPS; i++) {
		r = __mrl_apply(w->g.vm, &del);
		index = del.list->error_index;
		TEST_ASSERT(!r || errno == EFAULT, "Result: wanted 0 or errno %d, got %d",
			    EFAULT, errno);
		TEST_ASSERT(r ? index == 0 : index <= 1,
			    "Result, returned %d: error_index: wanted 0, or 1 after success, got %u",
			    r, index);
		TEST_ASSERT(mrl_slot_exists(w->g.vm, 0, MRL_FREE_ID) == !!r,
			    "Result, returned %d: wanted the slot %s, got the opposite", r,
			    r ? "to stay" : "to be gone");
		took[r ? 2 : !index]++;
		if (!r)
			mrl_apply(w->g.vm, &set);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	pr_info("Result: %u times written, %u times given up, %u times refused\n", took[0],
		took[1], took[2]);

	mrl_apply(w->g.vm, &del);
	memset((void *)MRL_RESULT_RW, MRL_POISON, MRL_PAGE_SIZE);
	mrl_world_restored(w, "racing result");
	mrl_free(&del);
	mrl_free(&set);
}

/* Beyond what the world uses, and without a page behind it until it is resolved. */
#define LAZY_PAGE	MRL_GPA(57)
#define LAZY_HVA	0x120000000000ull

static int lazy_page_create(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { LAZY_HVA, MRL_PAGE_SIZE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC);
	void *mem;

	if (fd < 0)
		return fd;

	mem = mmap((void *)LAZY_HVA, MRL_PAGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	TEST_ASSERT(mem == (void *)LAZY_HVA, "mmap(): wanted %p, got %p", (void *)LAZY_HVA, mem);
	TEST_ASSERT(!ioctl(fd, UFFDIO_API, &api) && !ioctl(fd, UFFDIO_REGISTER, &reg),
		    "userfaultfd: wanted success, got errno %d", errno);
	return fd;
}

/* Wait until somebody sleeps on the page. */
static void lazy_page_wait(int fd)
{
	struct uffd_msg msg;
	ssize_t n = read(fd, &msg, sizeof(msg));

	TEST_ASSERT(n == sizeof(msg) && msg.event == UFFD_EVENT_PAGEFAULT,
		    "userfaultfd: wanted a page fault, got %ld bytes, event %u", n, msg.event);
}

static void lazy_page_resolve(int fd)
{
	struct uffdio_zeropage zero = { .range = { LAZY_HVA, MRL_PAGE_SIZE } };

	TEST_ASSERT(!ioctl(fd, UFFDIO_ZEROPAGE, &zero), "UFFDIO_ZEROPAGE: got errno %d", errno);
}

/* Have KVM read guest memory, in an SRCU read-side section that cannot end. */
static void *reader_thread(void *arg)
{
	struct mrl_guest *g = arg;

	mrl_kernel_touch(g, 57);
	return NULL;
}

struct call {
	struct kvm_vm *vm;
	struct mrl l;
	int r;
};

static void *call_thread(void *arg)
{
	struct call *c = arg;

	c->r = __mrl_apply(c->vm, &c->l);
	return NULL;
}

/* Slots 6 and 7 log; the buffer for the second one goes once they are gone. */
static void test_lost_result(struct mrl_world *w)
{
	struct call c = { .vm = w->g.vm, .l = mrl_alloc(3), .r = -1 };
	uint64_t grace_periods, *kept = (void *)MRL_RESULT_RW;
	int fd = lazy_page_create();
	pthread_t reader, caller;
	void *lost;

	if (fd < 0) {
		pr_info("Left out: results given up, no userfaultfd\n");
		return;
	}
	mrl_set(&c.l, 6, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(40), MRL_SIZE(4), (void *)MRL_HVA(40));
	mrl_set(&c.l, 7, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(44), MRL_SIZE(4), (void *)MRL_HVA(44));
	mrl_set(&c.l, 8, 0, LAZY_PAGE, MRL_PAGE_SIZE, (void *)LAZY_HVA);
	mrl_apply(c.vm, &c.l);
	mrl_guest_write(&w->g, 0, BIT_ULL(41) | BIT_ULL(45), w->want.val);

	lost = mmap(NULL, MRL_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	mrl_reset(&c.l);
	mrl_result(mrl_delete(&c.l, 6), kept, 8);
	mrl_result(mrl_delete(&c.l, 7), lost, 8);

	pthread_create(&reader, NULL, reader_thread, &w->g);
	lazy_page_wait(fd);
	grace_periods = vm_get_stat(c.vm, "memslot_grace_periods");
	pthread_create(&caller, NULL, call_thread, &c);

	/* Counted when the new layout is visible, and before the wait for the reader. */
	while (vm_get_stat(c.vm, "memslot_grace_periods") == grace_periods)
		sched_yield();
	munmap(lost, MRL_PAGE_SIZE);
	TEST_ASSERT(*kept == 0xa5a5a5a5a5a5a5a5ull,
		    "Result ahead of the grace period: wanted no write, got 0x%lx", *kept);
	lazy_page_resolve(fd);
	pthread_join(reader, NULL);
	pthread_join(caller, NULL);

	TEST_ASSERT(!c.r && c.l.list->error_index == 1,
		    "Result lost: wanted 0, error_index 1, got %d, error_index %u", c.r,
		    c.l.list->error_index);
	TEST_ASSERT(*kept == BIT_ULL(1), "Other result: wanted 0x2, got 0x%lx", *kept);
	grace_periods = vm_get_stat(c.vm, "memslot_grace_periods") - grace_periods;
	TEST_ASSERT(grace_periods == 1, "Wanted 1 grace period, got %lu", grace_periods);

	mrl_reset(&c.l);
	mrl_delete(&c.l, 8);
	mrl_apply(c.vm, &c.l);
	memset(kept, MRL_POISON, MRL_PAGE_SIZE);
	mrl_world_restored(w, "lost result");
	pr_info("A result given up during the grace period is reported\n");
	mrl_free(&c.l);
	close(fd);
}

int main(int argc, char *argv[])
{
	struct mrl_world w;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_USER_MEMORY_REGION_LIST));

	mrl_mem_alloc(MRL_MEM_PAGES);
	mrl_result_alloc();
	w = mrl_world_create();

	test_racing_result(&w);
	test_lost_result(&w);

	mrl_world_free(&w);
	return 0;
}
