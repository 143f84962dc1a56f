// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_SET_USER_MEMORY_REGION_LIST: a differential fuzzer.
 *
 * A world is a VM, with a random configuration, in which a random program runs: lists
 * that are legal and lists that are not, between them today's memslot ioctls, dirty log
 * ioctls, prefaults, MMU notifiers and signals.  1 to 4 vCPUs store to, load from and
 * execute the memory all the time, and keep a journal.  An oracle that knows the document
 * but not the kernel says of each call if it succeeds, with which errno and error_index
 * it fails, and what the layout is then.  Shows, as far as random programs go,
 *   - order-free, all-or-nothing: each call comes to what the oracle says
 *   - no-hole: no access to a page that both layouts have exits or fails
 *   - no-stale-mapping: an access that no change overlaps finds the page of the layout,
 *     and pages that the guest lost do not change after return
 *   - never-lost: what differs from what it was when it was last reported is in the log,
 *     in the ring, or was returned; bits reported without a store are counted
 * Some worlds are killed in the middle.  Several run side by side.
 *
 * One number, the seed of a world, gives its configuration and its program; -s repeats
 * it.  When something is not as the oracle says, steps and entries are left out for as
 * long as the world still fails, and what remains is printed.  If a world does not fail
 * again, it is a race, and the last steps are printed.
 *
 * Not shown: what of two accesses that overlap a change comes first (see the race and
 * dirty tests), ENOMEM.
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
#define PATIENCE	120u
#define SHRINK_SECONDS	60u
#define TAIL		12u

static struct mrl_setting ksm_run = { .path = "/sys/kernel/mm/ksm/run" };
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
	for (i = 0; i < nr_replay; i++)
		do_step(fuzz_step_at(program, i));
	for (i = 0; i < nr_draw && !fuzz_program_full(program); i++)
		do_step(draw_step(program));
	do_park(&(struct fuzz_step) {});
	program->counts.worlds++;
	destroy_world();
}

static void *kill_thread(void *arg)
{
	usleep((uintptr_t)arg);
	kill(getpid(), SIGKILL);
	return NULL;
}

struct job {
	pid_t pid;
	uint32_t seed, steps_seen;
	bool victim;
	time_t moved;
	struct fuzz_program *program;
};

static struct job jobs[MAX_JOBS];
static struct fuzz_counts total;

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
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	null = open("/dev/null", O_WRONLY);
	/* Shrinking has no patience: one that hangs fails. */
	if (quiet)
		alarm(PATIENCE);
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

static bool fails(struct shrink *s)
{
	struct fuzz_program *p = s->scratch;
	struct fuzz_step *to;
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
	pid = fork_world(p, s->seed, 0, s->nr, true, 0);
	waitpid(pid, &status, 0);
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
		.seed = seed, .nr = p->nr_steps, .end = time(NULL) + SHRINK_SECONDS,
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
	j->steps_seen = 0;
	j->moved = time(NULL);
	j->victim = seed % 16 == 5;
	configure(seed);
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
	TEST_FAIL("seed %u: wanted no difference, got one in step %u; repeat it with -s %u",
		  j->seed, j->program->nr_steps, j->seed);
}

static void check_moves(struct job *j)
{
	if (j->program->nr_steps != j->steps_seen) {
		j->steps_seen = j->program->nr_steps;
		j->moved = time(NULL);
	}
	if (time(NULL) - j->moved < PATIENCE)
		return;
	if (j->steps_seen)
		fuzz_print_step(fuzz_step_at(j->program, j->steps_seen - 1), j->steps_seen - 1);
	kill_jobs();
	TEST_FAIL("no-deadlock: seed %u, step %u: wanted an end within %u s, got none", j->seed,
		  j->program->nr_steps, PATIENCE);
}

/* Wait for a world to end, or a second. */
static void wait_for_job(uint32_t nr_jobs)
{
	const struct timespec second = { 1, 0 };
	sigset_t child;
	int status;
	uint32_t i;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigtimedwait(&child, NULL, &second);
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
	printf(" transactions=%lu valid=%lu invalid=%lu writes=%lu lost=0 reported=%lu over=%lu",
	       total.valid + total.invalid, total.valid, total.invalid, total.stores,
	       total.reported, total.over);
	printf(" returned=%lu returned_over=%lu judged=%lu exits=%lu old=%lu logs=%lu",
	       total.returned, total.returned_over, total.journaled, total.exits,
	       total.old_ioctls, total.other);
	printf(" prefaults=%lu notifies=%lu signals=%lu updates=%lu fep=%d\n", total.prefaults,
	       total.notifies, total.signals, total.updates, is_forced_emulation_enabled);
}

/* What the options say, until when worlds are started. */
static struct {
	uint32_t seed, jobs, worlds, steps;
	uint64_t seconds, transactions;
} option = { .jobs = 3, .worlds = 1, .steps = STEPS };

static bool is_over(uint32_t started, time_t start)
{
	if (option.seconds)
		return time(NULL) - start >= option.seconds;
	if (option.transactions)
		return total.valid + total.invalid >= option.transactions;
	return started >= option.worlds;
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
			option.seed = atoi_non_negative("Seed of the first world", optarg);
		else if (opt == 'j')
			option.jobs = atoi_positive("Worlds at a time", optarg);
		else if (opt == 'w')
			world_kind = optarg;
		else if (opt == 'i')
			option.steps = atoi_positive("Steps of a world", optarg);
		else
			TEST_FAIL("options: -t seconds -n calls -s seed -j jobs -w kind -i steps");
	}
	TEST_ASSERT(option.jobs <= MAX_JOBS, "-j: wanted <= %u, got %u", MAX_JOBS, option.jobs);
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
}

int main(int argc, char *argv[])
{
	sigset_t child;

	option.seed = time(NULL) % 1000000 * 1000;
	parse_options(argc, argv);
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
