// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: a differential fuzzer.
 *
 * A world is a VM, with a random configuration, in which a random program runs: lists
 * that are legal and lists that are not, between them today's memslot ioctls, dirty log
 * ioctls, prefaults, MMU notifiers and signals.  1 to 4 vCPUs store to, load from and
 * execute the memory, and keep a journal: in every sixth world all the time, in others by
 * turns, which are given before a call and last until it returns if it changes the layout.
 * An oracle that knows the document but not the kernel says of each call if it succeeds,
 * with which errno and error_index it fails, and what the layout is then.  Shows, as far as
 * random programs go,
 *   - order-free, all-or-nothing: each call comes to what the oracle says
 *   - one-grace-period: of every fourth call what the kernel counts of it
 *   - no-hole: an access exits or fails only if a layout from its start to its end has it so
 *   - no-stale-mapping: a load or a fetch finds the page of the layout, or, if it overlaps
 *     changes, of one of the layouts that they are between; a store gets to its page if
 *     that stays where it is; and pages that the guest lost do not change after return
 *   - never-lost: what differs from what it was when it was last reported is in the log,
 *     in the ring, or was returned
 * Some worlds are killed in the middle of a call.  Several run side by side.
 *
 * Of what is printed, over= and returned_over= are bits without a store since the page was
 * last compared; a store between the call that reported it and the comparison counts, too.
 * prefaulted= are pages, advised= calls of madvise() and mremap() that returned 0.
 *
 * One number, the seed of a world, gives its configuration and its program; -s repeats
 * it, with -w and -i as they were.  When something is not as the oracle says, steps and
 * entries are left out for as long as the world still fails, and what remains is printed.
 * If a world does not fail again, it is a race, and the last steps are printed.
 *
 * Not shown: what of two accesses that overlap a change comes first (see the race and dirty
 * tests); that a store that overlaps the end of a log is reported; at which point of a call a
 * world is killed; guest_memfd; ENOMEM, i.e. a call that has to undo (see the fault test).
 * Large worlds are rare: a run of some time begins with one.
 */
#include <getopt.h>
#include <sys/wait.h>
#include <time.h>

#include "memory_region_list_fuzz_draw.h"
#include "memory_region_list_fuzz_setup.h"
#include "memory_region_list_setting.h"

#define STEPS		1000u
#define LARGE_STEPS	40u
#define MAX_JOBS	8u
/* A step of a world takes less than that, or it hangs. */
#define PATIENCE	(config.large ? 600u : 120u)
#define SHRINK_SECONDS	60u
#define TAIL		12u

static struct mrl_setting ksm_run = { .path = "/sys/kernel/mm/ksm/run" };
/* What the options say, until when worlds are started. */
static struct {
	uint32_t seed, jobs, worlds, steps;
	bool seed_given;
	uint64_t seconds, transactions;
} option = { .jobs = 3, .worlds = 1, .steps = STEPS };
static const char *world_kind;	/* -w: small, huge or large; NULL: as the seed says */

static void configure(uint32_t seed)
{
	static const uint32_t logs[] = { 0, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
		KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET };

	fuzz_seed(seed);
	config = (struct fuzz_config) {
		.seed = seed,
		.vcpus = 1 + fuzz_pick(FUZZ_MAX_VCPUS),
		.log_kind = logs[fuzz_pick(ARRAY_SIZE(logs))],
		.quota = 32 << fuzz_pick(4),
		.large = fuzz_once_in(64),
		.huge = fuzz_once_in(4),
		.ring = fuzz_once_in(4),
		.shared_memory = fuzz_once_in(2),
		.updater = fuzz_once_in(3),
		.noise = fuzz_once_in(2),
		.restless = fuzz_once_in(6),
		.nr_ids = 16 + fuzz_pick(32),
	};
	if (world_kind) {
		config.large = !strcmp(world_kind, "large");
		config.huge = !strcmp(world_kind, "huge");
	}
	config.huge &= !config.large;
	config.linear = config.large || config.huge;
	config.shared_memory = config.large || (!config.huge && config.shared_memory);
	config.nr_pages = config.large ? FUZZ_MAX_PAGES : config.huge ? 1024 : 256;
	if (config.ring) {
		config.nr_ids = 600;
		config.log_kind = 0;
	}
	if (config.large)
		config.nr_ids = FUZZ_MAX_IDS - 1;
	/* It wants a log in which nothing is set. */
	config.updater &= !config.ring && !(config.log_kind & KVM_DIRTY_LOG_INITIALLY_SET);
}

/* Child: make the steps of the program, or draw them. */
static void run_world(uint32_t seed, uint32_t nr_draw, uint32_t nr_replay)
{
	uint32_t i;

	configure(seed);
	create_world();
	draw_init();
	for (i = 0; i < nr_replay; i++, program->nr_done++)
		do_step(fuzz_step_at(program, i));
	for (i = 0; i < nr_draw && !fuzz_program_full(program); i++, program->nr_done++)
		do_step(draw_step(program));
	do_park(&(struct fuzz_step) {});
	program->counts.worlds++;
	destroy_world();
}

/* After that time, while a call changes the layout. */
static void *kill_thread(void *arg)
{
	usleep((uintptr_t)arg);
	while (!READ_ONCE(sh) || !(READ_ONCE(sh->gen) % 2))
		sched_yield();
	kill(getpid(), SIGKILL);
	return NULL;
}

/* Does a world make steps? */
struct watch {
	uint32_t seen, patience;
	time_t moved;
};

struct job {
	pid_t pid;
	uint32_t seed;
	bool victim;
	struct watch watch;
	struct fuzz_program *program;
};

static struct job jobs[MAX_JOBS];
static struct fuzz_counts total;

static struct watch watch_program(struct fuzz_program *p)
{
	p->nr_done = 0;
	return (struct watch) { .moved = time(NULL), .patience = PATIENCE };
}

static bool is_stuck(struct watch *w, const struct fuzz_program *p)
{
	uint32_t done = READ_ONCE(p->nr_done);

	if (done != w->seen)
		*w = (struct watch) { done, w->patience, time(NULL) };
	return time(NULL) - w->moved >= w->patience;
}

/* Wait for a world to end, or a second. */
static void wait_for_child(void)
{
	const struct timespec second = { 1, 0 };
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigtimedwait(&child, NULL, &second);
}

static pid_t fork_world(struct fuzz_program *p, uint32_t seed, uint32_t nr_draw,
			uint32_t nr_replay, bool quiet, uint32_t kill_us)
{
	pthread_t killer;
	sigset_t none;
	pid_t pid;
	int null;

	fflush(NULL);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork(): wanted a process, got errno %d", errno);
	if (pid)
		return pid;
	mrl_settings_forget();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	null = open("/dev/null", O_WRONLY);
	if (quiet && null >= 0) {
		dup2(null, 1);
		dup2(null, 2);
	}
	program = p;
	if (kill_us)
		pthread_create(&killer, NULL, kill_thread, (void *)(uintptr_t)kill_us);
	run_world(seed, nr_draw, nr_replay);
	fflush(NULL);
	_exit(0);
}

static void add_counts(const struct fuzz_counts *c)
{
	const uint64_t *from = (const uint64_t *)c;
	uint64_t *to = (uint64_t *)&total;
	uint32_t i;

	for (i = 0; i < sizeof(*c) / sizeof(*from); i++)
		to[i] += from[i];
}

/* Shrinking: @steps with the candidates that are left, as a program of its own. */
struct shrink {
	uint32_t seed, nr;
	time_t end;
	struct fuzz_step **steps, **removed;
	struct fuzz_program *scratch;
	uint32_t runs;
};

/* One that gets stuck, which says little, has not failed in the way that is looked for. */
static bool fails(struct shrink *s)
{
	struct fuzz_program *p = s->scratch;
	struct fuzz_step *to;
	struct watch watch;
	int status;
	uint32_t i;
	pid_t pid;

	p->nr_steps = 0;
	p->used = 0;
	for (i = 0; i < s->nr; i++) {
		to = fuzz_step_begin(p, 0);
		memcpy(to, s->steps[i], fuzz_step_size(s->steps[i]->nr_entries));
		fuzz_step_end(p, to);
	}
	s->runs++;
	watch = watch_program(p);
	pid = fork_world(p, s->seed, 0, s->nr, true, 0);
	while (!waitpid(pid, &status, WNOHANG)) {
		if (is_stuck(&watch, p)) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return false;
		}
		wait_for_child();
	}
	return !WIFEXITED(status) || WEXITSTATUS(status);
}

/* Leave out as many steps as possible, many at a time first. */
static void shrink_steps(struct shrink *s)
{
	uint32_t n, i;

	for (n = s->nr / 2; n; n /= 2) {
		for (i = 0; i + n <= s->nr && time(NULL) < s->end;) {
			memcpy(s->removed, &s->steps[i], n * sizeof(*s->removed));
			memmove(&s->steps[i], &s->steps[i + n],
				(s->nr - i - n) * sizeof(*s->steps));
			s->nr -= n;
			if (fails(s))
				continue;
			memmove(&s->steps[i + n], &s->steps[i], (s->nr - i) * sizeof(*s->steps));
			memcpy(&s->steps[i], s->removed, n * sizeof(*s->removed));
			s->nr += n;
			i += n;
		}
	}
}

static void shrink_entries(struct shrink *s, struct fuzz_step *step)
{
	uint32_t i = 0;
	mrl_entry e;

	while (step->kind == FUZZ_STEP_LIST && i < step->nr_entries && time(NULL) < s->end) {
		e = step->entries[i];
		step->entries[i] = step->entries[--step->nr_entries];
		step->head.nent--;
		if (fails(s))
			continue;
		step->entries[step->nr_entries++] = step->entries[i];
		step->head.nent++;
		step->entries[i++] = e;
	}
}

static void report(struct fuzz_program *p, uint32_t seed)
{
	struct shrink s = {
		.seed = seed, .nr = p->nr_steps,
		.steps = fuzz_alloc(FUZZ_MAX_STEPS, sizeof(*s.steps)),
		.removed = fuzz_alloc(FUZZ_MAX_STEPS, sizeof(*s.removed)),
		.scratch = fuzz_program_alloc(),
	};
	uint32_t i, tries, first = 0;
	bool again = false;

	for (i = 0; i < s.nr; i++)
		s.steps[i] = fuzz_step_at(p, i);
	for (tries = 0; tries < 3 && !again; tries++)
		again = fails(&s);
	s.end = time(NULL) + SHRINK_SECONDS;
	if (again) {
		shrink_steps(&s);
		for (i = 0; i < s.nr; i++)
			shrink_entries(&s, s.steps[i]);
		printf("Seed %u fails again.  Of %u steps these are left, after %u runs:\n", seed,
		       p->nr_steps, s.runs);
	} else {
		first = s.nr > TAIL ? s.nr - TAIL : 0;
		printf("Seed %u does not fail again in %u runs, a race.  The last of %u steps:\n",
		       seed, tries, s.nr);
	}
	for (i = first; i < s.nr; i++)
		fuzz_print_step(s.steps[i], i);
}

static void start_job(struct job *j, uint32_t seed, uint32_t nr_draw)
{
	struct fuzz_program *p = j->program;

	p->nr_steps = 0;
	p->used = 0;
	p->counts = (struct fuzz_counts) {};
	j->seed = seed;
	/* A seed that is given is one to look at. */
	j->victim = !option.seed_given && seed % 16 == 5;
	configure(seed);
	j->watch = watch_program(p);
	j->pid = fork_world(p, seed, config.large ? min(nr_draw, LARGE_STEPS) : nr_draw, 0, false,
			    j->victim ? 100000 + seed * 7919 % 900000 : 0);
}

static void kill_jobs(void)
{
	uint32_t i;

	for (i = 0; i < MAX_JOBS; i++) {
		if (jobs[i].pid)
			kill(jobs[i].pid, SIGKILL);
	}
}

static void end_job(struct job *j, int status)
{
	j->pid = 0;
	add_counts(&j->program->counts);
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return;
	if (j->victim && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		total.killed++;
		return;
	}
	kill_jobs();
	if (WIFSIGNALED(status))
		printf("Seed %u: wanted no signal, got %d\n", j->seed, WTERMSIG(status));
	report(j->program, j->seed);
	TEST_FAIL("seed %u: wanted no difference, got one in step %u; repeat: -s %u -i %u%s%s",
		  j->seed, j->program->nr_steps, j->seed, option.steps, world_kind ? " -w " : "",
		  world_kind ?: "");
}

static void check_moves(struct job *j)
{
	uint32_t nr = j->program->nr_steps;

	if (!is_stuck(&j->watch, j->program))
		return;
	if (nr)
		fuzz_print_step(fuzz_step_at(j->program, nr - 1), nr - 1);
	kill_jobs();
	TEST_FAIL("no-deadlock: seed %u, step %u: wanted an end within %u s, got none", j->seed,
		  nr, j->watch.patience);
}

static void wait_for_job(uint32_t nr_jobs)
{
	int status;
	uint32_t i;

	wait_for_child();
	for (i = 0; i < nr_jobs; i++) {
		if (!jobs[i].pid)
			continue;
		if (waitpid(jobs[i].pid, &status, WNOHANG) == jobs[i].pid)
			end_job(&jobs[i], status);
		else
			check_moves(&jobs[i]);
	}
}

static void print_total(uint32_t first_seed, uint32_t seeds, uint64_t seconds)
{
	printf("mrl-fuzz seeds=%u..%u worlds=%lu killed=%lu seconds=%lu", first_seed,
	       first_seed + seeds - 1, total.worlds, total.killed, seconds);
	printf(" transactions=%lu valid=%lu invalid=%lu writes=%lu reported=%lu over=%lu",
	       total.valid + total.invalid, total.valid, total.invalid, total.stores,
	       total.reported, total.over);
	printf(" judged=%lu overlapped=%lu exits_judged=%lu journal_full=%lu left_out=%lu",
	       total.journaled, total.overlapped, total.exits_judged, total.untold, total.left_out);
	printf(" returned=%lu returned_over=%lu exits=%lu old=%lu logs=%lu",
	       total.returned, total.returned_over, total.exits, total.old_ioctls, total.other);
	printf(" prefaulted=%lu advised=%lu signals=%lu updates=%lu counted=%lu", total.prefaults,
	       total.advised, total.signals, total.updates, total.counted);
	printf(" cleared=%lu fep=%d\n", total.cleared, is_forced_emulation_enabled);
}

static bool is_over(uint32_t started, time_t start)
{
	if (option.seconds)
		return time(NULL) - start >= option.seconds;
	if (option.transactions)
		return total.valid + total.invalid >= option.transactions;
	return started >= option.worlds;
}

static uint32_t first_seed(const char *value)
{
	option.seed_given = true;
	return atoi_non_negative("Seed of the first world", value);
}

static void parse_options(int argc, char *argv[])
{
	int opt;

	while ((opt = getopt(argc, argv, "t:n:s:j:w:i:")) != -1) {
		if (opt == 't')
			option.seconds = atoi_positive("Seconds", optarg);
		else if (opt == 'n')
			option.transactions = atoi_positive("Transactions", optarg);
		else if (opt == 's')
			option.seed = first_seed(optarg);
		else if (opt == 'j')
			option.jobs = atoi_positive("Worlds at a time", optarg);
		else if (opt == 'w')
			world_kind = optarg;
		else if (opt == 'i')
			option.steps = atoi_positive("Steps of a world", optarg);
		else
			TEST_FAIL("options: -t seconds -n calls -s seed -j jobs -w kind -i steps");
	}
	TEST_ASSERT(!world_kind || !strcmp(world_kind, "small") || !strcmp(world_kind, "huge") ||
		    !strcmp(world_kind, "large"), "-w: wanted small, huge or large, got %s",
		    world_kind);
	TEST_ASSERT(option.jobs <= MAX_JOBS, "-j: wanted <= %u, got %u", MAX_JOBS, option.jobs);
}

/* Large worlds are rare, and shall not be missing where there is time for more than one. */
static uint32_t draw_first_seed(void)
{
	uint32_t seed = time(NULL) % 1000000 * 1000;
	bool large = option.seconds || option.transactions;

	for (configure(seed); large && !world_kind && !config.large; configure(++seed))
		;
	return seed;
}

static void run_worlds(void)
{
	uint32_t started = 0, i;
	time_t start = time(NULL);
	bool running;

	for (i = 0; i < option.jobs; i++)
		jobs[i].program = fuzz_program_alloc();
	do {
		running = false;
		for (i = 0; i < option.jobs; i++) {
			if (!jobs[i].pid && !is_over(started, start))
				start_job(&jobs[i], option.seed + started++, option.steps);
			running |= jobs[i].pid;
		}
		wait_for_job(option.jobs);
	} while (running);
	print_total(option.seed, started, time(NULL) - start);
	TEST_ASSERT(total.overlapped || total.valid < 1000,
		    "accesses that overlap one of %lu changes: wanted some, got none", total.valid);
	TEST_ASSERT(total.untold <= total.journaled / 5, "not judged: wanted <= %lu, got %lu",
		    total.journaled / 5, total.untold);
}

int main(int argc, char *argv[])
{
	sigset_t child;

	parse_options(argc, argv);
	if (!option.seed_given)
		option.seed = draw_first_seed();
	mrl_require();
	if (!mrl_setting_set(&ksm_run, "1"))
		printf("Left out: merging of pages by KSM, the host has none\n");
	printf("Seeds from %u on\n", option.seed);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	run_worlds();
	return 0;
}
