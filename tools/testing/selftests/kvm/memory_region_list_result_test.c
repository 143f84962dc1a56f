// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: result buffers that go away during the call, or
 * that hold it up.
 *
 * Proves that a dirty_bitmap buffer that becomes inaccessible either fails the call,
 * which then changed nothing, or, once the new layout is visible, gives up the bits:
 * the call succeeds, error_index names the first such entry, and other buffers are
 * written.  Proves also that a reader of the old layout that sleeps delays the
 * return, and is waited for only once (*one-grace-period*), and that nothing of the
 * argument is read again after the checks: it is rewritten while the call sleeps on
 * a buffer.
 *
 * Does not prove: anything about vCPUs that run meanwhile.
 */
#include "memory_region_list_lazy.h"
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
	time_t end = time(NULL) + MRL_PATIENCE;
	pthread_t thread;
	int r, stop = 0;
	bool exists;

	mrl_set(&set, MRL_FREE_ID, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(40), MRL_SIZE(4),
		(void *)MRL_HVA(40));
	mrl_result(mrl_delete(&del, MRL_FREE_ID), (void *)MRL_RESULT_RW, 8);
	mrl_apply(w->g.vm, &set);

	thread = mrl_thread(protect_thread, &stop);
	for (i = 0; i < RACE_LOOPS || !took[0] || !took[2]; i++) {
		TEST_ASSERT(time(NULL) < end,
			    "Result: wanted some written and refused, got %u and %u in %u calls",
			    took[0], took[2], i);
		r = __mrl_apply(w->g.vm, &del);
		index = del.list->error_index;
		TEST_ASSERT(!r || errno == EFAULT, "Result: wanted 0 or errno %d, got %d, errno %d",
			    EFAULT, r, errno);
		TEST_ASSERT(r ? index == 0 : index <= 1,
			    "Result, returned %d: error_index: wanted 0, or 1 after success, got %u",
			    r, index);
		exists = mrl_slot_exists(w->g.vm, 0, MRL_FREE_ID);
		TEST_ASSERT(exists == !!r,
			    "all-or-nothing: Result, returned %d: wanted slot %u to exist %u, got %u",
			    r, MRL_FREE_ID, !!r, exists);
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

/* Beyond what the world uses, and without memory until it is resolved. */
#define LAZY_PAGE	57

/* Have KVM read guest memory, in an SRCU read-side section that cannot end. */
static void *reader_thread(void *arg)
{
	struct mrl_guest *g = arg;

	mrl_kernel_touch(g, LAZY_PAGE);
	return NULL;
}

/*
 * Slots 6 and 7 log, are dirty, and go; slot 9 logs, too, and stays as it is.  The buffer
 * of slot 6 is @kept, those of 9 and 7 are @lost.
 */
static void lost_result_setup(struct mrl_world *w, struct mrl *l, void *kept, void *lost)
{
	mrl_set(l, 6, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(40), MRL_SIZE(4), (void *)MRL_HVA(40));
	mrl_set(l, 7, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(44), MRL_SIZE(4), (void *)MRL_HVA(44));
	mrl_set(l, 8, 0, MRL_GPA(LAZY_PAGE), MRL_PAGE_SIZE, (void *)MRL_LAZY(0));
	mrl_set(l, 9, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(58), MRL_SIZE(2), (void *)MRL_HVA(58));
	mrl_apply(w->g.vm, l);
	mrl_guest_write(&w->g, 0, BIT_ULL(41) | BIT_ULL(45), w->want.val);

	mrl_reset(l);
	mrl_result(mrl_delete(l, 6), kept, 8);
	mrl_result(mrl_set(l, 9, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(58), MRL_SIZE(2),
			   (void *)MRL_HVA(58)), lost, 8);
	mrl_result(mrl_delete(l, 7), lost + 8, 8);
}

/* The buffers of slots 9 and 7 go once the slots are gone. */
static void test_lost_result(struct mrl_world *w)
{
	struct mrl_call c = { .vm = w->g.vm, .l = mrl_alloc(4) };
	uint64_t grace_periods, *kept = (void *)MRL_RESULT_RW;
	int fd = mrl_lazy_create(1);
	pthread_t reader;
	void *lost;

	lost = mmap(NULL, MRL_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	TEST_ASSERT(lost != MAP_FAILED, "mmap(): wanted memory, got errno %d", errno);
	lost_result_setup(w, &c.l, kept, lost);

	reader = mrl_thread(reader_thread, &w->g);
	mrl_lazy_wait(fd, 0);
	mrl_call_start(&c);
	mrl_call_wait_asleep(&c, "Result lost");
	munmap(lost, MRL_PAGE_SIZE);
	TEST_ASSERT(*kept == 0xa5a5a5a5a5a5a5a5ull,
		    "Result ahead of the grace period: wanted 0xa5a5a5a5a5a5a5a5, got 0x%lx",
		    *kept);
	mrl_lazy_resolve(fd, 0);
	pthread_join(reader, NULL);
	mrl_call_finish(&c, "Result lost");

	TEST_ASSERT(!c.r && c.l.list->error_index == 1,
		    "Result lost: wanted 0, error_index 1, got %d, errno %d, error_index %u", c.r,
		    c.err, c.l.list->error_index);
	TEST_ASSERT(*kept == BIT_ULL(1), "never-lost: other result: wanted 0x2, got 0x%lx", *kept);
	grace_periods = vm_get_stat(c.vm, "memslot_grace_periods") - c.grace_periods;
	TEST_ASSERT(grace_periods == 1, "one-grace-period: wanted 1, got %lu", grace_periods);

	mrl_reset(&c.l);
	c.l.list->flags = KVM_MEMORY_REGION_LIST_DISCARD_DIRTY;
	mrl_delete(&c.l, 8);
	mrl_delete(&c.l, 9);
	mrl_apply(c.vm, &c.l);
	memset(kept, MRL_POISON, MRL_PAGE_SIZE);
	mrl_world_restored(w, "lost result");
	pr_info("A result given up during the grace period is reported\n");
	mrl_free(&c.l);
	mrl_lazy_free(fd, 1);
}

/*
 * Slot 6 logs, and page 41 is dirty.  The call deletes it, and creates slot 7 at
 * page 44; with @fail, the second entry's buffer turns out to be inaccessible.
 */
static void rewritten_setup(struct mrl_world *w, struct mrl *l, bool fail)
{
	mrl_entry *e;

	mrl_reset(l);
	mrl_set(l, 6, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(40), MRL_SIZE(4), (void *)MRL_HVA(40));
	mrl_set(l, 7, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(44), MRL_SIZE(1), (void *)MRL_HVA(44));
	mrl_apply(w->g.vm, l);
	mrl_guest_write(&w->g, 0, BIT_ULL(41), w->want.val);

	mrl_reset(l);
	mrl_result(mrl_delete(l, 6), (void *)MRL_LAZY(0), 8);
	e = mrl_set(l, 7, KVM_MEM_LOG_DIRTY_PAGES, MRL_GPA(45), MRL_SIZE(1),
		    (void *)MRL_HVA(45));
	mrl_result(e, (void *)(fail ? MRL_RESULT_NONE : MRL_LAZY(0) + 8), 8);
}

/* Write another list over all of the argument but error_index. */
static void rewrite(struct mrl *l, bool garbage)
{
	struct kvm_userspace_memory_region_list *list = l->list;
	uint32_t error_index = list->error_index;

	if (garbage) {
		memset(list, 0xff, mrl_size(l->max));
	} else {
		/* Legal, too, and it would be seen if any of it came into effect. */
		mrl_reset(l);
		list->flags = KVM_MEMORY_REGION_LIST_DISCARD_DIRTY;
		mrl_result(mrl_delete(l, MRL_LOGGED), (void *)MRL_RESULT_RW, 8);
		list->entries[1] = (mrl_entry)MRL_E(MRL_UNUSED_ID, 0, 60, 1, 60);
		mrl_result(&list->entries[1], (void *)MRL_RESULT_RW + 8, 8);
	}
	list->error_index = error_index;
}

static void rewritten_check(struct mrl_world *w, const struct mrl_call *c, bool fail,
			    const char *what)
{
	uint64_t want = fail ? 0xfull << 40 | BIT_ULL(44) : BIT_ULL(45), got = 0, i;
	uint32_t index = fail ? 1 : 2;

	TEST_ASSERT(c->r == (fail ? -1 : 0) && (!fail || c->err == EFAULT) &&
		    c->l.list->error_index == index,
		    "%s: wanted %d, errno %d, error_index %u, got %d, errno %d, error_index %u",
		    what, fail ? -1 : 0, fail ? EFAULT : 0, index, c->r, c->r ? c->err : 0,
		    c->l.list->error_index);
	for (i = 40; i < 48; i++)
		got |= (uint64_t)mrl_page_occupied(w->g.vm, 0, MRL_UNUSED_ID, i) << i;
	TEST_ASSERT(got == want, "%s: pages of slots 6 and 7: wanted 0x%lx, got 0x%lx", what,
		    want, got);
	want = fail ? 0 : BIT_ULL(1);
	got = *(uint64_t *)MRL_LAZY(0);
	TEST_ASSERT(got == want, "%s: result: wanted 0x%lx, got 0x%lx", what, want, got);
	mrl_check_poison(what);
}

/*
 * The buffer of the first entry has no memory: the call sleeps after all checks of
 * the argument, and ahead of all changes.  Nothing of the argument matters then.
 */
static void test_rewritten(struct mrl_world *w)
{
	struct mrl_call c = { .vm = w->g.vm, .l = mrl_alloc(2) };
	struct mrl del = mrl_alloc(2);
	int fd = mrl_lazy_create(1), i;
	char what[64];

	for (i = 0; i < 4; i++) {
		bool garbage = i & 1, fail = i & 2;

		snprintf(what, sizeof(what), "Argument rewritten with %s%s",
			 garbage ? "garbage" : "another list", fail ? ", no buffer" : "");
		rewritten_setup(w, &c.l, fail);
		mrl_call_start(&c);
		mrl_lazy_wait(fd, 0);
		rewrite(&c.l, garbage);
		mrl_lazy_resolve(fd, 0);
		mrl_call_finish(&c, what);
		rewritten_check(w, &c, fail, what);

		mrl_reset(&del);
		del.list->flags = KVM_MEMORY_REGION_LIST_DISCARD_DIRTY;
		if (fail)
			mrl_delete(&del, 6);
		mrl_delete(&del, 7);
		mrl_apply(w->g.vm, &del);
		mrl_world_restored(w, what);
		mrl_lazy_drop(0);
		pr_info("%s: no effect\n", what);
	}
	mrl_free(&del);
	mrl_free(&c.l);
	mrl_lazy_free(fd, 1);
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
	test_rewritten(&w);

	mrl_world_free(&w);
	return 0;
}
