// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: the order of publication, wait and return.
 *
 * Shows, with a vCPU that resolved the old layout and sleeps in the middle of a
 * write, that
 *   - the call has published the new layout, and does not return before the write
 *     is complete, signals or not: what resolved the old layout is never used
 *     after the return
 *   - never-lost: the page is in the result, or in the log that covers it now, if
 *     KVM marks the slot that it found before the write (a store), and if it looks
 *     the gfn up once more to mark it, and finds the new layout (CMPXCHG)
 *   - no-pause: while the call waits, another vCPU faults pages in, reads, writes
 *     and emulates in the new layout, and neither it nor one that is halted leaves
 *     KVM_RUN
 *
 * Not shown: writers that race with the publication itself (the dirty test does
 * that), and marks out of hardware buffers (PML).
 */
#include <signal.h>

#include "memory_region_list_lazy.h"

/* Pages of the window, and slots. */
#define LOG_PAGES	8u
#define LATE_PAGE	5u	/* The one that is written to. */
#define SPLIT_PAGE	4u
#define MOVED_PAGE	16u
#define COUNT_PAGE	32u	/* From here on, the word of each page is counted up. */
#define COUNT_PAGES	8u
#define LOG_ID		1
#define NEW_ID		2
#define COUNT_ID	3
#define ROUNDS		1000u
#define VALUE		0x6c617465ull
#define POISON		0xa5a5a5a5a5a5a5a5ull

/* Shared with the guest. */
static struct {
	uint64_t cmpxchg;
	uint64_t stop;
	uint64_t awake;
	uint64_t mismatches;
} shared;

/* Write once, through the emulator, to a page that nothing else accesses. */
static void guest_writer(void)
{
	uint64_t *p = (uint64_t *)MRL_GPA(LATE_PAGE), old;

	for (;;) {
		old = 0;
		if (READ_ONCE(shared.cmpxchg))
			asm volatile(KVM_FEP "lock cmpxchg %[value], %[p]"
				     : [p]"+m"(*p), "+a"(old)
				     : [value]"r"(VALUE) : "memory", "cc");
		else
			asm volatile(KVM_FEP "mov %1, %0" : "=m"(*p) : "r"(VALUE) : "memory");
		GUEST_SYNC(0);
	}
}

static void guest_counter(void)
{
	uint64_t *p, n, m, i;

	while (!READ_ONCE(shared.stop)) {
		for (i = 0; i < COUNT_PAGES; i++) {
			p = (uint64_t *)MRL_GPA(COUNT_PAGE + i);
			n = READ_ONCE(*p) + 1;
			WRITE_ONCE(*p, n);
			asm volatile(KVM_FEP "mov %1, %0" : "=r"(m) : "m"(*p) : "memory");
			shared.mismatches += m != n;
		}
	}
	GUEST_SYNC(0);
}

static void guest_halter(void)
{
	asm volatile("cli; hlt");
	WRITE_ONCE(shared.awake, 1);
	GUEST_SYNC(0);
}

static void (* const guest_codes[])(void) = { guest_writer, guest_counter, guest_halter };
enum { WRITER, COUNTER, HALTER, NR_VCPUS };

/* A vCPU in a thread of its own. */
struct runner {
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	bool returned;
	int r;
	int err;
};

static struct kvm_vm *vm;
static struct runner runners[NR_VCPUS];
static typeof(shared) *sh;
static int uffd, halter_stats;
static uint32_t nr_signals;

static void *runner_thread(void *arg)
{
	struct runner *runner = arg;

	runner->r = __vcpu_run(runner->vcpu);
	runner->err = errno;
	__atomic_store_n(&runner->returned, true, __ATOMIC_RELEASE);
	return NULL;
}

static bool runner_returned(struct runner *runner)
{
	return __atomic_load_n(&runner->returned, __ATOMIC_ACQUIRE);
}

static void runner_start(struct runner *runner)
{
	runner->returned = false;
	runner->thread = mrl_thread(runner_thread, runner);
}

static void runner_join(struct runner *runner, const char *what)
{
	mrl_wait_until(runner_returned(runner), what, "KVM_RUN to return");
	pthread_join(runner->thread, NULL);
}

static void runner_expect_sync(struct runner *runner, const char *what)
{
	struct kvm_run *run = runner->vcpu->run;
	struct ucall uc;

	runner_join(runner, what);
	TEST_ASSERT(!runner->r && run->exit_reason == KVM_EXIT_IO &&
		    get_ucall(runner->vcpu, &uc) == UCALL_SYNC,
		    "%s: vCPU %u: wanted UCALL_SYNC, got KVM_RUN %d, errno %d, exit %u (%s)",
		    what, runner->vcpu->id, runner->r, runner->err, run->exit_reason,
		    exit_reason_str(run->exit_reason));
}

static void count_signal(int sig)
{
	__atomic_fetch_add(&nr_signals, 1, __ATOMIC_RELAXED);
}

#define LAZY_E(id, fl, gpa_page, pages, lazy_page)				\
	{									\
		.slot = (id),							\
		.flags = (fl),							\
		.guest_phys_addr = MRL_GPA(gpa_page),				\
		.memory_size = MRL_SIZE(pages),					\
		.userspace_addr = MRL_LAZY(lazy_page),				\
	}
#define LOG	KVM_MEM_LOG_DIRTY_PAGES

/* What becomes of slot LOG_ID while a write to LATE_PAGE sleeps. */
static const struct change {
	const char *what;
	/* The bit has to be in this slot's log, or, if 0, in the result. */
	uint32_t log_id;
	uint32_t bit;
	uint32_t nr;
	mrl_entry entries[2];
} changes[] = {
	{ "delete", 0, LATE_PAGE, 1, {
		{ .slot = LOG_ID } } },
	{ "logging off", 0, LATE_PAGE, 1, {
		LAZY_E(LOG_ID, 0, 0, LOG_PAGES, 0) } },
	{ "move", 0, LATE_PAGE, 1, {
		LAZY_E(LOG_ID, LOG, MOVED_PAGE, LOG_PAGES, 0) } },
	{ "other memory", 0, LATE_PAGE, 1, {
		LAZY_E(LOG_ID, LOG, 0, LOG_PAGES, LOG_PAGES) } },
	{ "shrink", 0, LATE_PAGE, 1, {
		LAZY_E(LOG_ID, LOG, 0, SPLIT_PAGE, 0) } },
	{ "split", NEW_ID, LATE_PAGE - SPLIT_PAGE, 2, {
		LAZY_E(LOG_ID, LOG, 0, SPLIT_PAGE, 0),
		LAZY_E(NEW_ID, LOG, SPLIT_PAGE, LOG_PAGES - SPLIT_PAGE, SPLIT_PAGE) } },
	{ "rename", NEW_ID, LATE_PAGE, 2, {
		{ .slot = LOG_ID },
		LAZY_E(NEW_ID, LOG, 0, LOG_PAGES, 0) } },
};

/* One slot that logs, with a clean log, and a page on which writers sleep. */
static void log_create(const char *what)
{
	struct mrl l = mrl_alloc(1);
	uint64_t log = POISON;

	mrl_set(&l, LOG_ID, LOG, MRL_GPA(0), MRL_SIZE(LOG_PAGES), (void *)MRL_LAZY(0));
	mrl_apply(vm, &l);
	mrl_free(&l);

	*(uint64_t *)MRL_LAZY(LATE_PAGE) = 0;
	mrl_lazy_protect(uffd, LATE_PAGE, true);
	kvm_vm_get_dirty_log(vm, LOG_ID, &log);
	TEST_ASSERT(!log, "%s: log ahead of the write: wanted 0, got 0x%lx", what, log);
}

static void log_delete(void)
{
	struct mrl l = mrl_alloc(2);

	l.list->flags = KVM_MEMORY_REGION_LIST_DISCARD_DIRTY;
	if (mrl_slot_exists(vm, 0, LOG_ID))
		mrl_delete(&l, LOG_ID);
	if (mrl_slot_exists(vm, 0, NEW_ID))
		mrl_delete(&l, NEW_ID);
	mrl_apply(vm, &l);
	mrl_free(&l);
}

/* Put the writer to sleep in its write, and @call to sleep in its grace period. */
static void late_start(struct mrl_call *call, bool cmpxchg, const char *what)
{
	const uint64_t *word = (uint64_t *)MRL_LAZY(LATE_PAGE);

	WRITE_ONCE(sh->cmpxchg, cmpxchg);
	runner_start(&runners[WRITER]);
	mrl_lazy_wait(uffd, LATE_PAGE);

	call->watch = word;
	mrl_call_start(call);
	mrl_call_wait_asleep(call, what);
	TEST_ASSERT(!READ_ONCE(*word), "%s: wanted the write to sleep, got value 0x%lx", what,
		    READ_ONCE(*word));
}

/* Let the write go on.  It is complete by the time the call returns. */
static void late_finish(struct mrl_call *call, const char *what)
{
	mrl_lazy_protect(uffd, LATE_PAGE, false);
	mrl_call_finish(call, what);
	runner_expect_sync(&runners[WRITER], what);

	TEST_ASSERT(!call->r, "%s: wanted 0, got %d, errno %d", what, call->r, call->err);
	TEST_ASSERT(call->l.list->error_index == call->l.list->nent,
		    "%s: error_index: wanted %u, got %u", what, call->l.list->nent,
		    call->l.list->error_index);
	TEST_ASSERT(call->seen == VALUE,
		    "%s: the late write, when the call returned: wanted 0x%llx, got 0x%lx", what,
		    VALUE, call->seen);
}

static void check_late_mark(const struct change *change, uint64_t result, const char *what)
{
	uint64_t want = BIT_ULL(change->bit), log = 0, valid = GENMASK_ULL(LOG_PAGES - 1, 0);

	TEST_ASSERT(!(result & ~valid), "%s: result: wanted no bits but 0x%lx, got 0x%lx", what,
		    valid, result);
	if (!change->log_id) {
		TEST_ASSERT(result & want, "never-lost: %s: result: wanted 0x%lx, got 0x%lx",
			    what, want, result);
		return;
	}
	kvm_vm_get_dirty_log(vm, change->log_id, &log);
	TEST_ASSERT(log & want, "never-lost: %s: log of slot %u: wanted 0x%lx, got 0x%lx", what,
		    change->log_id, want, log);
	TEST_ASSERT(!result, "%s: result, all pages are kept: wanted 0, got 0x%lx", what, result);
}

static void test_late_mark(const struct change *change, bool cmpxchg)
{
	struct mrl_call call = { .vm = vm, .l = mrl_alloc(change->nr) };
	uint64_t result = POISON;
	uint32_t signals = nr_signals;
	char what[64];

	snprintf(what, sizeof(what), "%s, %s", change->what, cmpxchg ? "CMPXCHG" : "store");
	log_create(what);
	call.l.list->nent = change->nr;
	memcpy(call.l.list->entries, change->entries, change->nr * sizeof(mrl_entry));
	mrl_result(&call.l.list->entries[0], &result, sizeof(result));

	late_start(&call, cmpxchg, what);
	/* A signal must not end the wait. */
	pthread_kill(call.thread, SIGUSR1);
	TEST_ASSERT(result == POISON, "%s: result ahead of the return: wanted 0x%llx, got 0x%lx",
		    what, POISON, result);
	late_finish(&call, what);
	check_late_mark(change, result, what);
	TEST_ASSERT(nr_signals == signals + 1, "%s: wanted 1 signal, got %u", what,
		    nr_signals - signals);

	pr_info("%s: waited for, and in the %s\n", what, change->log_id ? "log" : "result");
	log_delete();
	mrl_free(&call.l);
}

static uint64_t *count_word(uint64_t first, uint32_t i)
{
	return (uint64_t *)MRL_HVA(first + i);
}

/* The lowest of the words that are counted up. */
static uint64_t count_min(uint64_t first)
{
	uint64_t min = UINT64_MAX;
	uint32_t i;

	for (i = 0; i < COUNT_PAGES; i++)
		min = min(min, READ_ONCE(*count_word(first, i)));
	return min;
}

static void count_set(struct mrl *l, uint64_t first)
{
	uint32_t i;

	for (i = 0; i < COUNT_PAGES; i++)
		*count_word(first, i) = 0;
	mrl_set(l, COUNT_ID, 0, MRL_GPA(COUNT_PAGE), MRL_SIZE(COUNT_PAGES),
		(void *)MRL_HVA(first));
}

static bool halter_blocks(void)
{
	uint64_t blocking = 0;

	TEST_ASSERT(mrl_read_stat(halter_stats, "blocking", &blocking),
		    "Wanted a vCPU stat 'blocking', got none");
	return blocking;
}

/* Have one vCPU count in the old layout, and another one sleep in HLT. */
static void others_start(void)
{
	struct mrl l = mrl_alloc(1);

	count_set(&l, 0);
	mrl_apply(vm, &l);
	mrl_free(&l);
	runner_start(&runners[COUNTER]);
	runner_start(&runners[HALTER]);
	mrl_wait_until(count_min(0) >= ROUNDS, "no-pause", "a vCPU to count in the old layout");
	mrl_wait_until(halter_blocks(), "no-pause", "a vCPU to halt");
}

static void others_expect_running(const char *when)
{
	TEST_ASSERT(!runner_returned(&runners[COUNTER]) && !runner_returned(&runners[HALTER]),
		    "no-pause: %s: wanted KVM_RUN not to return, got %u returned (counts), %u (halted)",
		    when, runner_returned(&runners[COUNTER]),
		    runner_returned(&runners[HALTER]));
	TEST_ASSERT(!READ_ONCE(sh->awake), "no-pause: %s: wanted the vCPU halted, got it awake",
		    when);
}

static void others_stop(void)
{
	struct runner *halter = &runners[HALTER];

	WRITE_ONCE(sh->stop, 1);
	runner_expect_sync(&runners[COUNTER], "no-pause");
	/* The change itself may fall between a write and the read after it. */
	TEST_ASSERT(sh->mismatches <= 1,
		    "no-pause: reads of another value than written: wanted <= 1, got %lu",
		    sh->mismatches);
	pthread_kill(halter->thread, SIGUSR1);
	runner_join(halter, "Halted vCPU, after a signal");
	TEST_ASSERT(halter->r == -1 && halter->err == EINTR,
		    "Halted vCPU after a signal: wanted errno %d, got %d, errno %d", EINTR,
		    halter->r, halter->err);
}

static void test_no_pause(void)
{
	struct mrl_call call = { .vm = vm, .l = mrl_alloc(2) };
	uint64_t result = POISON, old[COUNT_PAGES];
	uint32_t i;

	log_create("no-pause");
	others_start();
	mrl_result(mrl_delete(&call.l, LOG_ID), &result, sizeof(result));
	count_set(&call.l, COUNT_PAGES);
	late_start(&call, true, "no-pause");

	/* Published, i.e. hardware has made its last access to the old pages. */
	for (i = 0; i < COUNT_PAGES; i++)
		old[i] = READ_ONCE(*count_word(0, i));
	mrl_wait_until(count_min(COUNT_PAGES) >= ROUNDS, "no-pause",
		       "a vCPU to count in the new layout while the call waits");
	for (i = 0; i < COUNT_PAGES; i++)
		TEST_ASSERT(READ_ONCE(*count_word(0, i)) == old[i],
			    "no-stale-mapping: old page %u: wanted 0x%lx, got 0x%lx", i, old[i],
			    READ_ONCE(*count_word(0, i)));
	TEST_ASSERT(!mrl_call_done(&call), "no-pause: wanted the call to wait, got its return");
	others_expect_running("while the call waits");

	late_finish(&call, "no-pause");
	others_expect_running("after the call");
	TEST_ASSERT(result == BIT_ULL(LATE_PAGE), "no-pause: result: wanted 0x%llx, got 0x%lx",
		    BIT_ULL(LATE_PAGE), result);
	pr_info("no-pause: %lu rounds in the new layout while the call waited\n",
		count_min(COUNT_PAGES));
	others_stop();
	mrl_free(&call.l);
}

static void setup(void)
{
	struct sigaction sa = { .sa_handler = count_signal };
	struct kvm_vcpu *vcpus[NR_VCPUS];
	uint32_t i;

	uffd = mrl_lazy_create(2 * LOG_PAGES);
	for (i = 0; i < 2 * LOG_PAGES; i++)
		mrl_lazy_resolve(uffd, i);
	mrl_mem_alloc(MRL_MEM_PAGES);
	sigaction(SIGUSR1, &sa, NULL);

	vm = vm_create_with_vcpus(NR_VCPUS, guest_writer, vcpus);
	virt_map(vm, MRL_GPA_BASE, MRL_GPA_BASE, MRL_WIN_PAGES);
	sh = addr_gva2hva(vm, (vm_vaddr_t)&shared);
	for (i = 0; i < NR_VCPUS; i++) {
		vcpu_arch_set_entry_point(vcpus[i], guest_codes[i]);
		runners[i].vcpu = vcpus[i];
	}
	/* No ioctl of a vCPU returns while it is in KVM_RUN. */
	halter_stats = vcpu_get_stats_fd(vcpus[HALTER]);
}

int main(int argc, char *argv[])
{
	uint32_t i;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_USER_MEMORY_REGION_LIST));
	TEST_REQUIRE(is_forced_emulation_enabled);

	setup();
	for (i = 0; i < ARRAY_SIZE(changes); i++) {
		test_late_mark(&changes[i], true);
		test_late_mark(&changes[i], false);
	}
	test_no_pause();
	kvm_vm_free(vm);
	return 0;
}
