/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTEST_KVM_MEMORY_REGION_LIST_SETTING_H
#define SELFTEST_KVM_MEMORY_REGION_LIST_SETTING_H

#include <fcntl.h>

#include "test_util.h"

/* A setting of the host that a test changes, and gives back however it ends. */
struct mrl_setting {
	const char *path;
	char was[32], value[32];
	struct mrl_setting *next;
};

static struct mrl_setting *mrl_settings;

static inline bool mrl_setting_read(const struct mrl_setting *s, char *value, size_t size)
{
	int fd = open(s->path, O_RDONLY);
	ssize_t r = fd < 0 ? -1 : read(fd, value, size - 1);

	if (fd >= 0)
		close(fd);
	if (r <= 0)
		return false;
	value[r] = '\0';
	value[strcspn(value, "\n")] = '\0';
	return true;
}

static inline bool mrl_setting_write(const struct mrl_setting *s, const char *value)
{
	int fd = open(s->path, O_WRONLY);
	ssize_t r = fd < 0 ? -1 : write(fd, value, strlen(value));

	if (fd >= 0)
		close(fd);
	return r == (ssize_t)strlen(value);
}

static inline void mrl_settings_restore(void)
{
	struct mrl_setting *s;

	for (s = mrl_settings; s; s = s->next)
		mrl_setting_write(s, s->was);
}

/* In a child that was forked, which may exit at any time: they are the parent's. */
static inline void mrl_settings_forget(void)
{
	mrl_settings = NULL;
}

/* False if the host does not take the value. */
static inline bool mrl_setting_set(struct mrl_setting *s, const char *value)
{
	if (!s->was[0]) {
		if (!mrl_setting_read(s, s->was, sizeof(s->was)))
			return false;
		if (!mrl_settings)
			atexit(mrl_settings_restore);
		s->next = mrl_settings;
		mrl_settings = s;
	}
	return mrl_setting_write(s, value) && mrl_setting_read(s, s->value, sizeof(s->value)) &&
	       !strcmp(s->value, value);
}

#endif /* SELFTEST_KVM_MEMORY_REGION_LIST_SETTING_H */
