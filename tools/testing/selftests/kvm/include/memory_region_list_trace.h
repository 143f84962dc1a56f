/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_TRACE_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_TRACE_H

/* Probes on functions of the kernel, recorded in an instance of tracefs of the test's own. */
#include <fcntl.h>
#include <sys/stat.h>

#include "test_util.h"

#define MRL_TRACING	"/sys/kernel/tracing/"
#define MRL_INSTANCE	MRL_TRACING "instances/mrl_test/"

static inline void mrl_write_file(const char *name, int flags, const char *text)
{
	int fd = open(name, O_WRONLY | flags), r;

	TEST_ASSERT(fd >= 0, "open() of %s: got errno %d (%s)", name, errno, strerror(errno));
	r = write(fd, text, strlen(text));
	TEST_ASSERT(r == strlen(text), "Write of '%s' to %s: wanted %zu, got %d, errno %d (%s)",
		    text, name, strlen(text), r, errno, strerror(errno));
	close(fd);
}

static inline void mrl_trace_start(void)
{
	int r;

	/* One that a test has left that failed. */
	rmdir(MRL_INSTANCE);
	r = mkdir(MRL_INSTANCE, 0700);
	TEST_ASSERT(!r, "mkdir() of " MRL_INSTANCE ": wanted 0, got %d, errno %d", r, errno);
}

/* Define a probe, in place of one that a test has left that failed; "-:GROUP/NAME" removes it. */
static inline void mrl_trace_probe(const char *text)
{
	int fd = open(MRL_TRACING "kprobe_events", O_WRONLY | O_APPEND);

	if (fd >= 0 && text[0] == 'p')
		dprintf(fd, "-%.*s\n", (int)strcspn(text + 1, " "), text + 1);
	close(fd);
	mrl_write_file(MRL_TRACING "kprobe_events", O_APPEND, text);
}

/* Record what this thread does, if @filter holds. */
static inline void mrl_trace_enable(const char *event, const char *filter)
{
	char name[128], text[128];

	snprintf(text, sizeof(text), "common_pid == %d%s%s", gettid(), filter ? " && " : "",
		 filter ?: "");
	snprintf(name, sizeof(name), MRL_INSTANCE "events/%s/filter", event);
	mrl_write_file(name, 0, text);
	snprintf(name, sizeof(name), MRL_INSTANCE "events/%s/enable", event);
	mrl_write_file(name, 0, "1");
}

/* Record what any thread does. */
static inline void mrl_trace_enable_all(const char *event)
{
	char name[128];

	snprintf(name, sizeof(name), MRL_INSTANCE "events/%s/enable", event);
	mrl_write_file(name, 0, "1");
}

/* A number from a line of the trace. */
static inline int64_t mrl_trace_field(const char *line, const char *name)
{
	char key[32], *at;
	long long value;

	snprintf(key, sizeof(key), " %s ", name);
	at = strstr(line, key);
	TEST_ASSERT(at && sscanf(at + strlen(key), "%lld", &value) == 1,
		    "trace: wanted a field '%s', got '%s'", name, line);
	return value;
}

static inline void mrl_trace_clear(void)
{
	int fd = open(MRL_INSTANCE "trace", O_WRONLY | O_TRUNC);

	TEST_ASSERT(fd >= 0, "open() of " MRL_INSTANCE "trace: got errno %d", errno);
	close(fd);
}

static inline FILE *mrl_trace_open(void)
{
	FILE *f = fopen(MRL_INSTANCE "trace", "r");

	TEST_ASSERT(f, "fopen() of " MRL_INSTANCE "trace: got errno %d", errno);
	return f;
}

static inline void mrl_trace_stop(void)
{
	rmdir(MRL_INSTANCE);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_TRACE_H */
