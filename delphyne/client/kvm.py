# SPDX-License-Identifier: Apache-2.0
"""KVM's objects: the system, a VM, its vCPUs and its devices, each a file descriptor with its requests as methods.

Nothing is decided here and nothing is checked before KVM does: a monitor that attacks uses the same objects. A refused request raises OSError, whose
`errno` is KVM's answer. `Vcpu.run` lets other threads of Python run; a vCPU belongs to the thread that runs it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct

from delphyne.client import kvm_abi as abi
from delphyne.client import registers
from delphyne.client.memory import PAGE, Memory


class _File:
    """A file descriptor of KVM."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Gives the descriptor back; the object goes when nobody else refers to it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def call(self, request: int, argument: int = 0) -> int:
        """A request whose argument is a number or an address."""
        return fcntl.ioctl(self.fd, request, argument)

    def send(self, request: int, layout: str, *values: int) -> tuple[int, ...]:
        """A request with a structure; what the structure holds afterwards."""
        data = bytearray(struct.pack(layout, *values))
        fcntl.ioctl(self.fd, request, data, True)
        return struct.unpack(layout, data)


class Kvm(_File):
    """/dev/kvm."""

    def __init__(self, path: str = "/dev/kvm") -> None:
        super().__init__(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        version = self.call(abi.GET_API_VERSION)
        if version != abi.API_VERSION:
            raise OSError(errno.ENOTSUP, f"{path} speaks version {version} of KVM's interface, not {abi.API_VERSION}")
        self.run_bytes = self.call(abi.GET_VCPU_MMAP_SIZE)

    def extension(self, capability: int) -> int:
        """What KVM_CHECK_EXTENSION says of a capability."""
        return self.call(abi.CHECK_EXTENSION, capability)

    def create_vm(self, address_bits: int = 0) -> Vm:
        """A VM with guest addresses of that many bits, KVM's usual 40 where 0 is given."""
        return Vm(self, self.call(abi.CREATE_VM, address_bits))


class Vm(_File):
    """A virtual machine."""

    def __init__(self, kvm: Kvm, fd: int) -> None:
        super().__init__(fd)
        self.kvm = kvm
        self.memories: dict[int, Memory] = {}
        """What `add_memory` was given, by slot: the guest uses it for as long as the VM lives."""

    def set_memory(self, slot: int, guest: int, size: int, address: int, flags: int = 0) -> None:
        """Memory slot `slot`: `size` bytes at the guest address `guest` are those at `address` of this process. A size of 0 takes it away."""
        self.send(abi.SET_USER_MEMORY_REGION, abi.USERSPACE_MEMORY_REGION, slot, flags, guest, size, address)

    def add_memory(self, slot: int, guest: int, memory: Memory, flags: int = 0) -> None:
        """The whole of `memory` at the guest address `guest`."""
        self.set_memory(slot, guest, memory.size, memory.address, flags)
        self.memories[slot] = memory

    def create_vcpu(self, number: int) -> Vcpu:
        """A vCPU, not initialised yet."""
        return Vcpu(self, number, self.call(abi.CREATE_VCPU, number))

    def create_device(self, kind: int) -> Device:
        """An in-kernel device."""
        return Device(self.send(abi.NEW_DEVICE, abi.CREATE_DEVICE, kind, 0, 0)[1])

    def set_spi(self, number: int, level: bool) -> None:
        """The line of the shared interrupt `number`, 32 and more."""
        self.send(abi.IRQ_LINE, abi.IRQ_LEVEL, abi.IRQ_TYPE_SPI << abi.IRQ_TYPE_SHIFT | number, level)

    def set_ppi(self, vcpu: int, number: int, level: bool) -> None:
        """The line of the private interrupt `number`, 16 to 31, of a vCPU below 256."""
        self.send(abi.IRQ_LINE, abi.IRQ_LEVEL, abi.IRQ_TYPE_PPI << abi.IRQ_TYPE_SHIFT | vcpu << abi.IRQ_VCPU_SHIFT | number, level)

    def enable(self, capability: int, *arguments: int) -> None:
        """KVM_ENABLE_CAP."""
        self.send(abi.SET_ENABLE_CAP, abi.ENABLE_CAP, capability, 0, *arguments, *[0] * (4 - len(arguments)))

    def dirty_log(self, slot: int, pages: int) -> list[int]:
        """Which of the first `pages` pages of a slot were written since this was last asked."""
        bitmap = bytearray(-(-pages // 64) * 8)
        self.send(abi.GET_DIRTY_LOG, abi.DIRTY_LOG, slot, 0, _address(bitmap))
        return [page for page in range(pages) if bitmap[page >> 3] >> (page & 7) & 1]

    def clear_dirty_log(self, slot: int, first: int, pages: int) -> None:
        """Those pages count as clean from now on (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2); `first` is a multiple of 64."""
        bitmap = bytearray(b"\xff" * (-(-pages // 64) * 8))
        self.send(abi.SET_CLEAR_DIRTY_LOG, abi.CLEAR_DIRTY_LOG, slot, pages, first, _address(bitmap))


class Device(_File):
    """An in-kernel device, by its attributes."""

    def set_number(self, group: int, attribute: int, value: int, width: int = 8) -> None:
        """Sets an attribute that is a number of `width` bytes."""
        data = bytearray(value.to_bytes(width, "little"))
        self.send(abi.SET_DEVICE_ATTR, abi.DEVICE_ATTR, 0, group, attribute, _address(data))

    def command(self, group: int, attribute: int) -> None:
        """Sets an attribute that holds nothing."""
        self.send(abi.SET_DEVICE_ATTR, abi.DEVICE_ATTR, 0, group, attribute, 0)


class Mmio:
    """An access that the monitor has to complete."""

    __slots__ = ("address", "data", "is_write", "size")

    def __init__(self, address: int, size: int, is_write: bool, data: int) -> None:
        self.address, self.size, self.is_write, self.data = address, size, is_write, data


class Vcpu(_File):
    """A vCPU, with its shared page of struct kvm_run."""

    def __init__(self, vm: Vm, number: int, fd: int) -> None:
        super().__init__(fd)
        self.vm = vm
        self.number = number
        self.page = mmap.mmap(fd, vm.kvm.run_bytes)

    def initialise(self, *features: int) -> None:
        """KVM_ARM_VCPU_INIT for the host's own kind of processor; also resets. `features` are numbers of bits."""
        target, *words = self.vm.send(abi.ARM_PREFERRED_TARGET, abi.VCPU_INIT, *[0] * 8)
        for feature in features:
            words[feature // 32] |= 1 << feature % 32
        self.send(abi.ARM_VCPU_INIT, abi.VCPU_INIT, target, *words)

    def run(self) -> int:
        """KVM_RUN until an exit that is the monitor's; its reason. A signal is EXIT_INTR."""
        try:
            self.call(abi.RUN)
        except InterruptedError:
            return abi.EXIT_INTR
        return int.from_bytes(self.page[abi.RUN_EXIT_REASON : abi.RUN_EXIT_REASON + 4], "little")

    def exit_fields(self, layout: str) -> tuple[int, ...]:
        """What the exit's structure holds."""
        return struct.unpack_from(layout, self.page, abi.RUN_EXIT)

    def mmio(self) -> Mmio:
        """The access of an exit EXIT_MMIO."""
        address, data, size, is_write = struct.unpack_from(abi.RUN_MMIO, self.page, abi.RUN_EXIT)
        return Mmio(address, size, bool(is_write), int.from_bytes(data[:size], "little") if is_write else 0)

    def answer(self, value: int) -> None:
        """What the guest's read brings when the vCPU runs again."""
        start = abi.RUN_EXIT + 8
        self.page[start : start + 8] = (value & (1 << 64) - 1).to_bytes(8, "little")

    def leave_at_once(self, wanted: bool = True) -> None:
        """Makes the next `run` end with EXIT_INTR before the guest runs."""
        self.page[abi.RUN_IMMEDIATE_EXIT] = int(wanted)

    def get(self, register: int) -> int:
        """A register (client/registers.py has their numbers)."""
        data = bytearray(registers.size(register))
        self.send(abi.GET_ONE_REG, abi.ONE_REG, register, _address(data))
        return int.from_bytes(data, "little")

    def set(self, register: int, value: int) -> None:
        """Sets a register."""
        data = bytearray(value.to_bytes(registers.size(register), "little"))
        self.send(abi.SET_ONE_REG, abi.ONE_REG, register, _address(data))

    def register_list(self) -> list[int]:
        """The numbers of all registers that KVM keeps for this vCPU."""
        room = 1024
        while True:
            data = bytearray(8 + 8 * room)
            data[:8] = room.to_bytes(8, "little")
            try:
                self.call(abi.GET_REG_LIST, _address(data))
            except OSError as error:
                if error.errno != errno.E2BIG:
                    raise
                room = int.from_bytes(data[:8], "little")
                continue
            count = int.from_bytes(data[:8], "little")
            return list(struct.unpack_from(f"<{count}Q", data, 8))


def _address(data: bytearray) -> int:
    """Where the bytes lie, for as long as the caller keeps `data` and does not change its length."""
    return ctypes.addressof(ctypes.c_char.from_buffer(data))


__all__ = ["PAGE", "Device", "Kvm", "Memory", "Mmio", "Vcpu", "Vm"]
