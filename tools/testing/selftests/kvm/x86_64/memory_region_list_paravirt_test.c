// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST and what KVM itself writes to guest memory.
 *
 * kvmclock, steal time, asynchronous page faults, PV EOI, and of Xen shared info,
 * vcpu_info, its time, and a runstate area across two pages, are in slots that are
 * split, merged, renamed and given other host addresses or other memory, while vCPUs
 * use them and another thread sends Xen events, by ioctl and by irqfd in turn.  Proves
 *
 * *no-hole*: no exit, and each structure goes on being updated.  Clocks have an even
 * version and don't go back, steal time and runstates grow, tokens and events are where
 * the guest looks for them.
 *
 * Section 5 of the contract, KVM uses the old layout until return at most: memory that
 * was replaced keeps what it held at return, and updates arrive in the new memory.
 * The memory is replaced while vCPUs are out of KVM_RUN, as its contents have to be
 * copied.  While they run, the same memory gets another host address.
 *
 * *never-lost*: if slots log, all pages that changed are in the logs.
 *
 * Does not prove: anything of pages that are really brought in asynchronously; the token
 * is the one that wakes all tasks.  Nor that a clock is right, or how exact.
 */
#include <getopt.h>
#include <linux/memfd.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "memory_region_list.h"
#include "memory_region_list_paravirt.h"

#define WINDOW_CALLS	12	/* between two stops */
#define NR_IDS		8u
#define FIRST_ID	10
#define XEN_MSR		0x40000200
#define FIRST_GSI	32
#define PATIENCE	60	/* seconds */

static const char *const structures[NR_SEEN] = {
	"kvmclock", "steal time", "page ready", "PV EOI", "Xen vcpu_info clock",
	"Xen clock", "Xen runstate", "Xen event",
};

/* What a layout is made from.  Each of two memories is mapped twice. */
struct shape {
	uint32_t memory, mapping, cuts, flags;
};

static struct kvm_vm *vm;
static typeof(shared) *sh;
static uint8_t *mem[2][2];
static struct mrl list;
static struct mrl_layout layout;
static struct shape now;
static struct guest_random_state rng;
static unsigned long results[2 * MRL_LAYOUT_MAX], bitmap;

/* Of each page: what it held when the window began, and whether a log had it. */
static uint8_t start[2][NPAGES][PAGE_SIZE];
static unsigned long reported;

/* The control: the same without any change of slots. */
static bool no_change;

/*
 * While this is held no event is under way.  The sender has it until the guest has seen
 * one, i.e. vCPUs have to run, and the main thread has it whenever they don't.
 */
static pthread_mutex_t sender_lock = PTHREAD_MUTEX_INITIALIZER;
static bool sender_waits, sender_stops;
static int irqfds[NR_MAX];

static struct {
	uint64_t calls, logged, changed, seen[NR_SEEN], irqfd, back, repeated;
} counted;

static uint32_t below(uint32_t n)
{
	return guest_random_u32(&rng) % n;
}

static bool handle_exit(struct kvm_vcpu *vcpu, int r)
{
	struct kvm_run *run = vcpu->run;

	mrl_vcpu_expect_no_hole(vcpu, r);
	if (run->exit_reason == KVM_EXIT_IO && run->io.port == MRL_IO_PORT) {
		vcpu_ioctl(vcpu, KVM_KVMCLOCK_CTRL, NULL);
		return false;
	}
	mrl_vcpu_expect_sync(vcpu);
	return true;
}

static void make_layout(struct mrl_layout *next, const struct shape *s)
{
	uint32_t first = 0, page, cuts = s->cuts, turn = cuts ? below(NR_IDS) : 0;
	bool cut[NPAGES] = {};

	*next = (struct mrl_layout) {};
	while (cuts--)
		cut[1 + below(NPAGES - 1)] = true;
	for (page = 1; page <= NPAGES; page++) {
		if (page < NPAGES && !cut[page])
			continue;
		mrl_layout_add(next, FIRST_ID + (next->nr + turn) % NR_IDS, s->flags,
			       AREA_GPA + first * PAGE_SIZE, (page - first) * PAGE_SIZE,
			       mem[s->memory][s->mapping] + first * PAGE_SIZE);
		first = page;
	}
}

static bool logs(const struct mrl_slot *s)
{
	return s && s->flags & KVM_MEM_LOG_DIRTY_PAGES;
}

static void note_bits(const struct mrl_slot *s, unsigned long bits)
{
	reported |= bits << (s->gpa - AREA_GPA) / PAGE_SIZE;
}

static void harvest(void)
{
	uint32_t i;

	for (i = 0; i < layout.nr; i++) {
		if (!logs(&layout.slots[i]))
			continue;
		kvm_vm_get_dirty_log(vm, layout.slots[i].id, &bitmap);
		note_bits(&layout.slots[i], bitmap);
	}
}

static void transaction(const struct shape *next)
{
	const struct mrl_slot *old;
	struct mrl_layout to;
	mrl_entry *e;
	uint32_t i;

	if (no_change && layout.nr)
		return;
	make_layout(&to, next);
	mrl_reset(&list);
	mrl_add_change(&list, &layout, &to, below(2));
	for (i = 0; i < list.list->nent; i++) {
		e = &list.list->entries[i];
		if (logs(mrl_layout_find(&layout, e->slot)))
			mrl_result(e, &results[i], sizeof(results[i]));
	}
	mrl_apply(vm, &list);
	for (i = 0; i < list.list->nent; i++) {
		old = mrl_layout_find(&layout, list.list->entries[i].slot);
		if (logs(old))
			note_bits(old, results[i]);
	}
	layout = to;
	now = *next;
}

static void forget(void)
{
	memcpy(start[0], mem[0][0], sizeof(start[0]));
	memcpy(start[1], mem[1][0], sizeof(start[1]));
	reported = 0;
}

static bool changed(uint32_t memory, uint32_t page)
{
	return memcmp(start[memory][page], mem[memory][0] + page * PAGE_SIZE, PAGE_SIZE);
}

/* Memory without a slot is as it was, also while vCPUs run. */
static void check_replaced(void)
{
	uint32_t page;

	for (page = 0; page < NPAGES; page++)
		TEST_ASSERT(!changed(!now.memory, page),
			    "page %u of memory that was replaced, after return: wanted no change, got one",
			    page);
}

/* At a stop: if slots log, what changed is in a log. */
static void check_memory(bool logged)
{
	uint32_t page;

	check_replaced();
	harvest();
	for (page = 0; logged && page < NPAGES; page++) {
		TEST_ASSERT(!changed(now.memory, page) || reported & BIT_ULL(page),
			    "never-lost: page %u changed: wanted a bit, got none", page);
		counted.changed += changed(now.memory, page);
		counted.logged += !!(reported & BIT_ULL(page));
	}
}

static bool is_used(int what)
{
	if (what == SEEN_CLOCK)
		return true;
	return (what >= SEEN_VCPU_TIME) == sh->xen;
}

/* If they don't come, it may be because they go where the guest had its memory before. */
static void wait_for_updates(void)
{
	uint64_t before[NR_MAX][NR_SEEN];
	time_t end = time(NULL) + PATIENCE;
	int i, what;

	memcpy(before, sh->seen, sizeof(before));
	for (i = 0; i < mrl_vcpus.nr; i++) {
		for (what = 0; what < NR_SEEN; what++) {
			while (is_used(what) && READ_ONCE(sh->seen[i][what]) == before[i][what]) {
				check_replaced();
				TEST_ASSERT(time(NULL) < end,
					    "%s of vCPU %d: wanted an update within %u s, got none",
					    structures[what], i, PATIENCE);
				sched_yield();
			}
		}
	}
}

/* Calls while the vCPUs run.  They are parked before and after, and sender_lock is held. */
static void run_window(bool logged)
{
	struct shape next = now;
	uint32_t i;

	next.flags = logged ? KVM_MEM_LOG_DIRTY_PAGES : 0;
	next.cuts = below(6);
	next.memory = !now.memory;
	memcpy(mem[next.memory][0], mem[now.memory][0], NPAGES * PAGE_SIZE);
	transaction(&next);
	forget();

	mrl_vcpus_go();
	WRITE_ONCE(sender_waits, false);
	pthread_mutex_unlock(&sender_lock);
	/* Before another call could reuse what a stale cache refers to. */
	wait_for_updates();
	for (i = 0; i < WINDOW_CALLS; i++) {
		next.cuts = below(6);
		if (!below(3))
			next.mapping = !now.mapping;
		transaction(&next);
		if (!below(4))
			harvest();
		if (i % 4 == 3)
			wait_for_updates();
	}
	counted.calls += WINDOW_CALLS + 1;
	WRITE_ONCE(sender_waits, true);
	pthread_mutex_lock(&sender_lock);
	mrl_vcpus_park();
	check_memory(logged);
}

static struct kvm_irq_routing_xen_evtchn event_of(int vcpu)
{
	return (struct kvm_irq_routing_xen_evtchn) {
		.port = 1 + vcpu,
		.vcpu = mrl_vcpus.vcpu[vcpu]->id,
		.priority = KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL,
	};
}

/* KVM delivers it right away, from atomic context, or if it can't, from a worker. */
static void create_irqfds(void)
{
	struct kvm_irq_routing *routing = kvm_gsi_routing_create();
	int i;

	for (i = 0; i < mrl_vcpus.nr; i++) {
		routing->entries[routing->nr++] = (struct kvm_irq_routing_entry) {
			.gsi = FIRST_GSI + i,
			.type = KVM_IRQ_ROUTING_XEN_EVTCHN,
			.u.xen_evtchn = event_of(i),
		};
	}
	kvm_gsi_routing_write(vm, routing);
	for (i = 0; i < mrl_vcpus.nr; i++) {
		irqfds[i] = eventfd(0, EFD_CLOEXEC);
		TEST_ASSERT(irqfds[i] >= 0, "eventfd(): got errno %d", errno);
		vm_ioctl(vm, KVM_IRQFD, &((struct kvm_irqfd) {
			.fd = irqfds[i],
			.gsi = FIRST_GSI + i,
		}));
	}
}

static void send_event(int vcpu, bool irqfd)
{
	struct kvm_irq_routing_xen_evtchn event = event_of(vcpu);
	uint64_t one = 1;

	if (!irqfd)
		vm_ioctl(vm, KVM_XEN_HVM_EVTCHN_SEND, &event);
	else
		TEST_ASSERT(write(irqfds[vcpu], &one, sizeof(one)) == sizeof(one),
			    "write() to an irqfd: got errno %d", errno);
	counted.irqfd += irqfd;
}

static void wait_for_event(int vcpu, uint64_t nr)
{
	time_t end = time(NULL) + 2 * PATIENCE;

	while (READ_ONCE(sh->seen[vcpu][SEEN_EVENT]) != nr) {
		TEST_ASSERT(time(NULL) < end,
			    "event %lu of vCPU %d: wanted it within %u s, got none", nr, vcpu,
			    2 * PATIENCE);
		sched_yield();
	}
}

/* One event of the VM at a time, the next one when that was seen. */
static void *send_events(void *arg)
{
	uint64_t sent[NR_MAX] = {};
	int i = 0;

	while (!READ_ONCE(sender_stops)) {
		if (READ_ONCE(sender_waits)) {
			sched_yield();
			continue;
		}
		pthread_mutex_lock(&sender_lock);
		if (!READ_ONCE(sender_stops)) {
			send_event(i, sent[i]++ % 2);
			wait_for_event(i, sent[i]);
		}
		pthread_mutex_unlock(&sender_lock);
		i = (i + 1) % mrl_vcpus.nr;
	}
	return NULL;
}

static void setup_xen(void)
{
	struct kvm_xen_hvm_config config = {
		.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL | KVM_XEN_HVM_CONFIG_EVTCHN_SEND,
		.msr = XEN_MSR,
	};
	struct kvm_xen_hvm_attr attr = { .type = KVM_XEN_ATTR_TYPE_LONG_MODE, .u.long_mode = 1 };
	uint32_t i;

	vm_ioctl(vm, KVM_XEN_HVM_CONFIG, &config);
	vm_ioctl(vm, KVM_XEN_HVM_SET_ATTR, &attr);
	attr.type = KVM_XEN_ATTR_TYPE_RUNSTATE_UPDATE_FLAG;
	attr.u.runstate_update_flag = 1;
	vm_ioctl(vm, KVM_XEN_HVM_SET_ATTR, &attr);
	attr.type = KVM_XEN_ATTR_TYPE_SHARED_INFO;
	attr.u.shared_info.gfn = XEN_SHARED / PAGE_SIZE;
	vm_ioctl(vm, KVM_XEN_HVM_SET_ATTR, &attr);
	for (i = 0; i < mrl_vcpus.nr; i++) {
		const struct kvm_xen_vcpu_attr attrs[] = {
			{ .type = KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO, .u.gpa = XEN_VCPU(i) },
			{ .type = KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO, .u.gpa = XEN_TIME(i) },
			{ .type = KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR, .u.gpa = XEN_RUN(i) },
		};
		uint32_t j;

		for (j = 0; j < ARRAY_SIZE(attrs); j++)
			vcpu_ioctl(mrl_vcpus.vcpu[i], KVM_XEN_VCPU_SET_ATTR, &attrs[j]);
	}
}

static void alloc_memory(void)
{
	const size_t size = NPAGES * PAGE_SIZE;
	uint32_t m, i;
	int fd;

	for (m = 0; m < 2; m++) {
		fd = syscall(__NR_memfd_create, "area", MFD_CLOEXEC);
		TEST_ASSERT(fd >= 0 && !ftruncate(fd, size), "memfd of 0x%lx bytes: errno %d",
			    size, errno);
		for (i = 0; i < 2; i++) {
			mem[m][i] = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			TEST_ASSERT(mem[m][i] != MAP_FAILED, "mmap(): errno %d", errno);
		}
		close(fd);
	}
	list = mrl_alloc(2 * MRL_LAYOUT_MAX);
}

static void run(bool xen, int nr, uint64_t seconds)
{
	static const struct shape whole;
	struct timespec begin;
	pthread_t sender;
	uint32_t i, n = 0;

	memset(mem[0][0], 0, NPAGES * PAGE_SIZE);
	mrl_vcpus.nr = nr;
	vm = mrl_vcpus_create(guest_main);
	vm_install_exception_handler(vm, APF_VECTOR, guest_apf_ready);
	sh = addr_gva2hva(vm, (vm_vaddr_t)&shared);
	sh->xen = xen;
	virt_map(vm, AREA_GPA, AREA_GPA, NPAGES);
	layout = (struct mrl_layout) {};
	transaction(&whole);
	if (xen)
		setup_xen();
	sender_stops = false;
	sender_waits = true;
	pthread_mutex_lock(&sender_lock);
	mrl_vcpus_start(&sh->park, handle_exit);
	if (xen)
		create_irqfds();
	TEST_ASSERT(!xen || !pthread_create(&sender, NULL, send_events, NULL),
		    "pthread_create() failed");

	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		run_window(n++ % 2);
	} while (n < 4 || timespec_to_ns(timespec_elapsed(begin)) < seconds * NSEC_PER_SEC);

	WRITE_ONCE(sender_stops, true);
	pthread_mutex_unlock(&sender_lock);
	if (xen)
		pthread_join(sender, NULL);
	for (i = 0; i < nr * NR_SEEN; i++)
		counted.seen[i % NR_SEEN] += sh->seen[i / NR_SEEN][i % NR_SEEN];
	for (i = 0; i < nr; i++) {
		counted.back = max(counted.back, sh->back[i]);
		counted.repeated += sh->repeated[i];
	}
	for (i = 0; xen && i < nr; i++)
		close(irqfds[i]);
	mrl_vcpus_stop();
	kvm_vm_free(vm);
}

static void print_result(uint32_t seed)
{
	int what;

	printf("%lu calls, seed %u\n", counted.calls, seed);
	for (what = 0; what < NR_SEEN; what++)
		printf("%s: %lu updates seen\n", structures[what], counted.seen[what]);
	printf("%lu of the Xen events by irqfd\n", counted.irqfd);
	printf("logs: %lu pages reported, %lu had changed; time went back by %lu ns at most; ",
	       counted.logged, counted.changed, counted.back);
	printf("%lu interrupts came twice\n", counted.repeated);
}

int main(int argc, char *argv[])
{
	const int xen_caps = KVM_XEN_HVM_CONFIG_SHARED_INFO | KVM_XEN_HVM_CONFIG_RUNSTATE |
			     KVM_XEN_HVM_CONFIG_EVTCHN_SEND |
			     KVM_XEN_HVM_CONFIG_RUNSTATE_UPDATE_FLAG;
	uint64_t seconds = 5;
	uint32_t seed = 1;
	int opt;

	while ((opt = getopt(argc, argv, "t:s:n")) != -1) {
		if (opt == 't')
			seconds = atoi_positive("Seconds", optarg);
		else if (opt == 's')
			seed = atoi_non_negative("Seed", optarg);
		else if (opt == 'n')
			no_change = true;
		else
			TEST_FAIL("options: -t seconds -s seed -n: no change of slots");
	}
	mrl_require();
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_KVM_STEAL_TIME));
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_KVM_ASYNC_PF_INT));
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_KVM_PV_EOI));

	rng = new_guest_random_state(seed);
	alloc_memory();
	run(false, 1, seconds);
	run(false, 2, seconds);
	if ((kvm_check_cap(KVM_CAP_XEN_HVM) & xen_caps) == xen_caps)
		run(true, 2, seconds);
	else
		printf("Left out: Xen, this KVM has no support for it\n");
	print_result(seed);
	return 0;
}
