/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_FAULT_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_FAULT_H

/*
 * Let the n-th allocation, or copy from or to userspace, of a call fail, and tell which
 * one it was.
 *
 * What fails is told by probes on the functions that decide so, with a stack trace: the
 * innermost function of KVM, and the place in it.  Neither depends on what the allocator
 * does on its way, i.e. several failures of one allocation are one place.  The kernel of
 * lane "fault" inlines few of the functions that are called once.
 */
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include "memory_region_list_setting.h"
#include "memory_region_list_state.h"
#include "memory_region_list_trace.h"

#define FAIL_NTH	"/proc/thread-self/fail-nth"
#define CGROUPS		"/sys/fs/cgroup/"
#define CGROUP		CGROUPS "mrl_fault/"

/*
 * The argument and the result buffers: a file, mapped anew for each call, so that the
 * kernel has to fault in what it reads, and to copy what it writes.
 */
#define FAULT_MEM	0x120000000000ull
#define FAULT_RESULT	FAULT_MEM
#define FAULT_LIST	((struct kvm_userspace_memory_region_list *)(FAULT_MEM + MRL_PAGE_SIZE))
#define FAULT_MEM_SIZE	MRL_SIZE(32)

/*
 * Whose memory it was: that of KVM or of a page fault, for which there may be another way,
 * or what the allocator can do without: notes of kmemleak and of the memory cgroup, a slab
 * that is larger than it has to be.
 */
enum { CALLER, FIRST_WAY, ALLOCATOR };

struct fault_place {
	/* "slab", "page" or "copy". */
	char what[8];
	int who;
	/* The second way of kvmalloc(). */
	bool vmalloc;
	char function[48];
	uint32_t offset;
};

struct fault_call {
	int r, err;
	/* Something has been made to fail in the ioctl. */
	bool hit;
	struct fault_place place;
};

static int fault_memfd, fault_kmsg, fault_level;

static inline void fault_mem_alloc(void)
{
	uint8_t poison[MRL_PAGE_SIZE];

	memset(poison, MRL_POISON, sizeof(poison));
	fault_memfd = kvm_memfd_alloc(FAULT_MEM_SIZE, false);
	TEST_ASSERT_EQ(pwrite(fault_memfd, poison, sizeof(poison), 0), sizeof(poison));
}

static inline void fault_mem_map(void)
{
	void *want = (void *)FAULT_MEM, *mem;

	mem = mmap(want, FAULT_MEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
		   fault_memfd, 0);
	TEST_ASSERT(mem == want, "mmap(): wanted %p, got %p, errno %d", want, mem, errno);
}

static inline void fault_mem_put(const struct kvm_userspace_memory_region_list *list)
{
	ssize_t size = mrl_size(list->nent);

	TEST_ASSERT(size <= FAULT_MEM_SIZE - MRL_PAGE_SIZE, "List of %u entries is too long",
		    list->nent);
	TEST_ASSERT_EQ(pwrite(fault_memfd, list, size, MRL_PAGE_SIZE), size);
	fault_mem_map();
}

/* The kernel is to be quiet about what fails on purpose, and nothing is to be left out. */
static inline void fault_setup(void)
{
	static struct mrl_setting settings[] = {
		{ "/sys/kernel/debug/failslab/verbose" },
		{ "/sys/kernel/debug/fail_page_alloc/verbose" },
		{ "/sys/kernel/debug/fail_usercopy/verbose" },
		{ "/sys/kernel/debug/fail_page_alloc/min-order" },
		{ "/sys/kernel/debug/failslab/cache-filter" },
		{ "/sys/kernel/debug/failslab/ignore-gfp-wait" },
		{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait" },
		{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem" },
	};
	static struct mrl_setting level = { "/proc/sys/kernel/printk" };
	int i;

	TEST_ASSERT(mrl_setting_read(&level, level.value, sizeof(level.value)),
		    "%s: got errno %d", level.path, errno);
	fault_level = atoi(level.value);
	for (i = 0; i < ARRAY_SIZE(settings); i++)
		TEST_ASSERT(mrl_setting_set(&settings[i], i < 4 ? "0" : "N"),
			    "%s: wanted '%s', got '%s'", settings[i].path, i < 4 ? "0" : "N",
			    settings[i].value);

	fault_kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	TEST_ASSERT(fault_kmsg >= 0, "open() of /dev/kmsg: got errno %d", errno);
	lseek(fault_kmsg, 0, SEEK_END);
}

static const char * const fault_events[] = { "slab", "page", "copy" };

static inline void fault_trace_start(void)
{
	char event[32];
	int i;

	mrl_trace_start();
	mrl_trace_probe("r:fault/slab should_failslab ret=$retval:s32\n");
	mrl_trace_probe("r:fault/page should_fail_alloc_page ret=$retval:u8\n");
	mrl_trace_probe("r:fault/copy should_fail_usercopy ret=$retval:u8\n");
	mrl_write_file(MRL_INSTANCE "options/stacktrace", 0, "1");
	mrl_write_file(MRL_INSTANCE "options/sym-offset", 0, "1");
	for (i = 0; i < ARRAY_SIZE(fault_events); i++) {
		snprintf(event, sizeof(event), "fault/%s", fault_events[i]);
		mrl_trace_enable(event, "ret != 0");
	}
}

static inline void fault_trace_stop(void)
{
	char text[32];
	int i;

	mrl_trace_stop();
	for (i = 0; i < ARRAY_SIZE(fault_events); i++) {
		snprintf(text, sizeof(text), "-:fault/%s\n", fault_events[i]);
		mrl_trace_probe(text);
	}
}

/*
 * As far as KVM allocates on behalf of a memslot.  put_user() has no frame of its own, so
 * that the trace of a fault in it leaves out who called it.
 */
static inline bool fault_is_kvm(const char *function)
{
	static const char * const prefixes[] = {
		"kvm_", "__kvm_", "memslot_", "mmu_memory_cache_", "tdp_mmu_", "topup_split_",
		"__put_user_",
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(prefixes); i++) {
		if (!strncmp(function, prefixes[i], strlen(prefixes[i])))
			return true;
	}
	return false;
}

/* Functions between the failure and KVM, from the inside.  The first one that tells decides. */
static inline void fault_read_inner(const char *function, struct fault_place *place)
{
	static const struct {
		const char *prefix;
		int who;
	} tells[] = {
		{ "kmemleak_", ALLOCATOR }, { "new_slab", ALLOCATOR },
		{ "alloc_slab_obj_exts", ALLOCATOR }, { "alloc_pages_bulk", FIRST_WAY },
		{ "__kvmalloc_node", FIRST_WAY }, { "xas_alloc", FIRST_WAY },
		/* What is left is copied byte by byte, i.e. faults again. */
		{ "rep_movs_alternative", FIRST_WAY },
	};
	int i;

	place->vmalloc |= !strncmp(function, "__vmalloc_node", strlen("__vmalloc_node"));
	for (i = 0; i < ARRAY_SIZE(tells); i++) {
		if (strncmp(function, tells[i].prefix, strlen(tells[i].prefix)))
			continue;
		if (place->who == CALLER && !(place->vmalloc && tells[i].who == FIRST_WAY))
			place->who = tells[i].who;
	}
}

/* Of one that was cloned, or of which only a part was inlined, the name. */
static inline void fault_read_frame(const char *line, struct fault_place *place)
{
	char function[128];
	uint32_t offset;

	if (sscanf(line, " => %127[^+]+0x%x", function, &offset) != 2)
		return;
	function[strcspn(function, ".")] = '\0';
	if (place->function[0])
		return;
	if (!fault_is_kvm(function)) {
		fault_read_inner(function, place);
		return;
	}
	snprintf(place->function, sizeof(place->function), "%.47s", function);
	place->offset = offset;
}

/* What failed since mrl_trace_clear().  True if that was in an ioctl of KVM. */
static inline bool fault_read_trace(struct fault_place *place)
{
	FILE *f = mrl_trace_open();
	char line[512], key[16];
	int i, nr = 0;

	memset(place, 0, sizeof(*place));
	while (fgets(line, sizeof(line), f)) {
		for (i = 0; i < ARRAY_SIZE(fault_events); i++) {
			snprintf(key, sizeof(key), " %s: (", fault_events[i]);
			if (line[0] == '#' || !strstr(line, key))
				continue;
			snprintf(place->what, sizeof(place->what), "%s", fault_events[i]);
			nr++;
		}
		fault_read_frame(line, place);
	}
	fclose(f);
	TEST_ASSERT(nr <= 1, "Injected failures: wanted one at most, got %d", nr);
	return place->function[0];
}

/*
 * The allocator may complain of what fails, at a level that does not go to the console
 * meanwhile.  See fault_check_messages().
 */
static inline int fault_ioctl(struct kvm_vm *vm, int nth, int *err, bool *used)
{
	int fd = open(FAIL_NTH, O_RDWR), r;
	char text[16] = {};

	TEST_ASSERT(fd >= 0, "open() of " FAIL_NTH ": got errno %d", errno);
	snprintf(text, sizeof(text), "%d", nth);
	klogctl(8, NULL, 4);
	TEST_ASSERT_EQ(write(fd, text, strlen(text)), strlen(text));
	r = __vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION_LIST, FAULT_LIST);
	*err = errno;
	/* To read it back copies, i.e. fails if the next one is to fail. */
	memset(text, 0, sizeof(text));
	*used = pread(fd, text, sizeof(text) - 1, 0) > 0 && nth && !atoi(text);
	if (write(fd, "0", 1) != 1)
		TEST_ASSERT_EQ(write(fd, "0", 1), 1);
	klogctl(8, NULL, fault_level);
	close(fd);
	return r;
}

/* Make the call with its @nth failure. */
static inline struct fault_call
fault_call(struct kvm_vm *vm, const struct kvm_userspace_memory_region_list *list, int nth)
{
	struct fault_call call = {};
	bool used;

	fault_mem_put(list);
	mrl_trace_clear();
	call.r = fault_ioctl(vm, nth, &call.err, &used);
	call.hit = fault_read_trace(&call.place);
	TEST_ASSERT(call.hit == used, "Failure %d: fail-nth says %s, the trace says %s", nth,
		    used ? "it was" : "it was not", call.hit ? "it was" : "it was not");
	return call;
}

/* All traces that were kept from the console are those of vmalloc() without memory. */
static inline void fault_check_messages(void)
{
	int traces = 0, vmalloc = 0;
	char text[4096];
	ssize_t r;

	while ((r = read(fault_kmsg, text, sizeof(text) - 1)) > 0) {
		text[r] = '\0';
		traces += !!strstr(text, "Call Trace:");
		vmalloc += !!strstr(text, ": vmalloc error: size ");
	}
	TEST_ASSERT(r < 0 && errno == EAGAIN, "/dev/kmsg: wanted its end, got errno %d", errno);
	TEST_ASSERT(traces == vmalloc, "Stack traces: wanted %d, of vmalloc(), got %d", vmalloc,
		    traces);
}

/* What this process allocates from now on is charged to a group of its own. */
static inline void fault_charge_start(void)
{
	int r = mount("none", CGROUPS, "cgroup2", 0, NULL);
	char pid[16];

	TEST_ASSERT(!r || errno == EBUSY, "mount() of " CGROUPS ": got errno %d", errno);
	mrl_write_file(CGROUPS "cgroup.subtree_control", 0, "+memory");
	r = mkdir(CGROUP, 0700);
	TEST_ASSERT(!r, "mkdir() of " CGROUP ": got errno %d", errno);
	snprintf(pid, sizeof(pid), "%d", getpid());
	mrl_write_file(CGROUP "cgroup.procs", 0, pid);
}

static inline void fault_charge_stop(void)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", getpid());
	mrl_write_file(CGROUPS "cgroup.procs", 0, pid);
	rmdir(CGROUP);
}

/*
 * Pages that are charged.  CPUs charge in advance; a limit that is exceeded makes them
 * give that back, and only then looks for pages to reclaim.
 */
static inline int64_t fault_charge(void)
{
	static struct mrl_setting current = { CGROUP "memory.current" };
	char high[32];
	int i;

	fault_mem_map();
	for (i = 0; i < 2; i++) {
		TEST_ASSERT(mrl_setting_read(&current, current.value, sizeof(current.value)),
			    "%s: got errno %d", current.path, errno);
		snprintf(high, sizeof(high), "%ld", atol(current.value) - getpagesize());
		if (!i)
			mrl_write_file(CGROUP "memory.high", 0, high);
	}
	mrl_write_file(CGROUP "memory.high", 0, "max");
	return atol(current.value) / getpagesize();
}

/* A line of memory.stat, in bytes.  To read cpu.stat adds up what CPUs have not yet reported. */
static inline int64_t fault_stat(const char *name)
{
	char line[128], format[64];
	int64_t bytes = -1;
	FILE *f;

	f = fopen(CGROUP "cpu.stat", "r");
	TEST_ASSERT(f && fgets(line, sizeof(line), f), CGROUP "cpu.stat: got errno %d", errno);
	fclose(f);

	snprintf(format, sizeof(format), "%s %%ld", name);
	f = fopen(CGROUP "memory.stat", "r");
	TEST_ASSERT(f, CGROUP "memory.stat: got errno %d", errno);
	while (bytes < 0 && fgets(line, sizeof(line), f))
		sscanf(line, format, &bytes);
	fclose(f);
	TEST_ASSERT(bytes >= 0, "memory.stat: wanted a line '%s', got none", name);
	return bytes;
}

/*
 * Pages of what metadata of memslots is made of: slab, kmalloc() of any size included, and
 * vmalloc().  Page tables are left out: vCPUs keep up to 40 pages for the next ones, twice
 * that for shadow paging, and take some of them whenever the guest has been zapped.
 */
static inline int64_t fault_kept(void)
{
	fault_charge();
	return (fault_stat("slab") + fault_stat("vmalloc")) / getpagesize();
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_FAULT_H */
