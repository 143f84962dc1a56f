// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: long lists beside today's ioctls.
 *
 * Shows that memslot and dirty log ioctls serialise, i.e. that nobody publishes
 * what a call has built only half of.  Each call gives NR_SLOTS slots other memory,
 * whose words all hold the number of the call.  Meanwhile
 *   - two vCPUs, one through the emulator, read the words of all slots in a row:
 *     no-hole, no access exits; no-stale-mapping, the number never goes back, not
 *     from slot to slot either, and isn't below that of a call that has returned
 *   - one thread creates and deletes another slot by KVM_SET_USER_MEMORY_REGION2
 *   - one thread gets the dirty logs of slots that the list names, which exist in
 *     the old and in the new layout
 *
 * Not shown: what the logs contain (see the dirty test).
 */
#include <getopt.h>
#include <time.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "memory_region_list.h"
#include "memory_region_list_vcpus.h"

#define NR_SLOTS	128u
#define FIRST_ID	10u
#define OTHER_ID	5u
#define OTHER_PAGE	1024u
#define LOG_EVERY	4u
#define MIN_CALLS	100u
#define MIN_OTHERS	20u
#define PATIENCE	200u
#define GPA_BASE	0x10000000ull
#define GPA(page)	(GPA_BASE + (page) * PAGE_SIZE)

/* Shared with the guest. */
static struct {
	uint32_t park;
	uint64_t after;			/* The last call that has returned. */
	uint64_t rounds[MRL_MAX_VCPUS];
} shared;

static struct kvm_vm *vm;
static uint8_t *mem;
static typeof(shared) *sh;
static bool stop;
static uint64_t nr_toggles, nr_logs;

/* The last vCPU reads through the emulator. */
static void guest_code(uint32_t me, uint32_t nr)
{
	uint64_t last = 0, n, i;
	uint32_t park = 0;

	for (;;) {
		last = max(last, READ_ONCE(shared.after));
		for (i = 0; i < NR_SLOTS; i++) {
			n = mrl_guest_load((uint64_t *)GPA(i), me == nr - 1);
			__GUEST_ASSERT(n >= last,
				       "no-stale-mapping: vCPU %u, slot %lu: wanted call >= %lu, got %lu",
				       me, i, last, n);
			last = n;
		}
		shared.rounds[me]++;
		if (READ_ONCE(shared.park) != park) {
			park = READ_ONCE(shared.park);
			GUEST_SYNC(0);
		}
	}
}

static bool handle_exit(struct kvm_vcpu *vcpu, int r)
{
	mrl_vcpu_expect_no_hole(vcpu, r);
	mrl_vcpu_expect_sync(vcpu);
	return true;
}

static void *toggle_thread(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		vm_set_user_memory_region2(vm, OTHER_ID, 0, GPA(OTHER_PAGE),
					   nr_toggles % 2 ? 0 : PAGE_SIZE,
					   mem, 0, 0);
		__atomic_fetch_add(&nr_toggles, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void *log_thread(void *arg)
{
	struct kvm_dirty_log log = {};
	uint64_t bits;
	int r;

	log.dirty_bitmap = &bits;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		log.slot = FIRST_ID + nr_logs * LOG_EVERY % NR_SLOTS;
		r = __vm_ioctl(vm, KVM_GET_DIRTY_LOG, &log);
		TEST_ASSERT(!r, "no-hole: KVM_GET_DIRTY_LOG of slot %u: wanted 0, got %d, errno %d",
			    log.slot, r, errno);
		__atomic_fetch_add(&nr_logs, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Let call @n give all slots the one of two backings that is not in use. */
static void reback(struct mrl *l, uint64_t n)
{
	uint64_t first = n % 2 * NR_SLOTS;
	uint8_t *hva;
	uint32_t i;

	mrl_reset(l);
	l->list->flags = KVM_MEMORY_REGION_LIST_DISCARD_DIRTY;
	for (i = 0; i < NR_SLOTS; i++) {
		hva = mem + (first + i) * PAGE_SIZE;
		*(uint64_t *)hva = n;
		mrl_set(l, FIRST_ID + i, i % LOG_EVERY ? 0 : KVM_MEM_LOG_DIRTY_PAGES,
			GPA(i), PAGE_SIZE, hva);
	}
	mrl_apply(vm, l);
	WRITE_ONCE(sh->after, n);
}

static uint64_t count_of(const uint64_t *count)
{
	return __atomic_load_n(count, __ATOMIC_RELAXED);
}

/* Everybody has to get a turn, in the time given or later. */
static bool enough(uint64_t calls)
{
	int i;

	for (i = 0; i < mrl_vcpus.nr; i++) {
		if (READ_ONCE(sh->rounds[i]) < MIN_OTHERS)
			return false;
	}
	return calls >= MIN_CALLS && count_of(&nr_toggles) >= MIN_OTHERS &&
	       count_of(&nr_logs) >= MIN_OTHERS;
}

static pthread_t thread(void *(*fn)(void *))
{
	pthread_t id;
	int r = pthread_create(&id, NULL, fn, NULL);

	TEST_ASSERT(!r, "pthread_create(): wanted 0, got %d", r);
	return id;
}

static uint64_t run(struct mrl *l, uint64_t seconds)
{
	pthread_t toggler, logger;
	uint64_t n = 1;
	time_t end;

	mrl_vcpus_go();
	toggler = thread(toggle_thread);
	logger = thread(log_thread);

	end = time(NULL) + seconds;
	while (time(NULL) < end || !enough(n)) {
		TEST_ASSERT(time(NULL) < end + PATIENCE,
			    "Wanted >= %u calls, %u others, got %lu calls, %lu toggles, %lu logs, %lu and %lu rounds",
			    MIN_CALLS, MIN_OTHERS, n, count_of(&nr_toggles), count_of(&nr_logs),
			    READ_ONCE(sh->rounds[0]), READ_ONCE(sh->rounds[1]));
		reback(l, ++n);
	}

	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(toggler, NULL);
	pthread_join(logger, NULL);
	return n;
}

int main(int argc, char *argv[])
{
	struct mrl l = mrl_alloc(NR_SLOTS);
	uint64_t seconds = 5, calls;
	int opt;

	while ((opt = getopt(argc, argv, "t:")) != -1) {
		TEST_ASSERT(opt == 't', "Options: wanted -t seconds, got another one");
		seconds = atoi_positive("Seconds", optarg);
	}
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_USER_MEMORY_REGION_LIST));
	TEST_REQUIRE(is_forced_emulation_enabled);

	mem = mrl_vcpus_mem_alloc(2 * NR_SLOTS * PAGE_SIZE);
	vm = mrl_vcpus_create(guest_code);
	virt_map(vm, GPA_BASE, GPA_BASE, NR_SLOTS);
	sh = addr_gva2hva(vm, (vm_vaddr_t)&shared);
	reback(&l, 1);

	mrl_vcpus_start(&sh->park, handle_exit);
	calls = run(&l, seconds);
	mrl_vcpus_park();
	pr_info("%lu calls of %u entries, %lu changes of another slot, %lu logs, %lu and %lu rounds of the vCPUs\n",
		calls, NR_SLOTS, nr_toggles, nr_logs, sh->rounds[0], sh->rounds[1]);
	mrl_vcpus_stop();
	kvm_vm_free(vm);
	mrl_free(&l);
	return 0;
}
