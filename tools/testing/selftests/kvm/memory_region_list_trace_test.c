// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: what tracing shows.
 *
 * Proves *one-grace-period* without KVM's own counter: probes on the functions that
 * wait for SRCU are hit once by the caller, for 1, 64 and as many entries as a call
 * can have, and not at all by a call that changes nothing or fails.  Proves that the
 * tracepoint kvm_memory_region_list and the stats of the VM tell what a call did.
 *
 * F9: where so much goes that with rmaps all shadow pages are zapped, it is zapped before
 * page faults are held off.  The vCPU is in userspace, so all of it has to be.
 *
 * Does not prove: that nobody else waits on behalf of the caller.  Needs tracefs and
 * kprobe events, and to be in the initial PID namespace.
 */
#include "memory_region_list_guest.h"
#include "memory_region_list_trace.h"

#define LOG		KVM_MEM_LOG_DIRTY_PAGES
/* Too many to look them up one by one where there are rmaps. */
#define MANY_PAGES	(80ul * 1024)

static const char * const probes[] = { "mrl/expedited", "mrl/normal", "mrl/gate" };
/* Tracepoints of shadow pages, and of SPTEs of the TDP MMU, that go or change. */
static const char * const zaps[] = { "kvm_mmu_prepare_zap_page", "kvm_tdp_mmu_spte_changed" };

static void tracing_start(void)
{
	int i;

	mrl_trace_start();
	mrl_trace_probe("p:mrl/expedited synchronize_srcu_expedited\n");
	mrl_trace_probe("p:mrl/normal synchronize_srcu\n");
	mrl_trace_probe("p:mrl/gate kvm_mmu_invalidate_begin\n");
	for (i = 0; i < ARRAY_SIZE(probes); i++)
		mrl_trace_enable(probes[i], NULL);
	mrl_trace_enable("kvm/kvm_memory_region_list", NULL);
}

static void tracing_stop(void)
{
	mrl_trace_stop();
	mrl_trace_probe("-:mrl/expedited\n");
	mrl_trace_probe("-:mrl/normal\n");
	mrl_trace_probe("-:mrl/gate\n");
}

/* Count the lines of @event since mrl_trace_clear(), and keep the last one. */
static int trace_count(const char *event, char *last, size_t size)
{
	FILE *f = mrl_trace_open();
	char line[1024], key[64], *at;
	int nr = 0;

	snprintf(key, sizeof(key), ": %s:", event);
	while (fgets(line, sizeof(line), f)) {
		at = line[0] == '#' ? NULL : strstr(line, key);
		if (!at)
			continue;
		nr++;
		if (last)
			snprintf(last, size, "%s", at + strlen(key));
	}
	fclose(f);
	return nr;
}

static void expect_waits(int want, const char *what)
{
	int expedited = trace_count("expedited", NULL, 0);
	int normal = trace_count("normal", NULL, 0);

	TEST_ASSERT(expedited == want && !normal,
		    "%s: wanted %d calls of synchronize_srcu_expedited(), 0 of synchronize_srcu(), got %d, %d",
		    what, want, expedited, normal);
}

/* As a control: the probes are hit. */
static void test_old_ioctls(struct kvm_vm *vm)
{
	mrl_trace_clear();
	vm_set_user_memory_region(vm, 1, 0, MRL_GPA(0), MRL_SIZE(4), (void *)MRL_HVA(0));
	expect_waits(1, "Old ioctl, create");
	mrl_trace_clear();
	vm_set_user_memory_region(vm, 1, 0, 0, 0, NULL);
	expect_waits(2, "Old ioctl, delete");
}

static void apply(struct kvm_vm *vm, struct mrl *l, int want, const char *what)
{
	mrl_trace_clear();
	mrl_apply(vm, l);
	expect_waits(want, what);
}

/* @pages 0 deletes. */
static void fill(struct mrl *l, uint32_t nr, uint64_t pages, uint64_t hva_page)
{
	uint32_t i;

	mrl_reset(l);
	for (i = 0; i < nr; i++)
		mrl_set(l, i, 0, MRL_GPA(i), MRL_SIZE(pages), (void *)MRL_HVA(hva_page));
}

static void test_grace_periods(struct kvm_vm *vm, uint32_t nr)
{
	struct mrl l = mrl_alloc(nr);

	fill(&l, nr, 1, 0);
	apply(vm, &l, 1, "create");
	apply(vm, &l, 0, "no-op");
	fill(&l, nr, 1, 1);
	l.list->flags = KVM_MEMORY_REGION_LIST_TEST_ONLY;
	apply(vm, &l, 0, "a test");
	l.list->flags = 0;
	apply(vm, &l, 1, "re-back");
	fill(&l, nr, 0, 0);
	apply(vm, &l, 1, "delete");

	mrl_trace_clear();
	TEST_ASSERT(__mrl_apply(vm, &l) == -1 && errno == ENOENT,
		    "Delete again: wanted errno %d, got %d", ENOENT, errno);
	expect_waits(0, "failed");
	pr_info("%u entries: one wait for SRCU a call\n", nr);
	mrl_free(&l);
}

/* The fields of the tracepoint, as it prints them. */
struct event {
	uint32_t as_id, nent, created, deleted, replaced;
	uint64_t kept_pages, zapped_pages, zapped_late, dirty_kept, dirty_returned;
	uint64_t publish_ns, locked_ns, grace_ns, total_ns;
	int ret;
};

static struct event read_event(const char *what)
{
	char line[1024] = "";
	int nr = trace_count("kvm_memory_region_list", line, sizeof(line));

	TEST_ASSERT(nr == 1, "%s: kvm_memory_region_list: wanted 1 event, got %d", what, nr);
	return (struct event) {
		.as_id = mrl_trace_field(line, "as_id"),
		.nent = mrl_trace_field(line, "nent"),
		.created = mrl_trace_field(line, "created"),
		.deleted = mrl_trace_field(line, "deleted"),
		.replaced = mrl_trace_field(line, "replaced"),
		.kept_pages = mrl_trace_field(line, "kept_pages"),
		.zapped_pages = mrl_trace_field(line, "zapped_pages"),
		.zapped_late = mrl_trace_field(line, "zapped_late"),
		.dirty_kept = mrl_trace_field(line, "dirty_kept"),
		.dirty_returned = mrl_trace_field(line, "dirty_returned"),
		.publish_ns = mrl_trace_field(line, "publish_ns"),
		.locked_ns = mrl_trace_field(line, "locked_ns"),
		.grace_ns = mrl_trace_field(line, "grace_ns"),
		.total_ns = mrl_trace_field(line, "total_ns"),
		.ret = mrl_trace_field(line, "ret"),
	};
}

/* Make a call and compare all but times and zapped pages.  Stats count it, too. */
static struct event check_event(struct kvm_vm *vm, struct mrl *l, struct event want,
				const char *what)
{
	struct mrl_counts counts = mrl_counts_get(vm);
	struct event got;
	int r;

	mrl_trace_clear();
	r = __mrl_apply(vm, l);
	r = r ? -errno : 0;
	counts = mrl_counts_since(vm, counts);
	got = read_event(what);

	TEST_ASSERT(r == want.ret && got.ret == want.ret,
		    "%s: ret: wanted %d, got %d by the ioctl, %d in the event", what, want.ret, r,
		    got.ret);
	TEST_ASSERT(got.as_id == want.as_id && got.nent == want.nent &&
		    got.created == want.created && got.deleted == want.deleted &&
		    got.replaced == want.replaced,
		    "%s: as_id, nent, created, deleted, replaced: wanted %u %u %u %u %u, got %u %u %u %u %u",
		    what, want.as_id, want.nent, want.created, want.deleted, want.replaced,
		    got.as_id, got.nent, got.created, got.deleted, got.replaced);
	TEST_ASSERT(got.kept_pages == want.kept_pages && got.dirty_kept == want.dirty_kept &&
		    got.dirty_returned == want.dirty_returned,
		    "%s: kept_pages, dirty_kept, dirty_returned: wanted %lu %lu %lu, got %lu %lu %lu",
		    what, want.kept_pages, want.dirty_kept, want.dirty_returned, got.kept_pages,
		    got.dirty_kept, got.dirty_returned);
	TEST_ASSERT(counts.calls == 1 && counts.failed == !!want.ret &&
		    counts.entries == (want.ret ? 0 : want.nent) &&
		    counts.zapped == got.zapped_pages,
		    "%s: stats: wanted 1 call, %d failed, %u entries, %lu zapped, got %lu, %lu, %lu, %lu",
		    what, !!want.ret, want.ret ? 0 : want.nent, got.zapped_pages, counts.calls,
		    counts.failed, counts.entries, counts.zapped);
	return got;
}

/* Nothing was published, hence there is no time of it. */
static void expect_idle(struct event e, const char *what)
{
	TEST_ASSERT(!e.zapped_pages && !e.publish_ns && !e.locked_ns && !e.grace_ns && e.total_ns,
		    "%s: zapped_pages, publish_ns, locked_ns, grace_ns, total_ns: wanted 0 0 0 0 and a time, got %lu %lu %lu %lu %lu",
		    what, e.zapped_pages, e.publish_ns, e.locked_ns, e.grace_ns, e.total_ns);
}

/* Slots 1 and 2 log, 3 does not.  Pages 3, 10, 17, 18 and 20 are dirty. */
static void setup_event(struct mrl_guest *g, struct mrl *l)
{
	const uint64_t dirty = BIT_ULL(3) | BIT_ULL(10) | BIT_ULL(17) | BIT_ULL(18) | BIT_ULL(20);
	uint64_t val[MRL_WIN_PAGES] = {}, all = GENMASK_ULL(15, 0);

	vm_enable_cap(g->vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	mrl_reset(l);
	mrl_set(l, 1, LOG, MRL_GPA(0), MRL_SIZE(16), (void *)MRL_HVA(0));
	mrl_set(l, 2, LOG, MRL_GPA(16), MRL_SIZE(16), (void *)MRL_HVA(16));
	mrl_set(l, 3, 0, MRL_GPA(48), MRL_SIZE(8), (void *)MRL_HVA(48));
	check_event(g->vm, l, (struct event) { .nent = 3, .created = 3 }, "create");

	/* KVM marks pages dirty when the guest reads them for the first time. */
	mrl_guest_read(g, 0, GENMASK_ULL(31, 0) | GENMASK_ULL(55, 48), NULL);
	kvm_vm_clear_dirty_log(g->vm, 1, &all, 0, 16);
	kvm_vm_clear_dirty_log(g->vm, 2, &all, 0, 16);
	mrl_guest_write(g, 0, dirty, val);
}

/* Slot 1 is split, slot 2 goes, slot 3 is named and does not change, slot 6 comes. */
static void test_event(void)
{
	const struct event want = {
		.nent = 5, .created = 2, .deleted = 1, .replaced = 1,
		.kept_pages = 16, .dirty_kept = 2, .dirty_returned = 3,
	};
	struct mrl_guest g = mrl_guest_create(MRL_WIN_PAGES);
	struct mrl l = mrl_alloc(5);
	uint64_t result = 0;
	struct event got;

	setup_event(&g, &l);
	mrl_reset(&l);
	mrl_set(&l, 6, 0, MRL_GPA(40), MRL_SIZE(4), (void *)MRL_HVA(40));
	mrl_set(&l, 5, LOG, MRL_GPA(8), MRL_SIZE(8), (void *)MRL_HVA(8));
	mrl_result(mrl_delete(&l, 2), &result, 8);
	mrl_set(&l, 3, 0, MRL_GPA(48), MRL_SIZE(8), (void *)MRL_HVA(48));
	mrl_set(&l, 1, LOG, MRL_GPA(0), MRL_SIZE(8), (void *)MRL_HVA(0));

	l.list->flags = KVM_MEMORY_REGION_LIST_TEST_ONLY;
	got = check_event(g.vm, &l, (struct event) { .nent = 5 }, "a test");
	expect_idle(got, "a test");

	l.list->flags = 0;
	got = check_event(g.vm, &l, want, "split, delete, create");
	TEST_ASSERT(result == 0x16, "Result: wanted 0x16, got 0x%lx", result);
	/* With rmaps, mappings of all slots may go, and those of the guest's own memory. */
	TEST_ASSERT(mrl_zaps_are_exact() ? got.zapped_pages == 16 : got.zapped_pages >= 16,
		    "zapped_pages: wanted %s16, got %lu", mrl_zaps_are_exact() ? "" : "at least ",
		    got.zapped_pages);
	TEST_ASSERT(!got.zapped_late, "zapped_late: wanted 0, got %lu", got.zapped_late);
	TEST_ASSERT(got.locked_ns && got.locked_ns <= got.publish_ns &&
		    got.publish_ns <= got.grace_ns && got.grace_ns <= got.total_ns,
		    "locked_ns, publish_ns, grace_ns, total_ns: wanted them to ascend, got %lu %lu %lu %lu",
		    got.locked_ns, got.publish_ns, got.grace_ns, got.total_ns);

	l.list->reserved[0] = 1;
	got = check_event(g.vm, &l, (struct event) { .nent = 5, .ret = -EINVAL }, "reserved");
	expect_idle(got, "reserved");
	/* Slot 2 is gone. */
	l.list->reserved[0] = 0;
	got = check_event(g.vm, &l, (struct event) { .nent = 5, .ret = -ENOENT }, "again");
	expect_idle(got, "again");

	if (vm_check_cap(g.vm, KVM_CAP_MULTI_ADDRESS_SPACE) > 1) {
		mrl_reset(&l);
		l.list->as_id = 1;
		mrl_set(&l, 2, 0, MRL_GPA(0), MRL_SIZE(4), (void *)MRL_HVA(0));
		check_event(g.vm, &l, (struct event) { .as_id = 1, .nent = 1, .created = 1 },
			    "address space 1");
	}
	pr_info("The tracepoint tells what a call did\n");
	mrl_free(&l);
	kvm_vm_free(g.vm);
}

/* Count what was zapped until page faults are held off for the first time, and since. */
static void count_zaps(uint32_t nr[2])
{
	FILE *f = mrl_trace_open();
	bool gated = false;
	char line[1024];
	int i;

	nr[0] = 0;
	nr[1] = 0;
	while (fgets(line, sizeof(line), f)) {
		gated |= line[0] != '#' && strstr(line, ": gate:");
		for (i = 0; i < ARRAY_SIZE(zaps); i++)
			nr[gated] += line[0] != '#' && strstr(line, zaps[i]);
	}
	fclose(f);
	TEST_ASSERT(gated, "F9: wanted a call that holds off page faults, got none");
}

static void check_gate(struct mrl_guest *g, struct mrl *l, const char *what)
{
	uint32_t nr[2];

	mrl_guest_read(g, 0, MRL_ALL_PAGES, NULL);
	mrl_trace_clear();
	mrl_apply(g->vm, l);
	count_zaps(nr);
	TEST_ASSERT(nr[0] && !nr[1],
		    "F9: %s: wanted some zaps ahead of the gate, 0 behind it, got %u, %u", what,
		    nr[0], nr[1]);
	pr_info("%s: %u zaps ahead of the gate\n", what, nr[0]);
	mrl_reset(l);
}

static void test_gate(void)
{
	void *hva = mmap(NULL, MRL_SIZE(MANY_PAGES), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct mrl_guest g = mrl_guest_create(MRL_WIN_PAGES);
	struct mrl l = mrl_alloc(2);
	char name[64];
	int i;

	TEST_ASSERT(hva != MAP_FAILED, "mmap(): errno %d", errno);
	/* Only what one CPU records is in the order in which it happened. */
	kvm_pin_this_task_to_pcpu(0);
	for (i = 0; i < ARRAY_SIZE(zaps); i++) {
		snprintf(name, sizeof(name), "kvmmmu/%s", zaps[i]);
		mrl_trace_enable(name, NULL);
	}
	mrl_set(&l, 1, 0, MRL_GPA(0), MRL_SIZE(MANY_PAGES), hva);
	mrl_apply(g.vm, &l);
	mrl_reset(&l);

	mrl_set(&l, 1, 0, MRL_GPA(0), MRL_SIZE(32), (void *)MRL_HVA(0));
	mrl_set(&l, 2, 0, MRL_GPA(32), MRL_SIZE(MANY_PAGES - 32), hva);
	check_gate(&g, &l, "much gets other memory");
	mrl_delete(&l, 1);
	mrl_delete(&l, 2);
	check_gate(&g, &l, "much goes");
	mrl_free(&l);
	kvm_vm_free(g.vm);
	munmap(hva, MRL_SIZE(MANY_PAGES));
}

int main(int argc, char *argv[])
{
	struct kvm_vm *vm;

	mrl_require();
	TEST_REQUIRE(!access(MRL_TRACING "kprobe_events", W_OK));
	TEST_REQUIRE(!access(MRL_TRACING "events/kvm/kvm_memory_region_list", F_OK));

	mrl_mem_alloc(MRL_MEM_PAGES);
	tracing_start();
	vm = vm_create_barebones();
	test_old_ioctls(vm);
	test_grace_periods(vm, 1);
	test_grace_periods(vm, 64);
	test_grace_periods(vm, vm_check_cap(vm, KVM_CAP_USER_MEMORY_REGION_LIST));
	kvm_vm_free(vm);
	test_event();
	test_gate();
	tracing_stop();
	return 0;
}
