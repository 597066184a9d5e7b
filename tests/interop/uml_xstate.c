/*
 * Lets User-mode Linux of Debian 12 run on processors with a large register
 * state. It keeps a guest process's extended registers in a buffer whose size
 * was fixed before such processors (AMX needs about 11 KB), and the kernel
 * refuses to set registers from a buffer shorter than its own. This is loaded
 * into it with LD_PRELOAD, and completes the short buffer with what the process
 * has already. Does nothing where the buffer is large enough, and knows nothing
 * of virtio: it is only what the test needs to have that front-end at all.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#define _GNU_SOURCE
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define STATE_MAX 65536

static long set_extended_state(pid_t pid, const struct iovec *part)
{
	static char state[STATE_MAX];
	struct iovec whole = { state, sizeof(state) };
	long res;

	res = syscall(SYS_ptrace, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &whole);
	if (res < 0 || part->iov_len >= whole.iov_len)
		return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, part);
	memcpy(state, part->iov_base, part->iov_len);
	return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &whole);
}

/* In place of the C library's, with the same peculiarities of the PEEK requests. */
long ptrace(enum __ptrace_request request, ...)
{
	void *addr, *data;
	va_list args;
	long res, word;
	pid_t pid;

	va_start(args, request);
	pid = va_arg(args, pid_t);
	addr = va_arg(args, void *);
	data = va_arg(args, void *);
	va_end(args);
	if (request == PTRACE_SETREGSET && (long)addr == NT_X86_XSTATE)
		return set_extended_state(pid, data);
	if (request < PTRACE_PEEKTEXT || request > PTRACE_PEEKUSER)
		return syscall(SYS_ptrace, request, pid, addr, data);
	res = syscall(SYS_ptrace, request, pid, addr, &word);
	return res < 0 ? res : word;
}
