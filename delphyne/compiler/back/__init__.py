# SPDX-License-Identifier: Apache-2.0
"""The back end: a typed program (`delphyne.compiler.tree`) to LLVM IR, objects, native code and the bootable image.

What the rest of the project uses:

    from delphyne.compiler.back.ir import AARCH64, NATIVE, emit, emit_ir
    emit_ir(program, target, checked=True, debug=True) -> str
    emit(program, target, ...) -> Emitted(text, sites)         sites[n] is where `__trap(n, a, b)` was written

    from delphyne.compiler.back.lower import lower
    lower(ir_text, target, emit="ir"|"asm"|"obj", opt=0|2) -> Lowered(data, frames)      in a child process

    from delphyne.compiler.back.native import Buffer, NativeTrap, load
    module = load(program, opt=0|2)
    module.call(symbol, *args)    ints, tuples, None for options, ("ok", item) or ("err", number); Buffer(type, value) for references
                                  and slices; raises NativeTrap(kind, loc, a, b)
    module.read(static), module.write(static, value), module.reset()

    from delphyne.compiler.back.image import Stacks, build_image
    build_image(program, [Path("el2.S")], Path("el2.ld"), Path("build")) -> Built(elf, image, listing, ir, sites, frames, depths, ..)

    from delphyne.compiler.back.layout import offsets_inc, size_of

All errors that a person can cause are `delphyne.compiler.back.errors.BackError`: one line, or one line for each finding of the checks.

The rooms: `layout` (sizes and offsets), `nodes`, `rare` (what is made small), `body`, `bounds`, `expression`, `statement`, `arithmetic`,
`builtins`, `simd`, `initial`, `runtime` (IR text), `debug` (DWARF), `ir` (the module), `lower` (LLVM), `native` and `data` (calls from
CPython), `tools`, `disassembly`, `lines`, `sites`, `checks`, `image` (the bootable image).
"""
