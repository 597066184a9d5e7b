/*
 * Hold a device open, as a virtual machine does, until standard input ends: for
 * tests of tools that must not wait for that. Run by tests/vm in a guest.
 *
 *     vfio_hold ADDRESS group|cdev [plain|hidden|polite] [TOKEN]
 *
 * hidden: nobody can see who holds it. The device's files are in a message of
 * a socket that nobody has read, and in no process's table.
 * polite: lets go when the kernel asks for the device.
 * TOKEN: the VF token; of a PF, from now on its VFs'.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
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

/* Until standard input ends, or requested can be read. */
static void wait_end(int requested)
{
	struct pollfd fds[2] = { { .fd = 0, .events = POLLIN },
				 { .fd = requested, .events = POLLIN } };
	char byte;

	while (poll(fds, 2, -1) > 0) {
		if (fds[1].revents)
			return;
		if (fds[0].revents && read(0, &byte, 1) <= 0)
			return;
	}
}

static int open_device(const char *address, enum iommu_backend backend, const char *token,
		       struct iommu_space **space, struct iommu_dev **dev)
{
	const struct iommu_opts opts = { .backend = backend };
	char err[IOMMU_ERR_LEN] = "out of memory";
	int ret;

	ret = iommu_space_create(&opts, space);
	if (ret == 0)
		ret = iommu_dev_open(*space, address, token, dev, err);
	if (ret < 0)
		fprintf(stderr, "vfio_hold: %s\n", err);
	return ret;
}

static int hold(const char *address, enum iommu_backend backend, const char *how, const char *token)
{
	struct iommu_space *space;
	struct iommu_dev *dev;
	int fds[3], requested = -1;

	if (open_device(address, backend, token, &space, &dev) < 0)
		return 1;
	fds[0] = dev->fd;
	fds[1] = space->fd;
	fds[2] = dev->group ? dev->group->fd : -1;
	if (!strcmp(how, "hidden") && hide(fds, dev->group ? 3 : 2) < 0)
		return 1;
	if (!strcmp(how, "polite")) {
		requested = eventfd(0, EFD_CLOEXEC);
		if (iommu_dev_irqs(dev, IOMMU_IRQ_REQ, &requested, 1, NULL) < 0)
			return 1;
	}
	puts("held");
	fflush(stdout);
	wait_end(requested);
	/* The kernel takes all of it back with the process. */
	return 0;
}

int main(int argc, char **argv)
{
	int backend = argc >= 3 ? iommu_backend_parse(argv[2]) : -EINVAL;
	const char *how = argc >= 4 ? argv[3] : "plain";

	if (backend < 0 || argc > 5 ||
	    (strcmp(how, "plain") && strcmp(how, "hidden") && strcmp(how, "polite"))) {
		fprintf(stderr,
			"usage: vfio_hold ADDRESS group|cdev [plain|hidden|polite] [TOKEN]\n");
		return 2;
	}
	return hold(argv[1], (enum iommu_backend)backend, how, argc == 5 ? argv[4] : NULL);
}
