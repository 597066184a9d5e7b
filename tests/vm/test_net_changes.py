"""Changes while kernel TCP flows between guests: the switch is killed and comes
back, a guest dies, a guest moves to another machine. Every byte of the streams
is compared; a stream may stall and must go on.

SPDX-License-Identifier: BSD-3-Clause
"""
import guest
import net
from test_net import Nic, boot

MIB = 1 << 20


def interface(workdir, number, packed, listen=True, name=None):
    nic = Nic(workdir, number, "all", True, packed)
    nic.port = net.Port(name or f"p{number}", workdir, number, listen=listen)
    return nic


def bring_up(machine, *interfaces):
    machine.wait_for("READY")
    for nic in interfaces:
        machine.order("nic", nic.number, 1500)


def streams(machine):
    """How many streams a flow of this guest has finished."""
    return len(machine.marks("NET"))


def wait_streams(machine, more=3, timeout=60):
    start = streams(machine)
    machine._check()
    guest.wait_until(lambda: machine._check() and streams(machine) >= start + more, timeout,
                     f"{more} streams of {machine.name}")


def finish(machine, flows=True):
    if flows:
        machine.order("still")
    machine.tell("end")
    machine.wait_end()
    wrong = [line for line in machine.marks("NET") if " result=ok " not in line]
    assert not wrong, "\n".join(wrong)


def test_switch_is_killed_while_tcp_flows(workdir, net_initrd, qemu10):
    """One guest connects to the switch, for the other one the switch connects.
    Split rings only: QEMU cannot tell a new back-end where a packed ring was when
    the old one is no longer there to be asked."""
    here, there = interface(workdir, 0, False), interface(workdir, 1, False, listen=False)
    ports = [here.port, there.port]
    server = net.switch(workdir, ports).start()
    try:
        with boot("there", workdir, net_initrd, None, [there]) as second, \
                boot("here", workdir, net_initrd, None, [here]) as first:
            bring_up(first, here)
            bring_up(second, there)
            first.order("flow", "tcp4", 0, 1)
            wait_streams(first)
            for how in ("kill", "stop"):
                getattr(server, how)()
                for port in ports:
                    if port.listen:
                        port.socket.unlink(missing_ok=True)
                server = net.switch(workdir, ports).start()
                wait_streams(first)
            finish(first)
            finish(second, flows=False)
    finally:
        server.kill()


def test_a_guest_that_is_killed_leaves_the_others_alone(workdir, net_initrd, qemu10):
    nics = [interface(workdir, number, number == 1) for number in range(3)]
    with net.switch(workdir, [n.port for n in nics]) as server, \
            boot("client", workdir, net_initrd, server, nics[:1]) as client, \
            boot("stays", workdir, net_initrd, server, nics[1:2]) as stays, \
            boot("dies", workdir, net_initrd, server, nics[2:]) as dies:
        bring_up(client, nics[0])
        bring_up(stays, nics[1])
        bring_up(dies, nics[2])
        client.order("flow", "tcp6", 0, 1)
        wait_streams(client)
        dies.kill()
        wait_streams(client)
        with boot("again", workdir, net_initrd, server, nics[2:]) as again:
            bring_up(again, nics[2])
            again.order("sweep", "tcp4", 300000, 2, "0,1")
            finish(again, flows=False)
        finish(client)
        finish(stays, flows=False)


def test_guest_migrates_while_tcp_flows(workdir, net_initrd, qemu10):
    """To another QEMU with other ports of the switch. It announces its new place
    itself over its first interface; for the second, whose driver does not know
    how to, the switch sends a RARP at QEMU's wish."""
    peer = interface(workdir, 0, False)
    before = [interface(workdir, n, n == 2, name=f"before{n}") for n in (1, 2)]
    after = [interface(workdir, n, n == 2, name=f"after{n}") for n in (1, 2)]
    with net.switch(workdir, [n.port for n in [peer, *before, *after]]) as server, \
            boot("peer", workdir, net_initrd, server, [peer]) as first, \
            moving("source", workdir, net_initrd, server, before) as source, \
            moving("target", workdir, net_initrd, server, after,
                   extra=["-incoming", f"unix:{workdir}/migration"]) as target:
        bring_up(first, peer)
        bring_up(source, *before)
        for nic in before:
            first.order("sweep", "tcp4", 300000, 0, nic.number)
        first.order("flow", "tcp4", 0, 1)
        wait_streams(first)
        guest.wait_until(lambda: target.qmp("query-status")["status"] == "inmigrate", 20,
                         "the target to wait for the guest")
        migrate_guest(source, target, workdir / "migration")
        source.qmp("quit")
        target.told = source.told  # the guest's script goes on counting
        wait_streams(first)
        first.order("still")
        for nic in before:
            first.order("sweep", "tcp6", 300000, 0, nic.number)
            first.order("sweep", "udp4", 4000, 0, nic.number)
        finish(first, flows=False)
        target.tell("end")
        target.wait_end()


def moving(name, workdir, initrd, server, nics, extra=()):
    """A guest on the move: the same machine on both sides."""
    machine = guest.Qemu(name, workdir, initrd, "net", memory=256, extra=extra)
    for nic, announces in zip(nics, ("on", "off")):
        port = nic.port
        # The machine's own name for a device must be the same on both sides.
        arguments = net.nic_arguments(machine, port, packed=nic.packed, guest_announce=announces)
        machine.extra += [a.replace(f"id={port.name},", f"id=nic{nic.number},")
                          for a in arguments]
    return machine.start([], server)


def migrate_guest(source, target, path):
    source.qmp("migrate-set-parameters", **{"max-bandwidth": 256 * MIB, "downtime-limit": 2000})
    source.qmp("migrate-set-capabilities",
               capabilities=[{"capability": "events", "state": True}])
    source.qmp("migrate", uri=f"unix:{path}")

    def ended():
        info = source.qmp("query-migrate")
        if info.get("status") in ("failed", "cancelled"):
            raise guest.GuestError(f"migration failed: {info.get('error-desc', info)}\n"
                                   f"{target.story()}")
        return info.get("status") == "completed" and info

    info = guest.wait_until(ended, 90, "the migration to complete")
    print(f"downtime {info.get('downtime')} ms, {info['ram']['dirty-sync-count']} rounds")
