// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of a test VM: mounts, loads the modules, runs the tests of /plan one
 * after the other, reports and powers off.
 *
 * Results go to the second serial port, which only this program opens and the
 * kernel does not know as a console.  Each line starts with the nonce of this
 * boot, so nothing that the kernel or a test prints can be taken for a result:
 *	NONCE plan 2 / NONCE pass|fail|skip SECONDS NAME WHY / NONCE end 2
 * A line of /plan is one of
 *	nonce TEXT, plan COUNT	first two lines
 *	set FILE VALUE		write VALUE to FILE
 *	load FILE PARAMETERS	insert a module
 *	test SECONDS NAME PROGRAM ARGUMENTS
 *	unload NAMES		remove modules: what a leak would make fail or WARN
 *
 * What kmemleak finds after a test goes to the console, where it counts as a complaint
 * of the kernel during the test.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define KSFT_SKIP	4

static char nonce[64];
static int channel, results;

static void report(const char *fmt, ...)
{
	char line[512];
	int len = snprintf(line, sizeof(line), "%s ", nonce);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line + len, sizeof(line) - len - 1, fmt, ap);
	va_end(ap);
	strcat(line, "\n");
	if (write(channel, line, strlen(line)) < 0 || tcdrain(channel))
		perror("init: result channel");
}

static void verdict(const char *word, time_t seconds, const char *name, const char *why)
{
	results++;
	tcdrain(1);
	report("%s %ld %s %s", word, (long)seconds, name, why);
	printf("# end %s: %s %s\n", name, word, why);
}

static void mount_all(void)
{
	static const char * const points[][2] = {
		{ "proc", "/proc" }, { "sysfs", "/sys" }, { "devtmpfs", "/dev" },
		{ "debugfs", "/sys/kernel/debug" }, { "tracefs", "/sys/kernel/tracing" },
		{ "tmpfs", "/tmp" }, { "tmpfs", "/dev/shm" }, {}
	};

	for (int i = 0; points[i][0]; i++) {
		mkdir(points[i][1], 0755);
		mount(points[i][0], points[i][1], points[i][0], 0, NULL);
	}
}

static void open_ports(void)
{
	struct termios raw;
	int console = open("/dev/console", O_RDWR | O_NOCTTY);

	for (int fd = 0; fd < 3; fd++)
		dup2(console, fd);
	setvbuf(stdout, NULL, _IOLBF, 0);
	channel = open("/dev/ttyS1", O_WRONLY | O_NOCTTY | O_CLOEXEC);
	tcgetattr(channel, &raw);
	cfmakeraw(&raw);
	cfsetspeed(&raw, B115200);
	tcsetattr(channel, TCSANOW, &raw);
}

static void set(char *file, const char *value)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		verdict("fail", 0, "set", file);
	close(fd);
}

static void load(char *file, const char *parameters)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	if (syscall(SYS_finit_module, fd, parameters, 0))
		verdict("fail", 0, "load", file);
	close(fd);
}

static void unload(char *names)
{
	char *name;
	int error = 0, tries = 50;

	printf("# begin unload\n");
	while ((name = strsep(&names, " ")) && !error)
		while ((error = syscall(SYS_delete_module, name, O_NONBLOCK) ? errno : 0) == EAGAIN && tries--)
			usleep(100000);
	verdict(error ? "fail" : "pass", 0, "unload", error ? strerror(error) : "");
}

/* Wait for the child until the time comes; return whether it ended. */
static int wait_for(pid_t pid, int *status, time_t end)
{
	while (waitpid(pid, status, WNOHANG) != pid) {
		if (time(NULL) >= end)
			return 0;
		usleep(100000);
	}
	return 1;
}

static void judge(const char *name, int status, time_t seconds)
{
	char why[32] = "";

	int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;

	if (code < 0)
		snprintf(why, sizeof(why), "signal %d", WTERMSIG(status));
	else if (code && code != KSFT_SKIP)
		snprintf(why, sizeof(why), "exit status %d", code);
	verdict(!code ? "pass" : code == KSFT_SKIP ? "skip" : "fail", seconds, name, why);
}

/*
 * False if that was not possible.  The first scan finds candidates.  Where kmemleak has to
 * be there, the plan sets it.
 */
static int show_leaks(void)
{
	int fd = open("/sys/kernel/debug/kmemleak", O_RDWR | O_CLOEXEC);
	char text[4096];
	ssize_t len;

	if (fd < 0)
		return errno == ENOENT;
	/* What is younger than 5 s is not reported. */
	sleep(6);
	for (int i = 0; i < 2; i++)
		if (write(fd, "scan", 4) != 4)
			return 0;
	while ((len = read(fd, text, sizeof(text))) > 0)
		fwrite(text, 1, len, stdout);
	/* So that the next test is not blamed for it. */
	if (write(fd, "clear", 5) != 5)
		len = -1;
	close(fd);
	return !len;
}

static void test(char *args)
{
	time_t limit = atol(strsep(&args, " ")), start = time(NULL);
	char *name = strsep(&args, " "), *argv[64];
	int argc = 0, status;
	pid_t pid;

	while (args && argc < 63)
		argv[argc++] = strsep(&args, " ");
	argv[argc] = NULL;
	printf("# begin %s\n", name);
	tcdrain(1);
	pid = fork();
	if (!pid) {
		setsid();
		execv(argv[0], argv);
		perror(argv[0]);
		_exit(127);
	}
	if (wait_for(pid, &status, start + limit)) {
		time_t seconds = time(NULL) - start;

		if (show_leaks())
			judge(name, status, seconds);
		else
			verdict("fail", seconds, name, "kmemleak does not scan");
	} else {
		set("/proc/sysrq-trigger", "w");
		kill(-pid, SIGKILL);
		verdict("fail", limit, name, "timeout");
	}
}

static void follow(char *line)
{
	char *word = strsep(&line, " "), *first;

	if (!strcmp(word, "nonce"))
		strncpy(nonce, line, sizeof(nonce) - 1);
	else if (!strcmp(word, "plan"))
		report("plan %s", line);
	else if (!strcmp(word, "test"))
		test(line);
	else if (!strcmp(word, "unload"))
		unload(line);
	else if ((first = strsep(&line, " ")))
		(!strcmp(word, "set") ? set : load)(first, line ? line : "");
}

int main(void)
{
	char line[4096];
	FILE *plan;

	mount_all();
	open_ports();
	plan = fopen("/plan", "re");
	while (plan && fgets(line, sizeof(line), plan)) {
		line[strcspn(line, "\n")] = 0;
		follow(line);
	}
	report("end %d", results);
	/* A slow port still has some of it, and power off does not wait. */
	tcdrain(1);
	return reboot(RB_POWER_OFF);
}
