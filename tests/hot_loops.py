"""The inner loops of compiled kernels, from their disassembly: what a step does, and whether it spills."""

import re
import subprocess
from dataclasses import dataclass

_LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*?)\s*(?:#.*)?$")
_FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
_MEMORY = re.compile(r"(?:0x[0-9a-f]+)?\(%(\w+)[^)]*\)")


@dataclass(frozen=True)
class Instruction:
    address: int
    name: str
    operands: str  # AT&T: the destination is last

    @property
    def memory(self):
        """The base register of a memory operand, or None."""
        found = _MEMORY.search(self.operands)
        return found[1] if found and self.name not in ("lea", "nop", "nopw", "nopl") else None

    @property
    def stores(self):
        return self.memory is not None and bool(re.search(r"\)(?:\{%k\d\})?$", self.operands))

    @property
    def target(self):
        """Where a jump goes, or None."""
        found = re.match(r"j\w+", self.name) and re.match(r"([0-9a-f]+)\b", self.operands)
        return int(found[1], 16) if found else None


@dataclass(frozen=True)
class Loop:
    """What one pass through a loop does."""

    function: str
    fmas: int  # of pairs of bfloat16 too
    loads: int  # of vectors; any operand in memory counts, constants do not
    addresses: int  # of them different ones: gcc would rather read an operand twice than keep it
    broadcasts: int
    stores: int
    stack: int  # accesses to the stack
    masked: bool
    names: frozenset


def functions(text):
    """name -> instructions, of `objdump -d -C --no-show-raw-insn`."""
    found, current = {}, []
    for line in text.splitlines():
        if head := _FUNCTION.match(line):
            current = found.setdefault(head[1], [])
        elif body := _LINE.match(line):
            current.append(Instruction(int(body[1], 16), body[2], body[3]))
    return found


def innermost(code):
    """The loops without a branch inside: from the target of a conditional jump backwards to that jump."""
    for at, jump in enumerate(code):
        if jump.target is None or jump.name == "jmp" or jump.target > jump.address:
            continue
        body = [i for i in code[: at + 1] if i.address >= jump.target]
        if body and not any(i.name.startswith(("j", "call", "ret")) for i in body[:-1]):
            yield body


def loops(path, function):
    """The innermost loops of the functions whose name matches the pattern `function`."""
    text = subprocess.run(
        ["objdump", "-d", "-C", "--no-show-raw-insn", str(path)], capture_output=True, text=True, check=True
    ).stdout
    found = []
    for name, code in functions(text).items():
        if not re.search(function, name):
            continue
        # Without a frame pointer %rbp is a register like others.
        framed = any(i.name == "mov" and i.operands == "%rsp,%rbp" for i in code)
        stack = {"rsp", "rbp"} if framed else {"rsp"}
        for body in innermost(code):
            vector = [i for i in body if i.memory not in (None, "rip") and re.search(r"%[xyz]mm", i.operands)]
            broadcasts = [i for i in vector if i.name.startswith("vbroadcast") or "{1to" in i.operands]
            loads = [i for i in vector if not i.stores and i not in broadcasts]
            found.append(
                Loop(
                    function=name,
                    fmas=sum(i.name.startswith(("vfm", "vdpbf16")) for i in body),
                    loads=len(loads),
                    addresses=len({_MEMORY.search(i.operands)[0] for i in loads}),
                    broadcasts=len(broadcasts),
                    stores=sum(i.stores for i in vector),
                    stack=sum(i.memory in stack for i in body),
                    masked=any("{%k" in i.operands for i in body),
                    names=frozenset(i.name for i in body),
                )
            )
    return found
