/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The publication of KVM_SET_USER_MEMORY_REGION_LIST, as virt/kvm/memslot_*.c and
 * the page fault path of x86 do it, for one gfn and two vCPUs.
 *
 * What one gfn can become (see "kind") is chosen at the beginning, as is what each
 * process does, and when; Spin visits all choices and all interleavings.  Claims,
 * by the names of the contract:
 *
 *	no-hole			a gfn that both layouts cover always has a memslot
 *	no-stale-mapping	the guest uses the page that its gfn has in the active
 *				layout, and never one that the host took back
 *	never-lost		a write to a page that is logged is reported
 *	all-or-nothing		a call that fails leaves nothing behind
 *	no-deadlock		everybody comes to an end (Spin's invalid end states)
 *	notifier-balance	MMU notifiers end what they began
 *
 * A use of the old layout after it was freed fails as "use-after-free".
 *
 * Bounds: one gfn, one transaction, OPS accesses of one vCPU and one of the other, one
 * MMU notifier, one KVM_GET_DIRTY_LOG at any time that slots_lock allows, and one at the
 * end.
 *
 * Not in it: weak memory order (each step is seen by all at once), what a call that fails
 * takes back (it fails ahead of all that others can see), huge pages, rmaps, READONLY, page
 * faults that find no memslot and install that, the range of the gate, two notifiers at
 * once, the dirty ring, the generation as a cache key, vCPUs whose hardware logging is being
 * switched on or off, more than one zap ahead of the publication.  Prefaulting is one attempt,
 * ahead of and after which it waits for the gate.
 *
 * -DDIRTY: vCPUs write by the emulator, too, and userspace gets the log.  Without it they
 * prefault and create their first shadow root, and an MMU notifier comes.
 * -DEMULATE: those write by the emulator, too.
 * -DPML: hardware logs writes in a buffer.  Without it pages are write-protected.
 * -DNO_GATE: page faults are never held off, which must make no difference.
 * The other macros each make the protocol a bad one, that has to fail:
 *
 *	GATE_ACROSS_SRCU	page faults are held off until the grace period is over
 *	ARCH_LOCK_ACROSS_SRCU	slots_arch_lock is held until then
 *	NO_RECHECK		page faults install what they found in an old layout
 *	NO_FINAL_ZAP		zap ahead of the section that publishes, only
 *	NO_FLUSH		TLBs are not flushed
 *	NO_NOTIFIER_WAIT	publish while MMU notifiers are on their way
 *	WALK_INACTIVE		late marks go to the inactive set, if the active has none
 *	NO_LEAVING		late marks go to the active set only
 *	LEAVING_FIRST		late marks look for the leaving set ahead of the lookup
 *	NO_KICK			vCPUs go on with full PML buffers
 *	LATE_SRCU		SRCU is locked after guest mode was left
 *	FAIL_LATE		an allocation fails when the set has been built
 *	NO_CARRY		bits of kept pages are not carried over
 *	ARM_EARLY		pages that enter a log are armed ahead of the publication
 *	PUBLISH_FIRST		the set is active before the memslots are in it
 *	NO_WAIT			there is no grace period
 */
#ifndef OPS
#define OPS 2
#endif
#define NR_VCPUS	2

mtype = { KEPT, STOPS, STARTS, MOVES, GOES, COMES };
mtype kind;

/* Set 0 is the old layout, set 1 the new one. */
#define covered(set)	((set) == 0 && kind != COMES || (set) == 1 && kind != GOES)
#define logs(set)	(covered(set) && ((set) == 0 && kind != STARTS || (set) == 1 && kind != STOPS))
#define hva(set)	((kind == MOVES && (set) == 1) -> 1 : 0)
#define zapped		(kind == MOVES || kind == GOES)
#define leaves		(kind == MOVES || kind == GOES || kind == STOPS)
#define enters		(kind == STARTS || kind == MOVES || kind == COMES)

/* A page, by hva and by how often the host replaced it; never 0. */
#define page_of(hva)	((hva) == 0 -> 1 + host : 3)
#define is_right(page)	(covered(cur) && page == page_of(hva(cur)))

bit cur;			/* kvm->memslots */
bit there[2];			/* whether the gfn has a memslot in the set, by now */
bit updating;			/* KVM_MEMSLOT_GEN_UPDATE_IN_PROGRESS */
bit leaving;			/* kvm->leaving is the old set */
bit leaving_lock;
bit mirroring, freed;		/* what happens to the old set, and its memslot */
bit slots_lock, slots_arch_lock, mn_lock, mmu_lock;
byte reader;			/* SRCU: a bit for each section, by process */
byte drain;			/* those that the grace period waits for */
byte mmu_in_progress;		/* mmu_invalidate_in_progress */
byte mmu_seq;			/* mmu_invalidate_seq */
byte mn_active;			/* mn_active_invalidate_count */
bit bits[2];			/* the dirty bitmap of each layout */
bit returned;			/* R */

byte spte; bit spte_w, spte_d;
byte tlb[NR_VCPUS]; bit tlb_w[NR_VCPUS];
bit pml[NR_VCPUS];		/* an entry is in the buffer */
bit in_guest[NR_VCPUS];		/* what others see, vcpu->mode */
bit kicked[NR_VCPUS];

bit host;			/* how often the host replaced the page of hva 0 */
bit unsaved[2];			/* pages, by layout of the write, that userspace lacks */
byte running;			/* processes */

#define lock(l)		atomic { !l; l = 1 }
#define unlock(l)	l = 0

#define srcu_lock(p)	reader = reader | (1 << (p))
#define srcu_unlock(p)	atomic { reader = reader & ~(1 << (p)); drain = drain & ~(1 << (p)) }

/* Writes.  @set is the layout in which the writer has found the page. */
inline wrote(set)
{
	if
	:: logs(set) && (set == 0 || kind == KEPT || returned) -> unsaved[set] = 1
	:: else
	fi
}

inline mark_in_slot(set)
{
	if
	:: logs(set) ->
		assert(!(set == 0 && freed));		/* use-after-free */
		bits[set] = 1
	:: else
	fi
}

#ifdef LEAVING_FIRST
#define mark_late(s, found)	mark_leaving(s); find(s, found)
#else
#define mark_late(s, found)	find(s, found); mark_leaving(s)
#endif

inline find(s, found)
{
	found = cur
}

inline mark_leaving(s)
{
	s = cur && updating;
#ifndef NO_LEAVING
	if
	:: s && leaving ->
		lock(leaving_lock);
		if
		:: leaving ->
			assert(!mirroring && !freed);	/* use-after-free */
			if
			:: logs(0) -> bits[0] = 1
			:: else
			fi
		:: else
		fi;
		unlock(leaving_lock)
	:: else
	fi
#endif
}

/* kvm_vcpu_mark_page_dirty() */
inline mark_page_dirty(s, found)
{
#ifdef WALK_INACTIVE
	found = cur;
	s = cur && updating;
	if
	:: s && !covered(found) ->
		assert(!mirroring && !freed);		/* use-after-free */
		bits[0] = 1
	:: else
	fi;
#else
	mark_late(s, found);
#endif
	mark_in_slot(found)
}

inline flush_tlbs()
{
	atomic { tlb[0] = 0; tlb_w[0] = 0 };
	atomic { tlb[1] = 0; tlb_w[1] = 0 }
}

inline zap()
{
	atomic { spte = 0; spte_w = 0; spte_d = 0 };
#ifndef NO_FLUSH
	flush_tlbs()
#endif
}

/* kvm_slot_start_dirty_log(), and what KVM_GET_DIRTY_LOG does */
inline arm()
{
	lock(mmu_lock);
#ifdef PML
	spte_d = 0;
#else
	spte_w = 0;
#endif
	unlock(mmu_lock);
	flush_tlbs()
}

/* If there is a bit, userspace goes on to read the page, with all that is in it by then. */
inline get_dirty_log(got)
{
	d_step { got = bits[cur]; bits[cur] = 0 };
	arm();
	d_step {
		if
		:: got -> unsaved[0] = 0; unsaved[1] = 0
		:: else
		fi
	}
}

/*
 * One attempt of a page fault.  The section of mmu_lock is one step: those who
 * take it, too, can't see the inside, and the guest sees the SPTE only.
 */
inline fault(s, page, seq, gated)
{
	s = cur;
	seq = mmu_seq;
	assert(there[s] || !(covered(0) && covered(1)));	/* no-hole */
	if
	:: !there[s] -> page = 0
	:: there[s] ->
		assert(!(s == 0 && freed));		/* use-after-free */
		page = page_of(hva(s))
	fi;
	atomic {
		!mmu_lock;
		gated = mmu_in_progress > 0;
		if
#ifndef NO_RECHECK
		:: s != cur -> page = 0
#endif
		:: gated || seq != mmu_seq -> page = 0
#ifndef NO_RECHECK
		:: s == cur && !gated && seq == mmu_seq && page ->
#else
		:: !gated && seq == mmu_seq && page ->
#endif
			spte = page; spte_w = 1; spte_d = 1;
			mark_in_slot(s)
		:: else
		fi
	}
}

/* fast_page_fault(): no mmu_lock, and the memslot may be an old one */
inline fast_fault(s, page)
{
	s = cur;
	page = spte;
	if
	:: page && there[s] ->
		atomic {
			if
			:: spte == page && !spte_w -> spte_w = 1; spte_d = 1
			:: else -> page = 0
			fi
		};
		if
		:: page -> mark_in_slot(s)
		:: else
		fi
	:: else
	fi
}

/* One write of the guest, by the TLB or by a walk.  Each is one step of hardware. */
inline guest_write(me, missed)
{
	atomic {
		missed = 0;
		if
		:: tlb_w[me] ->
			assert(is_right(tlb[me]));	/* no-stale-mapping */
			wrote(cur)
		:: !tlb_w[me] && spte && spte_w ->
#ifdef PML
			if
			:: !spte_d -> pml[me] = 1
			:: else
			fi;
#endif
			spte_d = 1;
			tlb[me] = spte; tlb_w[me] = 1;
			assert(is_right(spte));		/* no-stale-mapping */
			wrote(cur)
		:: else -> missed = 1
		fi
	}
}

/* vcpu_enter_guest() and what follows an exit */
inline run_guest(me, missed, s, found)
{
	srcu_unlock(me);
	in_guest[me] = 1;
	guest_write(me, missed);
#ifdef LATE_SRCU
	atomic { in_guest[me] = 0; kicked[me] = 0 };
	srcu_lock(me);
#else
	srcu_lock(me);
	atomic { in_guest[me] = 0; kicked[me] = 0 };
#endif
#ifdef PML
	if
	:: pml[me] -> pml[me] = 0; mark_page_dirty(s, found)
	:: else
	fi
#endif
}

/* The emulator and others: the lookups to write and to mark may be two. */
inline emulated_write(s, found)
{
	s = cur;
	assert(there[s] || !(covered(0) && covered(1)));	/* no-hole */
	if
	:: !there[s]
	:: there[s] ->
		atomic {
			assert(!(s == 0 && returned));	/* no-stale-mapping */
			wrote(s)
		};
		if
		:: mark_in_slot(s)
		:: mark_page_dirty(s, found)
		fi
	fi
}

proctype vcpu(byte me, max)
{
	byte page, seq, ops;
	bit s, found, missed, gated;

	srcu_lock(me);
	do
	:: ops < max ->
		ops++;
		if
		:: run_guest(me, missed, s, found);
			if
			:: missed && spte_w == 0 && spte -> fast_fault(s, page)
			:: missed -> fault(s, page, seq, gated)
			:: !missed
			fi
#if defined(DIRTY) || defined(EMULATE)
		:: emulated_write(s, found)
		/* The end of a long-lived map: marks what was written long ago. */
		:: mark_page_dirty(s, found)
#endif
#ifndef DIRTY
		/* The first nested guest, mmu_first_shadow_root_alloc() */
		:: true -> !slots_arch_lock
		/* KVM_PRE_FAULT_MEMORY: does not leave SRCU until it is through. */
		:: true -> !mmu_in_progress;
			fault(s, page, seq, gated);
			!mmu_in_progress
#endif
		fi;
		/* So that a grace period can end. */
		d_step {
			s = 0; found = 0; page = 0; seq = 0; missed = 0; gated = 0;
			drain = drain & ~(1 << me)
		}
	:: ops == max -> break
	od;
	srcu_unlock(me);
	running--
}

/* The host takes the page at hva 0 back, and puts another one there. */
proctype notifier()
{
	bit began;

	atomic { !mn_lock; mn_active++ };

	lock(mmu_lock);
	if
	:: there[cur] && hva(cur) == 0 ->
		began = 1;
		mmu_in_progress++;
		if
		:: spte == 1 -> zap()
		:: else
		fi
	:: else
	fi;
	unlock(mmu_lock);

	host = 1;

	lock(mmu_lock);
	if
	:: there[cur] && hva(cur) == 0 ->
		assert(began);				/* notifier-balance */
		mmu_seq++;
		assert(mmu_in_progress > 0);		/* notifier-balance */
		mmu_in_progress--
	:: else ->
		assert(!began)				/* notifier-balance */
	fi;
	unlock(mmu_lock);

	atomic { !mn_lock; mn_active-- };
	running--
}

/* KVM_GET_DIRTY_LOG */
proctype harvester()
{
	bit got;

	lock(slots_lock);
	if
	:: logs(cur) ->
		get_dirty_log(got);
	:: else
	fi;
	unlock(slots_lock);
	running--
}

inline synchronize_srcu()
{
	drain = reader;
	drain == 0
}

inline kick(me)
{
	atomic {
		if
		:: in_guest[me] -> kicked[me] = 1
		:: else
		fi
	};
	!kicked[me]
}

inline close_gate(gated)
{
	d_step {
		if
		:: gated -> gated = 0; mmu_seq++; mmu_in_progress--
		:: else
		fi
	}
}

/* kvm_wait_for_notifiers() */
inline ungate(gated)
{
#ifndef GATE_ACROSS_SRCU
	lock(mmu_lock);
	close_gate(gated);
	unlock(mmu_lock)
#else
	skip
#endif
}

inline publish(gated)
{
	lock(mn_lock);
#ifndef NO_NOTIFIER_WAIT
	if
	:: mn_active -> unlock(mn_lock); ungate(gated); lock(mn_lock)
	:: else
	fi;
	do
	:: mn_active == 0 -> break
	:: else -> unlock(mn_lock); mn_active == 0; lock(mn_lock)
	od;
#endif
	lock(mmu_lock);
#ifndef NO_FINAL_ZAP
	if
	:: zapped -> zap()
	:: else
	fi;
#endif
	if
	:: leaves ->
		atomic { !leaving_lock; leaving = 1 }
	:: else
	fi;
	atomic { cur = 1; updating = 1 };	/* rcu_assign_pointer() */
#ifndef GATE_ACROSS_SRCU
	close_gate(gated);
#endif
	d_step { unlock(mmu_lock); unlock(mn_lock) }
}

inline transfer(left)
{
	left = 0;
	if
	:: kind == KEPT ->
#ifndef NO_CARRY
		atomic { bits[1] = bits[1] | bits[0] }
#endif
	:: leaves -> left = bits[0]
	:: else
	fi
}

#define unchanged(gated)	(!cur && !updating && !leaving && !gated && \
				 there[0] == covered(0) && there[1] == covered(0))

/* Ahead of, or for the bad protocols after, something that others can see. */
inline may_fail()
{
	if
	:: failed = 1; goto out
	:: skip
	fi
}

proctype transaction()
{
	bit gated, left, failed;

	lock(slots_lock);
	may_fail();
	lock(slots_arch_lock);
	may_fail();
#ifdef PUBLISH_FIRST
	d_step { cur = 1; updating = 1 };
#endif
	there[1] = 0;
	there[1] = covered(1);
#ifdef ARM_EARLY
	if
	:: enters -> arm()
	:: else
	fi;
#endif
	/* Ahead of that it zaps the same without the gate, which changes nothing but time. */
	if
	:: zapped ->
#ifndef NO_GATE
		lock(mmu_lock); mmu_in_progress++; gated = 1; zap(); unlock(mmu_lock)
#endif
	:: else
	fi;
#ifdef FAIL_LATE
	may_fail();
#endif
	publish(gated);
#ifndef ARCH_LOCK_ACROSS_SRCU
	unlock(slots_arch_lock);
#endif
#ifndef NO_KICK
	if
	:: leaves -> kick(0); kick(1)
	:: else
	fi;
#endif
#ifndef NO_WAIT
	synchronize_srcu();
#endif
#ifdef ARCH_LOCK_ACROSS_SRCU
	unlock(slots_arch_lock);
#endif
#ifdef GATE_ACROSS_SRCU
	close_gate(gated);
#endif
	if
	:: leaves ->
		atomic { !leaving_lock; leaving = 0 }
	:: else
	fi;
	updating = 0;
	mirroring = 1;
	there[0] = 0;
	there[0] = covered(1);
	mirroring = 0;
	transfer(left);
#ifndef ARM_EARLY
	if
	:: enters -> arm()
	:: else
	fi;
#endif
	d_step {
		freed = 1;
		returned = 1;
		if
		:: left -> unsaved[0] = 0
		:: else
		fi;
		assert(!(leaves && unsaved[0]))		/* never-lost */
	}
out:
	assert(!failed || unchanged(gated));		/* all-or-nothing */
	atomic {
		if
		:: failed -> unlock(slots_arch_lock)
		:: else
		fi;
		unlock(slots_lock);
		running--
	}
}

inline choose()
{
#ifdef KIND
	kind = KIND;
#else
	if
	:: kind = KEPT
	:: kind = STOPS
	:: kind = STARTS
	:: kind = MOVES
	:: kind = GOES
	:: kind = COMES
	fi;
#endif
	there[0] = covered(0);
	there[1] = covered(0);
	if
	:: skip
	:: covered(0) -> spte = 1; spte_w = 1; spte_d = 1; bits[0] = logs(0)
#ifdef PML
	:: covered(0) -> spte = 1; spte_w = 1
#else
	:: covered(0) -> spte = 1
#endif
	fi
}

init
{
	bit got;

	atomic {
		choose();
		running = NR_VCPUS + 2;
		run vcpu(0, OPS); run vcpu(1, 1); run transaction();
#ifdef DIRTY
		run harvester()
#else
		run notifier()
#endif
	};
	running == 0;
	assert(mmu_in_progress == 0);			/* notifier-balance */
	if
	:: logs(cur) -> get_dirty_log(got)
	:: else
	fi;
	assert(!(kind == KEPT && (unsaved[0] || unsaved[1])));	/* never-lost */
	assert(!(logs(cur) && unsaved[cur]))		/* never-lost */
}
