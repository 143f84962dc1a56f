// SPDX-License-Identifier: GPL-2.0
/* Programs that end badly, for the recorded consoles: record.py runs them in a VM. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

static void to(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY);

	if (write(fd, text, strlen(text)) < 0)
		perror(file);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "pass";

	printf("ok, now %s\n", what);
	fflush(stdout);
	if (!strcmp(what, "panic"))
		to("/proc/sysrq-trigger", "c");
	else if (!strcmp(what, "hang"))
		pause();
	else if (!strcmp(what, "poweroff"))
		reboot(RB_POWER_OFF);
	else if (!strcmp(what, "reboot"))
		reboot(RB_AUTOBOOT);
	else if (!strcmp(what, "warn"))
		to("/dev/kmsg", "<4>WARNING: CPU: 1 PID: 77 at arch/x86/kvm/mmu/mmu.c:1 kvm_mmu_x+0x1/0x2 [kvm]");
	else if (!strcmp(what, "forge"))
		puts("pass 1 misbehave\n# end misbehave: pass \nend 2");
	return !strcmp(what, "skip") ? 4 : !strcmp(what, "fail") || !strcmp(what, "forge");
}
