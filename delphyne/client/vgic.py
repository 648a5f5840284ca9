# SPDX-License-Identifier: Apache-2.0
"""A guest's interrupt controller in the kernel, at the addresses of QEMU's `virt` machine.

A GICv3 needs its vCPUs before it is initialised, a GICv2 as well (Documentation/virt/kvm/devices/arm-vgic-v3.rst and arm-vgic.rst).
"""

from __future__ import annotations

from delphyne.client import kvm_abi as abi
from delphyne.client.kvm import Device, Vm

DISTRIBUTOR = 0x0800_0000
CPU_INTERFACE = 0x0801_0000
REDISTRIBUTORS = 0x080A_0000
INTERRUPTS = 64


def create(vm: Vm, version: int) -> Device:
    """The controller of that version, 2 or 3; the caller creates the vCPUs and then calls `initialise`."""
    device = vm.create_device(abi.DEVICE_VGIC_V3 if version == 3 else abi.DEVICE_VGIC_V2)
    places = (
        {abi.VGIC_V3_DISTRIBUTOR: DISTRIBUTOR, abi.VGIC_V3_REDISTRIBUTORS: REDISTRIBUTORS}
        if version == 3
        else {abi.VGIC_V2_DISTRIBUTOR: DISTRIBUTOR, abi.VGIC_V2_CPU_INTERFACE: CPU_INTERFACE}
    )
    for what, place in places.items():
        device.set_number(abi.VGIC_GROUP_ADDR, what, place)
    device.set_number(abi.VGIC_GROUP_NR_IRQS, 0, INTERRUPTS, 4)
    return device


def initialise(device: Device) -> None:
    """After this no vCPU can be added."""
    device.command(abi.VGIC_GROUP_CTRL, abi.VGIC_CTRL_INIT)
