// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST while MMU notifiers are on their way all the time.
 *
 * A call waits for the notifiers of the whole process that have begun.  Threads make
 * notifiers for memory that no VM uses, that overlap, until a vCPU has read pages that it
 * has never read, one page fault each, and again and again those that the call gives other
 * memory.  Shows
 *
 * *no-pause*, C13: page faults, be they on what the call changes or not, are not held off
 * while the call waits for notifiers on other memory.
 *
 * *no-stale-mapping*: what was mapped while the call waited, and has got other memory, is
 * no longer mapped when it returns.
 *
 * F7: what was mapped while the call waited is zapped ahead of the section that publishes.
 *
 * Nothing waits for time to pass.  Not shown: how long a call waits; notifiers on memory of
 * the VM, which hold off page faults themselves.
 */
#include "memory_region_list_lazy.h"
#include "memory_region_list_trace.h"
#include "memory_region_list_vcpus.h"

#define FRESH_GPA	(4ul << 30)
#define FRESH_SIZE	(128ul << 20)
#define FRESH_PAGES	(FRESH_SIZE / PAGE_SIZE)
#define MEM_GPA		(5ul << 30)
#define MEM_SIZE	(8 * PAGE_SIZE)
#define MEM_ID		20
/* One MMU notifier, that takes a while. */
#define NOISE_SIZE	(512ul << 20)
#define NR_NOISE	3
#define NR_CALLS	8
/* Page faults that a call has to allow for while it waits. */
#define WANTED		64

/* Generations of what is at MEM_GPA: the one that a call brings, and that one has brought. */
static struct {
	uint32_t park;
	uint64_t before, after;
	uint64_t rounds, fresh;
} shared;

static typeof(shared) *sh;
static bool noise_on, noise_stops;
static uint32_t nr_quiet;
static uint8_t *fresh, *mem[2];

static void check_mem(void)
{
	uint64_t offset, after, got;

	for (offset = 0; offset < MEM_SIZE; offset += PAGE_SIZE) {
		after = READ_ONCE(shared.after);
		got = READ_ONCE(*(uint64_t *)(MEM_GPA + offset));
		__GUEST_ASSERT(got >= after && got <= READ_ONCE(shared.before),
			       "no-stale-mapping: wanted generation %lu to %lu, got %lu", after,
			       READ_ONCE(shared.before), got);
	}
}

static void guest_main(uint32_t me, uint32_t nr)
{
	uint64_t page = FRESH_PAGES;	/* None, ahead of the first call. */
	uint32_t park = 0;

	for (;;) {
		if (READ_ONCE(shared.park) != park) {
			park = READ_ONCE(shared.park);
			GUEST_SYNC(0);
			page = 0;
		}
		check_mem();
		if (page < FRESH_PAGES)
			READ_ONCE(*(uint8_t *)(FRESH_GPA + page++ * PAGE_SIZE));
		WRITE_ONCE(shared.fresh, page);
		WRITE_ONCE(shared.rounds, shared.rounds + 1);
	}
}

static bool handle_exit(struct kvm_vcpu *vcpu, int r)
{
	mrl_vcpu_expect_no_hole(vcpu, r);
	mrl_vcpu_expect_sync(vcpu);
	return true;
}

static uint8_t *alloc(size_t size)
{
	uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	TEST_ASSERT(p != MAP_FAILED, "mmap() of 0x%lx bytes: errno %d", size, errno);
	madvise(p, size, MADV_NOHUGEPAGE);
	return p;
}

static void *make_notifiers(void *arg)
{
	uint8_t *noise = alloc(NOISE_SIZE);
	bool quiet = false;

	/* All of it the zero page, i.e. page tables and no memory. */
	madvise(noise, NOISE_SIZE, MADV_POPULATE_READ);
	while (!READ_ONCE(noise_stops)) {
		if (READ_ONCE(noise_on) == quiet) {
			quiet = !quiet;
			__atomic_add_fetch(&nr_quiet, quiet ? 1 : -1, __ATOMIC_SEQ_CST);
		}
		if (quiet) {
			sched_yield();
			continue;
		}
		/* Keeps a zero page.  Under mmap_lock for reading, i.e. they overlap. */
		madvise(noise, NOISE_SIZE, MADV_FREE);
	}
	return NULL;
}

static void set_noise(bool on)
{
	uint32_t want = on ? 0 : NR_NOISE;

	WRITE_ONCE(noise_on, on);
	mrl_wait_until(__atomic_load_n(&nr_quiet, __ATOMIC_SEQ_CST) == want, "noise",
		       on ? "all threads to begin" : "all threads to stop");
}

static void stamp(uint64_t generation)
{
	uint64_t offset;

	for (offset = 0; offset < MEM_SIZE; offset += PAGE_SIZE)
		WRITE_ONCE(*(uint64_t *)(mem[generation % 2] + offset), generation);
	WRITE_ONCE(sh->before, generation);
}

/* The call sleeps, and not in its grace period. */
static bool waits_for_notifiers(struct mrl_call *call)
{
	return mrl_call_asleep(call) &&
	       vm_get_stat(call->vm, "memslot_grace_periods") == call->grace_periods;
}

/* Pages that the last call zapped where it published. */
static uint64_t zapped_late(void)
{
	FILE *f = mrl_trace_open();
	uint64_t late = 0, nr = 0;
	char line[1024];

	while (fgets(line, sizeof(line), f)) {
		if (!strstr(line, "kvm_memory_region_list:"))
			continue;
		late = mrl_trace_field(line, "zapped_late");
		nr++;
	}
	fclose(f);
	mrl_trace_clear();
	TEST_ASSERT(nr == 1, "trace: wanted 1 call, got %lu", nr);
	return late;
}

/* The vCPU is parked.  Returns whether it went on while the call waited. */
static bool replace(struct kvm_vm *vm, uint64_t generation)
{
	struct mrl_call call = { .vm = vm, .l = mrl_alloc(1) };
	uint64_t from;
	bool waited;

	mrl_set(&call.l, MEM_ID, 0, MEM_GPA, MEM_SIZE, mem[generation % 2]);
	madvise(fresh, FRESH_SIZE, MADV_DONTNEED);
	stamp(generation);
	set_noise(true);
	mrl_vcpus_go();

	mrl_call_start(&call);
	mrl_wait_until(mrl_call_done(&call) || waits_for_notifiers(&call), "call",
		       "its return, or that it waits for notifiers");
	from = READ_ONCE(sh->fresh);
	mrl_wait_until(mrl_call_done(&call) || READ_ONCE(sh->fresh) >= from + WANTED,
		       "no-pause: a call that waits for notifiers", "page faults of a vCPU");
	waited = !mrl_call_done(&call);
	set_noise(false);
	mrl_call_finish(&call, "without notifiers");
	TEST_ASSERT(!call.r, "call: wanted 0, got %d, errno %d", call.r, call.err);
	WRITE_ONCE(sh->after, generation);

	from = READ_ONCE(sh->rounds);
	mrl_wait_until(READ_ONCE(sh->rounds) > from + 1, "after a call", "a round of the vCPU");
	mrl_vcpus_park();
	mrl_free(&call.l);
	return waited;
}

static struct kvm_vm *create_vm(void)
{
	struct kvm_vm *vm;
	uint64_t offset;

	mrl_vcpus.nr = 1;
	vm = mrl_vcpus_create(guest_main);
	sh = addr_gva2hva(vm, (vm_vaddr_t)&shared);
	vm_set_user_memory_region(vm, MEM_ID + 1, 0, FRESH_GPA, FRESH_SIZE, fresh);
	vm_set_user_memory_region(vm, MEM_ID, 0, MEM_GPA, MEM_SIZE, mem[0]);
	for (offset = 0; offset < FRESH_SIZE; offset += 2ul << 20)
		__virt_pg_map(vm, FRESH_GPA + offset, FRESH_GPA + offset, PG_LEVEL_2M);
	virt_map(vm, MEM_GPA, MEM_GPA, MEM_SIZE / PAGE_SIZE);
	mrl_vcpus_start(&sh->park, handle_exit);
	return vm;
}

int main(int argc, char *argv[])
{
	pthread_t noise[NR_NOISE];
	uint32_t i, waited = 0, late = 0;
	struct kvm_vm *vm;
	bool overtaken;

	mrl_require();
	TEST_REQUIRE(!access(MRL_TRACING "events/kvm/kvm_memory_region_list", F_OK));
	mrl_trace_start();
	mrl_trace_enable_all("kvm/kvm_memory_region_list");
	/* As the vCPU's thread: those that poll and those that make noise go no faster. */
	setpriority(PRIO_PROCESS, 0, 19);
	fresh = alloc(FRESH_SIZE);
	mem[0] = alloc(MEM_SIZE);
	mem[1] = alloc(MEM_SIZE);
	vm = create_vm();
	for (i = 0; i < NR_NOISE; i++)
		noise[i] = mrl_thread(make_notifiers, NULL);

	for (i = 1; i <= NR_CALLS; i++) {
		overtaken = replace(vm, i);
		waited += overtaken;
		late += zapped_late() && overtaken;
	}

	WRITE_ONCE(noise_stops, true);
	for (i = 0; i < NR_NOISE; i++)
		pthread_join(noise[i], NULL);
	mrl_vcpus_stop();
	kvm_vm_free(vm);
	mrl_trace_stop();
	printf("mrl-busy calls=%u waited=%u late=%u\n", NR_CALLS, waited, late);
	TEST_ASSERT(waited > 1, "no-pause: wanted calls that a vCPU overtook, got %u of %u", waited,
		    NR_CALLS);
	TEST_ASSERT(late <= waited / 4,
		    "F7: wanted <= %u of %u calls that zap where they publish, got %u", waited / 4,
		    waited, late);
	return 0;
}
