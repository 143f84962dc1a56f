// SPDX-License-Identifier: GPL-2.0-only
/*
 * What page faults, exits, and ioctls on single memslots cost, on any kernel.
 *
 * One thread and one vCPU, nothing in parallel: if the clock counts instructions, as that
 * of an emulator can, two kernels can be compared to less than a percent.  Prints one
 * JSON object a path: nanoseconds of each of its samples, for one page, exit or ioctl.
 *
 * Proves nothing; a figure is good beside one of another kernel, on the same machine.
 */
#include <linux/sizes.h>
#include <time.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define TEST_GPA	((uint64_t)SZ_1G)
#define TEST_SLOT	10
#define NR_PAGES	2048
#define NR_EXITS	2048
#define NR_IOCTLS	32
#define NR_LOGS		1024

enum { READ, WRITE, EXIT };

static struct {
	uint32_t command;
} shared;

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static void *mem;

static void guest_main(void)
{
	uint32_t i;

	for (;;) {
		for (i = 0; i < NR_PAGES && READ_ONCE(shared.command) == READ; i++)
			READ_ONCE(*(uint64_t *)(TEST_GPA + i * PAGE_SIZE));
		for (i = 0; i < NR_PAGES && READ_ONCE(shared.command) == WRITE; i++)
			WRITE_ONCE(*(uint64_t *)(TEST_GPA + i * PAGE_SIZE), i);
		GUEST_SYNC(0);
	}
}

static void run_guest(uint32_t command)
{
	shared.command = command;
	sync_global_to_guest(vm, shared);
	vcpu_run(vcpu);
	TEST_ASSERT_EQ(get_ucall(vcpu, NULL), UCALL_SYNC);
}

static void set_slot(uint64_t gpa, uint64_t pages, uint32_t flags)
{
	vm_set_user_memory_region(vm, TEST_SLOT, flags, gpa, pages * PAGE_SIZE, mem);
}

static void fresh_slot(void)
{
	set_slot(TEST_GPA, 0, 0);
	set_slot(TEST_GPA, NR_PAGES, 0);
}

static void read_pages(void)
{
	run_guest(READ);
}

static void write_pages(void)
{
	run_guest(WRITE);
}

static void prepare_writes(void)
{
	fresh_slot();
	run_guest(WRITE);
}

/* Writable SPTEs become write protected, and are made writable again by fast faults. */
static void prepare_logged_writes(void)
{
	prepare_writes();
	set_slot(TEST_GPA, NR_PAGES, KVM_MEM_LOG_DIRTY_PAGES);
}

static void exits(void)
{
	int i;

	for (i = 0; i < NR_EXITS; i++)
		run_guest(EXIT);
}

static void create_and_delete(void)
{
	int i;

	for (i = 0; i < NR_IOCTLS; i++)
		fresh_slot();
}

static void toggle_log(void)
{
	int i;

	for (i = 0; i < NR_IOCTLS; i++)
		set_slot(TEST_GPA, NR_PAGES, i & 1 ? 0 : KVM_MEM_LOG_DIRTY_PAGES);
}

static void move(void)
{
	int i;

	for (i = 0; i < NR_IOCTLS; i++)
		set_slot(i & 1 ? TEST_GPA : TEST_GPA + SZ_1G, NR_PAGES, 0);
}

static void get_log(void)
{
	/* Where a copy to it ends has its price, too: not on the stack. */
	static unsigned long bitmap[NR_PAGES / BITS_PER_LONG] __aligned(PAGE_SIZE);
	int i;

	for (i = 0; i < NR_LOGS; i++)
		kvm_vm_get_dirty_log(vm, TEST_SLOT, bitmap);
}

static const struct {
	const char *name;
	void (*prepare)(void);
	void (*run)(void);
	uint32_t n;
} paths[] = {
	{ "read fault", fresh_slot, read_pages, NR_PAGES },
	{ "write fault", fresh_slot, write_pages, NR_PAGES },
	{ "write fault of a logged page", prepare_logged_writes, write_pages, NR_PAGES },
	{ "exit to userspace", prepare_writes, exits, NR_EXITS },
	{ "delete and create", prepare_writes, create_and_delete, 2 * NR_IOCTLS },
	{ "move", prepare_writes, move, NR_IOCTLS },
	{ "toggle dirty log", prepare_writes, toggle_log, NR_IOCTLS },
	{ "get dirty log", prepare_logged_writes, get_log, NR_LOGS },
};

static uint64_t sample(int i)
{
	struct timespec start;

	paths[i].prepare();
	clock_gettime(CLOCK_MONOTONIC, &start);
	paths[i].run();
	return timespec_to_ns(timespec_elapsed(start)) / paths[i].n;
}

int main(int argc, char *argv[])
{
	uint32_t samples = argc > 1 ? atoi_positive("Samples", argv[1]) : 5, i, s;

	vm = vm_create_with_one_vcpu(&vcpu, guest_main);
	mem = mmap(NULL, NR_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap() of guest memory: got errno %d", errno);
	madvise(mem, NR_PAGES * PAGE_SIZE, MADV_NOHUGEPAGE);
	memset(mem, 0x5a, NR_PAGES * PAGE_SIZE);
	virt_map(vm, TEST_GPA, TEST_GPA, NR_PAGES);
	set_slot(TEST_GPA, NR_PAGES, 0);

	for (i = 0; i < ARRAY_SIZE(paths); i++) {
		printf("{\"kind\": \"path\", \"path\": \"%s\", \"ns\": [", paths[i].name);
		for (s = 0; s < samples; s++)
			printf("%s%lu", s ? ", " : "", sample(i));
		printf("]}\n");
	}
	kvm_vm_free(vm);
	return 0;
}
