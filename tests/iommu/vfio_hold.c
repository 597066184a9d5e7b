/*
 * Hold a device open, as a virtual machine does, until standard input ends: for
 * tests of tools that must not wait for that. Run by tests/vm in a guest.
 *
 *     vfio_hold ADDRESS group|cdev [hidden]
 *
 * hidden: nobody can see who holds it. The device's files are in a message of
 * a socket that nobody has read, and in no process's table.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "iommu/iommu_internal.h"

/* Send the files to the other end, which is never read, and close them here. */
static int hide(const int *fds, size_t nr)
{
	char control[CMSG_SPACE(3 * sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CMSG_SPACE(nr * sizeof(int)),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return -errno;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(nr * sizeof(int));
	memcpy(CMSG_DATA(c), fds, nr * sizeof(int));
	if (sendmsg(pair[0], &msg, 0) < 0)
		return -errno;
	for (size_t i = 0; i < nr; i++)
		close(fds[i]);
	return 0;
}

static int hold(const char *address, enum iommu_backend backend, bool hidden)
{
	const struct iommu_opts opts = { .backend = backend };
	struct iommu_space *space;
	struct iommu_dev *dev;
	char err[IOMMU_ERR_LEN] = "out of memory";
	int fds[3], ret;

	ret = iommu_space_create(&opts, &space);
	if (ret == 0)
		ret = iommu_dev_open(space, address, NULL, &dev, err);
	if (ret < 0) {
		fprintf(stderr, "vfio_hold: %s\n", err);
		return 1;
	}
	fds[0] = dev->fd;
	fds[1] = space->fd;
	fds[2] = dev->group ? dev->group->fd : -1;
	if (hidden && hide(fds, dev->group ? 3 : 2) < 0)
		return 1;
	puts("held");
	fflush(stdout);
	while (getchar() != EOF)
		;
	/* The kernel gives all of it back. */
	return 0;
}

int main(int argc, char **argv)
{
	int backend = argc >= 3 ? iommu_backend_parse(argv[2]) : -EINVAL;

	if (backend < 0 || argc > 4 || (argc == 4 && strcmp(argv[3], "hidden"))) {
		fprintf(stderr, "usage: vfio_hold ADDRESS group|cdev [hidden]\n");
		return 2;
	}
	return hold(argv[1], (enum iommu_backend)backend, argc == 4);
}
