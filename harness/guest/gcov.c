// SPDX-License-Identifier: GPL-2.0
/*
 * The last "test" of a VM of `make coverage`: send the counters of each file that was
 * built for gcov over the result channel, in lines of
 *	NONCE gcov PATH HEX
 * PATH is below /sys/kernel/debug/gcov.  The nonce is that of /plan.
 */
#define _GNU_SOURCE
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOT	"/sys/kernel/debug/gcov"

static char nonce[64];
static FILE *channel;
static int files;

static int send_file(const char *path, const struct stat *st, int type, struct FTW *at)
{
	const char *end = strrchr(path, '.');
	FILE *file;
	int c;

	(void)st;
	(void)at;
	if (type != FTW_F || !end || strcmp(end, ".gcda"))
		return 0;

	file = fopen(path, "r");
	if (!file)
		return -1;
	fprintf(channel, "%s gcov %s ", nonce, path + strlen(ROOT));
	while ((c = getc(file)) != EOF)
		fprintf(channel, "%02x", c);
	fputc('\n', channel);
	files++;
	return fclose(file);
}

int main(void)
{
	FILE *plan = fopen("/plan", "r");

	channel = fopen("/dev/ttyS1", "w");
	if (!plan || !channel || fscanf(plan, "nonce %63s", nonce) != 1) {
		perror("gcov: no plan, or no channel");
		return EXIT_FAILURE;
	}
	if (nftw(ROOT, send_file, 16, FTW_PHYS) || fclose(channel) || !files) {
		perror("gcov: " ROOT);
		return EXIT_FAILURE;
	}
	printf("Sent the counters of %d files.\n", files);
	return EXIT_SUCCESS;
}
