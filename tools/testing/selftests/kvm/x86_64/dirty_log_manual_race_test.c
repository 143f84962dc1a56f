// SPDX-License-Identifier: GPL-2.0-only
/*
 * Manual dirty log protection changes while a memslot starts to log.
 *
 * A memslot whose pages are mapped starts to log, and waits for a reader of memslots, which
 * sleeps on a page that userspace supplies.  Meanwhile KVM_DIRTY_LOG_INITIALLY_SET is turned
 * on, or off, by a thread that gets through, or waits for the update.  The guest writes the
 * pages, and all of them have to be in the log: either because all are at the start, or
 * because the first write to each is noticed.
 *
 * Proves that an update of a memslot sees one setting.  Not which one.  Nothing here waits
 * for time to pass.
 */
#include <fcntl.h>
#include <linux/sizes.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define TEST_GPA	((uint64_t)SZ_1G)
#define TEST_SLOT	10
#define NR_PAGES	64
#define LAZY_GPA	(2ull * SZ_1G)
#define LAZY_SLOT	11
#define NR_LOOPS	20

#define MANUAL		KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static void *lazy;
static int uffd;

/* A thread with one system call to make, of which it is known whether it sleeps. */
struct caller {
	pthread_t thread;
	void (*call)(uint64_t arg);
	uint64_t arg;
	pid_t tid;
	bool done;
};

static void guest_main(void)
{
	uint64_t i, n;

	for (n = 0; ; n++) {
		for (i = 0; i < NR_PAGES; i++)
			WRITE_ONCE(*(uint64_t *)(TEST_GPA + i * PAGE_SIZE), n);
		GUEST_SYNC(n);
	}
}

static void write_pages(void)
{
	vcpu_run(vcpu);
	TEST_ASSERT_EQ(get_ucall(vcpu, NULL), UCALL_SYNC);
}

/* KVM reads guest memory, in an SRCU read-side section that can't end. */
static void read_lazy_page(uint64_t unused)
{
	vcpu_set_msr(vcpu, MSR_KVM_WALL_CLOCK_NEW, LAZY_GPA);
}

static void set_flags(uint64_t flags)
{
	vm_mem_region_set_flags(vm, TEST_SLOT, flags);
}

static void set_protection(uint64_t how)
{
	vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, how);
}

static void *caller_main(void *arg)
{
	struct caller *c = arg;

	__atomic_store_n(&c->tid, gettid(), __ATOMIC_SEQ_CST);
	c->call(c->arg);
	__atomic_store_n(&c->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

static void caller_start(struct caller *c, void (*call)(uint64_t arg), uint64_t arg)
{
	int r;

	*c = (struct caller) { .call = call, .arg = arg };
	r = pthread_create(&c->thread, NULL, caller_main, c);
	TEST_ASSERT(!r, "pthread_create(): wanted 0, got %d", r);
}

/* In the kernel, and not for a signal to end it. */
static bool caller_sleeps(struct caller *c)
{
	char path[64], line[256] = "", *state;
	FILE *f;

	if (!__atomic_load_n(&c->tid, __ATOMIC_SEQ_CST))
		return false;
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", c->tid);
	f = fopen(path, "r");
	if (!f)
		return false;
	state = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	fclose(f);
	return state && state[2] == 'D';
}

static void caller_wait(struct caller *c)
{
	while (!__atomic_load_n(&c->done, __ATOMIC_SEQ_CST) && !caller_sleeps(c))
		sched_yield();
}

static void wait_for_reader(void)
{
	struct pollfd pollfd = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg = {};
	int r;

	r = poll(&pollfd, 1, -1);
	TEST_ASSERT(r == 1 && read(uffd, &msg, sizeof(msg)) == sizeof(msg) &&
		    msg.event == UFFD_EVENT_PAGEFAULT,
		    "userfaultfd: wanted a page fault, got %d, %u", r, msg.event);
}

static void resolve(void)
{
	struct uffdio_zeropage zero = { .range = { (uint64_t)lazy, PAGE_SIZE } };
	int r = ioctl(uffd, UFFDIO_ZEROPAGE, &zero);

	TEST_ASSERT(!r, "UFFDIO_ZEROPAGE: wanted 0, got %d, errno %d", r, errno);
}

static void test_loop(int loop, uint64_t before, uint64_t meanwhile)
{
	struct caller reader, updater, toggler;
	uint64_t log = 0;

	set_flags(0);
	set_protection(before);
	write_pages();
	madvise(lazy, PAGE_SIZE, MADV_DONTNEED);

	caller_start(&reader, read_lazy_page, 0);
	wait_for_reader();
	caller_start(&updater, set_flags, KVM_MEM_LOG_DIRTY_PAGES);
	caller_wait(&updater);
	TEST_ASSERT(!updater.done, "Loop %d: wanted the update to wait for a reader, got its end",
		    loop);
	caller_start(&toggler, set_protection, meanwhile);
	caller_wait(&toggler);
	resolve();
	pthread_join(reader.thread, NULL);
	pthread_join(updater.thread, NULL);
	pthread_join(toggler.thread, NULL);

	write_pages();
	kvm_vm_get_dirty_log(vm, TEST_SLOT, &log);
	TEST_ASSERT(log == ~0ull, "Loop %d, dirty pages: wanted 0x%llx, got 0x%lx", loop, ~0ull,
		    log);
}

static void create_lazy_page(void)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_api api = { .api = UFFD_API };
	int r;

	uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	__TEST_REQUIRE(uffd >= 0, "userfaultfd() is not available");
	lazy = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(lazy != MAP_FAILED, "mmap(): got errno %d", errno);
	r = ioctl(uffd, UFFDIO_API, &api);
	TEST_ASSERT(!r, "UFFDIO_API: wanted 0, got %d, errno %d", r, errno);
	reg.range.start = (uint64_t)lazy;
	reg.range.len = PAGE_SIZE;
	r = ioctl(uffd, UFFDIO_REGISTER, &reg);
	TEST_ASSERT(!r, "UFFDIO_REGISTER: wanted 0, got %d, errno %d", r, errno);
	vm_set_user_memory_region(vm, LAZY_SLOT, 0, LAZY_GPA, PAGE_SIZE, lazy);
}

int main(int argc, char *argv[])
{
	const uint64_t all_set = MANUAL | KVM_DIRTY_LOG_INITIALLY_SET;
	int i;

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) &
		     KVM_DIRTY_LOG_INITIALLY_SET);

	vm = vm_create_with_one_vcpu(&vcpu, guest_main);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT, NR_PAGES, 0);
	virt_map(vm, TEST_GPA, TEST_GPA, NR_PAGES);
	create_lazy_page();

	for (i = 0; i < NR_LOOPS; i++)
		test_loop(i, i % 2 ? all_set : MANUAL, i % 2 ? MANUAL : all_set);
	kvm_vm_free(vm);
	return 0;
}
