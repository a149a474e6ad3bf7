"""`edgetrain targets`: the boards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.options import Request, examples, json_option, model_command
from toolkit.cli.output import result

if TYPE_CHECKING:
    from codegen.board import Board


@click.group(
    invoke_without_command=True, epilog=examples("edgetrain targets", "edgetrain targets show hifive1 --json")
)
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the boards; `show` one of them in full."""
    if context.invoked_subcommand is not None:
        return
    from codegen.board import list_boards, load_board
    from toolkit.report.tables import table

    boards = [_facts(load_board(name)) for name in list_boards()]
    rows = [
        (
            board["id"],
            board["name"],
            board["isa"],
            ", ".join(f"{m['name']} {_size(m['size'])}" for m in board["memory"]),
            board["state"],
        )
        for board in boards
    ]
    text = table(("target", "board", "core", "memory", "here"), rows)
    result(as_json, {"targets": boards}, f"{text}\n\nA board of your own: --target path/to/target.toml")


@command.command("show", epilog=examples("edgetrain targets show qemu-rv32"))
@click.argument("board")
@json_option
def show(board: str, as_json: bool) -> None:
    """Everything known of BOARD (a name, or the path of a target.toml)."""
    from codegen.board import load_board
    from toolkit.report.tables import table

    facts = _facts(load_board(board))
    link = facts["link"]
    memories = [(m["name"], f"0x{m['origin']:08x}", m["size"], m["attr"], _holds(m)) for m in facts["memory"]]
    lines = [
        f"{facts['id']}: {facts['name']}",
        f"  vendor     {facts['vendor']}, {facts['url']}",
        f"  core       {facts['isa']}, {facts['abi']}{', fused multiply-add' if facts['fma'] else ''}",
        f"  clock      {facts['f_hz']:,} Hz" if facts["f_hz"] else "  clock      not stated",
        f"  stack      {facts['stack_bytes']:,} B reserved",
        f"  link       {link['transport']}, {link['baud']:,} baud, frames of {link['frame_bytes']:,} B",
        f"  here       {facts['state']}",
        f"  compilers  {', '.join(facts['compilers'])}",
        f"  states     {facts['states']}",
    ]
    lines += [f"  flashed by {tool['tool']}; {tool['install']}" for tool in (facts["flash"],) if tool]
    lines += [f"  note       {facts['note']}"] if facts["note"] else []
    lines += [f"  profiles   {', '.join(facts['profiles'])}"] if facts["profiles"] else []
    lines += ["", table(("memory", "origin", "bytes", "access", "holds"), memories)] if memories else []
    result(as_json, facts, "\n".join(lines))


@command.command(
    "sizes",
    epilog=examples("edgetrain targets sizes lenet --train last:2", "edgetrain targets sizes lenet --board rp2350"),
)
@model_command(train="last:2")
@click.option("--board", "names", multiple=True, help="Only this one; may be repeated. Default: all.")
@click.option("--compiler", "compilers", multiple=True, help="Only this one. Default: all that are found.")
@click.option("--markdown", is_flag=True, help="A table for a README.")
@json_option
def sizes(request: Request, names: tuple[str, ...], compilers: tuple[str, ...], markdown: bool, as_json: bool) -> None:
    """Link MODEL for every board with every compiler, and list what the firmware takes, as its ELF file says.

    The boards are those of --board; --target and --profile say nothing here.
    """
    from codegen.board import list_boards
    from toolkit.cli.output import progress
    from toolkit.report.board_sizes import board_sizes, markdown_table
    from toolkit.report.tables import table

    chosen = names or tuple(name for name in list_boards() if name != "host")
    with progress() as bar:
        rows = board_sizes(request.for_target, chosen, compilers, lambda done: bar("linking", done, len(chosen)))
    header = ("target", "core", "compiler", "flash", "RAM", "of it weights", "arena", "stack")
    cells = [row.cells() for row in rows]
    text = markdown_table(header, cells) if markdown else table(header, cells)
    result(as_json, {"model": request.model, "sizes": [row.as_dict() for row in rows]}, text)


def _states(board: Board) -> str:
    """Where the board keeps what SAVE is told to keep."""
    from codegen.project import why_nothing_is_kept

    why = None if board.is_host else why_nothing_is_kept(board, 0)
    if why is not None:
        return f"not kept, SAVE is refused: {why}"
    if board.store is None:
        return "kept by the program around it"
    return f"kept in {board.store.name}, up to {board.store.slot_bytes:,} B each"


def _facts(board: Board) -> dict[str, Any]:
    return {
        "id": board.id,
        "name": board.board.name,
        "vendor": board.board.vendor,
        "url": board.board.url,
        "isa": board.cpu.isa,
        "abi": board.cpu.abi,
        "fma": board.fma,
        "f_hz": board.cpu.f_hz,
        "stack_bytes": board.board.stack_bytes,
        "memory": [
            {"name": m.name, "origin": m.origin, "size": m.size, "attr": m.attr, "use": list(m.use),
             "same_as": m.same_as}
            for m in board.memory
        ],
        "link": {
            "transport": board.link.transport, "baud": board.link.baud, "frame_bytes": board.link.frame_bytes
        },
        "runs_in": "this PC" if board.is_host else (board.run.emulator if board.run else None),
        "state": "this PC" if board.is_host else (f"run in {board.run.emulator}" if board.run else "linked only"),
        "flash": {"tool": board.flash.tool, "install": board.flash.install} if board.flash else None,
        "states": _states(board),
        "note": board.board.note,
        "compilers": list(board.toolchain.compilers),
        "profiles": list(board.profiles),
    }


def _holds(memory: dict[str, Any]) -> str:
    uses = ", ".join(memory["use"])
    return f"{uses}; the same bytes as {memory['same_as']}" if memory["same_as"] else uses


def _size(size: int) -> str:
    for unit, name in ((1024**2, "MiB"), (1024, "KiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"
