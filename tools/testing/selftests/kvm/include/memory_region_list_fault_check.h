/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_FAULT_CHECK_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_FAULT_CHECK_H

/* One call with one failure: what it returned, wrote and counted is as the table says. */
#include "memory_region_list_fault.h"
#include "memory_region_list_fault_sites.h"

/* Of bytes, of metadata that KVM caches, e.g. shadow pages, and of what RCU has yet to free. */
#define SLACK_PAGES	4

/* Calls, by what became of the failure in them. */
struct outcomes {
	uint32_t failed;
	/* The allocation did not fail, but one that the allocator could do without. */
	uint32_t spare;
	/* There was another way, or it was too late for the call to fail. */
	uint32_t fallbacks;
};

static void outcomes_print(const struct outcomes *sum, const char *what)
{
	pr_info("%s: %u calls failed and changed nothing, %u did not mind, %u of which for the allocator's own sake\n",
		what, sum->failed, sum->fallbacks + sum->spare, sum->spare);
}

/* Buffer by buffer, either untouched or as in the call in which nothing failed. */
static void check_results(const struct kvm_userspace_memory_region_list *list,
			  const uint64_t *want, uint32_t but, const char *what)
{
	const uint64_t *got = (const uint64_t *)FAULT_RESULT;
	uint64_t poison[512], place;
	uint32_t i;

	memset(poison, MRL_POISON, sizeof(poison));
	for (i = 0; want && i < list->nent; i++) {
		if (!list->entries[i].dirty_bitmap || i == but)
			continue;
		place = (list->entries[i].dirty_bitmap - FAULT_RESULT) / 8;
		poison[place] = want[place];
	}
	for (i = 0; i < ARRAY_SIZE(poison); i++)
		TEST_ASSERT(got[i] == poison[i], "%s: result word %u: wanted 0x%lx, got 0x%lx",
			    what, i, poison[i], got[i]);
}

/* @now has the slots by their id. */
static void check_failed(const struct kvm_userspace_memory_region_list *list,
			 const mrl_entry *now, const struct fault_call *call,
			 const struct site *site, const char *what)
{
	const struct kvm_userspace_memory_region_list *got = FAULT_LIST;

	TEST_ASSERT(site && site_err(site, &call->place), "%s: wanted 0, got errno %d", what,
		    call->err);
	TEST_ASSERT(call->place.who != ALLOCATOR, "%s: not the caller's: wanted 0, got errno %d",
		    what, call->err);
	mrl_check_errno(what, call->r, call->err, site_err(site, &call->place));
	if (site->index == UNTOUCHED)
		TEST_ASSERT(got->error_index == 0xbad, "%s: error_index: wanted 0x%x, got %u", what,
			    0xbad, got->error_index);
	else
		mrl_check_error_index(what, list->nent, got->error_index,
				      wanted_index(list, now, site, &call->place));
	mrl_check_header(what, list, got);
	check_results(list, NULL, 0, what);
}

/* @want is what result buffers hold if nothing fails. */
static void check_succeeded(const struct kvm_userspace_memory_region_list *list,
			    const struct fault_call *call, const struct site *site,
			    const uint64_t *want, const char *what)
{
	const struct kvm_userspace_memory_region_list *got = FAULT_LIST;
	bool given_up = site && site->index == WITH_RESULT && !strcmp(call->place.what, "copy");
	uint32_t index = got->error_index;

	TEST_ASSERT(!site || !site_has_to_fail(site, &call->place),
		    "%s: success in spite of it: wanted errno %d, got 0", what,
		    site ? site_err(site, &call->place) : 0);
	if (!given_up)
		TEST_ASSERT(index == list->nent, "%s: error_index: wanted %u, got %u", what,
			    list->nent, index);
	else
		TEST_ASSERT(index < list->nent && list->entries[index].dirty_bitmap,
			    "%s: error_index: wanted an entry with a dirty_bitmap, got %u", what,
			    index);
	check_results(list, want, given_up ? index : list->nent, what);
}

static void check_counts(struct kvm_vm *vm, struct mrl_counts before, uint32_t nent,
			 const struct fault_call *call, const struct site *site, const char *what)
{
	struct mrl_counts got = mrl_counts_since(vm, before);

	if (call->r) {
		mrl_check_counts(got, site->index != UNTOUCHED, what);
		return;
	}
	TEST_ASSERT(got.calls == 1 && !got.failed && got.entries == nent && got.grace_periods == 1,
		    "%s: wanted 1 call, 0 failed, %u entries, 1 grace period, got %lu, %lu, %lu, %lu",
		    what, nent, got.calls, got.failed, got.entries, got.grace_periods);
}

/* Make the call with its @nth failure.  @what has room for 128 bytes that tell which it was. */
static struct fault_call check_call(struct kvm_vm *vm, struct mrl *l, const mrl_entry *now,
				    int nth, const uint64_t *results, const char *name,
				    char *what, struct outcomes *sum)
{
	struct mrl_counts before = mrl_counts_get(vm);
	const struct site *site = NULL;
	struct fault_call call;

	l->list->error_index = 0xbad;
	call = fault_call(vm, l->list, nth);
	snprintf(what, 128, "%s, failure %d, %s in %s+0x%x", name, nth,
		 call.hit ? call.place.what : "none", call.place.function, call.place.offset);
	if (call.hit)
		site = find_site(&call, what);
	if (call.r)
		check_failed(l->list, now, &call, site, what);
	else
		check_succeeded(l->list, &call, site, results, what);
	check_counts(vm, before, l->list->nent, &call, site, what);

	sum->failed += !!call.r;
	sum->spare += !call.r && call.hit && call.place.who == ALLOCATOR;
	sum->fallbacks += !call.r && call.hit && call.place.who != ALLOCATOR;
	return call;
}

static void check_pages(int64_t got, int64_t want, const char *what, const char *which)
{
	TEST_ASSERT(got >= want - SLACK_PAGES && got <= want + SLACK_PAGES,
		    "%s: %s: wanted %ld pages (+-%d), got %ld", what, which, want, SLACK_PAGES,
		    got);
}

static void check_charge(int64_t want, const char *what)
{
	check_pages(fault_charge(), want, what, "charge");
}

static void check_kept(int64_t want, const char *what)
{
	check_pages(fault_kept(), want, what, "metadata");
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_FAULT_CHECK_H */
